"""A Ray cluster of two nodes on this machine, in a process of its own.

    python -m tests.support.ray_nodes

Prints the address of the cluster, and stops it when stdin is closed.
"""

import contextlib
import os
import subprocess
import sys

from tests.support.processes import ROOT


@contextlib.contextmanager
def cluster():
    """Start a cluster of two nodes of one core each; yield its address; stop it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.ray_nodes"],
        cwd=ROOT,
        env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    address = process.stdout.readline().strip()
    assert address, process.communicate()[1]
    try:
        yield address
    finally:
        process.communicate(timeout=60)


def main():
    from ray.cluster_utils import Cluster

    nodes = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    nodes.add_node(num_cpus=1)
    print(nodes.address, flush=True)
    sys.stdin.read()
    nodes.shutdown()


if __name__ == "__main__":
    main()
