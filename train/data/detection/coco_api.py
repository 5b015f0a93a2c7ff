"""The library for run-length masks and COCO's average precision; only this module imports it."""

import functools
from typing import Any, NamedTuple


class CocoApi(NamedTuple):
    """The parts of a library with the interface of pycocotools.

    Attributes:
      COCO: The class of a set of annotations.
      COCOeval: The class of an evaluation.
      mask: The functions for run-length encoded masks.
    """

    COCO: Any
    COCOeval: Any
    mask: Any


@functools.cache
def coco_api() -> CocoApi:
    """Return the library; it is imported here, so that only detection needs it."""
    from hotcoco import COCO, COCOeval, mask

    return CocoApi(COCO, COCOeval, mask)
