"""How Pillow decodes an image: its formats, its limits, the orientation and the colors."""

import functools

from PIL import ExifTags, Image, PngImagePlugin

# Pillow refuses images of more than 178 million pixels, and PNG files with long texts, because web
# servers decode files of strangers. The files of a data set are the user's own.
Image.MAX_IMAGE_PIXELS = None
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = 2**31

# Formats that Pillow only identifies, or decodes with another program.
_NOT_DECODED = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}

_DRAFTED = {"JPEG", "MPO"}  # may be decoded at a part of their size

_ROTATED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPPING = tuple(_ROTATED[orientation] for orientation in (5, 6, 7, 8))


@functools.cache
def formats() -> tuple[str, ...]:
    """Return the names of the formats that Pillow decodes."""
    Image.init()
    return tuple(name for name in Image.ID if name not in _NOT_DECODED)


@functools.cache
def suffixes() -> tuple[str, ...]:
    """Return the suffixes of files in these formats, in lower case."""
    readable = {*formats(), "MPO"}  # several JPEGs in one file, which the JPEG decoder opens
    known = Image.registered_extensions().items()
    return tuple(sorted(suffix for suffix, name in known if name in readable))


def orientation(image: Image.Image) -> Image.Transpose | None:
    """Return the transposition that shows an image upright, from its EXIF data; None if it is.

    Raises:
      Exception: If the image is damaged; Pillow raises many types.
    """
    if image.format == "TIFF":  # Pillow applies its orientation itself
        return None
    if image.format not in _DRAFTED:
        image.load()  # `getexif` decodes a PNG, and an error must not be mistaken for one of EXIF
    try:
        return _ROTATED.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF data raises many types, and the pixels can still be right
        return None


def oriented_size(image: Image.Image, transposition: Image.Transpose | None) -> tuple[int, int]:
    """Return the width and the height of an image after a transposition."""
    width, height = image.size
    return (height, width) if transposition in _SWAPPING else (width, height)


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an image in RGB.

    Raises:
      ValueError: If its pixels do not have 8 bits, or Pillow cannot convert them.
    """
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"pixels of mode {image.mode} instead of 8 bits")
    if "transparency" in image.info:
        image = image.convert("RGBA")  # a direct conversion to RGB makes Pillow warn
    return image.convert("RGB")
