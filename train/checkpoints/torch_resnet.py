"""The names, shapes and layouts of a ResNet's arrays in PyTorch.

The names are those of torchvision's `ResNet` (`conv1`, `bn1`, `layer1.0.conv1`,
`layer1.0.downsample.0`, `fc`). timm uses the same names for its plain `resnet18`, `resnet34`,
`resnet50` and `resnet101`, but not for variants such as `resnet50d`, whose stem is deeper. With
`model.stem` "7x7", the models of this trainer compute the same outputs: in a bottleneck block, the
3x3 convolution has the stride.
"""

import re
from collections.abc import Iterable

import numpy as np

HEAD = "fc."
"""The prefix of the names of the last layer."""
COUNTER = ".num_batches_tracked"
"""The suffix of the names of counters, on which no output depends."""

_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}
_STATISTICS = {"mean": "running_mean", "var": "running_var"}
_PATH = re.compile(
    r"(?P<kind>params|stats)/"
    r"(?:stem|blocks/(?P<block>\d+)/(?P<part>conv\d|shortcut)|(?P<head>head))/"
    r"(?:(?P<layer>conv|norm)/)?(?P<leaf>\w+)"
)


def torch_names(paths: Iterable[str]) -> dict[str, str]:
    """Return PyTorch's name for each array.

    Args:
      paths: The paths of all arrays of a ResNet here, such as `params/blocks/0/conv1/conv/kernel`.

    Raises:
      ValueError: If a path is not one of a ResNet.
    """
    matches = {}
    for path in paths:
        match = _PATH.fullmatch(path)
        if not match or match["leaf"] not in _LEAVES | _STATISTICS:
            raise ValueError(path)
        matches[path] = match
    # A stage starts at a block whose shortcut is a convolution; the first stage may lack one.
    blocks = {int(match["block"]) for match in matches.values() if match["block"]}
    with_conv = {int(match["block"]) for match in matches.values() if match["part"] == "shortcut"}
    stage_starts = sorted(with_conv | {min(blocks, default=0)})
    return {path: _torch_name(match, stage_starts) for path, match in matches.items()}


def from_torch(array: np.ndarray) -> np.ndarray:
    """Return a float32 array in the layout used here.

    (out, in, height, width) becomes (height, width, in, out), and (out, in) becomes (in, out).
    """
    axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(array.ndim)
    transposed = array if axes is None else array.transpose(axes)
    return np.ascontiguousarray(transposed, np.float32)


def torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape in PyTorch of an array that has `shape` here."""
    return shape[:-3:-1] + shape[:-2] if len(shape) in (2, 4) else shape


def _torch_name(match: re.Match, stage_starts: list[int]) -> str:
    leaf = (_LEAVES | _STATISTICS)[match["leaf"]]
    if match["head"]:
        return f"{HEAD}{leaf}"
    if not match["block"]:
        return f"{'conv1' if match['layer'] == 'conv' else 'bn1'}.{leaf}"
    block = int(match["block"])
    start = max(start for start in stage_starts if start <= block)
    prefix = f"layer{stage_starts.index(start) + 1}.{block - start}"
    if match["part"] == "shortcut":
        return f"{prefix}.downsample.{0 if match['layer'] == 'conv' else 1}.{leaf}"
    number = match["part"].removeprefix("conv")
    return f"{prefix}.{'conv' if match['layer'] == 'conv' else 'bn'}{number}.{leaf}"
