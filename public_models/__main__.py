"""Check `infer_axes` on published models, and write the table of the documentation.

    python -m public_models                  # prints a line for each model
    python -m public_models --page FILE      # also writes the page

The exit status is 1 if any weight has wrong axes, or if a model cannot be built.
"""

import argparse
import importlib
import logging
import os
import sys
import warnings
from pathlib import Path

os.environ |= {"JAX_PLATFORMS": "cpu", "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"}

from public_models.check import Result, check
from public_models.page import render

_MODULES = ("hugging_face", "keras_models", "haiku_models", "equinox_models", "linen_models")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--page", type=Path, help="the Markdown file to write")
    parser.add_argument("--only", default="", help="check models whose name contains this")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # the packages' own
    logging.disable(logging.WARNING)

    results: list[Result] = []
    broken: list[str] = []
    for name in _MODULES:
        for model in importlib.import_module(f"public_models.{name}").MODELS:
            if options.only not in model.name:
                continue
            try:
                result = check(model)
            except Exception as error:  # of any package: the other models are still checked
                broken.append(f"{model.package} {model.name}: {type(error).__name__}: {error}")
                print(broken[-1], flush=True)
                continue
            results.append(result)
            print(_line(result), flush=True)
    if options.page:
        options.page.write_text(render(results), encoding="utf-8")
    wrong = sum(len(result.wrong) for result in results)
    print(f"{len(results)} models, {wrong} weights with wrong axes, {len(broken)} models not built")
    return int(bool(wrong or broken))


def _line(result: Result) -> str:
    model = result.model
    counts = f"{result.right} right, {len(result.left_alone)} left alone, {len(result.wrong)} wrong"
    lines = [f"{model.package} {model.name}: {counts}, {result.seconds:.2f} s"]
    lines += [f"  left alone: {path}: {note}" for path, note in result.left_alone.items()]
    lines += [f"  wrong: {path}: {axes}" for path, axes in result.wrong.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
