"""Saving and restoring the training state with Orbax, with detection of damaged files."""

import contextlib
import functools
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from train.checkpoints import manifest, saved_state
from train.checkpoints.manifest import DamagedError
from train.engine.state import TrainState, named_leaves, sha256
from train.errors import UserError, describe_error
from train.output.timer import Timer
from train.runtime import distributed

_EVAL_PARAMS = ("opt_state", "eval_params")  # their path in a state; see train.engine.averaging
_MAX_DIFFERENCES = 3  # in an error message


class Checkpoints:
    """The folder `checkpoints/` of a run; a context manager that waits for the last save.

    Each checkpoint has a manifest with the timer, the structure of the state, the digest of its
    bytes, and the digests of its files. A checkpoint that does not match its manifest is damaged.
    This is checked before Orbax reads the checkpoint, because Orbax answers some damage late and
    with long tracebacks on stderr.
    """

    def __init__(self, folder: Path, keep: int):
        """Open or create the folder; the newest `keep` checkpoints are kept."""
        self._folder = folder.absolute()
        self._saving: ocp.AsyncResponse[bool] | None = None
        with _explain_errors(f"cannot use {self._folder}"):
            self._checkpointer = ocp.training.Checkpointer(
                self._folder,
                preservation_policy=ocp.training.preservation_policies.LatestN(keep),
                cleanup_tmp_directories=True,
            )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        with self._explain_save_errors():
            self._finish_save()
            self._checkpointer.close()

    def latest_step(self) -> int | None:
        """Return the step of the newest complete checkpoint, or None."""
        return latest_step(self._folder)

    def save(self, step: int, state: TrainState, timer: Timer) -> None:
        """Start to save; return when the state is copied off the device.

        Raises:
          UserError: If this save or the one before cannot be written.
        """
        with self._explain_save_errors():
            self._finish_save()
            content = {
                "step": step,
                "timer": timer.saved(),
                "structure": _structure(state),
                "sha256": sha256(state),
            }
            items = saved_state.item(state._asdict(), content)
            self._saving = self._checkpointer.save_checkpointables_async(step, items, force=True)

    def wait(self) -> None:
        """Wait until every save is on disk.

        Raises:
          UserError: If one cannot be written.
        """
        with self._explain_save_errors():
            self._finish_save()

    def restore(self, like: TrainState, timer: Timer, log: Callable[[str], None]) -> TrainState:
        """Return the newest undamaged state; `like` if nothing was saved.

        Args:
          like: A state with the structure and sharding of the run's states.
          timer: The times of the run so far are added to it.
          log: Is called with a message for each damaged checkpoint.

        Raises:
          UserError: If all checkpoints are damaged, or one has another structure.
        """
        damaged: dict[int, str] = {}
        for step in sorted(_steps(self._folder), reverse=True):
            try:
                state, saved_timer = self._read(step, like)
            except DamagedError as error:
                damaged[step] = str(error)
                log(f"checkpoint {step} is damaged ({error}); trying the one before")
                continue
            self._quarantine(list(damaged))
            timer.add(**saved_timer)
            return state
        if damaged:
            raise UserError(
                f"no checkpoint in {self._folder} can be used: "
                + "; ".join(f"{step} is damaged ({reason})" for step, reason in damaged.items())
                + "; nothing was deleted; restore the folder from a backup, or start again with "
                "another --workdir"
            )
        return like

    def _finish_save(self) -> None:
        saving, self._saving = self._saving, None
        self._checkpointer.wait()  # raises the error of a save
        if saving:
            saving.result()  # ends its thread

    def _read(self, step: int, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        saved = manifest.read(self._folder / str(step))
        if saved["step"] != step:
            raise DamagedError(f"it is of step {saved['step']}")
        _check_structure(step, saved["structure"], _structure(like))
        shapes = jax.tree.map(ocp.arrays.to_shape_dtype_struct, like._asdict())
        state = TrainState(**saved_state.load(self._folder / str(step), shapes))
        if sha256(state) != saved["sha256"]:
            raise DamagedError("its state has changed")
        return state, saved["timer"]

    def _quarantine(self, steps: list[int]) -> None:
        """Move damaged checkpoints away, so that new ones of the same step can be written."""
        quarantine = self._folder.with_name("quarantine")
        if steps and distributed.is_first_process():
            with _explain_errors(f"cannot move damaged checkpoints to {quarantine}"):
                quarantine.mkdir(exist_ok=True)
                for step in steps:
                    names = (f"{step}-{count}" for count in range(1, 1_000_000))
                    free = next(
                        quarantine / name for name in names if not (quarantine / name).exists()
                    )
                    (self._folder / str(step)).rename(free)
        distributed.barrier("damaged checkpoints are moved")
        self._checkpointer.reload()

    @contextlib.contextmanager
    def _explain_save_errors(self) -> Iterator[None]:
        step = self.latest_step()
        with _explain_errors(
            f"cannot save in {self._folder}",
            f"the last good checkpoint is {'none' if step is None else step}; free some space or "
            "fix the permissions, then run the same command again",
        ):
            yield


def _steps(folder: Path) -> list[int]:
    """Return the steps of the complete checkpoints in a folder, damaged or not."""
    if not folder.is_dir():
        return []
    return [found.step for found in ocp.path.step.standard_name_format().find_all(folder)]


def latest_step(folder: Path) -> int | None:
    """Return the step of the newest complete checkpoint in a folder, damaged or not, or None."""
    return max(_steps(folder), default=None)


def is_checkpoint(folder: Path) -> bool:
    """Return whether the folder is that of one checkpoint."""
    return manifest.exists(folder)


def load_newest_weights(folder: Path, log: Callable[[str], None]) -> tuple[int, dict[str, Any]]:
    """Return the step of the newest checkpoint that is not damaged, and its `load_weights`.

    Nothing is changed, so that a run may go on writing to the folder.

    Args:
      folder: The folder of the checkpoints.
      log: Is called with a message for each damaged checkpoint.

    Raises:
      UserError: If there is no such checkpoint.
    """
    damaged: dict[int, str] = {}
    while (step := _newest(folder, damaged)) is not None:
        try:
            return step, load_weights(folder / str(step))
        except DamagedError as error:
            damaged[step] = str(error)
            if (folder / str(step)).exists():  # otherwise the run has replaced it meanwhile
                log(f"checkpoint {step} is damaged ({error}); trying the one before")
    reasons = "".join(f"; {step} is damaged ({reason})" for step, reason in damaged.items())
    raise UserError(
        f"no checkpoint in {folder} can be read{reasons}; give the --workdir of a run that has "
        "saved one"
    )


def _newest(folder: Path, damaged: Collection[int]) -> int | None:
    """Return the step of the newest checkpoint that is not known to be damaged, or None."""
    return max((step for step in _steps(folder) if step not in damaged), default=None)


def load_weights(folder: Path) -> dict[str, Any]:
    """Return `params` and `stats` of a checkpoint, as nested dicts of NumPy arrays.

    `params` are those that the run evaluates, such as the slow weights of Lookahead.

    Args:
      folder: The folder of one checkpoint, of any run.

    Raises:
      DamagedError: If it does not contain what was saved.
    """
    structure = manifest.read(folder)["structure"]
    wanted: dict[Any, Any] = {}
    for name in structure:
        *parents, leaf = (int(key) if key.isdigit() else key for key in name.split("/"))
        if tuple(parents[:1]) in (("params",), ("stats",)) or tuple(parents[:2]) == _EVAL_PARAMS:
            branch = functools.reduce(lambda d, key: d.setdefault(key, {}), parents, wanted)
            branch[leaf] = np.ndarray  # to load it as
    context = ocp.Context()
    context.pytree.loading.partial_load = True
    with context:
        tree = saved_state.load(folder, wanted)
    opt_state, eval_params = _EVAL_PARAMS
    params = tree.get(opt_state, {}).get(eval_params, tree["params"])
    return {"params": params, "stats": tree.get("stats", {})}


@contextlib.contextmanager
def _explain_errors(
    what: str, fix_hint: str = "fix the folder or choose another --workdir"
) -> Iterator[None]:
    """Turn any error of Orbax, which raises many types, into a one-line UserError."""
    try:
        yield
    except Exception as error:
        if distributed.is_lost_process(error):
            raise
        raise UserError(f"{what}: {describe_error(error)}; {fix_hint}") from error


def _structure(state: TrainState) -> dict[str, str]:
    leaves = named_leaves(state).items()
    return {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in leaves}


def _check_structure(step: int, saved: dict[str, str], expected: dict[str, str]) -> None:
    differences = [
        f"{name} is {saved.get(name, 'missing')}, expected {expected.get(name, 'nothing')}"
        for name in sorted(saved.keys() | expected.keys())
        if saved.get(name) != expected.get(name)
    ]
    if differences:
        hidden = len(differences) - _MAX_DIFFERENCES
        more = f", and {hidden} more" if hidden > 0 else ""
        raise UserError(
            f"checkpoint {step} was written by another version of the trainer: "
            f"{', '.join(differences[:_MAX_DIFFERENCES])}{more}; use that version, or another "
            "--workdir"
        )
