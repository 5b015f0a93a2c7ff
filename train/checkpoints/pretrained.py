"""Pretrained weights, from a run of this trainer or from PyTorch."""

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
from train.config.paths import local_path
from train.data import inputs
from train.engine.state import named_leaves, sha256
from train.errors import UserError, describe_error, short_repr
from train.models.last_layer import prefixes, without
from train.tasks.task import Task

_ALLOWED = (
    "it must be the work folder of a finished run, a checkpoint, or the .safetensors file of a "
    "PyTorch ResNet"
)
# Fields that change the outputs of a model, or the words of its token ids, but not the shapes.
_MODEL_FIELDS = ("model.stem", "model.norm", "model.weight_standardization")
_TOKEN_FIELDS = ("data.name", "data.vocabulary", "data.test_share")

Shapes = Mapping[str, tuple[int, ...]]
Arrays = Mapping[str, np.ndarray]


class PretrainedWeights(NamedTuple):
    """The weights that a run starts from.

    Attributes:
      params: The parameters, on the host; without those that are initialized randomly.
      stats: The running statistics, on the host.
      source: The folder or file, as in the config.
      sha256: The digest of the bytes of a file, or of the parameters of a checkpoint. The latter
        is `params_sha256` in the summary of its run.
    """

    params: Any
    stats: Any
    source: str
    sha256: str


def load(config: ConfigDict, task: Task) -> PretrainedWeights:
    """Load the weights of `config.init_from`.

    Args:
      config: A validated config with `init_from`.
      task: The task whose model gets the weights.

    Raises:
      UserError: If the source does not exist, is damaged, or belongs to another model. The message
        names an array that is missing, left over, or of another shape.
    """
    params, stats = jax.eval_shape(task.init, jax.random.key(0))
    loaded = params if config.init_head else without(task.last_layer(), params)
    like = {"params": loaded, "stats": stats}
    source = local_path("config.init_from", config.init_from)
    part = "" if os.path.isdir(source) else task.backbone
    if part:
        like = {kind: tree.get(part, {}) for kind, tree in like.items()}
    shapes = {path: leaf.shape for path, leaf in named_leaves(like).items()}
    try:
        if os.path.isdir(source):
            heads = tuple(f"params/{prefix}" for prefix in prefixes(task.last_layer(), params))
            arrays, digest = _from_checkpoint(config, source, shapes, heads)
        else:
            arrays, digest = _from_safetensors(config, source, shapes)
    except OSError as error:
        raise UserError(
            f"cannot read {_describe(config)}: {error.strerror}; fix this, or set it to another "
            "source"
        ) from error
    weights = jax.tree.unflatten(jax.tree.structure(like), [arrays[path] for path in shapes])
    if part:
        weights = {kind: {part: tree} for kind, tree in weights.items()}
    return PretrainedWeights(**weights, source=config.init_from, sha256=digest)


def _from_checkpoint(
    config: ConfigDict, source: Path, shapes: Shapes, heads: tuple[str, ...]
) -> tuple[Arrays, str]:
    folder = source if manager.is_checkpoint(source) else _last_checkpoint(config, source)
    try:
        tree = manager.load_weights(folder)
    except DamagedError as error:
        raise UserError(
            f"the checkpoint {folder} is damaged ({error}); restore it from a backup, or set "
            "config.init_from to another one"
        ) from error
    arrays = named_leaves(tree)
    _check_arrays(config, arrays, shapes, heads)
    _check_source_config(config, folder.absolute().parents[1] / "config.json")
    return arrays, sha256(tree["params"])


def _check_source_config(config: ConfigDict, file: Path) -> None:
    """Raise UserError if the source has a config that gives the weights another meaning."""
    if not file.is_file():  # a checkpoint copied without its run
        return
    try:
        source_fields = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        raise UserError(f"{file} is damaged; restore it from a backup, or delete it") from None
    fields = flatten(config)
    for name in (*_MODEL_FIELDS, *(_TOKEN_FIELDS if inputs.is_text(config) else ())):
        value = fields[name]
        source_value = source_fields.get(name, value)
        if source_value != value:
            raise UserError(
                f"{_describe(config)} was trained with config.{name}={short_repr(source_value)}, "
                f"but here it is {short_repr(value)}, which gives the weights another meaning; set "
                "it to the value of that run, or set config.init_from to another run"
            )


