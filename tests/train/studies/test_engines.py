"""How a study is divided into tasks, and what their errors do."""

import importlib.util
import os

import jax
import pytest

from tests.support.studying import tiny
from train.errors import UserError
from train.runtime import cores
from train.runtime.preemption import Preemption
from train.studies import design
from train.studies.datasets import load_datasets
from train.studies.design import Shard
from train.studies.engines import worker
from train.studies.engines.cluster import ClusterEngine
from train.studies.engines.worker import Outcome
from train.studies.progress import StudyProgress
from train.study import parse_engine


class Backend:
    """Records the tasks, and yields what `perform` returns for them."""

    def __init__(self, perform):
        self._perform = perform
        self.tasks = []

    def perform(self, tasks, alone):
        assert not alone
        self.tasks += tasks
        yield self._perform(tasks)


def make_engine(config, backend):
    progress = StudyProgress(0, 0, None)
    return ClusterEngine(config, load_datasets(config, []), progress, Preemption(), backend)


def all_runs(config):
    [setting] = design.settings(config)
    arms = design.arms(config, setting)
    tuning_runs = [run for arm in arms for run in design.tuning_runs(config, arm)]
    return tuning_runs + [run for arm in arms for run in design.final_runs(config, arm, 0.01)]


@pytest.mark.parametrize(
    ("fields", "sizes"),
    [
        ({}, [1] * 10),
        ({"engine": {"cpus": 2}}, [2, 2, 2, 1, 2, 1]),
        ({"engine": {"cpus": 4}, "runs_at_once": 3}, [2, 2, 3, 3]),
        ({"engine": {"gpus": 8}}, [2, 2, 2, 1, 2, 1]),  # runs_at_once is 2
        ({"runs_per_device": 5}, [2, 2, 3, 3]),
    ],
)
def test_tasks_have_the_runs_that_one_makes_side_by_side(fields, sizes):
    config = tiny(**fields)
    backend = Backend(lambda tasks: [])
    assert list(make_engine(config, backend).make(all_runs(config))) == []
    assert [len(task.work) for task in backend.tasks] == sizes


def test_task_refuses_other_data(monkeypatch):
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", str(jax.device_count()))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", jax.config.jax_compilation_cache_dir)
    monkeypatch.setenv("NPROC", str(cores.num_threads()))
    config = tiny()
    backend = Backend(lambda tasks: [worker.perform(tasks[0])])
    engine = make_engine(config, backend)
    engine._context = engine._context._replace(data="{}")
    with pytest.raises(UserError, match=r"the data on .* differs from the data where the study"):
        list(engine.make(all_runs(config)))


def test_finished_runs_are_saved_before_an_error_ends_the_study():
    config = tiny()
    outcomes = [Outcome([], "the disk is full"), Outcome([{"key": "a"}])]
    results = make_engine(config, Backend(lambda tasks: outcomes)).make(all_runs(config))
    assert next(results) == [{"key": "a"}]
    with pytest.raises(UserError, match="the disk is full"):
        next(results)


@pytest.mark.parametrize("threads", ["", "3", "100"])
def test_number_of_threads(threads, monkeypatch):
    if threads:
        monkeypatch.setenv("NPROC", threads)
    else:
        monkeypatch.delenv("NPROC", raising=False)
    expected = int(threads) if threads else len(os.sched_getaffinity(0))
    assert cores.num_threads() == max(expected, jax.device_count())


def test_engine_without_its_package_is_one_line(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"--engine=slurm needs submitit; .* '.\[slurm\]'"):
        parse_engine("slurm", None)


@pytest.mark.skipif(not importlib.util.find_spec("submitit"), reason="submitit is not installed")
def test_machine_without_slurm_is_one_line(tmp_path, monkeypatch):
    from train.studies.engines.slurm_jobs import SlurmJobs

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="--engine=slurm needs sbatch"):
        SlurmJobs(tiny(), tmp_path)


def test_engine_has_no_shards():
    with pytest.raises(UserError, match="leave out --shard or --engine=ray"):
        parse_engine("ray", Shard(1, 2))
    assert parse_engine("local", Shard(1, 2)) == "local"
