"""The schema: defaults, and the error for every wrong value."""

import importlib
import pkgutil

import pytest
from ml_collections import ConfigDict

import configs
from tests.support.processes import ROOT
from train.config import default_config, flatten, reference, validate
from train.config.fields import field_specs
from train.config.schema import Config, affects_result, may_change_on_resume
from train.errors import UserError
from train.studies.config import Study, study_page

CONFIGS = [
    module.name
    for module in pkgutil.iter_modules(configs.__path__)
    if not module.name.startswith("study_")  # of another command
]


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_file_is_valid(name):
    validate(importlib.import_module(f"configs.{name}").get_config())


def test_config_pairs_differ_in_gc_only():
    for name in ("digits", "cifar100"):
        plain = flatten(importlib.import_module(f"configs.{name}").get_config())
        gc = flatten(importlib.import_module(f"configs.{name}_gc").get_config())
        assert {field for field in gc if gc[field] != plain[field]} == {"gc.mode"}


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("precision", "float16", "one of float32, bfloat16"),
        ("model.stem", "5x5", "one of 3x3, 3x3/2, 7x7"),
        ("optimizer.name", "sophia", "one of sgd, momentum"),
        ("optimizer.clip_norm", -1.0, "at least 0"),
        ("optimizer.clip_location", "update", "one of gradient, centralized"),
        ("optimizer.ema", 1.0, "below 1"),
        ("optimizer.freeze", ("",), "names of layers, such as"),
        ("optimizer.freeze", (1,), "names of layers, such as"),
        ("accumulate", 0, "at least 1"),
        ("data.augment", "rand", "one of none, trivial"),
        ("data.mixup", -0.1, "at least 0"),
        ("data.cutmix", float("nan"), "at least 0"),
        ("loss.label_smoothing", 1.0, "below 1"),
        ("schedule.warmup_from", 1.0, "below 1"),
        ("schedule.name", "linear", "one of constant, step, cosine"),
        ("gc.mode", "some", "one of none, all, conv"),
        ("gc.location", "before", "one of gradient, update"),
        ("seed", -1, "at least 0"),
        ("seed", 2**31, "at most 2147483647"),
        ("num_epochs", -1, "at least 0"),
        ("num_steps", -5, "at least 0"),
        ("data.batch_size", 0, "at least 1"),
        ("data.pad", -1, "at least 0"),
        ("eval.every_epochs", 0, "at least 1"),
        ("eval.batch_size", 0, "at least 1"),
        ("checkpoint.every_steps", -1, "at least 0"),
        ("checkpoint.keep", 0, "at least 1"),
        ("log_every_steps", 0, "at least 1"),
        ("optimizer.learning_rate", 0.0, "above 0"),
        ("optimizer.learning_rate", float("nan"), "above 0"),
        ("optimizer.learning_rate", float("inf"), "above 0"),
        ("optimizer.weight_decay", -1e-4, "at least 0"),
        ("optimizer.weight_decay", float("nan"), "at least 0"),
        ("optimizer.eps", 0.0, "above 0"),
        ("optimizer.lookahead.inner", "ranger", "one of sgd, momentum"),
        ("optimizer.lookahead.period", 0, "at least 1"),
        ("optimizer.lookahead.step_size", 0.0, "above 0 and at most 1"),
        ("optimizer.lookahead.step_size", 1.5, "above 0 and at most 1"),
        ("optimizer.momentum", 1.0, "below 1"),
        ("optimizer.b1", -0.1, "below 1"),
        ("optimizer.b2", 1.5, "below 1"),
        ("schedule.warmup", 1.0, "below 1"),
        ("schedule.step_epochs", 0.0, "above 0"),
        ("schedule.step_factor", -1.0, "above 0"),
        ("data.mean", (), "one finite float32 number per channel"),
        ("data.mean", ("a",), "one finite float32 number per channel"),
        ("data.std", (0.0,), "one float32 number above 0 per channel"),
        ("adversary.train", "cw", "one of none, fgsm, pgd"),
        ("adversary.eval_steps", -1, "at least 0"),
        ("adversary.steps", 0, "at least 1"),
        ("adversary.epsilon", 8, "above 0 and at most 1"),
        ("adversary.epsilon", 0.0, "above 0 and at most 1"),
        ("adversary.step_size", float("nan"), "above 0 and at most 1"),
        ("data.test_share", 1.0, "below 1"),
        ("data.classes", (3,), "two or more classes"),
        ("data.image_size", -1, "at least 0"),
        ("data.workers", -1, "at least 0"),
        ("optimizer.body_lr_scale", -0.1, "at least 0 and at most 1"),
        ("optimizer.body_lr_scale", 1.5, "at least 0 and at most 1"),
        ("optimizer.body_lr_scale", float("nan"), "at least 0 and at most 1"),
        ("schedule.step_at", (80.0, 50.0), "increasing numbers of epochs above 0"),
        ("schedule.step_at", (0.0, 50.0), "increasing numbers of epochs above 0"),
        ("schedule.step_at", ("50",), "increasing numbers of epochs above 0"),
        ("data.train_draw", -1, "at least 0"),
        ("data.crop_scale", (0.5,), "two numbers above 0 and at most 1"),
        ("data.crop_scale", (0.5, 0.4), "the smaller first"),
        ("data.crop_scale", (0.0, 1.0), "two numbers above 0 and at most 1"),
        ("data.crop_scale", (0.5, 1.5), "two numbers above 0 and at most 1"),
        ("data.crop_scale", (0.5, "1"), "two numbers above 0 and at most 1"),
    ],
)
def test_bad_value_is_rejected(field, value, allowed):
    config = default_config()
    with config.unlocked():
        config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError) as error:
        validate(config)
    assert field in str(error.value)
    assert allowed in str(error.value)


