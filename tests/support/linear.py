"""A linear classifier in place of a network: it compiles fast, and its outputs are known."""

import jax
import optax

import optax_gc
from train.engine import optimizers
from train.experiment import prepare as prepare_experiment
from train.tasks.classification import Classification


def apply(params, stats, images, train, key=None):
    del train, key
    return images.reshape(len(images), -1) @ params["kernel"], stats


def prepare(config, dataset=None, devices=None, **options):
    """Do what `train.experiment.prepare` does, with a linear classifier and plain SGD."""
    run = prepare_experiment(config, dataset, devices, **options)
    height, width, channels = run.task.model.input_shape
    shape = (height * width * channels, run.dataset.num_classes)

    def init(key):
        return {"kernel": jax.random.normal(key, shape) / 8}, {}

    sgd = run.config.copy_and_resolve_references()
    sgd.optimizer.name, sgd.optimizer.weight_decay, sgd.gc.mode = "sgd", 0.0, "none"
    axes = {"kernel": optax_gc.FanIn((0,))}
    optimizer = optimizers.build(sgd, optax.constant_schedule(0.05), axes, frozenset)
    model = run.task.model._replace(init=init, apply=apply)
    return run._replace(task=Classification(run.config, model), optimizer=optimizer)