def _last_checkpoint(config: ConfigDict, folder: Path) -> Path:
    """Return the last checkpoint of a finished run."""
    step = manager.latest_step(folder / "checkpoints")
    if step is None:
        raise UserError(f"{_describe(config)} contains no checkpoint; {_ALLOWED}")
    checkpoint = folder / "checkpoints" / str(step)
    if not (folder / "summary.json").exists():
        raise UserError(
            f"{_describe(config)} is a run that is not finished; finish it, or set "
            f"config.init_from to one of its checkpoints, such as {checkpoint}"
        )
    return checkpoint


def _from_safetensors(config: ConfigDict, file: Path, shapes: Shapes) -> tuple[Arrays, str]:
    source = _describe(config)
    if not os.path.isfile(file):
        recipe = Path("configs", f"{file.name}.py")  # its default work folder is runs/NAME
        first = f"; run python -m train --config {recipe} first" if os.path.isfile(recipe) else ""
        raise UserError(f"{source} does not exist{first}; {_ALLOWED}")
    if file.suffix != ".safetensors":
        raise UserError(
            f"{source} is not a .safetensors file; create one in PyTorch with "
            "safetensors.torch.save_file(model.state_dict(), FILE)"
        )
    try:
        names = torch_resnet.torch_names(shapes)
    except ValueError as error:
        raise UserError(
            f"{source} is a file for ResNets, but config.model describes a {config.model.name} "
            f"with {error}, which has no name in PyTorch; use a run of this trainer instead"
        ) from None
    content = file.read_bytes()
    tensors = _parse(content, source)
    torch_shapes = {names[path]: torch_resnet.torch_shape(shape) for path, shape in shapes.items()}
    _check_arrays(config, tensors, torch_shapes, (torch_resnet.HEAD,))
    arrays = {path: torch_resnet.from_torch(tensors[name]) for path, name in names.items()}
    return arrays, hashlib.sha256(content).hexdigest()


def _parse(content: bytes, source: str) -> Arrays:
    """Return the arrays of a .safetensors file without the counters."""
    from safetensors.numpy import load as parse  # only for runs that need it

    try:
        tensors = parse(content)
    except Exception as error:  # damaged bytes can raise many types
        if isinstance(error, KeyError) and str(error.args[0]).isupper():  # the name of a dtype
            raise UserError(
                f"{source} contains {error.args[0]}, a dtype that NumPy does not have; save it as "
                "float32, with "
                "{name: tensor.float() for name, tensor in model.state_dict().items()}"
            ) from error
        raise UserError(
            f"{source} is damaged or not a .safetensors file: {describe_error(error)}; download or "
            "save it again"
        ) from error
    return {k: v for k, v in tensors.items() if not k.endswith(torch_resnet.COUNTER)}


def _check_arrays(
    config: ConfigDict, arrays: Arrays, shapes: Shapes, heads: tuple[str, ...]
) -> None:
    """Raise UserError if an array is missing, does not fit, or is left over outside the head.

    `heads` are the prefixes of the names of the arrays of the last layer.
    """
    source, model = _describe(config), f"a {config.model.name}"
    fix_hint = "set config.model to the model of the source, or config.init_from to another source"
    if missing := sorted(shapes.keys() - arrays.keys()):
        raise UserError(f"{source} does not have {_first(missing)}, which {model} has; {fix_hint}")
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            hint = "set config.init_head=False" if name.startswith(heads) else fix_hint
            raise UserError(
                f"{source} has {name} of shape {arrays[name].shape}, but {model} as configured has "
                f"shape {shape}; {hint}"
            )
        if not np.issubdtype(arrays[name].dtype, np.floating):
            raise UserError(
                f"{source} has {name} of dtype {arrays[name].dtype}; save it as a float dtype"
            )
    left = sorted(name for name in arrays.keys() - shapes.keys() if not name.startswith(heads))
    if left:
        raise UserError(f"{source} has {_first(left)}, which {model} does not have; {fix_hint}")


def _describe(config: ConfigDict) -> str:
    return f"config.init_from={short_repr(config.init_from)}"


def _first(names: list[str]) -> str:
    """Return the first name and the number of further ones."""
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
