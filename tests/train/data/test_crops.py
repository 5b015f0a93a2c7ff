"""Crops of encoded images: the box, the size and the colors."""

import io

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps

from tests.support import imagenet
from train.data.streaming import crops

SIZES = st.integers(1, 2000)


def encode(image, format="png", **options):
    content = io.BytesIO()
    image.save(content, format, **options)
    return content.getvalue()


def rng(seed=0):
    return np.random.default_rng(seed)


@hypothesis.given(
    width=SIZES,
    height=SIZES,
    shares=st.tuples(st.floats(0.001, 1), st.floats(0.001, 1)),
    seed=st.integers(0, 2**32),
)
def test_random_box_bounds_area_and_ratio(width, height, shares, seed):
    scale = min(shares), max(shares)
    left, top, right, bottom = crops.random_box(rng(seed), width, height, scale)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    across, down = right - left, bottom - top
    # The sides are rounded to whole pixels.
    assert (across + 0.5) / max(down - 0.5, 1e-9) >= 3 / 4
    assert (across - 0.5) / (down + 0.5) <= 4 / 3
    area, whole = across * down, width * height
    rounding = across + down
    if area > scale[1] * whole + rounding or area < scale[0] * whole - rounding:
        # No random box fits, so it is the largest one at the center.
        assert across == width or down == height
        assert (left + right, top + bottom) == pytest.approx((width, height))


def test_random_boxes_cover_their_ranges():
    boxes = np.array([crops.random_box(rng(seed), 500, 500, (0.1, 0.5)) for seed in range(2000)])
    across, down = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    share = across * down / 500**2
    assert np.histogram(share, 4, (0.1, 0.5))[0] == pytest.approx([500] * 4, rel=0.2)
    logs = np.log(across / down)
    edge = np.log(4 / 3)
    assert np.histogram(logs, 4, (-edge, edge))[0] == pytest.approx([500] * 4, rel=0.2)
    for start, end, length in ((0, 2, across), (1, 3, down)):
        position = boxes[:, start] / (500 - length)
        assert position.min() < 0.01
        assert position.max() > 0.99
        assert position.mean() == pytest.approx(0.5, abs=0.03)
        assert (boxes[:, end] <= 500).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (7, 3), (300, 200)])
def test_output_size_is_fixed(size):
    content = encode(Image.new("RGB", size, (10, 200, 30)))
    for pixels in (
        crops.random_resized_crop(content, rng(), 16, (0.08, 1.0)),
        crops.center_crop(content, 16),
    ):
        assert (pixels.shape, pixels.dtype) == ((16, 16, 3), np.uint8)
        assert (pixels == (10, 200, 30)).all()


def test_same_rng_gives_same_crop():
    content = imagenet.jpeg(rng(), 120, 90)
    crop = [crops.random_resized_crop(content, rng(seed), 32, (0.08, 1.0)) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(crop[0], crop[1])
    assert (crop[0] != crop[2]).any()


@pytest.mark.parametrize("size", [(500, 375), (333, 500)])
def test_center_crop_equals_resize_and_crop(size):
    image = Image.open(io.BytesIO(imagenet.jpeg(rng(), *size, cells=8)))
    shorter = min(size)
    resized = image.resize(
        (round(size[0] * 256 / shorter), round(size[1] * 256 / shorter)), Image.Resampling.BILINEAR
    )
    left, top = (resized.width - 224) // 2, (resized.height - 224) // 2
    expected = np.asarray(resized.crop((left, top, left + 224, top + 224))).astype(int)
    pixels = crops.center_crop(encode(image), 224)
    assert np.abs(pixels - expected).mean() < 1


@pytest.mark.parametrize("times", [4, 5, 9])
def test_draft_decoding_is_close(times):
    content = imagenet.jpeg(rng(), 96 * times, 64 * times, cells=12)
    pixels = crops.center_crop(content, 56)
    expected = crops.center_crop(encode(Image.open(io.BytesIO(content))), 56).astype(int)
    assert (pixels != expected).any()
    assert np.abs(pixels - expected).mean() < 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_every_mode_becomes_rgb(mode):
    image = Image.new("RGB", (10, 10), (255, 255, 255) if mode == "1" else (204, 0, 0)).convert(
        mode
    )
    content = encode(image, "jpeg" if mode == "CMYK" else "png")
    expected = np.asarray(image.convert("RGB"))[0, 0].astype(int)
    assert np.abs(crops.center_crop(content, 4) - expected).max() <= 3


def test_transparent_palette():
    content = encode(Image.new("P", (10, 10)), transparency=b"\x00\x10")
    assert crops.center_crop(content, 4).shape == (4, 4, 3)


def rotated(image, orientation, **options):
    """Return a file that shows `image` if its EXIF orientation is applied."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    inverse = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = image.transpose(inverse[orientation]) if orientation in inverse else image
    return encode(stored, exif=exif, **options)


PHOTO = Image.open(io.BytesIO(imagenet.jpeg(rng(), 90, 60, cells=5)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["png", "tiff", "webp", "jpeg"])
def test_exif_orientation_is_applied(format_, orientation):
    options = {"webp": {"lossless": True}, "jpeg": {"quality": 100, "subsampling": 0}}
    content = rotated(PHOTO, orientation, format=format_, **options.get(format_, {}))
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert upright.size == PHOTO.size
    for crop in (
        crops.center_crop,
        lambda file, size: crops.random_resized_crop(file, rng(3), size, (0.2, 0.6)),
    ):
        expected = crop(encode(upright), 16).astype(int)
        np.testing.assert_allclose(crop(content, 16), expected, atol=1)


@pytest.mark.parametrize("orientation", [3, 5, 6, 8])
def test_exif_orientation_of_large_jpeg(orientation):
    """The file is decoded at a part of its size."""
    large = Image.open(io.BytesIO(imagenet.jpeg(rng(), 96 * 5, 64 * 5, cells=12)))
    content = rotated(large, orientation, format="jpeg", quality=100)
    pixels = crops.center_crop(content, 40).astype(int)
    assert np.abs(pixels - crops.center_crop(encode(large), 40)).mean() < 2
    assert np.abs(pixels - crops.center_crop(content, 40, exif_orientation=False)).mean() > 5


def test_exif_orientation_can_be_ignored():
    content = rotated(PHOTO, 6, format="png")
    stored = encode(PHOTO.transpose(Image.Transpose.ROTATE_90))
    pixels = crops.center_crop(content, 16, exif_orientation=False)
    np.testing.assert_array_equal(pixels, crops.center_crop(stored, 16))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0"]
)
def test_damaged_exif_data_is_ignored(exif):
    content = encode(PHOTO, "jpeg", exif=b"Exif\0\0" + exif)
    np.testing.assert_array_equal(
        crops.center_crop(content, 16), crops.center_crop(encode(PHOTO, "jpeg"), 16)
    )
