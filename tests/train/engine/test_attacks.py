"""Adversarial examples: how far they go, what they do to the loss, and who counts them."""

import contextlib
import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import strategies as st

from tests.support import linear
from tests.train.data.test_streaming import write_folder
from train import experiment
from train.config import default_config, validate
from train.data.dataset import Dataset, Split
from train.data.in_memory import digits
from train.data.inputs import standardize, to_pixels
from train.engine import attacks
from train.engine.attacks import Attack
from train.engine.state import sha256
from train.loop import train
from train.output import metrics

KEY = jax.random.key(0)
EPSILON = 0.1


def config_of(**fields):
    config = default_config()
    config.data.batch_size = 16
    config.log_every_steps = 1
    config.adversary.update(epsilon=EPSILON, step_size=EPSILON / 2, steps=3, eval_steps=2)
    config.adversary.update(fields)
    validate(config)
    return config


@functools.partial(jax.jit, static_argnums=(2, 3))
def wavy(epsilon, step_size, steps, random_start, pixels, seed):
    """An attack on 20 pixels, compiled once for all numbers."""

    def loss(pixels):
        return jnp.sum(jnp.sin(9 * pixels + jnp.arange(20, dtype=jnp.float32)))

    attack = Attack(epsilon, step_size, steps, random_start)
    return attacks.perturb(attack, jax.random.key(seed), pixels, loss)


@hypothesis.given(
    pixels=st.lists(st.integers(0, 255), min_size=20, max_size=20),
    epsilon=st.floats(1 / 255, 1),
    share=st.floats(0.1, 3),
    steps=st.sampled_from((1, 4)),
    random_start=st.booleans(),
    seed=st.integers(0, 100),
)
@hypothesis.settings(deadline=None, max_examples=40)
def test_no_pixel_goes_farther_than_epsilon_or_out_of_range(
    pixels, epsilon, share, steps, random_start, seed
):
    before = np.array(pixels, np.float32) / 255
    after = wavy(epsilon, min(1.0, share * epsilon), steps, random_start, before, seed)
    assert after.dtype == jnp.float32
    assert np.abs(after - before).max() <= epsilon * (1 + 1e-6) + 1e-7
    assert after.min() >= 0
    assert after.max() <= 1


@pytest.mark.parametrize("random_start", [False, True])
def test_a_linear_classifier_is_led_to_its_worst_image(random_start):
    weights, pixels = jax.random.normal(KEY, (12, 2)), jax.random.uniform(KEY, (5, 12))
    labels = jnp.array([0, 1, 1, 0, 1])

    def losses(pixels):
        return -jax.nn.log_softmax(pixels @ weights)[jnp.arange(5), labels]

    attack = Attack(EPSILON, EPSILON / 4, 8, random_start)
    after = attacks.perturb(attack, KEY, pixels, lambda changed: jnp.sum(losses(changed)))
    away_from_label = (weights[:, 1 - labels] - weights[:, labels]).T
    worst = jnp.clip(pixels + EPSILON * jnp.sign(away_from_label), 0, 1)
    np.testing.assert_allclose(after, worst, atol=1e-6)
    assert (losses(after) > losses(pixels)).all()


def test_a_random_start_is_anywhere_within_epsilon():
    nowhere = Attack(EPSILON, 0.01, 1, True)
    pixels = jnp.full((10_000,), 0.5)
    noise = attacks.perturb(nowhere, KEY, pixels, lambda changed: 0 * jnp.sum(changed)) - 0.5
    np.testing.assert_allclose(np.histogram(noise, 4, (-0.1, 0.1))[0] / 10_000, 0.25, atol=0.02)
    other = attacks.perturb(nowhere, jax.random.key(1), pixels, lambda changed: jnp.sum(changed))
    assert jnp.abs(other - 0.5 - noise).max() > 0.1


def test_the_attacks_are_those_of_the_papers():
    assert attacks.train_attack(config_of()) is None
    assert attacks.eval_attack(config_of(eval_steps=0)) is None
    assert attacks.eval_attack(config_of()) == Attack(EPSILON, EPSILON / 2, 2, True)
    pgd = Attack(EPSILON, EPSILON / 2, 3, True)
    assert attacks.train_attack(config_of(train="pgd")) == pgd
    wong = Attack(EPSILON, 1.25 * EPSILON, 1, True)
    assert attacks.train_attack(config_of(train="fgsm")) == wong
    goodfellow = config_of(train="fgsm", random_start=False)
    one_step = config_of(train="pgd", random_start=False, steps=1, step_size=EPSILON)
    assert attacks.train_attack(goodfellow) == attacks.train_attack(one_step)


