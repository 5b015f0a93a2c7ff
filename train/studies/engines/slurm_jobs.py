"""Tasks of a study as Slurm jobs."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import submitit
from ml_collections import ConfigDict
from submitit.core.utils import FailedJobError
from submitit.helpers import clean_env

from train.errors import UserError
from train.studies.engines import worker
from train.studies.engines.cluster import TRIES
from train.studies.engines.worker import Outcome, Task

_POLL_SECONDS = 1
_QUEUE_SECONDS = 10  # between two calls of squeue, which all users of a cluster share
_MAX_ARRAY = 1000  # Slurm's default limit is 1001
_SIGNAL_SECONDS = 30  # before the time limit, when submitit writes that a job has timed out


class _Submitted(NamedTuple):
    """A job, its task, and how often the task was started."""

    job: submitit.Job
    task: Task
    tries: int


class SlurmJobs:
    """Sends each task as a job that submitit writes, and starts lost ones again.

    The files of the jobs are in the folder `slurm` of the work folder. The environment variables
    of sbatch, such as SBATCH_PARTITION, are further options.
    """

    def __init__(self, study: ConfigDict, workdir: Path):
        """Cancel the jobs that an earlier process left, because it was killed.

        Raises:
          UserError: If Slurm is not installed.
        """
        if not shutil.which("sbatch"):
            raise UserError("--engine=slurm needs sbatch; use a machine that submits Slurm jobs")
        self._folder = workdir.absolute() / "slurm"
        self._name = f"study-{hashlib.sha256(bytes(self._folder)).hexdigest()[:8]}"
        self._resources = study.engine
        self._cancel_all()

    def perform(self, tasks: Sequence[Task], alone: bool) -> Generator[list[Outcome]]:
        """Do tasks; see `train.studies.engines.cluster.Backend`."""
        waiting: dict[str, _Submitted] = {}
        try:
            for first in range(0, len(tasks), _MAX_ARRAY):
                waiting |= self._submit(tasks[first : first + _MAX_ARRAY], alone)
            queue_time = time.monotonic()
            suspects: set[str] = set()
            while waiting:
                time.sleep(_POLL_SECONDS)
                files = {file.name for file in self._folder.iterdir()}  # also refreshes NFS
                done = [id for id in waiting if waiting[id].job.paths.result_pickle.name in files]
                yield [_outcome(waiting.pop(id).job) for id in done]
                if time.monotonic() - queue_time > _QUEUE_SECONDS:
                    queue_time = time.monotonic()
                    gone = waiting.keys() - self._queued(waiting)
                    # A job that has just ended may have a result that is not visible yet.
                    for id in gone & suspects:
                        waiting |= self._submit_again(waiting.pop(id), alone)
                    suspects = gone - suspects
        finally:
            if waiting:
                self._cancel_all()

    def _submit(self, tasks: Sequence[Task], alone: bool, tries: int = 1) -> dict[str, _Submitted]:
        """Submit tasks as an array; return the jobs by their id."""
        executor = submitit.SlurmExecutor(self._folder)
        cpus = self._resources.cpus
        executor.update_parameters(
            job_name=self._name,
            time=self._resources.minutes,
            cpus_per_task=cpus,
            gpus_per_node=self._resources.gpus or None,
            exclusive=alone or None,
            signal_delay_s=_SIGNAL_SECONDS,
            array_parallelism=len(tasks),
            stderr_to_stdout=True,
            srun_args=[f"--cpus-per-task={cpus}"],  # srun does not take it over from sbatch
        )
        try:
            with _without_own_job():
                jobs = executor.map_array(worker.perform, tasks)
        except FailedJobError as error:
            raise UserError(
                f"sbatch refused the jobs: {error}; set its options by variables such as "
                "SBATCH_PARTITION, SBATCH_ACCOUNT or SBATCH_QOS, or change config.engine"
            ) from error
        return {
            job.job_id: _Submitted(job, task, tries) for job, task in zip(jobs, tasks, strict=True)
        }

    def _submit_again(self, lost: _Submitted, alone: bool) -> dict[str, _Submitted]:
        if lost.tries == TRIES:
            raise UserError(
                f"a task was lost {TRIES} times; see the log of its last job, "
                f"{lost.job.paths.stdout}, then run the same command again"
            )
        print(f"job {lost.job.job_id} ended without a result; its task starts again")
        return self._submit([lost.task], alone, lost.tries + 1)

    def _queued(self, waiting: dict[str, _Submitted]) -> set[str]:
        """Return the ids of the jobs that wait or run; all of them if Slurm does not answer."""
        command = ["squeue", "--noheader", "--array", "--format=%i", f"--name={self._name}"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        return set(answer.stdout.split()) if answer.returncode == 0 else set(waiting)

    def _cancel_all(self) -> None:
        subprocess.run(["scancel", f"--name={self._name}"], capture_output=True, check=False)


@contextlib.contextmanager
def _without_own_job() -> Iterator[None]:
    """Hide the variables of the job that this process may be in, but keep the user's options."""
    names = [name for name in os.environ if name.startswith("SBATCH_") or name == "SLURM_CONF"]
    kept = {name: os.environ[name] for name in names}
    with clean_env():
        os.environ.update(kept)
        yield


def _outcome(job: submitit.Job) -> Outcome:
    """Return the outcome of a job that has written its result."""
    try:
        return job.result()
    except FailedJobError as error:
        if "timed-out" not in str(error):
            raise
        raise UserError(
            f"job {job.job_id} reached its time limit; set config.engine.minutes higher, then run "
            "the same command again"
        ) from error
