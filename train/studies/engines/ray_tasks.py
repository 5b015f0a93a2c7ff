"""Tasks of a study on a Ray cluster."""

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Generator, Iterator, Sequence

import ray
from ml_collections import ConfigDict
from ray.exceptions import LocalRayletDiedError, RayError, RayTaskError

from train.errors import UserError, describe_error
from train.studies.engines import worker
from train.studies.engines.cluster import TRIES
from train.studies.engines.worker import Outcome, Task

_POLL_SECONDS = 1


class RayTasks:
    """Sends each task as a Ray task, which Ray starts again if its process or machine is lost."""

    def __init__(self, study: ConfigDict):
        # A process that does tasks keeps its data and programs, so it is not ended between them.
        self._perform = ray.remote(
            num_cpus=study.engine.cpus,
            num_gpus=study.engine.gpus,
            max_retries=TRIES - 1,
            max_calls=0,
        )(worker.perform)

    def perform(self, tasks: Sequence[Task], alone: bool) -> Generator[list[Outcome]]:
        """Do tasks; `alone` changes nothing, because Ray has no such request."""
        del alone
        waiting = [self._perform.remote(task) for task in tasks]
        try:
            while waiting:
                finished, waiting = ray.wait(waiting, timeout=_POLL_SECONDS)
                yield [_outcome(ref) for ref in finished]
        finally:
            for ref in waiting:
                ray.cancel(ref, force=True)


@contextlib.contextmanager
def connect(study: ConfigDict) -> Iterator[RayTasks]:
    """Connect to the cluster of RAY_ADDRESS, or to the one that this machine is in.

    Raises:
      UserError: If there is none.
    """
    try:
        _check_address(os.environ.get("RAY_ADDRESS", ""))
        ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError) as error:
        raise UserError(
            f"--engine=ray found no Ray cluster ({describe_error(error)}); run ray start --head, "
            "or set RAY_ADDRESS to HOST:PORT of the cluster's head"
        ) from error
    try:
        _warn_if_too_large(study.engine)
        yield RayTasks(study)
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Raise an OSError or a ValueError if nothing answers; Ray would try for 14 minutes."""
    host, colon, port = address.rpartition(":")
    if colon:
        socket.create_connection((host.rpartition("/")[2], int(port)), timeout=10).close()


def _warn_if_too_large(task: ConfigDict) -> None:
    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(
        node.get("CPU", 0) >= task.cpus and node.get("GPU", 0) >= task.gpus for node in resources
    ):
        print(
            f"no node of the Ray cluster has config.engine.cpus={task.cpus} and "
            f"config.engine.gpus={task.gpus}; the tasks wait for one",
            file=sys.stderr,
        )


def _outcome(ref: ray.ObjectRef) -> Outcome:
    try:
        return ray.get(ref)
    except RayTaskError:
        raise  # an error in the task's code
    except LocalRayletDiedError as error:
        raise UserError(
            "the Ray node that this process is in has died; start Ray again with ray start, then "
            "run the same command again"
        ) from error
    except RayError as error:
        raise UserError(
            f"a task was lost {TRIES} times ({describe_error(error)}); see Ray's logs, such as "
            "/tmp/ray/session_latest/logs, then run the same command again"
        ) from error
