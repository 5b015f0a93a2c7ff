"""Texts: token ids, the models for them, and whole runs."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds
from flax import nnx

from configs import imdb_lstm_gc
from tests.support import tfds_sets
from tests.support.processes import ROOT
from train import data, experiment, loop, models
from train.config import default_config, validate
from train.data import tfds_classification
from train.data.in_memory import vocabulary
from train.errors import Preempted
from train.models.lstm import LSTM
from train.tasks.task import means

features = tfds.features
CONFIGS = ROOT / "configs"
CLASSES = ("bad", "good")
has_imdb = pytest.mark.skipif(
    not (Path(os.environ.get("TFDS_DATA_DIR", "/nowhere")) / "imdb_reviews").is_dir(),
    reason="needs imdb_reviews, prepared by TFDS, in TFDS_DATA_DIR",
)


def reviews(count):
    """Yield texts of 3 to 9 words; one word determines the class."""
    rng = np.random.default_rng(count)
    for index in range(count):
        text = [*rng.choice(["a", "film", "of", "some", "kind"], 2 + index % 7), CLASSES[index % 2]]
        yield {"text": " ".join(rng.permutation(text)), "label": index % 2}


def write(root, train=None, test=None, **changed):
    """Write a prepared data set of 64 training and 16 test reviews."""
    kinds = {"text": features.Text(), "label": features.ClassLabel(num_classes=2)} | changed
    splits = {"train": train or reviews(64)} | ({} if test == () else {"test": test or reviews(16)})
    return tfds_sets.write(root, "reviews", kinds, splits)


def config_of(root, name="lstm", vocabulary=9, length=8):
    config = default_config()
    config.num_steps = 24
    config.data.update(name="reviews", dir=str(root), batch_size=16)
    config.data.update(vocabulary=vocabulary, length=length)
    config.model.name, config.model.dropout = name, 0.2
    config.optimizer.name, config.optimizer.learning_rate = "adam", 0.02
    config.log_every_steps = 4
    config.checkpoint.every_steps = 4
    validate(config)
    return config


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    root = tmp_path_factory.mktemp("good") / "tfds"
    write(root)
    return root


def test_split_words():
    text = "It's a <b>naïve</b> film!<br /><br />Don't... rock'n'roll?"
    expected = ["it's", "a", "naive", "film", "!", "don't", "rock'n'roll", "?"]
    assert vocabulary.split_words(text) == expected


def test_vocabulary_has_most_frequent_words():
    texts = ["b a c", "b a", "b d"]
    assert vocabulary.build_vocabulary(texts, 100) == ["b", "a", "c", "d"]
    assert vocabulary.build_vocabulary(texts, 4) == ["b", "a"]


def test_encode_pads_and_truncates():
    encoded = vocabulary.encode(["a b c", "c", "", "z a!"], ["a", "b", "c"], 2)
    assert encoded.dtype == np.uint16
    np.testing.assert_array_equal(encoded, [[3, 4], [0, 4], [0, 0], [2, 1]])


def test_vocabulary_is_of_training_split(tmp_path):
    train = [{"text": "fine fine film", "label": 1}, {"text": "poor film", "label": 0}]
    test = [{"text": "dreadful film, dreadful, dreadful", "label": 0}]
    write(tmp_path, train, test)
    dataset = data.load(config_of(tmp_path))
    np.testing.assert_array_equal(dataset.train.inputs, [[0] * 5 + [3, 3, 2], [0] * 6 + [4, 2]])
    np.testing.assert_array_equal(dataset.test.inputs, [[0] * 4 + [1, 2, 1, 1]])
    np.testing.assert_array_equal(dataset.train.labels, [1, 0])
    assert dataset.num_classes == 2
    assert data.describe(config_of(tmp_path)) == (2, dataset.input_shape, 2)


def test_vocabulary_excludes_test_share(tmp_path):
    texts = ["fine film"] * 3 + ["dreadful film"]
    write(tmp_path, [{"text": text, "label": 0 if "d" in text else 1} for text in texts], ())
    config = config_of(tmp_path, length=2)
    config.data.test_share = 0.25
    dataset = data.load(config)
    np.testing.assert_array_equal(dataset.train.inputs, [[3, 2]] * 3)
    np.testing.assert_array_equal(dataset.test.inputs, [[1, 2]])


def test_encoded_texts_are_cached(tmp_path, monkeypatch):
    write(tmp_path / "a")
    first = data.load(config_of(tmp_path / "a"))
    longer = data.load(config_of(tmp_path / "a", length=5))
    fewer = data.load(config_of(tmp_path / "a", vocabulary=5))
    assert longer.train.inputs.shape == (64, 5)
    assert fewer.train.inputs.max() == 4
    monkeypatch.setattr(tfds_classification, "read_examples", None)
    again = data.load(config_of(tmp_path / "a"))
    np.testing.assert_array_equal(first.test.inputs, again.test.inputs)
    monkeypatch.undo()
    # The same test split, but other training words.
    write(tmp_path / "b", [{"text": "kind", "label": 0}, {"text": "of kind", "label": 1}])
    other = data.load(config_of(tmp_path / "b"))
    assert other.test.inputs.max() == 3


UNSUITABLE = {
    "images": (
        ("--config.data.vocabulary=9", "--config.data.name=digits"),
        "config.data.name='digits' is a set of images",
    ),
    "few words": (("--config.data.vocabulary=2",), "0 for images, or from 3 to 65536 for texts"),
    "many words": (("--config.data.vocabulary=65537",), "config.data.vocabulary=65537"),
    "no words": (
        ("--config.data.length=0",),
        "config.data.length=0 is not allowed; it must be an integer at least 1",
    ),
    "padded": (("--config.data.pad=1",), "config.data.pad=1 is for images"),
    "flipped": (("--config.data.flip=True",), "config.data.flip=True is for images, but"),
    "cropped": (("--config.data.image_size=8",), "config.data.image_size=8 is for images"),
    "a net for images": (
        ("--config.model.name=convnet",),
        "'convnet' is not a model for texts; it must be one of lstm, transformer",
    ),
    "attacked": (("--config.adversary.train=fgsm",), "config.adversary.train='fgsm' is for images"),
    "dropout": (("--config.model.dropout=1.0",), "at least 0 and below 1"),
    "stem": (("--config.model.stem=7x7",), "config.model.stem='7x7' is not for lstm"),
    "too few": (("--config.data.batch_size=72",), "more than the 64 training examples"),
    "texts without words": (
        ("--config.data.vocabulary=0", "--config.model.dropout=0.0"),
        "reviews is not for image classification",
    ),
}


@pytest.mark.parametrize("case", UNSUITABLE)
def test_unsuitable_config_is_rejected(case, good, rejected):
    overrides, expected = UNSUITABLE[case]
    reviews_ = ("--config.data.name=reviews", f"--config.data.dir={good}")
    assert expected in rejected("--config", CONFIGS / "imdb_lstm_gc.py", *reviews_, *overrides)


def test_text_options_need_texts(rejected):
    digits = ("--config", CONFIGS / "digits_gc.py")
    error = rejected(*digits, "--config.model.dropout=0.5")
    assert "config.model.dropout=0.5 is not for convnet; set it to 0.0" in error
    error = rejected(*digits, "--config.model.name=lstm")
    assert "'lstm' is not a model for images; it must be one of convnet" in error


DAMAGED = {
    "no label": ({"train": [{"text": "a", "label": -1}] * 16}, "record 0 ", "the label -1"),
    "no UTF-8": (
        {"test": [{"text": "a", "label": 0}, {"text": b"\xff\xfe", "label": 0}]},
        "record 1 of the split 'test' of reviews in",
        "is not UTF-8 text: invalid start byte; prepare the data set again",
    ),
    "no words": ({"train": [{"text": ". ... -", "label": 0}] * 16}, "'train'", "has no words"),
    "no text": (
        {
            "text": features.Scalar(np.int64),
            "train": [{"text": 1, "label": 0}] * 16,
            "test": [{"text": 1, "label": 0}],
        },
        "reviews is not for text classification: it needs the features 'text' and 'label', but has",
    ),
}


@pytest.mark.filterwarnings("ignore")  # libraries also warn before some of the errors
@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_set_is_reported(case, tmp_path, rejected):
    written, *expected = DAMAGED[case]
    write(tmp_path / "tfds", **written)
    config = CONFIGS / "imdb_lstm_gc.py"
    error = rejected(
        "--config", config, "--config.data.name=reviews", "--config.data.batch_size=16"
    )
    assert all(part in error for part in expected), error


def build(name, length=8, precision="float32"):
    config = default_config()
    config.model.name, config.model.dropout, config.precision = name, 0.5, precision
    config.data.vocabulary = 9
    return models.build(config, 2, (length,))


@pytest.mark.parametrize("name", models.TEXT_MODELS)
def test_fan_in_axes_of_kernels(name):
    model = build(name)
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    fan_ins = jax.tree.leaves(models.fan_in_axes(model))
    kernels = 0
    for (path, leaf), fan_in in zip(leaves, fan_ins, strict=True):
        names = [key.key for key in path]
        of_heads = names[-2:-1] == ["out"]  # (heads, features, width)
        expected = ((0, 1) if of_heads else (0,)) if names[-1] == "kernel" else ()
        assert fan_in.axes == expected, (names, leaf.shape)
        kernels += names[-1] == "kernel"
    assert kernels == {"lstm": 3, "transformer": 2 * 6 + 1}[name]


def test_lstm_equals_numpy():
    layer = LSTM(3, 4, jnp.float32, nnx.Rngs(0))
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    is_word = np.array([[False, False, True, True, True], [True] * 5])
    found = layer(jnp.asarray(x), jnp.asarray(is_word)[..., None])
    into, bias, recurrent = (
        np.asarray(leaf)
        for leaf in (layer.inputs.kernel[...], layer.inputs.bias[...], layer.recurrent.kernel[...])
    )

    def sigmoid(values):
        return 1 / (1 + np.exp(-values))

    for text in range(2):
        hidden, cell = np.zeros(4), np.zeros(4)
        for word in range(5):
            if is_word[text, word]:
                gates = x[text, word] @ into + bias + hidden @ recurrent
                i, f, g, o = np.split(gates, 4)
                cell = sigmoid(f + 1) * cell + sigmoid(i) * np.tanh(g)
                hidden = sigmoid(o) * np.tanh(cell)
            np.testing.assert_allclose(found[text, word], hidden, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", models.TEXT_MODELS)
def test_logits_of_texts_are_independent(name):
    model = build(name)
    params, stats = model.init(jax.random.key(0))
    texts = jnp.array([[0] * 8, [0] * 5 + [2, 3, 4], [8, 7, 6, 5, 4, 3, 2, 1]])
    apply = jax.jit(model.apply, static_argnums=3)
    logits, _ = apply(params, stats, texts, False)
    assert jnp.all(jnp.isfinite(logits)), "also for a text without words"
    others = jnp.array([[5] * 8, [0] * 5 + [2, 3, 4], [0] * 8])
    np.testing.assert_allclose(apply(params, stats, others, False)[0][1], logits[1], atol=1e-6)
    keys = [jax.random.key(seed) for seed in (1, 1, 2)]
    trained = [apply(params, stats, texts, True, key)[0] for key in keys]
    np.testing.assert_array_equal(trained[0], trained[1])
    assert jnp.all(trained[0][1:] != trained[2][1:])


@pytest.mark.parametrize("name", models.TEXT_MODELS)
def test_bfloat16_matrix_products(name):
    model = build(name, precision="bfloat16")
    params, stats = jax.eval_shape(model.init, jax.random.key(0))
    texts = jax.ShapeDtypeStruct((3, 8), jnp.int32)
    traced = jax.jit(model.apply, static_argnums=3).trace(params, stats, texts, False)
    assert traced.out_info[0].dtype == jnp.bfloat16
    lines = traced.lower().as_text().splitlines()
    products = [line for line in lines if "stablehlo.dot_general" in line]
    assert len(products) == {"lstm": 3, "transformer": 2 * 8 + 1}[name]
    operands = [line.split("->")[0] for line in products]  # the results can be float32
    assert not any("xf32>" in operand for operand in operands)


@pytest.mark.slow
def test_padding_does_not_change_logits():
    params, stats = build("lstm").init(jax.random.key(0))
    text = jnp.array([[2, 3, 4]])
    outputs = [
        build("lstm", length).apply(params, stats, jnp.pad(text, ((0, 0), (length - 3, 0))), False)
        for length in (3, 8)
    ]
    np.testing.assert_allclose(outputs[0][0], outputs[1][0], atol=1e-6)


@pytest.mark.slow
def test_resume_gives_same_weights(good, tmp_path, monkeypatch, capsys):
    config = config_of(good)
    config.steps_per_dispatch = 4
    whole = loop.train(config, tmp_path / "whole")
    assert whole["test_top1"] == 1.0
    assert whole["test_top5"] == 1.0, "there are only two classes"
    assert whole["images_per_second"] > 0
    out = capsys.readouterr().out
    assert "64 training texts, 16 test texts" in out
    assert " texts/s " in out

    stops = iter((False, False, True))  # checked after steps 1, 4 and 8; step 4 is saved

    def stop(*_):
        if next(stops):
            raise Preempted("stopped")

    with monkeypatch.context() as patched:
        patched.setattr(loop, "raise_if_nonfinite", stop)
        with pytest.raises(Preempted):
            loop.train(config, tmp_path / "resumed")
    resumed = loop.train(config, tmp_path / "resumed")
    assert "resuming after step 4" in capsys.readouterr().out
    assert resumed["params_sha256"] == whole["params_sha256"]


@pytest.mark.slow
def test_one_and_two_devices_agree(good):
    config = config_of(good, "lstm")
    config.optimizer.name = "momentum"  # Adam amplifies the rounding of zero gradients
    results = []
    for devices in (1, 2):
        run = experiment.prepare(config, devices=jax.devices()[:devices])
        state = run.init_state()
        state, metrics, _ = run.compile(state).steps(state, 0, 4)
        results.append(jax.device_get((state.params, metrics.sums)))
    jax.tree.map(lambda one, two: np.testing.assert_allclose(one, two, atol=1e-3), *results)


@pytest.mark.slow
@has_imdb
def test_imdb_reviews():
    config = imdb_lstm_gc.get_config()
    config.data.length, config.data.batch_size, config.num_steps = 40, 32, 100
    validate(config)
    run = experiment.prepare(config, devices=jax.devices()[:1])
    for split in run.dataset[:2]:
        assert split.inputs.shape == (25_000, 40)
        assert set(np.bincount(split.labels)) == {12_500}
        assert 0.03 < np.mean(split.inputs == vocabulary.UNKNOWN) < 0.10
    state = run.init_state()
    executor = run.compile(state)
    state, *_ = executor.steps(state, 0, 50)
    _, metrics, _ = executor.steps(state, 50, 100)
    assert means(metrics.sums)["top1"] > 0.6
