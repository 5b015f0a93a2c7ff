"""`report.md` and `report.html`: the tables, the plots, and sentences to quote."""

import base64
import html
import os
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from train.output.files import write_atomically
from train.studies import design
from train.studies.report import plots, tables
from train.studies.report.conclusions import conclusions
from train.studies.report.summary import Summary
from train.studies.report.tables import Table

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 1100px; margin: 0 auto; padding: 16px; }
h1 { font-size: 1.5rem; line-height: 1.25; }
h2 { font-size: 1.15rem; margin-top: 2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.875rem; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 10px; text-align: right; white-space: nowrap;
  border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
p.note { font-size: 0.875rem; color: #444; max-width: 75ch; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr));
  gap: 24px; }
@media (max-width: 600px) {
  table, tbody, tr, td { display: block; }
  thead { display: none; }
  tr { border: 1px solid #ddd; border-radius: 4px; margin: 0 0 12px; padding: 4px 0; }
  td { display: flex; justify-content: space-between; border: 0; padding: 2px 10px; }
  td:first-child { font-weight: bold; }
  td::before { content: attr(data-head); color: #555; font-weight: normal; }
}
figure { margin: 0; }
figure img { width: 100%; max-width: 600px; height: auto; display: block; }
figcaption { font-size: 0.875rem; color: #444; }
li { margin: 6px 0; max-width: 75ch; }
"""


class Report(NamedTuple):
    """What there is to read.

    Attributes:
      title: one line.
      how: on what and how the runs were made, some sentences.
      tables: in the order of reading.
      sentences: to quote.
      plots: what each shows, and its PNG.
    """

    title: str
    how: list[str]
    tables: list[Table]
    conclusions: list[str]
    plots: dict[str, bytes]


def build(summary: Summary) -> Report:
    """Everything but the writing."""
    base = summary.study.base
    compared = [tables.comparisons(summary)] if summary.comparisons else []
    if summary.variants:
        compared.append(tables.variants(summary))
    return Report(
        title=f"Does gradient centralization help? {_nets(summary)} on {base.data.name}",
        how=_how(summary),
        tables=[*compared, tables.arms(summary)],
        conclusions=conclusions(summary),
        plots=plots.draw(summary),
    )


def write(report: Report, folder: Path) -> list[Path]:
    """Writes both files, each atomically; returns where they are."""
    files = [folder / "report.md", folder / "report.html"]
    write_atomically(files[0], as_markdown(report))
    write_atomically(files[1], as_html(report))
    return files


def as_markdown(report: Report) -> str:
    """Without the plots."""
    parts = [f"# {report.title}\n", " ".join(report.how) + "\n"]
    parts += [tables.markdown(table) for table in report.tables]
    parts += ["## To quote\n", *(f"- {sentence}" for sentence in report.conclusions)]
    return "\n".join(parts) + "\n"


def as_html(report: Report) -> str:
    """One page that needs nothing else: the plots are in it."""
    title = html.escape(report.title)
    figures = "".join(map(_figure, report.plots.items()))
    sentences = "".join(f"<li>{html.escape(each)}</li>" for each in report.conclusions)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>\n"
        f"<h1>{title}</h1>\n<p>{html.escape(' '.join(report.how))}</p>\n"
        + "\n".join(map(_table, report.tables))
        + f'\n<h2>Plots</h2>\n<div class="plots">{figures}</div>\n'
        f"<h2>To quote</h2>\n<ul>{sentences}</ul>\n</body></html>\n"
    )


def _table(table: Table) -> str:
    names = [html.escape(name) for name in table.head]
    head = "".join(f"<th>{name}</th>" for name in names)
    rows = ""
    for row in table.rows:
        # The name again in each cell, for screens so narrow that a row becomes a list.
        cells = zip(names, map(html.escape, row), strict=True)
        filled = [f'<td data-head="{name}">{cell}</td>' for name, cell in cells]
        rows += f"<tr>{''.join(filled)}</tr>"
    return (
        f'<h2>{html.escape(table.title)}</h2>\n<div class="scroll"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>\n"
        f'<p class="note">{html.escape(table.note)}</p>'
    )


def _figure(plot: tuple[str, bytes]) -> str:
    caption, png = plot
    text, data = html.escape(caption), base64.b64encode(png).decode()
    return (
        f'<figure><img alt="{text}" src="data:image/png;base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>\n"
    )


def _configs(summary: Summary) -> list[ConfigDict]:
    """Of one run of each arm."""
    return [design.trainer_config(summary.study, arm.arm, 0, 1.0) for arm in summary.arms]


def _nets(summary: Summary) -> str:
    return " and ".join(sorted({config.model.name for config in _configs(summary)}))


def _how(summary: Summary) -> list[str]:
    study, made = summary.study, _configs(summary)
    lines = [line for arm in summary.arms for line in arm.lines]
    lengths = [f"{c.num_steps:,} steps" if c.num_steps else f"{c.num_epochs} epochs" for c in made]
    length = " or ".join(dict.fromkeys(lengths))
    sentences = [
        f"Runs of {length}, seeds {', '.join(map(str, study.seeds))}; runs of the same seed share "
        "initial weights, order of data and augmentation, and differ in GC and in the learning "
        "rate chosen for their arm.",
    ]
    if any(arm.rate.scores for arm in summary.arms):
        seeds = len(study.tuning.seeds)
        sentences.append(
            f"Rates were chosen, from the same grid for all arms of an optimizer, by top-1 on "
            f"{study.tuning.validation_examples:,} examples cut off the training set, with "
            f"{seeds} other seed(s); the test set was read once, after that."
        )
    together = " or ".join(sorted({line["together"] for line in lines}))
    sentences.append(
        f"Runs of an arm that differ only in numbers were made by one compiled program, {together}."
    )
    made_on = sorted({f"{line['device']}, JAX {line['jax']}" for line in lines})
    days = sorted({line["finished"][:10] for line in lines})
    when = " to ".join(dict.fromkeys((days[0], days[-1]))) if days else "not yet"
    sentences.append(f"Made on {'; '.join(made_on)} ({os.cpu_count()} cores), {when} (UTC).")
    sentences.append(
        f"Times are those of {study.timing.steps} steps of each arm in turn, "
        f"{study.timing.pairs} pairs, with nothing else of the study running."
    )
    return sentences
