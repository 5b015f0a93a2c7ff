"""`python -m train.predict --workdir DIR FILES...`: the classes of images or texts."""

import itertools
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train.runtime import huge_pages, utf8

if __name__ == "__main__":  # before the other imports, which would be made twice
    utf8.enable_utf8_mode()
    huge_pages.enable_huge_pages()

import numpy as np

from train import cli, trained_command
from train.errors import UserError

if TYPE_CHECKING:
    from train.trained import TrainedRun

USAGE = """\
usage: python -m train.predict --workdir DIR FILES... [--top N] [--json] [--draw FOLDER]
       python -m train.predict --workdir DIR --text TEXT

Prints the most probable classes of images or texts, with their probabilities, by the newest
weights of the run in DIR. FILES are image files; for a run on texts, .txt files in UTF-8; or
folders of them. A detector prints the class, the score and the box (x1 y1 x2 y2) of each object.

  --top N           print so many classes for each file (default: 3)
  --json            print one JSON object a line, with the probability of every class, or the boxes
                    and masks of all objects in COCO's format
  --text TEXT       classify this text, for a run on texts
  --draw FOLDER     write each image with its objects to FOLDER/NAME.png, for a detector
  --config.eval.score_threshold=0.3
                    the smallest score of an object that a detector prints (default: the run's)

Exit status: 0 finished; 2 an error that the user can fix, in one line on stderr.
"""


def main(argv: list[str]) -> int:
    """Predict; return the exit status."""
    command = trained_command.parse(
        argv,
        lambda: USAGE,
        options={"top": 3, "json": False, "text": "", "draw": ""},
        changeable=("eval.score_threshold",),
    )
    top, as_json, text = (command.options[name] for name in ("top", "json", "text"))
    if top < 1:
        raise UserError(f"--top={top} must be at least 1")
    from train.config.detection import is_detection
    from train.data import user_files
    from train.data.inputs import is_text

    if text and not is_text(command.config):
        raise UserError("--text is for runs on texts, but this run is on images; give image files")
    detects = is_detection(command.config)
    if command.options["draw"] and not detects:
        raise UserError("--draw is for detectors, but this run classifies; leave it out")
    files = user_files.find(command.arguments, command.config) if command.arguments else []
    if not files and not text:
        raise UserError("no files; give image or text files, or folders of them; see --help")
    # Imported here because JAX and Flax take seconds, which a typing error should not cost.
    from train import trained
    from train.runtime import cache

    cache.enable_compilation_cache()
    run = trained.load(command.workdir, command.config)
    if detects:
        _print_objects(run, files, as_json, command.options["draw"])
        return 0
    predictions = predict_files(run, files)
    if text:
        example = user_files.encode_text(text, run.config, run.signature)
        predictions = itertools.chain([("--text", predict(run, example[None])[0])], predictions)
    show = _print_json if as_json else _print_row
    for name, probabilities in predictions:
        show(name, probabilities, run.class_names, top)
    return 0


def _print_objects(run: "TrainedRun", files: list[Path], as_json: bool, folder: str) -> None:
    from train.tasks.detection import image_files

    settings = run.task, run.params, run.stats, run.config
    for file, found in image_files.find(*settings, files):
        if as_json:
            print(image_files.to_json(file, found, run.class_names))
        else:
            print("\n".join(image_files.to_rows(file, found, run.class_names)))
        if folder:
            drawn = image_files.draw(file, found, run.class_names, Path(folder))
            print(f"written to {drawn}", file=sys.stderr)


def predict_files(run: "TrainedRun", files: list[Path]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name of each file and its probabilities, (classes,), a batch at a time.

    Raises:
      UserError: If a file cannot be read.
    """
    from train.data import user_files

    size = run.config.eval.batch_size
    for start in range(0, len(files), size):
        batch = files[start : start + size]
        examples = [user_files.read(file, run.config, run.signature) for file in batch]
        yield from zip(map(str, batch), predict(run, np.stack(examples)), strict=True)


def predict(run: "TrainedRun", examples: np.ndarray) -> np.ndarray:
    """Return the probability of each class: float32, (examples, classes).

    Args:
      run: The run.
      examples: At least one example as a data set stores it, with a first axis for the examples.
    """
    import jax

    from train.data.batch import put_split
    from train.data.dataset import Split
    from train.engine.evaluation import ResidentEvaluator
    from train.runtime import mesh

    sharding = mesh.over(jax.devices()[:1])
    split = put_split(Split(examples, np.zeros(len(examples), np.int32)), sharding.replicated)
    evaluator = ResidentEvaluator(run.task, split, len(examples), sharding, run.config.seed)
    outputs = evaluator.predict(*map(sharding.replicate, (run.params, run.stats)))
    return np.asarray(jax.nn.softmax(outputs.logits))


def _print_row(name: str, probabilities: np.ndarray, classes: tuple[str, ...], top: int) -> None:
    best = np.argsort(-probabilities, kind="stable")[:top]
    print("  ".join([name, *(f"{classes[label]} {probabilities[label]:.3f}" for label in best)]))


def _print_json(name: str, probabilities: np.ndarray, classes: tuple[str, ...], top: int) -> None:
    del top
    label = int(np.argmax(probabilities))
    line: dict[str, Any] = {
        "file": name,
        "class": classes[label],
        "probability": float(probabilities[label]),
        "probabilities": dict(zip(classes, map(float, probabilities), strict=True)),
    }
    print(json.dumps(line, ensure_ascii=False))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing needs saving
    cli.run(main)
