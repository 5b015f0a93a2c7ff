"""Detectors: parameters, GC axes, maps of the backbone and the pyramid, proposals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.traverse_util import flatten_dict

from train import models
from train.checkpoints import torch_resnet
from train.config import default_config
from train.engine.state import named_leaves
from train.models.detection import rcnn, settings
from train.models.detection.backbones import BACKBONES, Backbone
from train.models.detection.fpn import FPN
from train.models.detection.heads import MaskHead
from train.models.detection.rpn import propose
from train.models.last_layer import is_in
from train.models.layers.norm import Normalization

NONE, BATCH, GROUP = map(Normalization, ("none", "batch", "group"))


def count_parameters(settings):
    params, _ = jax.eval_shape(rcnn.make(settings).init, jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.slow
def test_parameter_counts_match_torchvision():
    """torchvision counts no batch normalization, but deltas and masks of the background."""
    norm_of_resnet50, background = 53_120, 4 * 1025
    faster = count_parameters(settings.paper(90, masks=False))
    assert faster == 41_755_286 + norm_of_resnet50 - background
    mask = count_parameters(settings.paper(90, masks=True))
    assert mask == 44_401_393 + norm_of_resnet50 - background - 257


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameters"),  # torchvision's, without the last layer; (2048 + 1) * 1000 parameters
    [
        ("resnet50", 25_557_032),
        ("resnet101", 44_549_160),
        ("resnext101_32x4d", 44_177_704),
        ("resnext101_64x4d", 83_455_272),
    ],
)
def test_backbones_match_torchvision(name, parameters):
    params, stats, maps = jax.eval_shape(lambda: run_backbone(name, jnp.zeros((1, 64, 96, 3))))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == parameters - 2049 * 1000
    sides = [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert [each.shape[1:3] for each in maps] == sides
    assert tuple(each.shape[3] for each in maps) == BACKBONES[name].features
    paths = named_leaves({"params": params, "stats": stats})
    names = torch_resnet.torch_names(paths).values()
    assert {"conv1.weight", "layer4.2.bn3.running_var", "layer1.0.downsample.0.weight"} <= {*names}
    assert len({*names}) == len(paths)


def run_backbone(name, images, norm=BATCH):
    backbone = Backbone(BACKBONES[name], norm=norm, dtype=jnp.float32, rngs=nnx.Rngs(0))
    _, params, stats = nnx.split(backbone, nnx.Param, ...)
    return nnx.to_pure_dict(params), nnx.to_pure_dict(stats), backbone(images, False)


@pytest.fixture(scope="module")
def pytorch_arrays():
    """Return random arrays of a ResNet-50 by their names in PyTorch, in its layouts."""
    rng = np.random.default_rng(0)
    params, stats, _ = jax.eval_shape(lambda: run_backbone("resnet50", jnp.zeros((1, 64, 64, 3))))
    leaves = named_leaves({"params": params, "stats": stats})
    arrays = {}
    for path, name in torch_resnet.torch_names(leaves).items():
        shape = torch_resnet.torch_shape(leaves[path].shape)
        if len(shape) == 4:
            array = rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)
        elif name.endswith("bn3.weight"):  # so that the sums over blocks stay near 1
            array = rng.uniform(0.1, 0.3, shape)
        elif name.endswith(("weight", "running_var")):
            array = rng.uniform(0.5, 1, shape)
        else:
            array = rng.normal(0, 0.1, shape)
        arrays[name] = array.astype(np.float32)
    return arrays


def convert(arrays, tree):
    """Return a tree like `tree` with the arrays of PyTorch."""
    names = torch_resnet.torch_names(named_leaves(tree))
    leaves = [torch_resnet.from_torch(arrays[name]) for name in names.values()]
    return jax.tree.unflatten(jax.tree.structure(tree), leaves)


def detector_features(arrays, images):
    """Return the maps of the backbone of a detector with weights of PyTorch."""
    detector = rcnn.make(settings.paper(3, masks=False))
    params, stats = jax.eval_shape(detector.init, jax.random.key(0))
    backbone = {"params": params["backbone"], "stats": stats["backbone"]}
    loaded = convert(arrays, backbone)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), params)
    run = jax.jit(
        lambda params, stats: detector.apply(
            params, stats, lambda net: net.backbone(images, train=False)
        )[0]
    )
    return run(zeros | {"backbone": loaded["params"]}, {"backbone": loaded["stats"]})


@pytest.mark.slow
def test_pytorch_weights_give_the_features_of_the_classifier(pytorch_arrays):
    """The classifier itself is compared with PyTorch in tests/train/checkpoints."""
    images = jnp.asarray(np.random.default_rng(1).standard_normal((1, 64, 64, 3)), jnp.float32)
    config = default_config()
    config.model.update(name="resnet50", stem="7x7")
    classifier = models.build(config, 2048, (64, 64, 3))
    like = jax.eval_shape(classifier.init, jax.random.key(0))
    head = {"fc.weight": np.eye(2048, dtype=np.float32), "fc.bias": np.zeros(2048, np.float32)}
    loaded = convert(pytorch_arrays | head, dict(zip(("params", "stats"), like, strict=True)))
    apply = jax.jit(classifier.apply, static_argnums=3)
    expected, _ = apply(loaded["params"], loaded["stats"], images, False)
    found = detector_features(pytorch_arrays, images)[-1]
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(jnp.mean(found, (1, 2)), expected, atol=1e-4)


@pytest.mark.slow
def test_pytorch_weights_give_the_features_of_pytorch(pytorch_arrays):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from tests.support.torch_resnet import ResNet

    net = ResNet((3, 4, 6, 3), bottleneck=True, num_classes=2).eval()
    tensors = {name: torch.from_numpy(array) for name, array in pytorch_arrays.items()}
    net.load_state_dict(tensors, strict=False)
    images = np.random.default_rng(1).standard_normal((1, 64, 64, 3)).astype(np.float32)
    found = detector_features(pytorch_arrays, jnp.asarray(images))
    with torch.no_grad():
        x = net.pool(net.bn1(net.conv1(torch.from_numpy(images).permute(0, 3, 1, 2))).relu())
        for number, features in enumerate(found, 1):
            x = getattr(net, f"layer{number}")(x)
            assert x.std() > 0.1
            np.testing.assert_allclose(features, x.permute(0, 2, 3, 1).numpy(), atol=1e-4)


@pytest.mark.slow
def test_frozen_statistics_do_not_change():
    images = jnp.asarray(np.random.default_rng(0).standard_normal((2, 32, 32, 3)), jnp.float32)
    for frozen in (True, False):
        detector = rcnn.make(settings.small(2, False, norm=BATCH, frozen_statistics=frozen))
        params, stats = detector.init(jax.random.key(0))
        _, new = detector.apply(params, stats, lambda net: net.pyramid(images, train=True))
        assert jax.tree.structure(new) == jax.tree.structure(stats)
        same = jax.tree.map(np.array_equal, stats, new)
        assert all(jax.tree.leaves(same)) == frozen


def test_variants_have_the_same_outputs():
    """Group normalization and weight standardization, in the heads too, and bfloat16."""
    standardized = Normalization("group", weight_standardization=True)
    for options in (
        {"norm": GROUP, "head_norm": GROUP, "box_head_convs": 1},
        {"norm": standardized, "head_norm": standardized},
        {"norm": NONE, "dtype": jnp.bfloat16},
        {"norm": BATCH, "extra_levels": 1, "anchor_sizes": (8, 16, 32, 64)},
    ):
        detector = rcnn.make(settings.small(5, True, **options))

        def outputs(net):
            pyramid = net.pyramid(jnp.zeros((2, 64, 96, 3)), train=True)
            boxes = jnp.zeros((2, 6, 4))
            return net.rpn(pyramid), net.classify(pyramid, boxes), net.masks(pyramid, boxes)

        def run(detector=detector):
            return detector.apply(*detector.init(jax.random.key(0)), outputs)[0]

        (logits, deltas), (class_logits, class_deltas), masks = jax.eval_shape(run)
        cells = [16 * 24, 8 * 12, 4 * 6, 2 * 3][: len(logits)]
        assert [each.shape for each in logits] == [(2, 3 * count) for count in cells]
        assert [each.shape for each in deltas] == [(2, 3 * count, 4) for count in cells]
        assert class_logits.shape == (2, 6, 6)
        assert class_deltas.shape == (2, 6, 5, 4)
        assert masks.shape == (2, 6, 14, 14, 5)
        assert masks.dtype == class_logits.dtype == logits[0].dtype == jnp.float32


def test_pyramid_adds_the_coarser_map():
    fpn = FPN((2, 2), 1, 1, norm=NONE, dtype=jnp.float32, rngs=nnx.Rngs(0))
    for conv in fpn.lateral:
        conv.conv.kernel[...] = jnp.ones((1, 1, 2, 1))
    for conv in fpn.output:
        conv.conv.kernel[...] = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1)
    fine, coarse = jnp.ones((1, 3, 4, 2)), jnp.arange(8.0).reshape(1, 2, 2, 2)
    pyramid = fpn([fine, coarse])
    assert pyramid[1][0, :, :, 0].tolist() == [[1, 5], [9, 13]]
    assert pyramid[0][0, :, :, 0].tolist() == [[3, 3, 7, 7], [3, 3, 7, 7], [11, 11, 15, 15]]
    assert pyramid[2][0, :, :, 0].tolist() == [[1]]


def test_upsampling_is_a_transposed_convolution():
    head = MaskHead(3, 0, 2, norm=NONE, dtype=jnp.float32, rngs=nnx.Rngs(0))
    head.logits.kernel[...] = jnp.zeros((1, 1, 3, 2)).at[0, 0, 1, 0].set(1)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 4, 4, 3)), jnp.float32)
    kernel = head.upsample.kernel[...].reshape(3, 2, 2, 3).transpose(1, 2, 0, 3)
    # JAX does not flip the kernel of a transposed convolution, as the gradient of one does.
    expected = jax.lax.conv_transpose(x, kernel[::-1, ::-1], (2, 2), "VALID")
    np.testing.assert_allclose(head(x)[..., 0], jax.nn.relu(expected)[..., 1], atol=1e-5)


def test_last_layer_depends_on_the_classes():
    shapes = [
        jax.eval_shape(rcnn.make(settings.small(count, True)).init, jax.random.key(0))[0]
        for count in (3, 4)
    ]
    first, second = map(flatten_dict, shapes)
    layers = rcnn.make(settings.small(3, True)).last_layer
    changed = {path for path in first if first[path].shape != second[path].shape}
    assert changed == {path for path in first if is_in(path, layers)}


def test_proposals_by_hand():
    anchors = [jnp.array([[0.0, 0, 8, 8], [1, 0, 9, 8], [10, 0, 18, 8], [30, 0, 38, 8]])]
    anchors.append(jnp.array([[0.0, 0, 16, 16]]))
    logits = [jnp.array([3.0, 4, jnp.nan, 5]), jnp.array([2.0])]
    deltas = [jnp.zeros((4, 4)), jnp.zeros((1, 4))]
    counts = settings.Proposals(candidates=4, number=6)
    found = propose(logits, deltas, anchors, jnp.array([10, 20]), counts, 0.7)
    # The first overlaps the second, the third has no score, the fourth is outside the image.
    assert found.scores.tolist() == [4, 2, *[-np.inf] * 4]
    assert found.boxes[:3].tolist() == [[1, 0, 9, 8], [0, 0, 16, 10], [0, 0, 0, 0]]
    counts = settings.Proposals(candidates=4, number=1)
    assert propose(logits, deltas, anchors, jnp.array([10, 20]), counts, 0.7).scores.shape == (1,)
