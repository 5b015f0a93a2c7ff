"""The default configuration, and the check that every run's configuration passes first."""

import importlib.util
from typing import Any

from ml_collections import ConfigDict

from train.config import text_fields
from train.config.fields import ALMOST_ONE, HUGE, TINY, bad, check_fields, flatten, is_number, most
from train.errors import UserError


def default_config() -> ConfigDict:
    """A config with every field there is; the files in `configs/` change what they need."""
    return ConfigDict(
        {
            "seed": 0,
            "num_epochs": 10,
            "num_steps": 0,  # 0: as many as the epochs need
            "init_from": "",  # a finished run's work folder, or a .safetensors file; empty: anew
            "init_head": False,  # whether the last layer is taken over too, and not begun anew
            "precision": "float32",
            "data": {
                "name": "digits",
                "dir": "",  # empty: TFDS_DATA_DIR, or TFDS's own default
                "batch_size": 128,
                "mean": (0.5,),  # per channel, of pixels scaled to 0..1
                "std": (0.5,),
                "pad": 0,  # pixels of zeros around an image before a random crop
                "flip": False,  # left to right, half of the time
                "image_size": 0,  # 0: images as they are, kept on the device; else streamed ...
                "crop_scale": (0.08, 1.0),  # ... as random crops of such a share of their
                # area, or if empty as the middle, which is what is tested on
                "classes": (),  # of images on the device: to keep, in this order; empty: all
                "train_per_class": 0,  # so many examples of each to train on; 0: all ...
                "train_draw": 0,  # ... and which: another number, others
                "test_share": 0.0,  # of a TFDS set's `train`, its end, if it has no test split
                "workers": 0,  # processes that decode what is streamed; 0: threads of this one
                "vocabulary": 0,  # 0: images; else texts, in numbers of words, of which so many ...
                "length": 200,  # ... and of each text the last so many words
            },
            "model": {
                "name": "convnet",
                "stem": "3x3",  # 7x7, for images of ImageNet's size: strides and a max pool
                "remat": False,  # less memory, because each block is computed once more
                "norm": "batch",  # or group, weight, none, for the nets that know them
                "weight_standardization": False,  # of convolutions, beside the norm
                "dropout": 0.0,  # share of activations, in nets for texts
            },
            "optimizer": {
                "name": "momentum",
                "learning_rate": 0.1,
                "weight_decay": 0.0,  # L2; for sgdw, adamw, radam and ranger decoupled
                "momentum": 0.9,  # momentum, sgdw
                "nesterov": False,  # momentum, sgdw
                "b1": 0.9,  # adam, adamw, radam, ranger
                "b2": 0.999,  # the same; rmsprop's decay
                "eps": 1e-8,  # all but sgd, momentum, sgdw; in the root of adagrad and rmsprop
                "lookahead": {  # of lookahead and ranger
                    "inner": "momentum",  # what lookahead wraps; ranger wraps radam
                    "period": 5,  # steps from one meeting of fast and slow weights to the next
                    "step_size": 0.5,  # the share of the way that the slow ones go then
                },
                "body_lr_scale": 1.0,  # the rate of all but the last layer, as a share; 0: frozen
            },
            "schedule": {
                "name": "constant",
                "warmup": 0.0,  # share of the run in which the rate rises from 0, linearly
                "step_epochs": 60.0,  # step: multiply the rate every so many epochs ...
                "step_at": (),  # ... or after each of these epochs ...
                "step_factor": 0.1,  # ... by this
            },
            "adversary": {
                "train": "none",  # or fgsm or pgd: train on images that are attacked so
                "eval_steps": 0,  # score the test split under PGD of so many steps too; 0: do not
                "epsilon": 8 / 255,  # the most that a pixel, from 0 to 1, is changed by
                "step_size": 2 / 255,  # pgd
                "steps": 7,  # pgd
                "random_start": True,
            },
            "gc": {"mode": "all", "location": "gradient"},
            "report": {"tensorboard": False},  # needs tensorboardX
            "eval": {
                "every_epochs": 1,
                "batch_size": 500,
                "per_class": False,  # precision, recall and AUC of each class in summary.json
            },
            "checkpoint": {"every_steps": 0, "keep": 2},  # 0: after every evaluation
            "log_every_steps": 50,
            "steps_per_dispatch": 0,  # at most; 0: as many as take two or three seconds
            "nan_policy": "stop",  # or skip steps that are not finite ...
            "nan_limit": 10,  # ... but stop after more than so many in a row
        }
    )


