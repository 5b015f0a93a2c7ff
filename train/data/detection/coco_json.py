"""The annotation files of COCO: what they contain, read and checked on its own."""

import collections
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pydantic

from train.data.detection.coco_api import coco_api
from train.errors import UserError, truncate

Id = int | str
Finite = Annotated[float, pydantic.Field(allow_inf_nan=False)]
Side = Annotated[int, pydantic.Field(gt=0, lt=2**31)]


class CocoImage(pydantic.BaseModel):
    """An image; see the data format at https://cocodataset.org/#format-data."""

    id: Id
    file_name: Annotated[str, pydantic.Field(min_length=1)]
    height: Side
    width: Side


class CocoObject(pydantic.BaseModel):
    """An object; `bbox` is its x, y, width and height."""

    id: Id | None = None
    image_id: Id
    category_id: int
    bbox: tuple[Finite, Finite, Finite, Finite]
    area: Annotated[float, pydantic.Field(allow_inf_nan=False, ge=0)] | None = None
    iscrowd: bool = False
    segmentation: Any = None

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"annotation {self.id}" if self.id is not None else f"one of image {self.image_id}"


class CocoCategory(pydantic.BaseModel):
    """A class."""

    id: int
    name: str


class CocoFile(pydantic.BaseModel):
    """The parts of an annotation file that detection needs."""

    images: list[CocoImage]
    annotations: list[CocoObject]
    categories: list[CocoCategory]


class Mask(NamedTuple):
    """A mask as compressed run lengths, and the number of its pixels."""

    counts: bytes
    area: int


def read(path: Path) -> CocoFile:
    """Read an annotation file.

    Raises:
      UserError: If it cannot be read, lacks a field, has a value of a wrong type, or uses the same
        id twice.
    """
    try:
        file = CocoFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; fix --config.data.dir") from None
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(
            f"{path} is not an annotation file in COCO format: {where}{': ' if where else ''}"
            f"{truncate(first['msg'])} ({error.error_count():,} problems); correct the file"
        ) from None
    _check_unique(path, "images with the same id", (image.id for image in file.images))
    _check_unique(
        path, "images with the same file_name", (image.file_name for image in file.images)
    )
    ids = (thing.id for thing in file.annotations if thing.id is not None)
    _check_unique(path, "annotations with the same id", ids)
    _check_unique(path, "categories with the same id", (one.id for one in file.categories))
    _check_unique(path, "categories with the same name", (one.name for one in file.categories))
    for what in ("images", "categories"):
        if not getattr(file, what):
            raise UserError(f"{path} has no {what}; choose another --config.data.dir")
    return file


def encode_segmentation(segmentation: Any, height: int, width: int) -> Mask:
    """Return a segmentation as a mask.

    Args:
      segmentation: A list of polygons, or uncompressed or compressed run lengths.
      height: The height of the image.
      width: The width of the image.

    Raises:
      ValueError: If it is none of these, or does not fit the image.
    """
    mask = coco_api().mask
    try:
        if isinstance(segmentation, list):
            _check_polygons(segmentation)
            encoded = mask.merge(mask.frPyObjects(segmentation, height, width))
        elif isinstance(segmentation, dict):
            if list(segmentation["size"]) != [height, width]:
                raise ValueError(f"its size is {segmentation['size']} and not {[height, width]}")
            encoded = _encode_counts(segmentation["counts"], height, width)
        else:
            raise ValueError(f"it is a {type(segmentation).__name__}")
        return Mask(encoded["counts"], int(mask.area(encoded)))
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _encode_counts(counts: Any, height: int, width: int) -> dict[str, Any]:
    """Return run lengths in compressed form; they must cover the image."""
    mask = coco_api().mask
    run_lengths = {"size": [height, width], "counts": counts}
    if isinstance(counts, list):
        if any(type(count) is not int or count < 0 for count in counts):
            raise ValueError("its counts are not integers of at least 0")
        if sum(counts) != height * width:
            raise ValueError(f"its counts add up to {sum(counts)} and not {height * width}")
        return mask.frPyObjects(run_lengths, height, width)
    # Decoding checks them; encoding again makes bytes of the text of a JSON file.
    return mask.encode(mask.decode(run_lengths))


def _check_polygons(polygons: list[Any]) -> None:
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError("a polygon must be a list of x and y of three or more points")
        if not set(map(type, polygon)) <= {int, float} or not np.isfinite(np.sum(polygon)):
            raise ValueError("a polygon has a coordinate that is not a number")


def _check_unique(path: Path, what: str, names: Iterable[Hashable]) -> None:
    repeated = [name for name, count in collections.Counter(names).items() if count > 1]
    if repeated:
        shown = ", ".join(map(repr, repeated[:3])) + (", ..." if len(repeated) > 3 else "")
        raise UserError(f"{path} has {what} ({len(repeated):,}): {shown}; remove all but one")
