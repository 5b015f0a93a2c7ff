"""`python -m train.export --workdir DIR --format FORMAT OUT`: the weights for other programs."""

import json
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from train.runtime import huge_pages, utf8

if __name__ == "__main__":  # before the other imports, which would be made twice
    utf8.enable_utf8_mode()
    huge_pages.enable_huge_pages()

from train import cli, trained_command
from train.errors import UserError, short_repr

if TYPE_CHECKING:
    from train.trained import TrainedRun

USAGE = """\
usage: python -m train.export --workdir DIR --format safetensors|stablehlo OUT

Writes the newest weights of the run in DIR to the file OUT. Nothing in DIR changes.

  --format safetensors   the arrays by name, such as params/head/kernel; the class names and the
                         preprocessing are in the metadata of the file
  --format stablehlo     the network with its weights and its preprocessing as one program, for
                         CPUs, GPUs and TPUs: jax.export.deserialize(FILE).call(examples) returns
                         probabilities (examples, classes); OUT.json describes it. That of a
                         detector takes one padded image (1, height, width, 3) and its size (1, 2),
                         and returns boxes, scores, classes and masks

Exit status: 0 finished; 2 an error that the user can fix, in one line on stderr.
"""

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def main(argv: list[str]) -> int:
    """Export; return the exit status."""
    command = trained_command.parse(argv, lambda: USAGE, options={"format": ""})
    name = command.options["format"]
    if name not in FORMATS:
        given = f"--format={short_repr(name)}" if name else "--format is missing; it"
        raise UserError(f"{given} must be one of {', '.join(FORMATS)}")
    if len(command.arguments) != 1:
        raise UserError(f"{len(command.arguments)} files are given; give one file to write")
    out = cli.output_file("OUT", command.arguments[0])
    # Imported here because JAX and Flax take seconds, which a typing error should not cost.
    from train import trained
    from train.output.files import write_bytes_atomically

    run = trained.load(command.workdir, command.config)
    for suffix, content in FORMATS[name](run).items():
        file = out.with_name(out.name + suffix)
        write_bytes_atomically(file, content)
        print(f"written to {file} ({len(content):,} bytes)")
    return 0


def describe(run: "TrainedRun") -> dict[str, Any]:
    """Return what a program must know to use the weights of a run."""
    import jax

    from train.config import flatten
    from train.config.detection import is_detection
    from train.data import inputs

    config = run.config
    text = {"words": run.signature.words, "length": config.data.length}
    image = {
        "scale": 1 / 255,
        "mean": config.data.mean,
        "std": config.data.std,
        "image_size": config.data.image_size,
        "crop": "center" if config.data.image_size else "none",
    }
    if is_detection(config):
        detection = config.detection
        image = {
            "scale": 1 / 255,
            "mean": config.data.mean,
            "std": config.data.std,
            "short_side": detection.short_side,
            "long_side": detection.long_side,
            "tile": detection.tile,
            "padding": "zeros at the bottom and on the right, to a multiple of 32",
        }
    return {
        "input_shape": run.signature.input_shape,
        "input_dtype": jax.numpy.dtype(inputs.dtype(config)).name,
        "class_names": run.class_names,
        "preprocessing": text if inputs.is_text(config) else image,
        "model": config.model.name,
        "step": run.step,
        "params_sha256": run.params_sha256,
        "config": {k: v for k, v in flatten(config).items() if k != "data.dir"},
        "jax": jax.__version__,
    }


def to_safetensors(run: "TrainedRun") -> dict[str, bytes]:
    """Return the content of a `.safetensors` file by the suffix of its name."""
    import numpy as np
    from safetensors.numpy import save

    from train.engine.state import named_leaves

    arrays = named_leaves({"params": run.params, "stats": run.stats})
    metadata = {name: _to_text(value) for name, value in describe(run).items()}
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return {"": save(contiguous, metadata)}


def to_stablehlo(run: "TrainedRun") -> dict[str, bytes]:
    """Return a serialized `jax.export.Exported` and its description by the suffix of the name."""
    from train.config.detection import is_detection

    exported = _export_detector(run) if is_detection(run.config) else _export_classifier(run)
    description = describe(run) | {"platforms": PLATFORMS}
    return {
        "": bytes(exported.serialize()),
        ".json": json.dumps(description, indent=2, ensure_ascii=False).encode(),
    }


def _export_classifier(run: "TrainedRun") -> Any:
    """Return a function of examples, with any batch size, that returns probabilities."""
    import jax
    import jax.numpy as jnp
    from jax import export

    from train.data import inputs
    from train.data.batch import Batch

    def probabilities(examples: jax.Array) -> jax.Array:
        count = examples.shape[0]
        batch = Batch(examples, jnp.zeros(count, jnp.int32), jnp.ones(count, bool))
        return jax.nn.softmax(run.task.predict(run.params, run.stats, batch).logits)

    (batch_size,) = export.symbolic_shape("batch")
    shape = (batch_size, *run.signature.input_shape)
    examples = jax.ShapeDtypeStruct(shape, inputs.dtype(run.config))
    return export.export(jax.jit(probabilities), platforms=PLATFORMS)(examples)


def _export_detector(run: "TrainedRun") -> Any:
    """Return a function of one padded image and its size, (1, height, width, 3) and (1, 2).

    It returns the boxes, the scores, the classes and the masks of `Detections`.
    """
    import jax
    import jax.numpy as jnp
    from jax import export

    from train.data.detection.batch import DetectionBatch

    def detections(images: jax.Array, sizes: jax.Array) -> tuple[jax.Array, ...]:
        batch = DetectionBatch(
            inputs=images,
            sizes=sizes,
            boxes=jnp.zeros((1, 0, 4)),
            classes=jnp.zeros((1, 0), jnp.int32),
            crowd=jnp.zeros((1, 0), bool),
            masks=jnp.zeros((1, 0, 0, 0), jnp.uint8),
            ids=jnp.zeros(1, jnp.int32),
            mask=jnp.ones(1, bool),
        )
        return run.task.predict(run.params, run.stats, batch).predictions[:4]

    image = jax.ShapeDtypeStruct((1, *run.signature.input_shape), jnp.uint8)
    size = jax.ShapeDtypeStruct((1, 2), jnp.int32)
    return export.export(jax.jit(detections), platforms=PLATFORMS)(image, size)


FORMATS: dict[str, Callable[["TrainedRun"], dict[str, bytes]]] = {
    "safetensors": to_safetensors,
    "stablehlo": to_stablehlo,
}


def _to_text(value: Any) -> str:
    """Return a value as the metadata of a `.safetensors` file, which are texts."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing needs saving
    cli.run(main)
