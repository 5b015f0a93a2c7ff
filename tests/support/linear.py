"""A run of a linear classifier: it compiles in no time, and its answers are known."""

import jax
import optax

from train.experiment import prepare as prepare_run
from train.models import Model


def apply(params, stats, images, train, key=None):
    del train, key
    return images.reshape(len(images), -1) @ params["kernel"], stats


def prepare(config, dataset=None, devices=None, **how):
    """`train.experiment.prepare`, with another network and plain SGD."""
    run = prepare_run(config, dataset, devices, **how)
    pixels, classes = run.model.input_shape, run.dataset.num_classes

    def init(key):
        shape = (pixels[0] * pixels[1] * pixels[2], classes)
        return {"kernel": jax.random.normal(key, shape) / 8}, {}

    return run._replace(model=Model(init, apply, pixels), tx=optax.sgd(0.05))
