"""Any damage to the files of a checkpoint is detected or harmless."""

import errno
import json
import os
import pickle
import random
import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest

from train.checkpoints import manifest
from train.checkpoints.manager import Checkpoints, latest_step, load_weights
from train.engine import nonfinite
from train.engine.state import TrainState
from train.errors import UserError
from train.output.timer import Timer
from train.tasks.task import zero_sums

KEEP = 3
# Timestamps of Orbax, its marker, and the class that wrote the state.
UNREAD_FILES = {
    Path("_CHECKPOINT_METADATA"),
    Path("commit_success.txt"),
    Path("state/commit_success.txt"),
}
DAMAGE = {
    "truncated": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "empty": lambda file: file.write_bytes(b""),
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
    """Return a training state that depends on the step."""
    params = {
        "conv": {"kernel": jax.random.normal(jax.random.key(step), (3, 3, 4, width))},
        "dense": {"bias": jnp.full(width, step, jnp.float32)},
    }
    return TrainState(
        step=jnp.int32(step),
        params=params,
        stats={"norm": {"mean": jnp.full(width, step, jnp.float32)}},
        opt_state=optax.sgd(0.1, 0.9).init(params),
        sums=zero_sums(("loss", "top1", "top5")),
        nonfinite=nonfinite.init(params),
    )


def save(folder, *steps):
    with Checkpoints(folder, KEEP) as checkpoints:
        for step in steps:
            checkpoints.save(step, state_after(step), Timer(examples=step))


def restore(folder, like=None):
    """Return the restored state, the messages, and the timer."""
    messages, timer = [], Timer()
    with Checkpoints(folder, KEEP) as checkpoints:
        state = checkpoints.restore(like or state_after(0), timer, messages.append)
    return state, messages, timer


def files_of(folder):
    return sorted(file for file in folder.rglob("*") if file.is_file())


def is_state_after(step, state):
    leaves = zip(jax.tree.leaves(state), jax.tree.leaves(state_after(step)), strict=True)
    return all(np.array_equal(leaf, expected) for leaf, expected in leaves)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return a work folder with checkpoints 1 and 2, which tests must not change."""
    folder = tmp_path_factory.mktemp("saved")
    save(folder / "checkpoints", 1, 2)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """Return a copy of the folder with checkpoints 1 and 2."""
    return shutil.copytree(saved / "checkpoints", tmp_path / "checkpoints")


def test_newest_checkpoint_is_restored(folder):
    state, messages, timer = restore(folder)
    assert is_state_after(2, state)
    assert messages == []
    assert timer.examples == 2


def test_first_state_without_checkpoint(tmp_path):
    state, messages, timer = restore(tmp_path / "checkpoints")
    assert is_state_after(0, state)
    assert messages == []
    assert timer.examples == 0


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_file_is_detected(kind, saved, tmp_path):
    names = [file.relative_to(saved) for file in files_of(saved / "checkpoints" / "2")]
    assert len(names) >= 9
    harmless = set()
    for number, name in enumerate(names):
        work = shutil.copytree(saved, tmp_path / str(number))
        DAMAGE[kind](work / name)
        state, messages, timer = restore(work / "checkpoints")
        if is_state_after(2, state):
            assert messages == [], name
            harmless.add(name.relative_to("checkpoints/2"))
            continue
        assert is_state_after(1, state), name
        (line,) = messages
        assert line.startswith("checkpoint 2 is damaged ("), name
        assert name.name in line
        assert timer.examples == 1
        assert [file.name for file in (work / "quarantine").iterdir()] == ["2-1"]
    assert harmless <= UNREAD_FILES


@pytest.mark.slow
def test_flipped_bit_is_detected(saved, tmp_path):
    work = tmp_path / "work"
    rng = random.Random(0)
    for _ in range(100):
        shutil.copytree(saved, work)
        file = rng.choice(files_of(work / "checkpoints" / "2"))
        flip(file, rng.randrange(file.stat().st_size), rng.randrange(8))
        state, messages, _ = restore(work / "checkpoints")
        is_unread = file.relative_to(work / "checkpoints" / "2") in UNREAD_FILES
        assert is_state_after(2 if is_unread else 1, state), file
        assert len(messages) == (0 if is_unread else 1), file
        shutil.rmtree(work)


@pytest.mark.parametrize("missing", ["state", "state/d", "state/ocdbt.process_0"])
def test_missing_folder_is_detected(missing, folder):
    shutil.rmtree(folder / "2" / missing)
    state, messages, _ = restore(folder)
    assert is_state_after(1, state)
    assert "is missing" in messages[0]


STRAY_FILES = (".DS_Store", ".nfs0000000012345678", "Thumbs.db", "desktop.ini", "._x", "._2", "2~")
STRAY_FILES += ("#2#", ".2.swp", "manifest.json.orig", "2.bak", "notes.txt", ".directory")
STRAY_FOLDERS = ("lost+found", ".snapshot", "@eaDir", "2 (copy)", "2.bak", ".ipynb_checkpoints")


@pytest.mark.parametrize(
    "place", [".", "1", "2", "2/state", "2/state/d", "2/state/ocdbt.process_0"]
)
def test_other_files_are_ignored(place, folder):
    """File managers, editors and file systems add files; a run reads none and deletes none."""
    assert (folder / place).is_dir()
    for name in STRAY_FILES:
        (folder / place / name).write_text("?", encoding="utf-8")
    state, messages, timer = restore(folder)
    assert is_state_after(2, state)
    assert messages == []
    assert timer.examples == 2
    assert all((folder / place / name).exists() for name in STRAY_FILES)


@pytest.mark.parametrize("place", [".", "1", "2", "2/state"])
def test_other_folders_are_ignored(place, folder):
    for name in STRAY_FOLDERS:
        (folder / place / name / "a").mkdir(parents=True)
        (folder / place / name / "b").write_text("?", encoding="utf-8")
    state, messages, _ = restore(folder)
    assert is_state_after(2, state)
    assert messages == []
    assert all((folder / place / name / "b").exists() for name in STRAY_FOLDERS)


@pytest.mark.parametrize("is_file", [True, False])
def test_run_saves_beside_other_files(is_file, folder):
    strays = [folder / name for name in (STRAY_FILES if is_file else STRAY_FOLDERS)]
    strays += [folder / "2" / stray.name for stray in strays]
    for stray in strays:
        stray.write_text("?", encoding="utf-8") if is_file else stray.mkdir()
    save(folder, *range(3, KEEP + 3))
    state, messages, _ = restore(folder)
    assert is_state_after(KEEP + 2, state)
    assert messages == []
    assert {file.name for file in folder.iterdir() if file.name.isdigit()} == {"3", "4", "5"}
    assert all(stray.exists() for stray in strays if stray.parent == folder)


@pytest.mark.parametrize("name", ["7", "07", "007"])
def test_file_with_the_name_of_a_step(name, folder):
    (folder / name).write_text("?", encoding="utf-8")
    state, _, _ = restore(folder)
    assert is_state_after(2, state)
    assert latest_step(folder) == 2


@pytest.mark.parametrize("name", ["9", "12", "100"])
def test_empty_folder_with_the_name_of_a_step(name, folder):
    (folder / name).mkdir()
    state, messages, _ = restore(folder)
    assert is_state_after(2, state)
    assert len(messages) == 1
    assert messages[0].startswith(f"checkpoint {name} is damaged (manifest.json: ")


def test_renamed_checkpoint_is_detected(folder):
    (folder / "2").rename(folder / "7")
    state, messages, _ = restore(folder)
    assert is_state_after(1, state)
    assert "checkpoint 7 is damaged (it is of step 2)" in messages[0]


def test_no_good_checkpoint_deletes_nothing(folder):
    for step in ("1", "2"):
        (folder / step / "state" / "manifest.ocdbt").write_bytes(b"")
    before = {file: file.read_bytes() for file in files_of(folder)}
    with pytest.raises(UserError) as error:
        restore(folder)
    assert str(folder) in str(error.value)
    assert "2 is damaged (state/manifest.ocdbt has changed)" in str(error.value)
    assert "nothing was deleted" in str(error.value)
    assert {file: file.read_bytes() for file in files_of(folder)} == before


def test_damaged_step_is_saved_again(folder):
    for round_ in (1, 2):
        flip(folder / "2" / "state" / "manifest.ocdbt", 20, 3)
        _, messages, _ = restore(folder)
        assert len(messages) == 1
        save(folder, 2)
        state, messages, _ = restore(folder)
        assert is_state_after(2, state)
        assert messages == []
        quarantined = {file.name for file in (folder.parent / "quarantine").iterdir()}
        assert quarantined == {f"2-{count}" for count in range(1, round_ + 1)}


def test_partial_checkpoint_is_removed(folder):
    shutil.copytree(folder / "2", folder / "3.orbax-checkpoint-tmp")
    shutil.copytree(folder / "2", folder / "4.orbax-checkpoint-tmp-1700000000")
    (folder / "3.orbax-checkpoint-tmp" / "manifest.json").unlink()
    state, messages, _ = restore(folder)
    assert is_state_after(2, state)
    assert messages == []
    assert {file.name for file in folder.iterdir()} == {"1", "2"}


def test_checkpoint_without_manifest_is_not_completed(folder, monkeypatch):
    def raise_disk_full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(manifest, "write", raise_disk_full)
    with pytest.raises(UserError, match=r"No space left on device; the last good checkpoint is 2;"):
        save(folder, 3)
    assert latest_step(folder) == 2
    state, messages, _ = restore(folder)
    assert is_state_after(2, state)
    assert messages == []
    assert {file.name for file in folder.iterdir()} == {"1", "2"}


def test_checkpoint_of_the_v0_api_is_restored(folder):
    """Earlier versions of the trainer wrote the state with `StandardSave`."""
    text = (folder / "2" / "manifest.json").read_text(encoding="utf-8")
    content = {k: v for k, v in json.loads(text).items() if k not in ("files", "digest")}
    shutil.rmtree(folder / "2")
    with orbax.checkpoint.Checkpointer(orbax.checkpoint.CompositeCheckpointHandler()) as v0:
        item = orbax.checkpoint.args.StandardSave(state_after(2)._asdict())
        v0.save(folder / "2", orbax.checkpoint.args.Composite(state=item))
    manifest.write(folder / "2" / "state", "state", content)
    assert "StandardCheckpointHandler" in (folder / "2" / "_CHECKPOINT_METADATA").read_text()
    state, messages, timer = restore(folder)
    assert is_state_after(2, state)
    assert messages == []
    assert timer.examples == 2
    weights = load_weights(folder / "2")
    assert np.array_equal(weights["params"]["conv"]["kernel"], state.params["conv"]["kernel"])


def test_other_structure_is_rejected(folder):
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


def test_newest_checkpoints_are_kept(tmp_path):
    save(tmp_path / "checkpoints", *range(1, KEEP + 3))
    kept = {file.name for file in (tmp_path / "checkpoints").iterdir()}
    assert kept == {str(step) for step in range(3, KEEP + 3)}


def test_save_copies_the_state(tmp_path):
    """The next training step overwrites the state while the checkpoint is written."""
    overwrite = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf * 0, state), donate_argnums=0)
    with Checkpoints(tmp_path / "checkpoints", KEEP) as checkpoints:
        state = jax.tree.map(jnp.copy, state_after(5, width=50_000))
        checkpoints.save(5, state, Timer())
        jax.block_until_ready(overwrite(state))
    state, messages, _ = restore(tmp_path / "checkpoints", state_after(0, width=50_000))
    assert messages == []
    assert np.array_equal(state.params["dense"]["bias"], np.full(50_000, 5))


_events: list[str] | None = None  # None: do not record


def _record(event, arguments):
    del arguments
    if _events is not None and event in {"pickle.find_class", "marshal.loads", "compile", "exec"}:
        _events.append(event)


def test_restore_executes_no_code(folder):
    global _events
    restore(folder)  # imports modules
    sys.addaudithook(_record)  # it cannot be removed
    _events = []
    try:
        restore(folder)
        assert list(_events) == []
        pickle.loads(pickle.dumps(Timer))
        assert _events == ["pickle.find_class"], "the hook does not work"
    finally:
        _events = None
