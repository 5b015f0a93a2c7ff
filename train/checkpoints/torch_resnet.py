"""What PyTorch calls the arrays of a ResNet, and how it lays them out.

The names are those of torchvision's `ResNet` (`conv1`, `bn1`, `layer1.0.conv1`,
`layer1.0.downsample.0`, `fc`). timm has kept them for ResNets of the plain kind: its `resnet18`,
`resnet34`, `resnet50` and `resnet101`, and not those with a letter behind, whose stem is deeper.
With `model.stem` "7x7" ours computes what theirs do, the 3x3 convolution of a bottleneck having
the stride.
"""

import re
from collections.abc import Iterable

import numpy as np

HEAD = "fc."
"""What the names of the last layer begin with."""
COUNTER = ".num_batches_tracked"
"""What the names of arrays end with on which no output depends."""

_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}
_STATISTICS = {"mean": "running_mean", "var": "running_var"}
_PATH = re.compile(
    r"(?P<kind>params|stats)/"
    r"(?:stem|blocks/(?P<block>\d+)/(?P<place>conv\d|shortcut)|(?P<head>head))/"
    r"(?:(?P<layer>conv|norm)/)?(?P<leaf>\w+)"
)


def of(paths: Iterable[str]) -> dict[str, str]:
    """PyTorch's name of each array.

    Args:
      paths: ours, of all arrays of a ResNet, as `params/blocks/0/conv1/conv/kernel`.

    Raises:
      ValueError: one is no path of a ResNet.
    """
    paths = list(paths)
    found = {path: _PATH.fullmatch(path) for path in paths}
    for path, match in found.items():
        if not match or match["leaf"] not in _LEAVES | _STATISTICS:
            raise ValueError(path)
    parts = {path: match for path, match in found.items() if match}
    # A stage begins where a shortcut changes shape; the first one need not.
    blocks = {int(match["block"]) for match in parts.values() if match["block"]}
    changing = {int(match["block"]) for match in parts.values() if match["place"] == "shortcut"}
    begins = sorted(changing | {min(blocks, default=0)})
    return {path: _name(match, begins) for path, match in parts.items()}


def to_ours(array: np.ndarray) -> np.ndarray:
    """(out, in, h, w) as (h, w, in, out), (out, in) as (in, out), all in float32."""
    axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(array.ndim)
    moved = array if axes is None else array.transpose(axes)
    return np.ascontiguousarray(moved, np.float32)


def shape_of_theirs(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that PyTorch gives an array which has this shape here."""
    return shape[:-3:-1] + shape[:-2] if len(shape) in (2, 4) else shape


def _name(match: re.Match, begins: list[int]) -> str:
    leaf = (_LEAVES | _STATISTICS)[match["leaf"]]
    if match["head"]:
        return f"{HEAD}{leaf}"
    if not match["block"]:
        return f"{'conv1' if match['layer'] == 'conv' else 'bn1'}.{leaf}"
    block = int(match["block"])
    first = max(begin for begin in begins if begin <= block)
    where = f"layer{begins.index(first) + 1}.{block - first}"
    if match["place"] == "shortcut":
        return f"{where}.downsample.{0 if match['layer'] == 'conv' else 1}.{leaf}"
    number = match["place"].removeprefix("conv")
    return f"{where}.{'conv' if match['layer'] == 'conv' else 'bn'}{number}.{leaf}"
