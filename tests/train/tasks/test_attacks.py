"""Adversarial attacks: their bounds, their effect on the loss, and the robust metrics."""

import contextlib
import functools

import chex
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import strategies as st

from tests.support import image_folder, linear
from train import experiment
from train.config import default_config, validate
from train.data.dataset import Dataset, Split
from train.data.in_memory import digits
from train.data.inputs import standardize, to_pixels
from train.engine.state import sha256
from train.loop import train
from train.output import metrics
from train.tasks import attacks
from train.tasks.attacks import Attack
from train.tasks.classification import Classification

KEY = jax.random.key(0)
EPSILON = 0.1


def make_config(**fields):
    config = default_config()
    config.data.batch_size = 16
    config.log_every_steps = 1
    config.adversary.update(epsilon=EPSILON, step_size=EPSILON / 2, steps=3, eval_steps=2)
    config.adversary.update(fields)
    validate(config)
    return config


@functools.partial(jax.jit, static_argnums=(2, 3))
def attack_20_pixels(epsilon, step_size, steps, random_start, pixels, seed):
    """Attack a loss with many local maxima; compiled once for all traced arguments."""

    def loss(pixels):
        return jnp.sum(jnp.sin(9 * pixels + jnp.arange(20, dtype=jnp.float32)))

    attack = Attack(epsilon, step_size, steps, random_start)
    return attacks.perturb(attack, jax.random.key(seed), pixels, loss)


@hypothesis.given(
    pixels=st.lists(st.integers(0, 255), min_size=20, max_size=20),
    epsilon=st.floats(1 / 255, 1),
    relative_step=st.floats(0.1, 3),
    steps=st.sampled_from((1, 4)),
    random_start=st.booleans(),
    seed=st.integers(0, 100),
)
@hypothesis.settings(deadline=None, max_examples=40)
def test_pixels_stay_within_epsilon(pixels, epsilon, relative_step, steps, random_start, seed):
    before = np.array(pixels, np.float32) / 255
    step_size = min(1.0, relative_step * epsilon)
    after = attack_20_pixels(epsilon, step_size, steps, random_start, before, seed)
    assert after.dtype == jnp.float32
    assert np.abs(after - before).max() <= epsilon * (1 + 1e-6) + 1e-7
    assert after.min() >= 0
    assert after.max() <= 1


@pytest.mark.parametrize("random_start", [False, True])
def test_attack_on_linear_classifier_is_optimal(random_start):
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


def test_random_start_is_uniform():
    attack = Attack(EPSILON, 0.01, 1, True)
    pixels = jnp.full((10_000,), 0.5)
    noise = attacks.perturb(attack, KEY, pixels, lambda changed: 0 * jnp.sum(changed)) - 0.5
    np.testing.assert_allclose(np.histogram(noise, 4, (-0.1, 0.1))[0] / 10_000, 0.25, atol=0.02)
    other = attacks.perturb(attack, jax.random.key(1), pixels, lambda changed: jnp.sum(changed))
    assert jnp.abs(other - 0.5 - noise).max() > 0.1


def test_attacks_follow_the_papers():
    assert attacks.train_attack(make_config()) is None
    assert attacks.eval_attack(make_config(eval_steps=0)) is None
    assert attacks.eval_attack(make_config()) == Attack(EPSILON, EPSILON / 2, 2, True)
    pgd = Attack(EPSILON, EPSILON / 2, 3, True)
    assert attacks.train_attack(make_config(train="pgd")) == pgd
    wong = Attack(EPSILON, 1.25 * EPSILON, 1, True)
    assert attacks.train_attack(make_config(train="fgsm")) == wong
    goodfellow = make_config(train="fgsm", random_start=False)
    one_step = make_config(train="pgd", random_start=False, steps=1, step_size=EPSILON)
    assert attacks.train_attack(goodfellow) == attacks.train_attack(one_step)


@pytest.mark.slow
def test_attack_raises_loss_of_convnet():
    config = make_config()
    run = experiment.prepare(config, devices=jax.devices()[:1])
    params, stats = run.task.model.init(KEY)
    images, labels = (jnp.asarray(array[:16]) for array in run.dataset.train)

    @functools.partial(jax.jit, static_argnums=0)
    def losses(is_training):
        perturb_with = attacks.make(
            attacks.eval_attack(config), config, run.task.model, is_training
        )
        before = to_pixels(images)
        after = perturb_with(KEY, labels, params, stats)(before)

        def loss(pixels):
            inputs = standardize(pixels, config)
            logits, _ = run.task.model.apply(params, stats, inputs, is_training)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels)

        return loss(before), loss(after)

    before, after = losses(False)
    assert (after > before).all()
    before, after = losses(True)  # the normalization of each image depends on the others
    assert after.mean() > 1.05 * before.mean()


