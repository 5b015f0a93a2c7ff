"""The page of the documentation with the results of all models."""

import datetime
import importlib.metadata
import platform
from collections.abc import Sequence

from public_models.check import Result

_INTRODUCTION = """\
# Published models

`make public-models` infers the axes of {models} published models in small configurations and
compares each weight with the definition of its layer: {weights:,} weights of {packages} packages.

- *right*: the axes are those of the definition. This includes weights that have no fan-in.
- *left alone*: the weight has a fan-in, but `infer_axes` gives none and says why.
- *wrong*: other axes. **{wrong} weights** are wrong.

The time is that of `infer_axes` on a CPU, tracing included. Measured on {date} with Python {python}
and {versions}.

| package | model | weights | right | left alone | wrong | seconds |
|---|---|---|---|---|---|---|
"""
_VERSIONED = ("jax", "flax", "transformers", "keras", "keras-hub", "dm-haiku", "equinox")


def render(results: Sequence[Result]) -> str:
    """Return the page as Markdown."""
    totals = [(r.right, len(r.left_alone), len(r.wrong)) for r in results]
    rows = [
        f"| {r.model.package} | {r.model.name} | {sum(total)} | {total[0]} | {total[1]} "
        f"| {total[2]} | {r.seconds:.2f} |"
        for r, total in zip(results, totals, strict=True)
    ]
    notes = [
        f"- {r.model.name}, `{path}`: {note}."
        for r in results
        for path, note in r.left_alone.items()
    ]
    installed = {
        f"{package.name} {package.version}"
        for package in importlib.metadata.distributions()
        if package.name in _VERSIONED
    }
    introduction = _INTRODUCTION.format(
        models=len(results),
        weights=sum(map(sum, totals)),
        packages=len({r.model.package for r in results}),
        wrong=sum(total[2] for total in totals),
        date=datetime.date.today().isoformat(),
        python=platform.python_version(),
        versions=", ".join(sorted(installed)),
    )
    left_alone = ["", "Left alone:", "", *notes] if notes else []
    return introduction + "\n".join([*rows, *left_alone]) + "\n"
