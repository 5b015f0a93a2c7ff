"""Pictures of objects: what is drawn, and where."""

import numpy as np
from PIL import Image, ImageColor

from train.tasks.detection.drawing import Picture, draw_page, draw_picture

ORANGE = np.array(ImageColor.getrgb("#E69F00"))


def picture(**changes):
    masks = np.zeros((1, 50, 100), bool)
    masks[0, 20:40, 20:60] = True
    values = {
        "pixels": np.zeros((50, 100, 3), np.uint8),
        "title": "image 1",
        "boxes": np.array([[20.0, 20, 60, 40]]),
        "classes": np.array([0]),
        "scores": np.array([0.75]),
        "masks": masks,
    }
    return Picture(**values | changes)


def body(image, factor=5):
    """Return the pixels below the title, of an image that is enlarged by a factor."""
    return np.asarray(image)[-50 * factor :]


def test_box_and_mask_are_where_they_belong():
    pixels = body(draw_picture(picture(), ["cell"]))
    assert pixels.shape == (250, 500, 3)
    np.testing.assert_array_equal(pixels[150, 100], ORANGE)  # the left edge of the box
    np.testing.assert_array_equal(pixels[199, 299], ORANGE)  # its last pixel
    assert not pixels[200:, :].any()
    tint = pixels[150, 200] / ORANGE.clip(1)
    np.testing.assert_allclose(tint[:2], 0.4, atol=0.01)


def test_without_masks_the_inside_is_the_image():
    pixels = body(draw_picture(picture(masks=None), ["cell"]))
    assert not pixels[150, 200].any()


def test_label_shows_the_class_and_the_score():
    labeled = body(draw_picture(picture(), ["cell"]))
    assert labeled[80:100, 100:160].any()  # above the box
    others = [(picture(scores=None), ["cell"]), (picture(), ["tail"])]
    for other, names in others:
        assert (body(draw_picture(other, names)) != labeled)[80:100, 100:220].any()


def test_many_objects_have_no_labels():
    many = picture(
        boxes=np.tile([20.0, 20, 60, 40], (50, 1)),
        classes=np.zeros(50, int),
        scores=np.full(50, 0.5),
        masks=None,
    )
    assert not body(draw_picture(many, ["cell"]))[:100].any()


def test_box_that_is_larger_than_the_image():
    draw_picture(picture(boxes=np.array([[-20.0, -20, 160, 140]])), ["cell " * 100])


def test_no_objects():
    empty = picture(
        boxes=np.zeros((0, 4)), classes=np.zeros(0, int), scores=np.zeros(0), masks=None
    )
    assert not body(draw_picture(empty, ["cell"])).any()


def test_page(tmp_path):
    wide = picture(pixels=np.zeros((500, 1000, 3), np.uint8), masks=None)
    draw_page(tmp_path / "page.png", [picture(), wide, picture()], ["cell"], columns=2)
    with Image.open(tmp_path / "page.png") as page:
        assert page.width == 2 * 1000 + 3 * 8
        assert page.height > 500 + 250
