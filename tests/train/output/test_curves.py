"""The plot of a finished run."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from train.output import curves
from train.tasks.classification import Classification

HEADLINE = Classification.headline
TRAIN_ONLY = ("learning_rate", "grad_norm", "update_norm", "param_norm", "gc_removed_fraction")


def make_lines(points):
    lines = []
    for epoch in range(points):
        line = {"epoch": epoch / 2, "loss": 2 / (1 + epoch), "top1": epoch / points}
        lines.append({"split": "train", **line, **dict.fromkeys(TRAIN_ONLY, 0.5)})
        lines.append({"split": "test", **line})
    return lines


@pytest.mark.parametrize("points", [1, 7, 30, 500])
def test_lines_differ_without_color(points):
    figure = curves._draw(make_lines(points), "title", HEADLINE)
    assert [len(axes.get_lines()) for axes in figure.axes] == [2, 2, 1, 2, 1, 1]
    for axes in (figure.axes[0], figure.axes[1], figure.axes[3]):
        train, test = axes.get_lines()
        assert train.get_linestyle() != test.get_linestyle()
        assert train.get_marker() != test.get_marker()
        every = train.get_markevery() or 1
        assert points / every <= 30


def test_values_that_are_not_finite_are_gaps():
    lines = make_lines(4)
    lines[2] |= {"loss": None, "grad_norm": None, "learning_rate": None}
    figure = curves._draw(lines, "title", HEADLINE)
    assert np.isnan(figure.axes[0].get_lines()[0].get_ydata()).tolist() == [
        False,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("title", ["digits", "a $$ b", "Größe <&>"])
def test_files_have_the_format_of_their_suffix(title, tmp_path):
    files = [tmp_path / "curves.png", tmp_path / "curves.svg"]
    curves.draw_curves(files, make_lines(5), title, HEADLINE)
    assert np.asarray(Image.open(files[0])).std() > 0
    root = ET.parse(files[1]).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(root.findall(".//{http://www.w3.org/2000/svg}path")) > 20
