"""A Slurm of two nodes on this machine, without systemd, munge and cgroups."""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time

HOST = socket.gethostname()
NODES = (HOST, "node2")
"""The name of a node where several processes meet must be that of a machine."""

_CONFIG = """
ClusterName=test
SlurmctldHost={host}
SlurmctldPort={port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
AuthInfo=cred_expire=5
CredType=cred/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
KillWait=5
ReturnToService=2
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=60 State=UP
"""


def missing():
    """Return why no Slurm can be started here; an empty text if it can."""
    path = _search_path()
    programs = ("slurmctld", "slurmd", "sbatch", "srun", "scontrol")
    absent = [name for name in programs if not shutil.which(name, path=path)]
    if absent:
        return f"{', '.join(absent)} not installed"
    return "" if os.getuid() == 0 else "slurmd needs root"


@contextlib.contextmanager
def cluster(folder):
    """Start slurmctld and two slurmd; yield the environment of its commands; stop them.

    Args:
      folder: An empty folder.
    """
    (folder / "state").mkdir()
    ports = _free_ports(1 + len(NODES))
    nodes = [
        f"NodeName={node} NodeHostname={HOST} NodeAddr=127.0.0.1 Port={port} CPUs=2"
        for node, port in zip(NODES, ports[1:], strict=True)
    ]
    (folder / "slurm.conf").write_text(
        _CONFIG.format(
            host=f"{HOST}(127.0.0.1)",
            port=ports[0],
            folder=folder,
            user=getpass.getuser(),
            nodes="\n".join(nodes),
        )
    )
    (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
    environment = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": _search_path()}
    commands = [["slurmctld", "-D"], *(["slurmd", "-D", "-N", node] for node in NODES)]
    with contextlib.ExitStack() as stack:
        for command in commands:
            log = stack.enter_context((folder / f"{command[-1].strip('-')}.log").open("w"))
            process = subprocess.Popen(
                command, env=os.environ | environment, stdout=log, stderr=subprocess.STDOUT
            )
            stack.callback(_stop, process)
        wait_until(lambda: _are_nodes_idle(environment))
        try:
            yield environment
        finally:
            _cancel_jobs(environment)


def run(command, environment, **options):
    """Run a command of Slurm; return its stdout."""
    return subprocess.run(
        command,
        env=os.environ | environment,
        check=True,
        capture_output=True,
        encoding="utf-8",
        **options,
    ).stdout


def is_idle(environment):
    """Return whether no job waits or runs."""
    return not run(["squeue", "--noheader"], environment)


def wait_until(condition, seconds=300.0):
    """Wait until `condition()` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.1)


def _are_nodes_idle(environment):
    try:
        states = run(["sinfo", "--Node", "--noheader", "--format=%T"], environment).split()
    except subprocess.CalledProcessError:  # slurmctld does not answer yet
        return False
    return states == ["idle"] * len(NODES)


def _cancel_jobs(environment):
    """Cancel all jobs, and wait until slurmd has ended their processes."""
    run(["scancel", f"--user={getpass.getuser()}"], environment)
    wait_until(lambda: is_idle(environment))


def _stop(process):
    process.terminate()
    process.wait(30)


def _free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [free.getsockname()[1] for free in sockets]


def _search_path():
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"  # Debian's slurmctld and slurmd are there
