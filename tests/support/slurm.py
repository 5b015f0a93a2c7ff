"""A Slurm of two nodes on this machine, without systemd, munge and cgroups."""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time

NODES = ("node1", "node2")

_CONFIG = """
ClusterName=test
SlurmctldHost={host}
SlurmctldPort={port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
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
def cluster(folder, cpus=1):
    """Start slurmctld and two slurmd; yield the environment of its commands; stop them.

    Args:
      folder: An empty folder.
      cpus: The number of cores of each node.
    """
    (folder / "state").mkdir()
    ports = _free_ports(1 + len(NODES))
    host = socket.gethostname()
    nodes = [
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus}"
        for node, port in zip(NODES, ports[1:], strict=True)
    ]
    (folder / "slurm.conf").write_text(
        _CONFIG.format(
            host=f"{host}(127.0.0.1)",
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
        _wait_for_nodes(environment, folder)
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


def _wait_for_nodes(environment, folder):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(subprocess.CalledProcessError):
            states = run(["sinfo", "--Node", "--noheader", "--format=%T"], environment).split()
            if states == ["idle"] * len(NODES):
                return
        time.sleep(0.2)
    logs = "\n".join(file.read_text()[-2000:] for file in sorted(folder.glob("*.log")))
    raise AssertionError(f"Slurm has not started:\n{logs}")


def _cancel_jobs(environment):
    """Cancel all jobs, and wait until slurmd has ended their processes."""
    run(["scancel", f"--user={getpass.getuser()}"], environment)
    deadline = time.monotonic() + 30
    while run(["squeue", "--noheader"], environment) and time.monotonic() < deadline:
        time.sleep(0.2)


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
