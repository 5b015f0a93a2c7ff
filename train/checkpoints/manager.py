"""Saving and restoring a run's state with Orbax, and finding damage that Orbax does not."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from train.checkpoints import manifest
from train.checkpoints.manifest import DamagedError
from train.engine.state import TrainState, path_name, sha256
from train.errors import UserError, reason
from train.output.timer import Timer
from train.runtime import distributed

_SLOW = ("opt_state", "slow_params")  # where Lookahead has them in a state


class Checkpoints:
    """The folder `checkpoints/` of a run; a context manager that waits for the last save.

    Beside the state, each checkpoint holds a record: the run's timer, the state's structure, the
    digest of its bytes and those of the files. A checkpoint that does not agree with its record is
    damaged, whatever damaged it; that is found before Orbax reads a byte of it, because Orbax
    answers to some damage with pages of tracebacks on stderr, and late.
    """

    def __init__(self, folder: Path, keep: int):
        self._folder = folder.absolute()
        self._record: dict[str, Any] = {}  # of the checkpoint that is being written
        with _explained(f"cannot use {self._folder}"):
            self._manager = ocp.CheckpointManager(
                self._folder,
                item_names=("state",),
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=preservation_policy.LatestN(keep),
                    cleanup_tmp_directories=True,
                    async_options=ocp.AsyncOptions(post_finalization_callback=self._write_record),
                ),
            )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        with self._saving():
            self._manager.close()

    def last_good(self) -> int | None:
        """The newest step whose checkpoint is complete."""
        return newest(self._folder)

    def save(self, step: int, state: TrainState, timer: Timer) -> None:
        """Starts to save; returns as soon as the state has been copied off the device.

        Raises:
          UserError: this save, or the one before, could not be written.
        """
        with self._saving():
            self._manager.wait_until_finished()
            self._record = {
                "step": step,
                "timer": timer.saved(),
                "structure": _structure(state),
                "sha256": sha256(state),
            }
            items = ocp.args.Composite(state=ocp.args.StandardSave(state._asdict()))
            self._manager.save(step, args=items, force=True)

    def wait(self) -> None:
        """Returns when all that was saved is on the disk.

        Raises:
          UserError: it could not be written.
        """
        with self._saving():
            self._manager.wait_until_finished()

    def restore(self, like: TrainState, timer: Timer, say: Callable[[str], None]) -> TrainState:
        """The newest state that is not damaged, placed as `like`; `like` if nothing was saved.

        Args:
          like: a state of the run's structure and sharding.
          timer: is advanced by the times of the run so far.
          say: is told of damaged checkpoints.

        Raises:
          UserError: all checkpoints are damaged, or one is of another structure.
        """
        damaged: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(read=True), reverse=True):
            try:
                state, saved = self._read(step, like)
            except DamagedError as error:
                damaged[step] = str(error)
                say(f"checkpoint {step} is damaged ({error}); trying the one before")
                continue
            self._set_aside(list(damaged))
            timer.add(**saved)
            return state
        if damaged:
            raise UserError(
                f"no checkpoint in {self._folder} can be used: "
                + "; ".join(f"{step} is damaged ({reason})" for step, reason in damaged.items())
                + "; nothing was deleted; bring the folder back from a copy, or start anew with "
                "another --workdir"
            )
        return like

    def _read(self, step: int, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        saved = manifest.read(self._folder / str(step))
        if saved["step"] != step:
            raise DamagedError(f"it is of step {saved['step']}")
        _check_structure(step, saved["structure"], _structure(like))
        shapes = jax.tree.map(ocp.tree.to_shape_dtype_struct, like._asdict())
        try:
            items = ocp.args.Composite(state=ocp.args.StandardRestore(shapes))
            state = TrainState(**self._manager.restore(step, args=items).state)
        except Exception as error:  # whatever reading damaged bytes can raise
            raise DamagedError(f"its state: {type(error).__name__}") from error
        if sha256(state) != saved["sha256"]:
            raise DamagedError("its state has changed")
        return state, saved["timer"]

    def _write_record(self) -> None:
        """Called by Orbax when all files are written and their folder has not its name yet."""
        if distributed.is_first_process():
            step = self._record["step"]
            (folder,) = self._folder.glob(f"{step}.orbax-checkpoint-tmp*")
            manifest.write(folder, self._record)

    def _set_aside(self, steps: list[int]) -> None:
        """Moves damaged checkpoints out of the way of new ones of the same step."""
        attic = self._folder.with_name("damaged")
        if steps and distributed.is_first_process():
            with _explained(f"cannot move damaged checkpoints to {attic}"):
                attic.mkdir(exist_ok=True)
                for step in steps:
                    names = (f"{step}-{count}" for count in range(1, 1_000_000))
                    free = next(attic / name for name in names if not (attic / name).exists())
                    (self._folder / str(step)).rename(free)
        distributed.barrier("damaged checkpoints are out of the way")
        self._manager.reload()

    @contextlib.contextmanager
    def _saving(self) -> Iterator[None]:
        good = self.last_good()
        with _explained(
            f"cannot save in {self._folder}",
            f"the last good checkpoint is {'none' if good is None else good}; "
            "make room or fix the folder, and run the same command again",
        ):
            yield


def newest(folder: Path) -> int | None:
    """The newest step of which a folder has a complete checkpoint, damaged or not."""
    return max(ocp.utils.checkpoint_steps(folder), default=None) if folder.is_dir() else None


def is_checkpoint(folder: Path) -> bool:
    """Whether the folder is that of one checkpoint."""
    return manifest.is_in(folder)


def load_weights(folder: Path) -> dict[str, Any]:
    """`params` and `stats` of any run, as nested dicts of NumPy's arrays.

    Of Lookahead's two sets of weights `params` are the slow ones, which are those that are tested.

    Args:
      folder: of one checkpoint.

    Raises:
      DamagedError: it does not hold what was saved.
    """
    structure = manifest.read(folder)["structure"]
    wanted: dict[Any, Any] = {}
    for name in structure:
        *parents, leaf = (int(key) if key.isdigit() else key for key in name.split("/"))
        if tuple(parents[:1]) in (("params",), ("stats",)) or tuple(parents[:2]) == _SLOW:
            functools.reduce(lambda d, key: d.setdefault(key, {}), parents, wanted)[leaf] = 0
    to_host = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
    arguments = ocp.args.PyTreeRestore(item=wanted, restore_args=to_host, partial_restore=True)
    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            tree = checkpointer.restore(folder.absolute() / "state", arguments)
    except Exception as error:  # whatever reading damaged bytes can raise
        raise DamagedError(f"its state: {type(error).__name__}") from error
    opt_state, slow = _SLOW
    return {"params": tree.get(opt_state, {}).get(slow, tree["params"]), "stats": tree["stats"]}


@contextlib.contextmanager
def _explained(
    what: str, then: str = "fix the folder or choose another --workdir"
) -> Iterator[None]:
    """Orbax raises what its storage raised, of many types; a person needs one line."""
    try:
        yield
    except Exception as error:
        raise UserError(f"{what}: {reason(error)}; {then}") from error


def _structure(state: TrainState) -> dict[str, str]:
    leaves = jax.tree_util.tree_flatten_with_path(state)[0]
    return {path_name(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves}


def _check_structure(step: int, theirs: dict[str, str], ours: dict[str, str]) -> None:
    differences = [
        f"{name} is {theirs.get(name, 'not there')}, expected {ours.get(name, 'nothing')}"
        for name in sorted(theirs.keys() | ours.keys())
        if theirs.get(name) != ours.get(name)
    ]
    if differences:
        more = f", and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise UserError(
            f"checkpoint {step} was written by another version of the trainer: "
            f"{', '.join(differences[:3])}{more}; use that version, or another --workdir"
        )
