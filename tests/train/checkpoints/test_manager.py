"""Whatever happens to the files of a checkpoint is found and said, or does not matter."""

import pickle
import random
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from train.checkpoints.manager import Checkpoints
from train.engine import nonfinite
from train.engine.state import MetricSums, TrainState
from train.errors import UserError
from train.output.timer import Timer

KEEP = 3
ORBAX_NOTES = {"_CHECKPOINT_METADATA", "commit_success.txt"}  # timestamps; nothing rests on them
DAMAGE = {
    "truncated": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "emptied": lambda file: file.write_bytes(b""),
    "zeroed": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "missing": lambda file: file.unlink(),
    "flipped": lambda file: flip(file, file.stat().st_size // 2, 0),
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"{}"),
}


def flip(file, byte, bit):
    content = bytearray(file.read_bytes())
    content[byte] ^= 1 << bit
    file.write_bytes(content)


def state_after(step, width=8):
    params = {
        "conv": {"kernel": jax.random.normal(jax.random.key(step), (3, 3, 4, width))},
        "dense": {"bias": jnp.full(width, step, jnp.float32)},
    }
    return TrainState(
        step=jnp.int32(step),
        params=params,
        stats={"norm": {"mean": jnp.full(width, step, jnp.float32)}},
        opt_state=optax.sgd(0.1, 0.9).init(params),
        sums=MetricSums.zeros(),
        nonfinite=nonfinite.init(params),
    )


def save(folder, *steps):
    with Checkpoints(folder, KEEP) as checkpoints:
        for step in steps:
            checkpoints.save(step, state_after(step), Timer(examples=step))


def restore(folder, like=None):
    """The state, what was said, and the timer."""
    said, timer = [], Timer()
    with Checkpoints(folder, KEEP) as checkpoints:
        state = checkpoints.restore(like or state_after(0), timer, said.append)
    return state, said, timer


def files_of(folder):
    return sorted(file for file in folder.rglob("*") if file.is_file())


