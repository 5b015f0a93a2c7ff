"""Every field of a training config: its type, default, allowed values and meaning."""

from typing import Annotated, Literal

from train.config.detection import Detection
from train.config.fields import Section, field, field_specs
from train.config.optimization import Loss, Optimizer, Schedule
from train.config.types import (
    LIST,
    BelowOne,
    Check,
    Count,
    Float,
    NonNegative,
    Positive,
    PositiveInt,
    Text,
    UpToOne,
)

MEASURE = ("measure",)
"""The value of `data.mean` and `data.std` that stands for the figures of the training split."""

_Measure = tuple[Literal["measure"]]
ChannelValues = Annotated[
    tuple[Float, ...] | _Measure,
    LIST,
    Check(bool, "one finite float32 number per channel, or 'measure'"),
]
ChannelScales = Annotated[
    tuple[Positive, ...] | _Measure,
    LIST,
    Check(bool, "one float32 number above 0 per channel, or 'measure'"),
]
CropScale = Annotated[
    tuple[UpToOne, ...],
    LIST,
    Check(
        lambda scale: not scale or (len(scale) == 2 and scale[0] <= scale[1]),
        "() or two numbers above 0 and at most 1, the smaller first",
    ),
]
Classes = Annotated[
    tuple[Count, ...],
    LIST,
    Check(lambda classes: len(classes) != 1, "() for all, or two or more classes"),
]


class Data(Section):
    """The data set and its augmentation."""

    name: Text = field(
        "digits",
        "`digits`, `folder`, a TFDS name such as `cifar100`, `hf:NAME` of Hugging Face, or an "
        "own one, `my_parts.py:data`. For detection `digits_detection`, `coco_folder` or a name "
        "of TFDS such as `coco/2017`.",
    )
    dir: Text = field(
        "",
        "The TFDS folder, the image folder, or the `data_dir` of `hf:NAME`; empty for "
        "`TFDS_DATA_DIR`.",
        affects="none",
    )
    batch_size: PositiveInt = field(128, "Examples in a batch, over all devices.")
    mean: ChannelValues = field(
        (0.5,), "Mean of each channel, of pixels in 0..1; `measure`: that of the training images."
    )
    std: ChannelScales = field(
        (0.5,), "Standard deviation of each channel, of pixels in 0..1, or `measure` as for `mean`."
    )
    sampling: Literal["shuffled", "balanced"] = field(
        "shuffled",
        "Training examples of an epoch: each one once, or equally many of each class, so those of "
        "rare classes several times.",
    )
    pad: Count = field(0, "Black pixels around an image before a random crop.")
    flip: bool = field(False, "Flip half of the training images horizontally.")
    augment: Literal["none", "trivial"] = field(
        "none", "Change each training image by one random operation: TrivialAugment."
    )
    mixup: NonNegative = field(
        0.0, "Parameter of the Beta distribution by which training images are blended; 0: none."
    )
    cutmix: NonNegative = field(
        0.0, "The same for boxes of other images; with both, half of the images get each."
    )
    image_size: Count = field(
        0, "Size of the crops of images of any size, in pixels; 0 for images of one size."
    )
    in_memory: bool = field(
        False,
        "Decode these images, or those of `coco_folder`, once and store them on the device.",
    )
    crop_scale: CropScale = field(
        (0.08, 1.0),
        "Smallest and largest share of the image area in a streamed crop; () for a center crop.",
    )
    label: Text = field(
        "label", "The TFDS feature with the class, such as `coarse_label` of `cifar100`."
    )
    classes: Classes = field((), "Classes to keep, renumbered in this order; () for all.")
    train_per_class: Count = field(0, "Training examples to keep of each class; 0 for all.")
    train_draw: Count = field(0, "Seed that draws the examples of `train_per_class`.")
    test_share: BelowOne = field(
        0.0, "Share of `train` to test on, if a TFDS set or an image folder has no test split."
    )
    on_error: Literal["raise", "skip"] = field(
        "raise", "What to do about images in a folder that cannot be read: stop, or leave them out."
    )
    exif_orientation: bool = field(
        True, "Rotate and flip images of any size as their EXIF data says."
    )
    workers: Count = field(
        0, "Processes that decode streamed images; 0 for threads.", affects="none"
    )
    vocabulary: Count = field(0, "Number of token ids of a text data set; 0 for images.")
    length: PositiveInt = field(200, "Number of tokens of a text: the last ones are kept.")


