"""A wrong configuration is refused in one line that says what is allowed."""

import importlib
import pkgutil

import pytest
from ml_collections import ConfigDict

import configs
from train.config import default_config, validate
from train.config.fields import flatten
from train.errors import UserError

CONFIGS = [
    module.name
    for module in pkgutil.iter_modules(configs.__path__)
    if not module.name.startswith("study_")  # of another command
]


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_file_is_valid(name):
    validate(importlib.import_module(f"configs.{name}").get_config())


def test_the_pairs_of_configs_differ_in_gc_alone():
    for name in ("digits", "cifar100"):
        plain = flatten(importlib.import_module(f"configs.{name}").get_config())
        gc = flatten(importlib.import_module(f"configs.{name}_gc").get_config())
        assert {field for field in gc if gc[field] != plain[field]} == {"gc.mode"}


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("precision", "float16", "one of float32, bfloat16"),
        ("model.stem", "5x5", "one of 3x3, 7x7"),
        ("optimizer.name", "lion", "one of sgd, momentum"),
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
        ("data.mean", (), "one finite number per channel"),
        ("data.mean", ("a",), "one finite number per channel"),
        ("data.std", (0.0,), "above 0 per channel"),
        ("adversary.train", "cw", "one of none, fgsm, pgd"),
        ("adversary.eval_steps", -1, "at least 0"),
        ("adversary.steps", 0, "at least 1"),
        ("adversary.epsilon", 8, "above 0 and at most 1"),
        ("adversary.epsilon", 0.0, "above 0 and at most 1"),
        ("adversary.step_size", float("nan"), "above 0 and at most 1"),
        ("data.test_share", 1.0, "below 1"),
        ("data.classes", (3,), "two classes or more"),
        ("data.image_size", -1, "at least 0"),
        ("data.workers", -1, "at least 0"),
        ("optimizer.body_lr_scale", -0.1, "from 0 to 1"),
        ("optimizer.body_lr_scale", 1.5, "from 0 to 1"),
        ("optimizer.body_lr_scale", float("nan"), "from 0 to 1"),
        ("schedule.step_at", (80.0, 50.0), "numbers of epochs above 0 that rise"),
        ("schedule.step_at", (0.0, 50.0), "numbers of epochs above 0 that rise"),
        ("schedule.step_at", ("50",), "numbers of epochs above 0 that rise"),
        ("data.train_draw", -1, "at least 0"),
        ("data.crop_scale", (0.5,), "two numbers above 0 and up to 1"),
        ("data.crop_scale", (0.5, 0.4), "the lesser first"),
        ("data.crop_scale", (0.0, 1.0), "two numbers above 0 and up to 1"),
        ("data.crop_scale", (0.5, 1.5), "two numbers above 0 and up to 1"),
        ("data.crop_scale", (0.5, "1"), "two numbers above 0 and up to 1"),
    ],
)
def test_a_bad_value_is_refused(field, value, allowed):
    config = default_config()
    with config.unlocked():
        config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError) as error:
        validate(config)
    assert field in str(error.value)
    assert allowed in str(error.value)


def test_what_is_streamed_is_not_padded_and_what_is_not_streamed_is_no_folder():
    config = default_config()
    config.data.image_size, config.data.pad = 224, 4
    with pytest.raises(UserError, match=r"config\.data\.pad=4 .* set config\.data\.pad to 0"):
        validate(config)
    config.data.image_size, config.data.pad, config.data.name = 0, 0, "folder"
    with pytest.raises(UserError, match=r"set config\.data\.image_size"):
        validate(config)


def test_a_studys_config_is_refused():
    config = importlib.import_module("configs.study_digits").get_config()
    with pytest.raises(UserError, match=r"is a study's; run it by python -m train\.study"):
        validate(config)


def test_no_length_is_refused():
    config = default_config()
    config.num_epochs = 0
    with pytest.raises(UserError, match="both 0"):
        validate(config)


def test_an_unknown_a_missing_and_a_mistyped_field_are_refused():
    fields = default_config().to_dict()
    with pytest.raises(UserError, match=r"config\.optimiser is not a field"):
        validate(ConfigDict(fields | {"optimiser": "adam"}))
    with pytest.raises(UserError, match=r"config\.seed='0' is not allowed; .* of type int"):
        validate(ConfigDict(fields | {"seed": "0"}))
    with pytest.raises(UserError, match=r"config\.seed=True"):
        validate(ConfigDict(fields | {"seed": True}))
    del fields["seed"]
    with pytest.raises(UserError, match=r"config\.seed is missing"):
        validate(ConfigDict(fields))
