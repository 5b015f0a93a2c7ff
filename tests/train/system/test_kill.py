"""Killed at any moment and started again, a run ends as if nothing had happened."""

import random

import pytest

from tests.support.killing import campaign

KILLS = 21


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    return campaign(tmp_path_factory.mktemp("killed"), KILLS, random.Random(0))


def test_the_result_is_that_of_an_uninterrupted_run_to_the_bit(killed):
    assert killed.runs > 1
    assert killed.spoilt == []


def test_enough_runs_were_killed_while_a_checkpoint_was_written(killed):
    assert len(killed.kills) == KILLS
    assert sum(kill.tore for kill in killed.kills) >= 5
