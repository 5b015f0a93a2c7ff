"""`report.md` and `report.html`: tables, plots and conclusions."""

import base64
import html
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from train.output.files import write_atomically
from train.studies import design
from train.studies.report import dynamics, plots, tables
from train.studies.report.conclusions import conclusions
from train.studies.report.plots import Plot
from train.studies.report.summary import Summary
from train.studies.report.tables import Table
from train.studies.results import Line, machine

_PLOTS = "plots"  # the folder of the plots
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
    """The content of a report.

    Attributes:
      title: One line.
      setup: Sentences on the runs, the data, the machine and the measurements.
      tables: The tables, in reading order.
      conclusions: Sentences on the results.
      plots: The plots.
    """

    title: str
    setup: list[str]
    tables: list[Table]
    conclusions: list[str]
    plots: list[Plot]


def build(summary: Summary) -> Report:
    """Return the report of a study; it writes nothing."""
    comparison_tables = [tables.comparisons(summary)] if summary.comparisons else []
    if summary.variants:
        comparison_tables.append(tables.variants(summary))
    if summary.robust:
        comparison_tables.append(tables.robust(summary))
    if summary.scores:
        comparison_tables.append(tables.scores(summary))
    course = dynamics.training_dynamics(summary)
    names = sorted({config.model.name for config in _arm_configs(summary)})
    return Report(
        title=f"Does gradient centralization help? {' and '.join(names)} on "
        f"{summary.study.base.data.name}",
        setup=_setup(summary),
        tables=[*comparison_tables, tables.arms(summary), *([course] if course else [])],
        conclusions=conclusions(summary),
        plots=plots.draw(summary),
    )


def write(report: Report, folder: Path) -> list[Path]:
    """Write the plots, then both files of the report, atomically; return the two paths."""
    (folder / _PLOTS).mkdir(exist_ok=True)
    for plot in report.plots:
        write_atomically(folder / _PLOTS / f"{plot.name}.svg", plot.svg)
    files = [folder / "report.md", folder / "report.html"]
    write_atomically(files[0], to_markdown(report))
    write_atomically(files[1], to_html(report))
    return files


def to_markdown(report: Report) -> str:
    """Return a report as Markdown, which shows the plots from their files."""
    parts = [f"# {report.title}\n", " ".join(report.setup) + "\n"]
    parts += [tables.markdown(table) for table in report.tables]
    parts += ["## Conclusions\n", *(f"- {sentence}" for sentence in report.conclusions)]
    parts += ["\n## Plots"]
    parts += [
        f"\n![{plot.caption}]({_PLOTS}/{plot.name}.svg)\n\n{plot.caption}." for plot in report.plots
    ]
    return "\n".join(parts) + "\n"


def to_html(report: Report) -> str:
    """Return a report as one HTML page that contains the plots and loads no other file."""
    title = html.escape(report.title)
    figures = "".join(map(_html_figure, report.plots))
    items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in report.conclusions)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>\n"
        f"<h1>{title}</h1>\n<p>{html.escape(' '.join(report.setup))}</p>\n"
        + "\n".join(map(_html_table, report.tables))
        + f'\n<h2>Plots</h2>\n<div class="plots">{figures}</div>\n'
        f"<h2>Conclusions</h2>\n<ul>{items}</ul>\n</body></html>\n"
    )


def _html_table(table: Table) -> str:
    names = [html.escape(name) for name in table.head]
    head = "".join(f"<th>{name}</th>" for name in names)
    rows = ""
    for row in table.rows:
        # Each cell repeats its heading: on a narrow screen, a row becomes a list.
        cells = zip(names, map(html.escape, row), strict=True)
        html_cells = [f'<td data-head="{name}">{cell}</td>' for name, cell in cells]
        rows += f"<tr>{''.join(html_cells)}</tr>"
    return (
        f'<h2>{html.escape(table.title)}</h2>\n<div class="scroll"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>\n"
        f'<p class="note">{html.escape(table.note)}</p>'
    )


def _html_figure(plot: Plot) -> str:
    text, data = html.escape(plot.caption), base64.b64encode(plot.svg.encode()).decode()
    return (
        f'<figure><img alt="{text}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>\n"
    )


def _arm_configs(summary: Summary) -> list[ConfigDict]:
    """Return the training config of one run of each arm."""
    return [design.trainer_config(summary.study, arm.arm, 0, 1.0) for arm in summary.arms]


def _setup(summary: Summary) -> list[str]:
    study = summary.study
    lengths = [
        f"{config.num_steps:,} steps" if config.num_steps else f"{config.num_epochs} epochs"
        for config in _arm_configs(summary)
    ]
    sentences = [
        f"Each run has {' or '.join(dict.fromkeys(lengths))}; the seeds are "
        f"{', '.join(map(str, study.seeds))}. Runs of the same seed share initial weights, order "
        "of data and augmentation. They differ in GC and in the learning rate chosen for their arm."
    ]
    if any(arm.rate.scores for arm in summary.arms):
        seeds = len(study.tuning.seeds)
        sentences.append(
            "The learning rates were chosen from the same grid for all arms of an optimizer, by "
            f"{summary.headline.label} on {study.tuning.validation_examples:,} examples split off "
            f"the training set, with {seeds} other seed{'' if seeds == 1 else 's'}. "
            "The test set was evaluated once, after that."
        )
    lines = [line for arm in summary.arms for line in arm.lines]
    if lines:
        sentences += _execution(lines)
    sentences.append(
        f"Times are those of {study.timing.steps} steps of the two arms in alternation, "
        f"{study.timing.pairs} pairs, while no other run of the study was active."
    )
    return sentences


def _execution(lines: list[Line]) -> list[str]:
    """Return sentences on how, where and when the runs of some lines were made."""
    together = " or ".join(sorted({line["together"] for line in lines}))
    machines = sorted({f"{machine(line)}, JAX {line['jax']}" for line in lines})
    days = sorted({line["finished"][:10] for line in lines})
    dates = " to ".join(dict.fromkeys((days[0], days[-1])))
    return [
        "Runs of an arm that differ only in seed and learning rate share one compiled program, "
        f"{together}.",
        f"Device: {'; '.join(machines)}. Date: {dates} (UTC).",
    ]
