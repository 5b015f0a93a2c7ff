"""A run that is killed at any moment and restarted gives the result of an uninterrupted run."""

import random

import pytest

from tests.support.kills import kill_many

pytestmark = pytest.mark.slow

NUM_KILLS = 12


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return kill_many(tmp_path_factory.mktemp("killed"), NUM_KILLS, random.Random(0))


def test_killed_runs_give_same_result(outcome):
    assert outcome.num_runs > 1
    assert outcome.failed == []


def test_kills_interrupt_saves(outcome):
    assert len(outcome.kills) == NUM_KILLS
    assert sum(kill.mid_save for kill in outcome.kills) >= 3
