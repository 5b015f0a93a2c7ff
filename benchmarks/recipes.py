"""Train a small ResNet on CIFAR-100 for three epochs with each part of a recipe in turn.

    python -m benchmarks.recipes [--epochs 3] [--parts mixup CutMix] [--workdir DIR] [--json FILE]

Shows that every part trains, as a table in Markdown. One seed and three epochs say nothing about
which part is better. Each part is a run of `python -m train` in a work folder of its own: the same
command again makes the missing runs.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.report import describe_machine, write_report

CONFIG = "configs/cifar100_small_gc.py"


def optimizer(name: str, rate: float, **fields: float) -> dict[str, Any]:
    """Return the fields of an optimizer with decoupled weight decay."""
    values = {"name": name, "learning_rate": rate, "weight_decay": 0.05} | fields
    return {f"optimizer.{field}": value for field, value in values.items()}


PARTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "without GC": {"gc.mode": "none"},
    "clipping before GC": {"optimizer.clip_norm": 1.0},
    "clipping after GC": {"optimizer.clip_norm": 1.0, "optimizer.clip_location": "centralized"},
    "accumulation of 4 parts": {"accumulate": 4},
    "average of weights": {"optimizer.ema": 0.99},
    "label smoothing": {"loss.label_smoothing": 0.1},
    "mixup": {"data.mixup": 0.2},
    "CutMix": {"data.cutmix": 1.0},
    "TrivialAugment": {"data.augment": "trivial"},
    "warm-up from a tenth": {"schedule.warmup_from": 0.1},
    "first layer frozen": {"optimizer.freeze": ("stem",)},
    "lion": optimizer("lion", 3e-4, b2=0.99),
    "lamb": optimizer("lamb", 1e-2),
    "adan": optimizer("adan", 3e-3, b1=0.98, b2=0.92),
    "muon": optimizer("muon", 3e-3),
    "schedule-free SGD": {
        "optimizer.name": "schedule_free_sgd",
        "optimizer.learning_rate": 3.0,
        "schedule.name": "constant",
    },
    "schedule-free AdamW": optimizer("schedule_free_adamw", 3e-3) | {"schedule.name": "constant"},
    "all of cifar100_modern_gc": {
        "data.augment": "trivial",
        "data.mixup": 0.2,
        "data.cutmix": 1.0,
        "loss.label_smoothing": 0.1,
        "optimizer.nesterov": True,
        "optimizer.clip_norm": 5.0,
        "optimizer.ema": 0.99,
    },
}


def train(folder: Path, epochs: int, fields: dict[str, Any]) -> dict[str, Any]:
    """Train with some fields changed; return the summary."""
    overrides = [f"--config.{name}={value}" for name, value in fields.items()]
    length = f"--config.num_epochs={epochs}"
    command = [sys.executable, "-m", "train", "--config", CONFIG, "--workdir", str(folder)]
    subprocess.run([*command, length, *overrides], check=True, stdout=subprocess.DEVNULL)
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def measure(parts: list[str], epochs: int, workdir: Path) -> list[dict[str, Any]]:
    """Return the result of each part."""
    rows: list[dict[str, Any]] = []
    for part in parts:
        folder = workdir / part.replace(" ", "_")
        summary = train(folder, epochs, PARTS[part])
        names = ("test_top1", "test_loss", "train_loss", "params_sha256")
        result = {name: summary[name] for name in names}
        rows.append({"part": part, "fields": PARTS[part]} | result)
        print(f"| {part} | {result['test_top1']:.3f} | {result['test_loss']:.3f} |", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--workdir", type=Path, default=Path("runs/recipes"))
    parser.add_argument("--json", type=Path)
    flags = parser.parse_args()
    print("| part | top-1 | test loss |\n|---|---|---|")
    rows = measure(flags.parts, flags.epochs, flags.workdir)
    if flags.json:
        settings = {"config": CONFIG, "epochs": flags.epochs, "seed": 0}
        write_report(flags.json, describe_machine() | settings | {"parts": rows})


if __name__ == "__main__":
    main()