def test_streaming_fields_must_agree():
    config = default_config()
    config.data.image_size, config.data.pad = 224, 4
    with pytest.raises(UserError, match=r"config\.data\.pad=4 .* set config\.data\.pad to 0"):
        validate(config)
    config.data.image_size, config.data.pad, config.data.name = 0, 0, "folder"
    with pytest.raises(UserError, match=r"needs config\.data\.image_size"):
        validate(config)


def test_study_config_is_rejected():
    config = importlib.import_module("configs.study_digits").get_config()
    with pytest.raises(UserError, match=r"is a study's; use python -m train\.study"):
        validate(config)


def test_length_zero_is_rejected():
    config = default_config()
    config.num_epochs = 0
    with pytest.raises(UserError, match="both 0"):
        validate(config)


def test_wrong_fields_are_rejected():
    fields = default_config().to_dict()
    with pytest.raises(UserError, match=r"config\.optimiser is not a field"):
        validate(ConfigDict(fields | {"optimiser": "adam"}))
    with pytest.raises(UserError, match=r"config\.seed='0' is not allowed; it must be an integer"):
        validate(ConfigDict(fields | {"seed": "0"}))
    with pytest.raises(UserError, match=r"config\.seed=True"):
        validate(ConfigDict(fields | {"seed": True}))
    del fields["seed"]
    with pytest.raises(UserError, match=r"config\.seed is missing"):
        validate(ConfigDict(fields))


def test_lists_are_allowed_for_tuples():
    config = default_config()
    with config.unlocked():
        config.data.mean = [0.5]
    validate(config)


def test_every_field_is_described():
    for spec in (*field_specs(Config).values(), *field_specs(Study).values()):
        assert spec.description.endswith("."), spec.name
        assert spec.allowed, spec.name
        assert spec.affects in ("result", "output", "none"), spec.name


def test_fields_that_may_change_on_resume():
    fields = [name for name in flatten(default_config()) if may_change_on_resume(name)]
    assert fields == [
        "data.dir",
        "data.workers",
        "report.mlflow",
        "report.tensorboard",
        "report.wandb",
        "steps_per_dispatch",
    ]
    assert not may_change_on_resume("a.field.of.another.version")


def test_output_fields_do_not_affect_result():
    unaffected = {name for name in flatten(default_config()) if not affects_result(name)}
    groups = {name.partition(".")[0] for name in unaffected}
    assert groups == {"data", "report", "eval", "checkpoint", "steps_per_dispatch"}


@pytest.mark.parametrize("schema", [Config, Study])
def test_help_shows_every_field(schema):
    text = reference.describe_fields(schema)
    for spec in field_specs(schema).values():
        assert f"--config.{spec.name}=" in text
    assert max(map(len, text.splitlines())) <= 100


def test_configuration_pages_are_up_to_date():
    for folder, page in (("trainer", reference.training_page), ("studies", study_page)):
        file = ROOT / "docs" / folder / "configuration.md"
        assert file.read_text() == page(), "run the command that the page names"