class Model(Section):
    """The network."""

    name: Text = field(
        "convnet",
        "For images `convnet`, a ResNet such as `resnet20` or `resnet50`, `vgg11`, `resnext29` or "
        "`densenet121`; for texts `lstm` or `transformer`; for detection `faster_rcnn` or "
        "`mask_rcnn`; or an own one, `my_parts.py:MyNet`.",
    )
    stem: Literal["3x3", "3x3/2", "7x7"] = field(
        "3x3", "First convolution; 3x3/2 and 7x7 have stride 2, and max pooling follows 7x7."
    )
    widen_factor: PositiveInt = field(1, "Factor of the widths of a ResNet.")
    remat: bool = field(False, "Recompute each block in the backward pass to save memory.")
    norm: Literal["batch", "group", "weight", "none"] = field("batch", "Normalization.")
    weight_standardization: bool = field(False, "Standardize the kernels of convolutions.")
    dropout: BelowOne = field(0.0, "Share of activations to drop, in models that take it.")


class Adversary(Section):
    """Adversarial training and evaluation."""

    train: Literal["none", "fgsm", "pgd"] = field("none", "Train on images under this attack.")
    eval_steps: Count = field(0, "Also evaluate under PGD with so many steps; 0 for no attack.")
    epsilon: UpToOne = field(8 / 255, "Largest change of a pixel in 0..1.")
    step_size: UpToOne = field(2 / 255, "`pgd`: change of a pixel in one step.")
    steps: PositiveInt = field(7, "`pgd`: steps in training.")
    random_start: bool = field(True, "Start at a random point within epsilon.")


class Gc(Section):
    """Gradient centralization."""

    mode: Literal["none", "all", "conv", "whole_tensor", "first_axis_out"] = field(
        "all",
        "Centralize no weights, all weights that have input axes, or only convolutions. For "
        "comparison, two other axes: all axes of a weight, or all but the first, which are the "
        "axes of `optax.centralize` and wrong for these models.",
    )
    location: Literal["gradient", "update"] = field(
        "gradient", "Centralize the gradient, or the preconditioned update."
    )


class Report(Section):
    """Extra output."""

    tensorboard: bool = field(
        False, "Also write TensorBoard files; needs tensorboardX.", affects="none"
    )
    wandb: Text = field(
        "",
        "Project of Weights & Biases to log to as well; empty: none. Needs wandb.",
        affects="none",
    )
    mlflow: Text = field(
        "", "Experiment of MLflow to log to as well; empty: none. Needs mlflow.", affects="none"
    )
    per_layer: bool = field(
        False,
        "Also log the norms and the removed share of each weight, as `conv1/kernel/grad_norm`.",
        affects="output",
    )


class Eval(Section):
    """Evaluation on the test split."""

    every_epochs: PositiveInt = field(1, "Epochs between two evaluations.", affects="output")
    batch_size: PositiveInt = field(500, "Examples in an evaluation batch.", affects="output")
    per_class: bool = field(
        False, "Add precision, recall and AUC of each class to the summary.", affects="output"
    )
    score_threshold: UpToOne = field(
        0.5,
        "Detection: smallest score of an object for precision, recall and pictures.",
        affects="output",
    )


class Checkpoint(Section):
    """Checkpoints."""

    every_steps: Count = field(
        0, "Steps between two saves; 0: after each evaluation.", affects="output"
    )
    keep: PositiveInt = field(2, "The number of newest checkpoints to keep.", affects="output")


class Config(Section):
    """A training run."""

    seed: Count = field(0, "Seed of all random numbers.")
    num_epochs: Count = field(10, "Length of the run in epochs.")
    num_steps: Count = field(0, "Length of the run in steps; 0: `num_epochs` decides.")
    init_from: Text = field(
        "", "Weights to start from: a run's work folder or a `.safetensors` file; empty: random."
    )
    init_head: bool = field(False, "Also take the last layer from `init_from`.")
    precision: Literal["float32", "bfloat16"] = field("float32", "Type of the activations.")
    data: Data = Data()
    model: Model = Model()
    detection: Detection = Detection()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    loss: Loss = Loss()
    adversary: Adversary = Adversary()
    gc: Gc = Gc()
    report: Report = Report()
    eval: Eval = Eval()
    checkpoint: Checkpoint = Checkpoint()
    accumulate: PositiveInt = field(
        1,
        "Parts of a batch whose gradients are computed one after another and averaged, so that a "
        "batch needs less memory.",
    )
    log_every_steps: PositiveInt = field(50, "Steps between two training lines of the metrics.")
    steps_per_dispatch: Count = field(
        0,
        "Largest number of steps in one dispatch; 0: as many as take 2 to 3 seconds.",
        affects="none",
    )
    nan_policy: Literal["stop", "skip"] = field("stop", "What to do at a non-finite step.")
    nan_limit: PositiveInt = field(10, "`skip`: the most non-finite steps in a row.")


def affects_result(name: str) -> bool:
    """Return whether a field can change the weights that a run trains."""
    return field_specs(Config)[name].affects == "result"


def may_change_on_resume(name: str) -> bool:
    """Return whether a run may resume with another value of a field."""
    spec = field_specs(Config).get(name)
    return spec is not None and spec.affects == "none"
