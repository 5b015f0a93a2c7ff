"""The plot of a finished run."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from train.output import curves


def make_lines(points):
    return [
        {"split": split, "epoch": epoch / 2, "loss": 2 / (1 + epoch), "top1": epoch / points}
        for epoch in range(points)
        for split in ("train", "test")
    ]


@pytest.mark.parametrize("points", [1, 7, 30, 500])
def test_splits_differ_without_color(points):
    figure = curves._draw(make_lines(points), "title")
    for axes in figure.axes:
        train, test = axes.get_lines()
        assert train.get_linestyle() != test.get_linestyle()
        assert train.get_marker() != test.get_marker()
        every = train.get_markevery() or 1
        assert points / every <= 30


@pytest.mark.parametrize("title", ["digits", "a $$ b", "Größe <&>"])
def test_files_have_the_format_of_their_suffix(title, tmp_path):
    files = [tmp_path / "curves.png", tmp_path / "curves.svg"]
    curves.draw_curves(files, make_lines(5), title)
    assert np.asarray(Image.open(files[0])).std() > 0
    root = ET.parse(files[1]).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(root.findall(".//{http://www.w3.org/2000/svg}path")) > 20
