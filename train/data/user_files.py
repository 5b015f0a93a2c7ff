"""Files that a user gives to a trained network: images, or texts."""

import io
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from PIL import Image, UnidentifiedImageError

from train.config.paths import local_path
from train.data.dataset import Signature
from train.data.in_memory import vocabulary
from train.data.inputs import is_text
from train.data.streaming import crops, decoding
from train.errors import UserError, describe_error, short_repr

_TEXT_SUFFIXES = (".txt",)
_MODES = {1: "L", 3: "RGB"}


def find(names: Iterable[str], config: ConfigDict) -> list[Path]:
    """Return the files that some names of files and folders stand for.

    A folder stands for all images, or all `.txt` files, in it and its subfolders, in the order of
    their names. Hidden files are left out.

    Raises:
      UserError: If a name does not exist, or a folder has no such files.
    """
    suffixes = _TEXT_SUFFIXES if is_text(config) else decoding.suffixes()
    kind = "texts (.txt)" if is_text(config) else "images"
    found: list[Path] = []
    for name in names:
        path = local_path("FILES", name)
        if path.is_dir():
            inside = [
                Path(folder, file)
                for folder, _, files in os.walk(path)
                for file in files
                if not file.startswith(".") and file.lower().endswith(suffixes)
            ]
            if not inside:
                raise UserError(f"{path} has no {kind}; give a folder that has some, or files")
            found += sorted(inside)
        elif path.is_file():
            found.append(path)
        else:
            raise UserError(f"{path} does not exist; give files or folders of {kind}")
    if not found:
        raise UserError(f"no files; give files or folders of {kind}")
    return found


def read(file: Path, config: ConfigDict, signature: Signature) -> np.ndarray:
    """Return the content of a file as one example, prepared like the examples of the test split.

    An image of any size gets the center crop of streamed data. If the run was trained on images of
    one size, another image is cropped to the same ratio at the center and resized.

    Args:
      file: An image, or a text in UTF-8.
      config: The config of the run.
      signature: What the network takes.

    Returns:
      uint8, (height, width, channels), or uint16, (length,): an example as a data set stores it.

    Raises:
      UserError: If the file cannot be read or decoded.
    """
    try:
        content = file.read_bytes()
        if is_text(config):
            return encode_text(content.decode(), config, signature)
        if config.data.image_size:
            return crops.center_crop(content, config.data.image_size, config.data.exif_orientation)
        return _fit(content, signature.input_shape)
    except Exception as error:  # Pillow raises many types for damaged files
        kind = "a text in UTF-8" if is_text(config) else "an image that can be read"
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "its format is unknown" if unknown else describe_error(error)
        raise UserError(f"{short_repr(str(file))} is not {kind}: {reason}; leave it out") from error


def encode_text(text: str, config: ConfigDict, signature: Signature) -> np.ndarray:
    """Return the token ids of a text: uint16, (length,)."""
    return vocabulary.encode([text], signature.words, config.data.length)[0]


def _fit(content: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Return an image as uint8 pixels of a shape."""
    height, width, channels = shape
    with Image.open(io.BytesIO(content)) as image:
        transposition = decoding.orientation(image)
        pixels = decoding.to_rgb(image)
    if transposition is not None:
        pixels = pixels.transpose(transposition)
    pixels = pixels.convert(_MODES[channels])
    if pixels.size != (width, height):
        scale = min(pixels.width / width, pixels.height / height)
        box_width, box_height = width * scale, height * scale
        left, top = (pixels.width - box_width) / 2, (pixels.height - box_height) / 2
        box = left, top, left + box_width, top + box_height
        pixels = pixels.resize((width, height), Image.Resampling.BILINEAR, box)
    return np.asarray(pixels).reshape(shape)