def is_state_after(step, state):
    leaves = zip(jax.tree.leaves(state), jax.tree.leaves(state_after(step)), strict=True)
    return all(np.array_equal(is_, should) for is_, should in leaves)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A work folder with checkpoints 1 and 2, to be copied."""
    folder = tmp_path_factory.mktemp("saved")
    save(folder / "checkpoints", 1, 2)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved / "checkpoints", tmp_path / "checkpoints")


def test_the_newest_is_restored_with_its_clock(folder):
    state, said, timer = restore(folder)
    assert is_state_after(2, state)
    assert said == []
    assert timer.examples == 2


def test_without_a_checkpoint_the_first_state_is_used(tmp_path):
    state, said, timer = restore(tmp_path / "checkpoints")
    assert is_state_after(0, state)
    assert said == []
    assert timer.examples == 0


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_to_any_file_is_found_and_the_checkpoint_before_is_used(kind, saved, tmp_path):
    names = [file.relative_to(saved) for file in files_of(saved / "checkpoints" / "2")]
    assert len(names) >= 10
    harmless = set()
    for number, name in enumerate(names):
        work = shutil.copytree(saved, tmp_path / str(number))
        DAMAGE[kind](work / name)
        state, said, timer = restore(work / "checkpoints")
        if is_state_after(2, state):
            assert said == [], name
            harmless.add(name.name if name.parent.name == "2" else str(name))
            continue
        assert is_state_after(1, state), name
        (line,) = said
        assert line.startswith("checkpoint 2 is damaged ("), name
        assert name.name in line
        assert timer.examples == 1
        assert [file.name for file in (work / "quarantine").iterdir()] == ["2-1"]
    assert harmless <= ORBAX_NOTES


def test_flipping_any_bit_is_found_or_harmless(saved, tmp_path):
    work = tmp_path / "work"
    rng = random.Random(0)
    for _ in range(100):
        shutil.copytree(saved, work)
        file = rng.choice(files_of(work / "checkpoints" / "2"))
        flip(file, rng.randrange(file.stat().st_size), rng.randrange(8))
        state, said, _ = restore(work / "checkpoints")
        harmless = file.name in ORBAX_NOTES and file.parent.name == "2"
        assert is_state_after(2 if harmless else 1, state), file
        assert len(said) == (0 if harmless else 1), file
        shutil.rmtree(work)


@pytest.mark.parametrize("what", ["state", "state/d", "state/ocdbt.process_0"])
def test_a_missing_folder_is_found(what, folder):
    shutil.rmtree(folder / "2" / what)
    state, said, _ = restore(folder)
    assert is_state_after(1, state)
    assert "is missing" in said[0]


def test_other_files_are_ignored(folder):
    """File managers and network file systems add files; Orbax does not read them."""
    (folder / "2" / "state" / ".DS_Store").write_text("?")
    (folder / "2" / "state" / "d" / ".nfs0001").write_text("?")
    state, said, _ = restore(folder)
    assert is_state_after(2, state)
    assert said == []


def test_a_checkpoint_under_the_name_of_another_step_is_found(folder):
    (folder / "2").rename(folder / "7")
    state, said, _ = restore(folder)
    assert is_state_after(1, state)
    assert "checkpoint 7 is damaged (it is of step 2)" in said[0]


def test_with_none_left_an_error_names_the_folder_and_nothing_is_deleted(folder):
    for step in ("1", "2"):
        (folder / step / "state" / "manifest.ocdbt").write_bytes(b"")
    before = {file: file.read_bytes() for file in files_of(folder)}
    with pytest.raises(UserError) as error:
        restore(folder)
    assert str(folder) in str(error.value)
    assert "2 is damaged (state/manifest.ocdbt has changed)" in str(error.value)
    assert "nothing was deleted" in str(error.value)
    assert {file: file.read_bytes() for file in files_of(folder)} == before


def test_the_step_of_a_damaged_checkpoint_can_be_saved_and_damaged_again(folder):
    for round_ in (1, 2):
        flip(folder / "2" / "state" / "manifest.ocdbt", 20, 3)
        _, said, _ = restore(folder)
        assert len(said) == 1
        save(folder, 2)
        state, said, _ = restore(folder)
        assert is_state_after(2, state)
        assert said == []
        attic = {file.name for file in (folder.parent / "quarantine").iterdir()}
        assert attic == {f"2-{count}" for count in range(1, round_ + 1)}


def test_what_a_kill_left_half_written_is_ignored_and_cleared(folder):
    shutil.copytree(folder / "2", folder / "3.orbax-checkpoint-tmp")
    shutil.copytree(folder / "2", folder / "4.orbax-checkpoint-tmp-1700000000")
    (folder / "3.orbax-checkpoint-tmp" / "manifest.json").unlink()
    state, said, _ = restore(folder)
    assert is_state_after(2, state)
    assert said == []
    assert {file.name for file in folder.iterdir()} == {"1", "2"}


def test_another_structure_is_an_error_that_says_what_differs(folder):
    before = {file: file.read_bytes() for file in files_of(folder)}
    wider = state_after(0, width=16)
    with pytest.raises(UserError) as error:
        restore(folder, wider)
    assert "checkpoint 2 was written by another version of the trainer" in str(error.value)
    assert "conv/kernel is float32[3, 3, 4, 8], expected float32[3, 3, 4, 16]" in str(error.value)
    with pytest.raises(UserError, match="stats/new is missing, expected float32"):
        restore(folder, state_after(0)._replace(stats={"new": jnp.zeros(3)}))
    with pytest.raises(UserError, match=r"stats/norm/mean is float32\[8\], expected nothing"):
        restore(folder, state_after(0)._replace(stats={}))
    assert {file: file.read_bytes() for file in files_of(folder)} == before


def test_only_so_many_are_kept_and_the_newest(tmp_path):
    save(tmp_path / "checkpoints", *range(1, KEEP + 3))
    kept = {file.name for file in (tmp_path / "checkpoints").iterdir()}
    assert kept == {str(step) for step in range(3, KEEP + 3)}


def test_the_state_on_the_disk_is_that_of_the_call_though_the_buffers_are_reused(tmp_path):
    """A training step overwrites the state that it is given, while the checkpoint is written."""
    overwrite = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf * 0, state), donate_argnums=0)
    with Checkpoints(tmp_path / "checkpoints", KEEP) as checkpoints:
        state = jax.tree.map(jnp.copy, state_after(5, width=50_000))
        checkpoints.save(5, state, Timer())
        jax.block_until_ready(overwrite(state))
    state, said, _ = restore(tmp_path / "checkpoints", state_after(0, width=50_000))
    assert said == []
    assert np.array_equal(state.params["dense"]["bias"], np.full(50_000, 5))


_events: list[str] | None = None  # None: nobody listens


def _listen(event, arguments):
    del arguments
    if _events is not None and event in {"pickle.find_class", "marshal.loads", "compile", "exec"}:
        _events.append(event)


def test_restoring_unpickles_and_runs_nothing(folder):
    global _events
    restore(folder)  # imports what it imports
    sys.addaudithook(_listen)  # stays until the process ends
    _events = []
    try:
        restore(folder)
        heard = list(_events)
        assert heard == []
        pickle.loads(pickle.dumps(Timer))
        assert _events == ["pickle.find_class"], "the hook hears nothing"
    finally:
        _events = None