def test_a_real_network_is_wronged():
    config = config_of()
    run = experiment.prepare(config, devices=jax.devices()[:1])
    params, stats = run.model.init(KEY)
    images, labels = (jnp.asarray(array[:16]) for array in run.dataset.train)

    @functools.partial(jax.jit, static_argnums=0)
    def losses(training):
        attack = attacks.make(attacks.eval_attack(config), config, run.model, training)
        before = to_pixels(images)
        after = attack(KEY, labels, params, stats)(before)

        def loss(pixels):
            logits, _ = run.model.apply(params, stats, standardize(pixels, config), training)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels)

        return loss(before), loss(after)

    before, after = losses(False)
    assert (after > before).all()
    before, after = losses(True)  # where each image is a part of the others' normalization
    assert after.mean() > 1.05 * before.mean()


@pytest.fixture(scope="module")
def trained():
    """Under PGD on eight devices: the run, its programs, its state after four steps."""
    run = linear.prepare(config_of(train="pgd"))
    first = run.init_state()
    programs = run.compile(first)
    state, _ = programs.train(first, 0, 4)
    return run, programs, state


def test_the_attacks_random_numbers_are_those_of_seed_and_step(trained):
    run, programs, whole = trained
    state, _ = programs.train(run.init_state(), 0, 1)
    state = jax.device_put(jax.device_get(state), run.sharding.replicated)  # a checkpoint
    state, _ = programs.train(state, 1, 4)
    assert sha256(state) == sha256(whole)
    attacked = programs.evaluate(state, attacked=True)
    assert attacked == programs.evaluate(whole, attacked=True)


def test_training_sees_attacked_images_and_testing_both(trained):
    run, programs, state = trained
    _, attacked = programs.train(run.init_state(), 0, 1)
    plain_run = linear.prepare(config_of(eval_steps=0))
    first = plain_run.init_state()
    plain_programs = plain_run.compile(first)
    _, plain = plain_programs.train(first, 0, 1)
    assert attacked.sums.loss > 1.02 * plain.sums.loss
    assert programs.evaluate(state) == plain_programs.evaluate(state)
    assert programs.evaluate(state, attacked=True).loss > 1.02 * programs.evaluate(state).loss


def test_every_test_example_is_attacked_and_counts_once_on_any_devices(trained):
    run, _, state = trained
    config = config_of(random_start=False)  # whose numbers would be those of the batch
    config.eval.batch_size = 16
    some = Dataset(run.dataset.train, Split(*(array[:21] for array in run.dataset.test)), 10)
    state = jax.device_get(state)
    sums = []
    for devices in (jax.devices(), jax.devices()[:1]):
        again = linear.prepare(config, some, devices)
        programs = again.compile(again.init_state())
        placed = jax.device_put(state, again.sharding.replicated)
        sums.append(jax.device_get(programs.evaluate(placed, attacked=True)))
    np.testing.assert_allclose(*sums, rtol=1e-5)

    attack = attacks.make(attacks.eval_attack(config), config, run.model, train=False)
    pixels, labels = to_pixels(jnp.asarray(some.test.inputs)), jnp.asarray(some.test.labels)
    after = attack(KEY, labels, state.params, state.stats)(pixels)
    logits, _ = run.model.apply(state.params, state.stats, standardize(after, config), False)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    np.testing.assert_allclose(sums[0].loss, jnp.sum(losses), rtol=1e-5)
    assert sums[0].examples == 21


def test_streamed_images_are_attacked_too(tmp_path):
    config = config_of(train="fgsm")
    rgb = (0.5, 0.5, 0.5)
    folder = str(write_folder(tmp_path))
    config.data.update(name="folder", dir=folder, image_size=8, batch_size=6, mean=rgb, std=rgb)
    config.eval.batch_size = 4
    run = linear.prepare(config, devices=jax.devices()[:1])
    first = run.init_state()
    with contextlib.closing(run.compile(first)) as programs:
        before = programs.evaluate(first), programs.evaluate(first, attacked=True)
        _, figures = programs.train(first, 0, 1)
    assert before[0].examples == before[1].examples == 6
    assert before[1].loss > 1.02 * before[0].loss
    assert figures.sums.loss > 0


def test_a_run_tells_how_robust_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "prepare", linear.prepare)
    config = config_of()
    config.num_steps, config.eval.per_class = 1, True
    summary = train(config, tmp_path)
    (line,) = [line for line in metrics.read(tmp_path / "metrics.jsonl") if line["split"] == "test"]
    assert 0 <= line["robust_top1"] <= line["top1"] <= 1
    assert line["robust_loss"] > line["loss"]
    assert summary["test_robust_top1"] == line["robust_top1"]
    assert summary["test_robust_loss"] == line["robust_loss"]
    assert [each["examples"] for each in summary["test_per_class"]] == list(
        np.bincount(digits.load().test.labels)
    )
