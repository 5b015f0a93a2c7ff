"""`python -m train.evaluate --workdir DIR`: score the newest weights of a run again."""

import datetime
import signal
from pathlib import Path
from typing import Any

from train.runtime import huge_pages, utf8

if __name__ == "__main__":  # before the other imports, which would be made twice
    utf8.enable_utf8_mode()
    huge_pages.enable_huge_pages()

from train import cli, trained_command
from train.errors import UserError, short_repr
from train.trained_command import TrainedCommand

USAGE = """\
usage: python -m train.evaluate --workdir DIR [--split test|train] [--json FILE]
                                [--config.FIELD=VALUE ...]

Evaluates the newest weights of the run in DIR, which may be finished or still training, prints the
metrics, and writes them to DIR/evaluation.json. Nothing else in DIR changes. The test metrics of a
finished run are those of its summary.

  --split train     evaluate the training examples, without augmentation
  --json FILE       write the metrics to FILE instead

Fields of the run that can be changed:
  --config.eval.per_class=true     precision, recall and AUC of each class, and a picture of them
                                   and of the confusion matrix, evaluation.png and evaluation.svg
  --config.eval.score_threshold=0.3
                                   smallest score of an object for precision, recall and the
                                   picture of a detector
  --config.adversary.eval_steps=20 top-1 and loss under an attack of 20 steps; also epsilon,
                                   step_size and random_start of config.adversary
  --config.data.dir=FOLDER         other data with the same classes; also name, test_share and
                                   on_error of config.data

Exit status: 0 finished; 2 an error that the user can fix, in one line on stderr.
"""

CHANGEABLE = (
    *("eval.batch_size", "eval.per_class", "eval.score_threshold"),
    *("adversary.eval_steps", "adversary.epsilon", "adversary.step_size", "adversary.random_start"),
    *("data.name", "data.dir", "data.test_share", "data.on_error", "data.workers"),
)
_SPLITS = ("test", "train")
_WIDTH = 120  # columns of the table of classes


def main(argv: list[str]) -> int:
    """Evaluate; return the exit status."""
    command = trained_command.parse(
        argv, lambda: USAGE, options={"split": "test", "json": ""}, changeable=CHANGEABLE
    )
    split, file = command.options["split"], command.options["json"]
    if command.arguments:
        raise UserError(f"unknown argument {short_repr(command.arguments[0])}; see --help")
    if split not in _SPLITS:
        raise UserError(f"--split={short_repr(split)} must be one of {', '.join(_SPLITS)}")
    json_file = cli.output_file("--json", file) if file else command.workdir / "evaluation.json"
    print("loading JAX and Flax ...", flush=True)
    from train.output.files import write_json
    from train.runtime import cache

    cache.enable_compilation_cache()
    report = evaluate(command, split, json_file.with_suffix(".png"))
    write_json(json_file, report)
    _print(report)
    print(f"written to {json_file}")
    return 0


def evaluate(command: TrainedCommand, split: str, picture: Path) -> dict[str, Any]:
    """Return the metrics of the newest weights on a split, and what they are of.

    Args:
      command: The command line.
      split: "test" or "train".
      picture: The PNG file of the picture of classes or detections.

    Raises:
      UserError: If the run has no weights, or the data are not of the kind that it was trained on.
    """
    import jax  # imported late, as all that imports it: a typing error should not cost seconds

    from train import data, trained
    from train.config.detection import is_detection
    from train.output.metrics import finite_or_none
    from train.runtime import mesh
    from train.tasks.task import named_means

    config = command.config
    if split == "train" and is_detection(config):
        raise UserError("--split=train is not for detection; use --split=test")
    run = trained.load(command.workdir, config)
    dataset = data.load(config)
    _check_data(dataset.signature, run.signature, command.workdir)
    sharding = mesh.over()
    evaluator = _make_evaluator(run, dataset, split, sharding)
    weights = sharding.replicate(run.params), sharding.replicate(run.stats)
    print(f"evaluating step {run.step:,} of {command.workdir} on the {split} split ...")
    means = named_means(evaluator.evaluate(*weights))
    metrics: dict[str, Any] = {f"{split}_{name}": value for name, value in means.items()}
    if config.eval.per_class or run.task.scores:
        predictions = evaluator.predict(*weights)
        scores = run.task.score(predictions, dataset)
        metrics |= {name: finite_or_none(value) for name, value in scores.items()}
        rows = run.task.score_classes(predictions, dataset)
        run.task.draw(predictions, rows, dataset, picture)
        metrics |= {f"{split}_per_class": rows} if config.eval.per_class else {}
    return metrics | {
        "split": split,
        "examples": dataset.num_test if split == "test" else dataset.num_train,
        "step": run.step,
        "params_sha256": run.params_sha256,
        "data": {"name": config.data.name, "dir": config.data.dir},
        "adversary": config.adversary.to_dict() if config.adversary.eval_steps else None,
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "jax": jax.__version__,
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _make_evaluator(run: Any, dataset: Any, split: str, sharding: Any) -> Any:
    from train.data.batch import put_split
    from train.data.dataset import is_in_memory
    from train.engine.evaluation import ResidentEvaluator, StreamingEvaluator, test_evaluator

    if split == "test":
        return test_evaluator(run.task, dataset, run.config, sharding)
    batch_size, seed = run.config.eval.batch_size, run.config.seed
    if is_in_memory(dataset):
        examples = put_split(dataset.train, sharding.replicated)
        return ResidentEvaluator(run.task, examples, batch_size, sharding, seed)
    batch_size = sharding.round_up(min(batch_size, dataset.num_train))
    batches = dataset.train_batches_in_order
    return StreamingEvaluator(run.task, batches, batch_size, sharding, seed)


def _check_data(found: Any, expected: Any, folder: Path) -> None:
    """Raise UserError if the data have other classes, sizes or words than the run's."""
    for field in found._fields:
        if getattr(found, field) != getattr(expected, field):
            raise UserError(
                f"the data have {field} {short_repr(getattr(found, field))}, but the run in "
                f"{folder} was trained with {short_repr(getattr(expected, field))}; choose data of "
                "the same kind"
            )


def _print(report: dict[str, Any]) -> None:
    from rich.table import Table

    from train.runtime.terminal import make_console

    for name, value in report.items():
        if isinstance(value, float):
            print(f"{name:20} {value:.4f}")
    if classes := report.get(f"{report['split']}_per_class"):
        table = Table(*classes[0])
        for row in classes:
            cells = (f"{cell:.4f}" if isinstance(cell, float) else cell for cell in row.values())
            table.add_row(*("-" if cell is None else str(cell) for cell in cells))
        make_console(soft_wrap=False, width=_WIDTH).print(table)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing needs saving
    cli.run(main)
