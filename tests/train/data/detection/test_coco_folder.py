"""Folders in COCO format: what is read, and what is reported."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.support.detection import coco_dict, real_folder, write_coco
from train.data.detection import coco_folder, coco_json
from train.data.detection.annotations import decode_mask, encode_mask
from train.errors import UserError

MASK = np.zeros((20, 30), np.uint8)
MASK[3:9, 2:10] = 1


def open_folder(root, masks=True, **options):
    return coco_folder.open_splits(str(root), masks=masks, **options)


def changed(change):
    """Return a valid file after a change."""
    content = coco_dict()
    change(content)
    return content


# What is read


def test_images_and_objects(tmp_path):
    train, test, note = open_folder(write_coco(tmp_path / "coco"))
    assert train.class_names == ("five", "seven")  # by id
    annotations = train.annotations
    assert annotations.sizes.tolist() == [[20, 30], [20, 30]]
    assert annotations.classes.tolist() == [0, 1, 0, 1]
    assert annotations.boxes[:2].tolist() == [[2, 3, 10, 9], [3, 3, 11, 9]]
    assert annotations.areas.tolist() == [48] * 4
    assert test.annotations.num_images == 1
    np.testing.assert_array_equal(decode_mask(annotations.mask(0), 20, 30), MASK)
    assert train.image(1).size == (30, 20)
    assert "instances_train.json: 2 images, 4 objects" in note
    assert "images in both splits (1)" in note


def uncompressed(mask):
    """Return run lengths as a list, column by column."""
    flat, counts, value = mask.T.reshape(-1).tolist(), [0], 0
    for pixel in flat:
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


@pytest.mark.parametrize(
    "segmentation",
    [
        [[2, 3, 10, 3, 10, 9, 2, 9]],
        [[2, 3, 6, 3, 6, 9, 2, 9], [6, 3, 10, 3, 10, 9, 6, 9]],
        uncompressed(MASK),
        {"size": [20, 30], "counts": encode_mask(MASK).decode()},
    ],
)
def test_kinds_of_segmentations(segmentation):
    mask = coco_json.encode_segmentation(segmentation, 20, 30)
    assert mask.area == MASK.sum()
    np.testing.assert_array_equal(decode_mask(mask.counts, 20, 30), MASK)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # of pycocotools itself
def test_polygons_equal_pycocotools():
    reference = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for _ in range(100):
        polygons = [rng.uniform(-5, 65, 2 * rng.integers(3, 9)).tolist() for _ in range(2)]
        expected = reference.decode(reference.merge(reference.frPyObjects(polygons, 50, 60)))
        mask = coco_json.encode_segmentation(polygons, 50, 60)
        np.testing.assert_array_equal(decode_mask(mask.counts, 50, 60), expected)


@pytest.mark.parametrize(
    ("name", "masks", "images", "objects"),
    [("bccd", False, (292, 72), 4888), ("nuclei", True, (104, 26), 6374)],
)
def test_real_sets(name, masks, images, objects):
    train, test, note = open_folder(real_folder(name), masks=masks)
    splits = train.annotations, test.annotations
    assert tuple(split.num_images for split in splits) == images
    assert sum(split.num_objects for split in splits) == objects
    assert "left out" not in note
    if masks:
        for split in splits:  # the boxes are those of the masks
            for index in range(0, split.num_images, 5):
                shown = split.image_objects(index)
                for mask, box in zip(shown.masks, shown.boxes, strict=True):
                    rows, columns = np.nonzero(decode_mask(mask, *split.sizes[index]))
                    tight = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
                    np.testing.assert_array_equal(box, tight)


def test_coco_names(tmp_path):
    """COCO has annotations/instances_val2017.json and val2017/."""
    root = write_coco(tmp_path / "coco")
    (root / "annotations").mkdir()
    for split, name in (("train", "train2017"), ("test", "val2017")):
        file = root / f"instances_{split}.json"
        file.rename(root / "annotations" / f"instances_{name}.json")
    (root / "images").rename(root / "train2017")
    (root / "val2017").mkdir()
    shutil.copy(root / "train2017" / "0.png", root / "val2017")
    train, test, _ = open_folder(root)
    assert (train.annotations.num_images, test.annotations.num_images) == (2, 1)
    assert train.image(0).size == (30, 20)


def test_test_goes_before_val(tmp_path):
    root = write_coco(tmp_path / "coco")
    (root / "instances_val.json").write_text(json.dumps(coco_dict()), encoding="utf-8")
    _, test, note = open_folder(root)
    assert test.annotations.num_images == 1
    assert "instances_val.json is not used" in note


def test_images_without_objects_are_kept_and_counted(tmp_path):
    train = changed(lambda content: content["annotations"].__delitem__(slice(2, 4)))
    splits = open_folder(write_coco(tmp_path / "coco", train))
    assert splits.train.annotations.num_images == 2
    assert not len(splits.train.annotations.image_objects(1).classes)
    assert "images without objects, which only have background (1)" in splits.note


def test_segmentations_are_not_read_without_masks(tmp_path):
    train = changed(lambda content: content["annotations"][0].update(segmentation="nonsense"))
    root = write_coco(tmp_path / "coco", train)
    assert not open_folder(root, masks=False).train.annotations.has_masks


def test_edges_of_boxes_are_rounded(tmp_path):
    train = changed(lambda content: content["annotations"][0].update(bbox=[-0.5, 3, 31, 17.25]))
    splits = open_folder(write_coco(tmp_path / "coco", train))
    assert splits.train.annotations.boxes[0].tolist() == [0, 3, 30, 20]


def test_exif_orientation(tmp_path):
    root = write_coco(tmp_path / "coco")
    pixels = np.zeros((30, 20, 3), np.uint8)
    pixels[:15] = 255  # stored upside up; shown rotated by 90 degrees
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = 6
    image.save(root / "images" / "0.png", exif=image.getexif())
    shown = np.asarray(open_folder(root).train.image(0))
    assert shown.shape == (20, 30, 3)
    assert shown[:, 15:].all()
    with pytest.raises(UserError, match=r"0\.png \(30x20 and not 20x30\)"):
        open_folder(root, exif_orientation=False)


def test_fingerprint_changes_with_the_data(tmp_path):
    root = write_coco(tmp_path / "coco")
    before = open_folder(root).train.fingerprint()
    assert open_folder(root).train.fingerprint() == before
    assert before["examples"] == 2
    assert open_folder(root, masks=False).train.fingerprint() != before
    file = root / "images" / "1.png"
    content = file.read_bytes()
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(file)
    assert open_folder(root).train.fingerprint() != before
    file.write_bytes(content)
    moved = changed(lambda content: content["annotations"][0].update(bbox=[2, 3, 8, 7]))
    (root / "instances_train.json").write_text(json.dumps(moved), encoding="utf-8")
    assert open_folder(root).train.fingerprint() != before


# What is wrong


def duplicate(name, field):
    def change(content):
        content[name][1][field] = content[name][0][field]

    return change


def set_object(**values):
    return lambda content: content["annotations"][1].update(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (duplicate("images", "id"), "images with the same id (1): 10; remove"),
        (duplicate("images", "file_name"), "images with the same file_name (1): '0.png'"),
        (duplicate("annotations", "id"), "annotations with the same id (1): 0"),
        (duplicate("categories", "id"), "categories with the same id (1): 7"),
        (duplicate("categories", "name"), "categories with the same name (1): 'seven'"),
        (lambda content: content.pop("images"), "images: Field required"),
        (lambda content: content.update(images=[]), "has no images"),
        (lambda content: content.update(categories=[]), "has no categories"),
        (lambda content: content.update(annotations=[]), "has no objects in images that can be"),
        (set_object(bbox=[1, 2, 3]), "annotations.1.bbox.3: Field required"),
        (set_object(bbox=["a", 2, 3, 4]), "annotations.1.bbox.0: Input should be a valid number"),
        (lambda content: content["images"][0].pop("width"), "images.0.width: Field required"),
    ],
)
def test_wrong_file(tmp_path, change, message):
    root = write_coco(tmp_path / "coco", changed(change))
    for on_error in ("raise", "skip"):
        with pytest.raises(UserError) as error:
            open_folder(root, on_error=on_error)
        assert message in str(error.value)
        assert "instances_train.json" in str(error.value)


@pytest.mark.parametrize(
    ("change", "message", "objects"),
    [
        (set_object(bbox=[1, 2, 0, 5]), "boxes without area (1): annotation 1", 3),
        (set_object(bbox=[1, 2, 5, -5]), "boxes without area (1): annotation 1", 3),
        (set_object(bbox=[25, 2, 9, 5]), "boxes that leave the image by more than 1 pixel (1)", 3),
        (set_object(category_id=8), "annotations of unknown categories (1): annotation 1", 3),
        (set_object(image_id=99), "annotations of unknown images (1): annotation 1", 3),
        (set_object(segmentation=[]), "annotations without a mask (1): annotation 1", 3),
        (set_object(segmentation=[[1, 2, 3, 4]]), "masks that cannot be read (1): annotation 1", 3),
        (set_object(segmentation=[[1, 2, 3, 4, 5, "6"]]), "a coordinate that is not a number", 3),
        (
            set_object(segmentation=7),
            "masks that cannot be read (1): annotation 1 (it is a int)",
            3,
        ),
        (set_object(segmentation={"size": [9, 30], "counts": [270]}), "its size is [9, 30]", 3),
        (
            set_object(segmentation={"size": [20, 30], "counts": [1, 2]}),
            "add up to 3 and not 600",
            3,
        ),
        (set_object(segmentation={"size": [20, 30], "counts": [-1, 601]}), "not integers", 3),
        (
            set_object(segmentation={"size": [20, 30], "counts": "jkk"}),
            "masks that cannot be",
            3,
        ),
        (set_object(segmentation={"size": [20, 30]}), "KeyError: 'counts'", 3),
        (lambda content: content["images"][1].update(height=21), "images of another size", 2),
        (lambda content: content["images"][1].update(file_name="x.png"), "x.png (No such file", 2),
    ],
)
def test_wrong_object_or_image(tmp_path, change, message, objects):
    root = write_coco(tmp_path / "coco", changed(change))
    with pytest.raises(UserError) as error:
        open_folder(root)
    assert message in str(error.value)
    assert "instances_train.json has" in str(error.value)
    assert "--config.data.on_error=skip" in str(error.value)
    splits = open_folder(root, on_error="skip")
    assert f"left out {str(error.value).split(' has ')[1].split(';')[0]}" in splits.note
    assert splits.train.annotations.num_objects == objects
    assert splits.train.annotations.num_images == (1 if objects == 2 else 2)


def test_all_problems_are_counted(tmp_path):
    def change(content):
        content["images"][1]["file_name"] = "x.png"
        content["annotations"][0]["category_id"] = 9
        content["annotations"][1]["bbox"] = [1, 2, 0, 0]

    with pytest.raises(UserError) as error:
        open_folder(write_coco(tmp_path / "coco", changed(change)))
    for text in ("cannot be read (1)", "unknown categories (1)", "without area (1)"):
        assert text in str(error.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty"), (b"text", "not an image"), (None, "No such file or directory")],
)
def test_unreadable_image(tmp_path, content, reason):
    root = write_coco(tmp_path / "coco")
    file = root / "images" / "1.png"
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(UserError, match=rf"cannot be read \(1\): 1\.png \({reason}\)"):
        open_folder(root)
    assert open_folder(root, on_error="skip").train.annotations.num_images == 1


def test_truncated_image(tmp_path):
    root = write_coco(tmp_path / "coco")
    file = root / "images" / "1.png"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(UserError, match=r"1\.png \(image file is truncated"):
        open_folder(root)


def test_image_that_changes_later(tmp_path):
    root = write_coco(tmp_path / "coco")
    train = open_folder(root).train
    Image.new("RGB", (9, 9)).save(root / "images" / "0.png")
    with pytest.raises(UserError, match="9x9 pixels and not 20x30"):
        train.image(0)
    (root / "images" / "0.png").unlink()
    with pytest.raises(UserError, match="FileNotFoundError"):
        train.image(0)


def test_other_categories_in_the_test_split(tmp_path):
    test = coco_dict(1)
    test["categories"][0]["name"] = "eight"
    with pytest.raises(UserError, match=r"category 7 'eight', but .* has 'seven' with this id"):
        open_folder(write_coco(tmp_path / "coco", test=test))


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        ("instances_train.json", r"has no instances_train\*\.json"),
        ("instances_test.json", r"has no instances_test\*\.json"),
    ],
)
def test_missing_annotation_file(tmp_path, remove, message):
    root = write_coco(tmp_path / "coco")
    (root / remove).unlink()
    with pytest.raises(UserError, match=message):
        open_folder(root)


def test_boxes_without_masks(tmp_path):
    train = coco_dict()
    for thing in train["annotations"]:
        del thing["segmentation"]
    root = write_coco(tmp_path / "coco", train)
    assert open_folder(root, masks=False).train.annotations.num_objects == 4
    with pytest.raises(UserError, match="has boxes but no masks"):
        open_folder(root, masks=True)


def test_missing_folders(tmp_path):
    with pytest.raises(UserError, match=r"needs --config\.data\.dir"):
        open_folder("")
    with pytest.raises(UserError, match="does not exist"):
        open_folder(tmp_path / "nothing")
    root = write_coco(tmp_path / "coco")
    (root / "images").rename(root / "pictures")
    with pytest.raises(UserError, match="no folder with the images of instances_train"):
        open_folder(root)


def test_several_annotation_files(tmp_path):
    root = write_coco(tmp_path / "coco")
    (root / "instances_train2.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match=r"instances_train\.json, instances_train2\.json; keep one"):
        open_folder(root)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b'{"images": 3}'])
def test_not_a_coco_file(tmp_path, content):
    root = write_coco(tmp_path / "coco")
    (root / "instances_test.json").write_bytes(content)
    with pytest.raises(UserError, match=r"instances_test\.json is not an annotation file in COCO"):
        open_folder(root)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_annotation_file_without_permission(tmp_path):
    root = write_coco(tmp_path / "coco")
    (root / "instances_test.json").chmod(0)
    with pytest.raises(UserError, match="Permission denied"):
        open_folder(root)