@pytest.fixture(scope="module")
def trained():
    """Return a run with PGD on eight devices, its executor, and its state after four steps."""
    run = linear.prepare(make_config(train="pgd"))
    state = run.init_state()
    executor = run.compile(state)
    state, *_ = executor.steps(state, 0, 4)
    return run, executor, state


@pytest.mark.slow
def test_attack_depends_on_seed_and_step(trained):
    run, executor, expected = trained
    state, *_ = executor.steps(run.init_state(), 0, 1)
    state = jax.device_put(jax.device_get(state), run.sharding.replicated)  # as from a checkpoint
    state, *_ = executor.steps(state, 1, 4)
    assert sha256(state) == sha256(expected)
    assert executor.evaluate(state) == executor.evaluate(expected)


@pytest.mark.slow
def test_evaluation_with_and_without_attack(trained):
    run, executor, state = trained
    _, attacked, _ = executor.steps(run.init_state(), 0, 1)
    plain_run = linear.prepare(make_config(eval_steps=0))
    plain_state = plain_run.init_state()
    plain_executor = plain_run.compile(plain_state)
    _, plain, _ = plain_executor.steps(plain_state, 0, 1)
    assert attacked.sums["loss"] > 1.02 * plain.sums["loss"]
    evaluated = executor.evaluate(state)
    assert plain_executor.evaluate(state) == {"": evaluated[""]}
    assert evaluated["robust_"]["loss"] > 1.02 * evaluated[""]["loss"]


@pytest.mark.slow
def test_attacked_examples_count_once(trained):
    run, _, state = trained
    config = make_config(random_start=False)  # a random start would depend on the batch
    config.eval.batch_size = 16
    dataset = Dataset(run.dataset.train, Split(*(array[:21] for array in run.dataset.test)), 10)
    state = jax.device_get(state)
    sums = []
    for devices in (jax.devices(), jax.devices()[:1]):
        other_run = linear.prepare(config, dataset, devices)
        executor = other_run.compile(other_run.init_state())
        placed = jax.device_put(state, other_run.sharding.replicated)
        sums.append(jax.device_get(executor.evaluate(placed)["robust_"]))
    chex.assert_trees_all_close(*sums, rtol=1e-5)

    perturb_with = attacks.make(attacks.eval_attack(config), config, run.task.model, train=False)
    pixels, labels = to_pixels(jnp.asarray(dataset.test.inputs)), jnp.asarray(dataset.test.labels)
    after = perturb_with(KEY, labels, state.params, state.stats)(pixels)
    logits, _ = run.task.model.apply(state.params, state.stats, standardize(after, config), False)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    np.testing.assert_allclose(sums[0]["loss"], jnp.sum(losses), rtol=1e-5)
    assert sums[0]["examples"] == 21


@pytest.mark.slow
def test_streamed_images_are_attacked(tmp_path):
    image_folder.write(tmp_path)
    config = image_folder.make_config(tmp_path)
    config.adversary.update(make_config(train="fgsm").adversary)
    run = linear.prepare(config, devices=jax.devices()[:1])
    state = run.init_state()
    with contextlib.closing(run.compile(state)) as executor:
        evaluated = executor.evaluate(state)
        _, train_metrics, _ = executor.steps(state, 0, 1)
    assert evaluated[""]["examples"] == evaluated["robust_"]["examples"] == 6
    assert evaluated["robust_"]["loss"] > 1.02 * evaluated[""]["loss"]
    assert train_metrics.sums["loss"] > 0


@pytest.mark.slow
def test_run_reports_robust_metrics(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "prepare", linear.prepare)
    config = make_config()
    config.num_steps, config.eval.per_class = 1, True
    summary = train(config, tmp_path)
    (line,) = [
        line
        for line in metrics.read(tmp_path / "metrics.jsonl", Classification.metrics)
        if line["split"] == "test"
    ]
    assert 0 <= line["robust_top1"] <= line["top1"] <= 1
    assert line["robust_loss"] > line["loss"]
    assert summary["test_robust_top1"] == line["robust_top1"]
    assert summary["test_robust_loss"] == line["robust_loss"]
    assert [each["examples"] for each in summary["test_per_class"]] == list(
        np.bincount(digits.load().test.labels)
    )
