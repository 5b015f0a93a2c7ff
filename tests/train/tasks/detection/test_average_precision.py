"""Average precision against pycocotools, and its edge cases."""

import contextlib
import io

import numpy as np
import pytest

from tests.support.detection import coco_dict, open_set, predict, write_coco
from train.data.detection import coco_api, coco_folder
from train.tasks.detection import average_precision as module
from train.tasks.detection import coco_results
from train.tasks.detection.average_precision import average_precision
from train.tasks.detection.predictions import in_order

SETS = ("digits", "bccd", "nuclei")
STATS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")


@pytest.fixture(scope="module")
def splits():
    """Return a function that opens the test split of a set once."""
    opened = {}

    def split(name):
        if name not in opened:
            opened[name] = open_set(name)[1]
        return opened[name]

    return split


def score(split, predictions, sizes, **options):
    return average_precision(split.annotations, split.class_names, predictions, sizes, **options)


def pycocotools_api():
    coco = pytest.importorskip("pycocotools.coco")
    from pycocotools import cocoeval, mask

    return coco_api.CocoApi(coco.COCO, cocoeval.COCOeval, mask)


def reference(split, predictions, sizes, iou_type):
    """Return the first six figures that pycocotools itself prints, with its own limit of 100."""
    api = pycocotools_api()
    boxes = coco_results.to_original(predictions.boxes, split.annotations.sizes, sizes)
    found = coco_results.detections(
        predictions, split.annotations.sizes, boxes, masks=iou_type == "segm"
    )
    with contextlib.redirect_stdout(io.StringIO()):
        truth = api.COCO()
        truth.dataset = coco_results.ground_truth(split.annotations, split.class_names)
        truth.createIndex()
        evaluation = api.COCOeval(truth, truth.loadRes(found), iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [None if value == -1 else value for value in evaluation.stats[:6]]


@pytest.mark.parametrize(
    ("name", "noise"), [("digits", 0.3), ("digits", 0.8), ("bccd", 0.8), ("nuclei", 0.3)]
)
def test_equals_pycocotools(splits, name, noise):
    split = splits(name)
    predictions, sizes = predict(split.annotations, noise=noise)
    result = score(split, predictions, sizes)
    assert 0.01 < result["box_ap"] < 0.99
    for kind, iou_type in (("box", "bbox"), ("mask", "segm")):
        if kind == "box" or split.annotations.has_masks:
            expected = reference(split, predictions, sizes, iou_type)
            assert [result[f"{kind}_{name}"] for name in STATS] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["digits", "nuclei"])
def test_another_library_gives_the_same(splits, name, monkeypatch):
    split = splits(name)
    predictions, sizes = predict(split.annotations, noise=0.5)
    result = score(split, predictions, sizes, max_detections=300)
    api = pycocotools_api()
    monkeypatch.setattr(module, "coco_api", lambda: api)
    expected = score(split, predictions, sizes, max_detections=300)
    rows = list(zip(result.pop("per_class"), expected.pop("per_class"), strict=True))
    assert result == pytest.approx(expected, abs=1e-6)
    for row, expected_row in rows:
        assert row.pop("class") == expected_row.pop("class")
        assert row == pytest.approx(expected_row, abs=1e-6)


@pytest.mark.parametrize("name", SETS)
def test_perfect_predictions(splits, name):
    split = splits(name)
    predictions, sizes = predict(split.annotations)
    result = score(split, predictions, sizes, max_detections=300)
    assert result["box_ap"] == pytest.approx(1)
    assert result["box_precision"] == result["box_recall"] == 1
    for row in result["per_class"]:
        assert row["box_ap"] == pytest.approx(1)
    if split.annotations.has_masks:
        assert result["mask_ap50"] > 0.99
        assert result["mask_ap"] > 0.9  # 28x28 cells do not hold every mask


def test_limit_of_detections(splits):
    split = splits("nuclei")  # up to 141 objects in an image
    predictions, sizes = predict(split.annotations, masks=False)
    assert score(split, predictions, sizes, max_detections=100)["box_ap"] < 0.99
    assert score(split, predictions, sizes, max_detections=150)["box_ap"] == pytest.approx(1)


def test_every_image_counts_once(splits):
    split = splits("digits")
    predictions, sizes = predict(split.annotations, noise=0.5)
    expected = score(split, predictions, sizes)
    order = np.random.default_rng(0).permutation(np.tile(np.arange(200), 2))
    # The second copy of each image differs, and must not be used.
    seen, first = set(), []
    for index in order:
        first.append(index not in seen)
        seen.add(index)
    gathered = predictions._replace(
        **{name: array[order] for name, array in predictions._asdict().items()}
    )
    gathered.classes[~np.array(first)] = -1
    assert score(split, gathered, sizes) == expected


def test_missing_image(splits):
    split = splits("digits")
    predictions, _ = predict(split.annotations)
    part = predictions._replace(ids=np.minimum(predictions.ids, 197))
    with pytest.raises(ValueError, match="2 are missing"):
        in_order(part, 200)


def test_no_detections(splits):
    split = splits("digits")
    predictions, sizes = predict(split.annotations)
    nothing = predictions._replace(classes=np.full_like(predictions.classes, -1))
    result = score(split, nothing, sizes)
    assert result["box_ap"] == result["mask_ap"] == result["box_recall"] == 0
    assert result["box_precision"] is None


def test_not_finite_detections_are_left_out(splits):
    split = splits("digits")
    predictions, sizes = predict(split.annotations)
    predictions.boxes[0, 0] = np.nan
    predictions.scores[1, 0] = np.nan
    result = score(split, predictions, sizes)
    assert 0.98 < result["box_recall"] < 1


def test_precision_and_recall(tmp_path):
    split = coco_folder.open_splits(str(write_coco(tmp_path / "coco")), masks=True).train
    predictions, sizes = predict(split.annotations)  # two objects in each of two images
    predictions.scores[0, 0] = 0.4  # below the threshold
    predictions.boxes[1, 0] += 100  # somewhere else
    predictions.classes[0, 2], predictions.scores[0, 2] = 0, 0.9  # a box without area
    result = score(split, predictions, sizes)
    assert result["box_recall"] == 0.5
    assert result["box_precision"] == 0.5
    assert [row["box_recall"] for row in result["per_class"]] == [0, 1]
    assert [row["objects"] for row in result["per_class"]] == [2, 2]
    assert score(split, predictions, sizes, score_threshold=0.3)["box_recall"] == 0.75


def test_crowds_are_neither_right_nor_wrong(tmp_path):
    train = coco_dict()
    crowd = train["annotations"][0] | {"id": 99, "iscrowd": 1, "bbox": [15, 3, 12, 12]}
    counts = [15 * 20, 12 * 20, 3 * 20]
    train["annotations"].append(crowd | {"segmentation": {"size": [20, 30], "counts": counts}})
    split = coco_folder.open_splits(str(write_coco(tmp_path / "coco", train)), masks=True).train
    predictions, sizes = predict(split.annotations)
    scale = sizes[0, 0] / 20
    for place in (2, 3):
        predictions.boxes[0, place] = np.array([16, 4, 20, 8]) * scale
        predictions.classes[0, place], predictions.scores[0, place] = 0, 1
        predictions.masks[0, place] = 1
    result = score(split, predictions, sizes)
    assert result["box_ap"] == result["box_precision"] == result["mask_precision"] == 1
    assert sum(row["objects"] for row in result["per_class"]) == 4
