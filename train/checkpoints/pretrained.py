"""Beginning from weights that were trained before: by this trainer, or by PyTorch."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from train.checkpoints import manager, torch_resnet
from train.checkpoints.manifest import DamagedError
from train.config import flatten
from train.data import inputs
from train.engine.state import named_leaves, sha256
from train.errors import UserError, describe_error, short_repr
from train.models import HEAD, Model

_WHAT = "a finished run's work folder, one of its checkpoints, or a PyTorch ResNet's .safetensors"

# Fields that leave the shapes as they are, and change what the net computes or its words stand for.
_OF_THE_NET = ("model.stem", "model.norm", "model.weight_standardization")
_OF_WORDS = ("data.name", "data.vocabulary", "data.test_share")

Shapes = Mapping[str, tuple[int, ...]]
Arrays = Mapping[str, np.ndarray]


class PretrainedWeights(NamedTuple):
    """What a run begins from.

    Attributes:
      params: on the host; without the last layer if that begins anew.
      stats: on the host.
      source: the folder or file, as the config names it.
      sha256: of a file its bytes', of a checkpoint its parameters', which is what the summary of
        its run has as `params_sha256`.
    """

    params: Any
    stats: Any
    source: str
    sha256: str


def load(config: ConfigDict, model: Model) -> PretrainedWeights:
    """Reads what `config.init_from` names.

    Raises:
      UserError: it is not there, is damaged, or is of another network; an array that is missing,
        left over or of another shape is named.
    """
    params, stats = jax.eval_shape(model.init, jax.random.key(0))
    body = params if config.init_head else {k: v for k, v in params.items() if k != HEAD}
    wanted = {"params": body, "stats": stats}
    needed = {path: leaf.shape for path, leaf in named_leaves(wanted).items()}
    source = os.path.expanduser(config.init_from)
    read = _from_checkpoint if os.path.isdir(source) else _from_safetensors
    try:
        arrays, digest = read(config, Path(source), needed)
    except OSError as error:
        raise UserError(
            f"cannot read config.init_from={short_repr(config.init_from)}: {error.strerror}; fix it, "
            "or name another"
        ) from error
    taken = jax.tree.unflatten(jax.tree.structure(wanted), [arrays[path] for path in needed])
    return PretrainedWeights(**taken, source=config.init_from, sha256=digest)


def _from_checkpoint(config: ConfigDict, source: Path, needed: Shapes) -> tuple[Arrays, str]:
    folder = source if manager.is_checkpoint(source) else _last_of(config, source)
    try:
        tree = manager.load_weights(folder)
    except DamagedError as error:
        raise UserError(
            f"the checkpoint {folder} is damaged ({error}); name another in config.init_from, or "
            "bring it back from a copy"
        ) from error
    arrays = named_leaves(tree)
    _check(config, arrays, needed, f"params/{HEAD}/")
    _check_meaning(config, folder.absolute().parents[1] / "config.json")
    return arrays, sha256(tree["params"])


def _check_meaning(config: ConfigDict, file: Path) -> None:
    """Whether weights that fit mean the same here as in the run whose config a file holds."""
    if not file.is_file():  # a checkpoint without its run
        return
    try:
        theirs = json.loads(file.read_text())
    except ValueError:
        raise UserError(f"{file} is damaged; bring it back from a copy, or remove it") from None
    ours = flatten(config)
    for name in (*_OF_THE_NET, *(_OF_WORDS if inputs.is_text(config) else ())):
        if (there := theirs.get(name, ours[name])) != ours[name]:
            raise UserError(
                f"config.init_from={short_repr(config.init_from)} was trained with config.{name}="
                f"{short_repr(there)}, and here it is {short_repr(ours[name])}, so that the same weights "
                "mean something else; set it as it was there, or name another run"
            )


def _last_of(config: ConfigDict, folder: Path) -> Path:
    """The last checkpoint of a run that has come to its end."""
    what = f"config.init_from={short_repr(config.init_from)}"
    step = manager.latest_step(folder / "checkpoints")
    if step is None:
        raise UserError(f"{what} has no checkpoint in it; it must be {_WHAT} file")
    last = folder / "checkpoints" / str(step)
    if not (folder / "summary.json").exists():
        raise UserError(
            f"{what} is a run that has not come to its end; bring it there, or name one of its "
            f"checkpoints, as {last}"
        )
    return last


def _from_safetensors(config: ConfigDict, file: Path, needed: Shapes) -> tuple[Arrays, str]:
    what = f"config.init_from={short_repr(config.init_from)}"
    if not os.path.isfile(file):
        recipe = Path("configs", f"{file.name}.py")  # whose runs go to runs/NAME
        first = f"; run python -m train --config {recipe} first" if os.path.isfile(recipe) else ""
        raise UserError(f"{what} does not exist{first}; it must be {_WHAT} file")
    if file.suffix != ".safetensors":
        raise UserError(
            f"{what} is no .safetensors file; PyTorch makes one with "
            "safetensors.torch.save_file(model.state_dict(), FILE)"
        )
    try:
        names = torch_resnet.of(needed)
    except ValueError as error:
        raise UserError(
            f"{what} is for ResNets, and config.model describes a {config.model.name} with "
            f"{error}, for which PyTorch has no name; name a run of this trainer instead"
        ) from None
    from safetensors.numpy import load as parse  # which few runs need

    content = file.read_bytes()
    try:
        tensors = parse(content)
    except Exception as error:  # whatever damaged bytes can raise
        if isinstance(error, KeyError) and str(error.args[0]).isupper():  # a type NumPy has not
            raise UserError(
                f"{what} holds {error.args[0]}, which NumPy has not; save it as float32, with "
                "{name: tensor.float() for name, tensor in model.state_dict().items()}"
            ) from error
        raise UserError(
            f"{what} is damaged, or no .safetensors file: {describe_error(error)}; fetch or save it again"
        ) from error
    tensors = {k: v for k, v in tensors.items() if not k.endswith(torch_resnet.COUNTER)}
    theirs = {names[path]: torch_resnet.shape_of_theirs(shape) for path, shape in needed.items()}
    _check(config, tensors, theirs, torch_resnet.HEAD)
    arrays = {path: torch_resnet.to_ours(tensors[name]) for path, name in names.items()}
    return arrays, hashlib.sha256(content).hexdigest()


def _check(config: ConfigDict, arrays: Arrays, needed: Shapes, head: str) -> None:
    """Whether a source has the arrays that are needed, and no others but those of the head."""
    what, model = f"config.init_from={short_repr(config.init_from)}", f"a {config.model.name}"
    fix_hint = "set config.model to the network that it is of, or name another"
    if missing := sorted(needed.keys() - arrays.keys()):
        raise UserError(f"{what} has no {_some(missing)}, which {model} has; {fix_hint}")
    for name, shape in needed.items():
        if arrays[name].shape != shape:
            raise UserError(
                f"{what} has {name} of shape {arrays[name].shape}, and {model} as configured "
                f"of shape {shape}; " + ("set config.init_head=False" if head in name else fix_hint)
            )
        if not np.issubdtype(arrays[name].dtype, np.floating):
            raise UserError(f"{what} has {name} of type {arrays[name].dtype}; it must be of floats")
    left = sorted(name for name in arrays.keys() - needed.keys() if not name.startswith(head))
    if left:
        raise UserError(f"{what} has {_some(left)}, which {model} has not; {fix_hint}")


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
