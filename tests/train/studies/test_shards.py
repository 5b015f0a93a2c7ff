"""A study whose runs are divided between machines."""

import copy
import itertools

import pytest

from tests.support.processes import kill, wait_until
from tests.support.studying import CONFIG, results_of, start, tiny
from train.errors import Preempted
from train.studies import design
from train.studies.design import Shard
from train.studies.study import count_missing, study


def many_runs():
    config = tiny(optimizers=("momentum", "sgd", "adam"), seeds=(0, 1, 2, 3, 4))
    config.learning_rates.adam = (0.001, 0.003, 0.01)
    config.tuning.seeds = (1000, 1001)
    config.weight_decays = (0.0, 0.001)
    return config


def work_of(config, shard):
    """Return the kind, seed and settings of all work of a shard."""
    work = []
    for setting in design.settings(config):
        for arm in design.arms(config, setting):
            tuning = design.tuning_runs(config, arm, shard)
            work += [("tune", arm, run.seed, run.learning_rate) for run in tuning]
            work += [("final", arm, seed) for seed in design.final_seeds(config, setting, shard)]
        work += [("time", arm) for arm in design.timed_arms(config, setting, shard)]
    return work


@pytest.mark.parametrize("total", [1, 2, 3, 7, 16, 50])
def test_shards_divide_the_work(total):
    config = many_runs()
    shares = [work_of(config, Shard(number, total)) for number in range(1, total + 1)]
    together = list(itertools.chain(*shares))
    assert len(together) == len(set(together))
    assert set(together) == set(work_of(config, design.WHOLE))
    if total <= 16:  # shares of nearly equal size, although 6 settings only
        sizes = [len(share) for share in shares]
        assert min(sizes) > 0
        assert max(sizes) - min(sizes) <= 3 * len(config.gc)


@pytest.mark.parametrize("total", [2, 5, 9])
def test_pair_is_made_on_one_machine(total):
    config = many_runs()
    for shard in (Shard(number, total) for number in range(1, total + 1)):
        work = set(work_of(config, shard))
        for kind, arm, *run in work:
            if kind != "time":
                assert all((kind, arm._replace(gc=gc), *run) in work for gc in config.gc)


@pytest.mark.slow
def test_shards_give_the_same_results(tmp_path, capsys):
    """Seeds and rates of one comparison are divided; the report waits for every result."""
    config = tiny()
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    study(copy.deepcopy(config), whole)
    waiting = "wait for the tuning runs of the other shards"
    for number in (3, 2):  # 2 tuning runs an arm, so shard 3 of 3 has none
        with pytest.raises(Preempted, match=waiting) as error:
            study(copy.deepcopy(config), shared, Shard(number, 3))
        assert "tuning run" in str(error.value)
        assert not (shared / "report.md").exists()
    capsys.readouterr()
    study(copy.deepcopy(config), shared, Shard(1, 3))
    assert "shard 1/3 is finished; no report yet: the study lacks 4 reported runs" in (
        capsys.readouterr().out
    )
    study(copy.deepcopy(config), shared, Shard(2, 3))
    assert not (shared / "report.md").exists()
    study(copy.deepcopy(config), shared, Shard(3, 3))
    assert (shared / "report.md").exists()
    assert results_of(shared) == results_of(whole)
    study(copy.deepcopy(config), shared)
    assert results_of(shared, "results.jsonl") == results_of(whole)


@pytest.mark.slow
def test_missing_timing_is_named(tmp_path, capsys):
    config = tiny(learning_rates={"momentum": (0.03,)}, seeds=(0,))
    study(copy.deepcopy(config), tmp_path)
    (tmp_path / "report.md").unlink()
    results = tmp_path / "results.jsonl"
    kept = [line for line in results.read_text().splitlines() if '"kind": "time"' not in line]
    results.write_text("\n".join(kept) + "\n")
    study(copy.deepcopy(config), tmp_path, Shard(2, 2))  # the timing is of shard 1
    assert "the study lacks 1 timing in" in capsys.readouterr().out
    assert not (tmp_path / "report.md").exists()
    study(copy.deepcopy(config), tmp_path, Shard(1, 2))
    assert (tmp_path / "report.md").exists()


@pytest.mark.slow
def test_killed_shard_costs_its_run(tmp_path):
    """A shard is killed; the other shard goes on, and the same command makes the lost run."""
    config = tmp_path / "study_tiny.py"
    config.write_text(CONFIG)
    shared = tmp_path / "shared"
    process = start(shared, "--shard=1/2", config=config)
    file = shared / "results.1-of-2.jsonl"
    wait_until(lambda: file.exists() and file.read_bytes().count(b"\n") >= 1, process)
    kill(process)
    with pytest.raises(Preempted, match="shard 2/2 lacks 1 reported run"):
        study(tiny(), shared, Shard(2, 2))
    made = results_of(shared)
    study(tiny(), shared, Shard(1, 2))
    study(tiny(), shared, Shard(2, 2))
    assert (shared / "report.md").exists()
    assert made.items() <= results_of(shared).items()
    assert not any(count_missing(tiny(), results_of(shared)))


def test_missing_results_are_counted():
    config = many_runs()
    missing = count_missing(config, {})
    assert missing.final == 6 * 2 * 5
    assert missing.blocked == 4 * 2 * 5  # the rate of sgd is known
    assert missing.tuning == 2 * 2 * 2 * (2 + 3)  # decays, GC, seeds, rates; sgd has one rate
    assert str(missing) == "40 tuning runs, 60 reported runs, 6 timings"