_PLAIN = ("sgd", "momentum", "sgdw", "adagrad", "rmsprop", "adam", "adamw", "radam")
OPTIMIZERS = (*_PLAIN, "lookahead", "ranger")
"""What `optimizer.name` can be."""
_CHOICES = {
    "precision": ("float32", "bfloat16"),
    "model.stem": ("3x3", "7x7"),
    "model.norm": ("batch", "group", "weight", "none"),
    "optimizer.name": OPTIMIZERS,
    "optimizer.lookahead.inner": _PLAIN,
    "schedule.name": ("constant", "step", "cosine"),
    "nan_policy": ("stop", "skip"),
    "adversary.train": ("none", "fgsm", "pgd"),
    "gc.mode": ("none", "all", "conv"),
    "gc.location": ("gradient", "update"),
}
_AT_LEAST = {
    "seed": 0,
    "num_epochs": 0,
    "num_steps": 0,
    "data.batch_size": 1,
    "data.pad": 0,
    "data.image_size": 0,
    "data.train_per_class": 0,
    "data.train_draw": 0,
    "data.workers": 0,
    "data.vocabulary": 0,
    "data.length": 1,
    "optimizer.weight_decay": 0,
    "optimizer.lookahead.period": 1,
    "adversary.eval_steps": 0,
    "adversary.steps": 1,
    "eval.every_epochs": 1,
    "eval.batch_size": 1,
    "checkpoint.every_steps": 0,
    "checkpoint.keep": 1,
    "log_every_steps": 1,
    "steps_per_dispatch": 0,
    "nan_limit": 1,
}
_MORE_THAN_ZERO = (
    "optimizer.learning_rate",
    "optimizer.eps",
    "schedule.step_epochs",
    "schedule.step_factor",
)
_SHARES = ("optimizer.lookahead.step_size", "adversary.epsilon", "adversary.step_size")
_BELOW_ONE = (
    "model.dropout",
    "optimizer.momentum",
    "optimizer.b1",
    "optimizer.b2",
    "schedule.warmup",
    "data.test_share",
)


def validate(config: ConfigDict) -> None:
    """Checks every field that can be checked without the data.

    Raises:
      UserError: a field is missing, unknown, of the wrong type or out of its range.
    """
    if isinstance(config.get("base"), ConfigDict):
        raise UserError(
            "the config has a base, so it is a study's; run it by python -m train.study"
        )
    given, known = flatten(config), flatten(default_config())
    check_fields(given, known, "train.config.default_config()")
    for name, choices in _CHOICES.items():
        if given[name] not in choices:
            raise bad(name, given[name], f"one of {', '.join(choices)}")
    for name, least in _AT_LEAST.items():
        if not (given[name] >= least and is_number(given[name])):
            raise bad(name, given[name], f"at least {least} and at most {most(known[name])}")
    for name in _MORE_THAN_ZERO:
        if not (given[name] > 0 and is_number(given[name])):
            raise bad(name, given[name], f"a number above 0, from {TINY:.2g} to {HUGE:.2g}")
    for name in _SHARES:
        if not (0 < given[name] <= 1 and is_number(given[name])):
            raise bad(name, given[name], "above 0 and at most 1")
    for name in _BELOW_ONE:
        if not (0 <= given[name] <= ALMOST_ONE and is_number(given[name])):
            raise bad(name, given[name], "at least 0 and below 1, in float32")
    if not given["num_epochs"] and not given["num_steps"]:
        raise UserError("config.num_epochs and config.num_steps are both 0: set one of them")
    for name in ("data.mean", "data.std"):
        if not given[name] or not all(is_number(value) for value in given[name]):
            raise bad(name, given[name], "one finite number per channel, in float32")
    if any(value <= 0 for value in given["data.std"]):
        raise bad("data.std", given["data.std"], "one number above 0 per channel")
    at = given["schedule.step_at"]
    if not all(map(is_number, at)) or list(at) != sorted(set(at)) or min(at, default=1) <= 0:
        raise bad("schedule.step_at", at, "numbers of epochs above 0 that rise")
    if not (
        is_number(given["optimizer.body_lr_scale"]) and 0 <= given["optimizer.body_lr_scale"] <= 1
    ):
        raise bad("optimizer.body_lr_scale", given["optimizer.body_lr_scale"], "from 0 to 1")
    if len(given["data.classes"]) == 1:
        raise bad("data.classes", given["data.classes"], "two classes or more, or () for all")
    if given["init_head"] and not given["init_from"]:
        raise UserError("config.init_head=True needs config.init_from; name it, or set it to False")
    _check_streaming(given)
    if given["data.test_share"] and given["data.name"] in ("digits", "folder"):
        raise UserError(
            f"config.data.test_share={given['data.test_share']} is for TFDS sets without a split "
            f"to test on; {given['data.name']} has one; set it to 0"
        )
    text_fields.check(given)
    if given["report.tensorboard"]:
        _check_tensorboard()


def _check_streaming(given: dict[str, Any]) -> None:
    scale = given["data.crop_scale"]
    if scale and not (
        len(scale) == 2 and all(map(is_number, scale)) and 0 < scale[0] <= scale[1] <= 1
    ):
        raise bad("data.crop_scale", scale, "two numbers above 0 and up to 1, the lesser first")
    if given["data.image_size"] and given["data.pad"]:
        raise UserError(
            f"config.data.pad={given['data.pad']} is for images that are kept on the device; "
            f"with config.data.image_size={given['data.image_size']} crops follow "
            "config.data.crop_scale; set config.data.pad to 0"
        )
    if given["data.image_size"] and (given["data.classes"] or given["data.train_per_class"]):
        raise UserError(
            "config.data.classes and config.data.train_per_class are for images that are kept on "
            "the device; leave them out, or set config.data.image_size to 0"
        )
    if given["data.name"] == "folder" and not given["data.image_size"]:
        raise UserError(
            "config.data.name='folder' is streamed; set config.data.image_size to the pixels that "
            "a crop should have, such as 224"
        )


def _check_tensorboard() -> None:
    """Whether there is something to write them with.

    Raises:
      UserError: there is not.
    """
    if importlib.util.find_spec("tensorboardX") is None:
        raise UserError(
            "config.report.tensorboard=True needs tensorboardX; pip install tensorboardX, or leave "
            "it False"
        )
