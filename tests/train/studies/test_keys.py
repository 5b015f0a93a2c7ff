"""Keys of results stay the same when the trainer changes around them."""

import json

import pytest

from tests.support.studying import tiny
from train.config import fields
from train.config.schema import Config
from train.studies import design, keys, results


@pytest.fixture
def run():
    config = tiny()
    return design.final_runs(config, design.arms(config, design.settings(config)[0])[1], 0.03)[0]


def change_default(monkeypatch, name, default):
    """Give a field another default, or add a field."""
    specs = dict(fields.field_specs(Config))
    spec = specs.get(name, specs["optimizer.momentum"])
    specs[name] = spec._replace(name=name, default=default)
    monkeypatch.setattr(keys, "field_specs", lambda _: specs)


@pytest.mark.parametrize("default", [0, "none", (), True])
def test_new_field_keeps_keys(default, run, monkeypatch):
    change_default(monkeypatch, "optimizer.brand_new", default)
    assert keys.digest("final", run.settings | {"optimizer.brand_new": default}) == run.key
    assert keys.digest("final", run.settings | {"optimizer.brand_new": "other"}) != run.key


@pytest.mark.parametrize(
    ("name", "default"), [("optimizer.momentum", 0.8), ("data.pad", 2), ("model.norm", "group")]
)
def test_changed_default_is_another_run(name, default, run, monkeypatch, tmp_path):
    """The older result keeps its meaning: it is that of the value of its time."""
    file = tmp_path / "results.jsonl"
    line = {"kind": "time", "key": run.key, "settings": run.settings, "seconds": []}
    header = {"optimizer": "", "gc": "", "weight_decay": 0, "batch_size": 0}
    file.write_text(json.dumps(line | header) + "\n")
    old_value = run.settings[name]
    change_default(monkeypatch, name, default)
    (key,) = results.Results(tmp_path, None).lines
    assert key == keys.digest("time", run.settings | {name: old_value})
    assert key != keys.digest("time", run.settings | {name: default})


@pytest.mark.parametrize(
    "change", [{"optimizer.momentum": 0.5}, {"data.mean": (0.1,)}, {"seed": 7}, {"data.flip": True}]
)
def test_changed_field_changes_the_key(change, run):
    assert keys.digest("final", run.settings | change) != run.key


def test_output_fields_are_no_part(run):
    assert not run.settings.keys() & {"eval.batch_size", "checkpoint.keep", "data.dir"}


def test_json_gives_the_same_key(run):
    assert keys.digest("final", json.loads(json.dumps(run.settings))) == run.key
