"""The accuracy benchmark's figures: measured from forecasts, and shown as Markdown, a table and plots."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich import box
from rich.table import Table

from tests.support.accuracy_figures import BLOCK_ROWS, Forecast
from tests.support.accuracy_stream import Stream

__all__ = ["MILLRACE", "MILLRACE_TOLD_DELAY", "markdown", "plot", "rolling", "screen"]

Floats = npt.NDArray[np.float64]
MILLRACE, MILLRACE_TOLD_DELAY = "millrace", "millrace, told"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000", "#8c564b")


def ratio(models: Mapping[str, Any]) -> float:
    """Our error over that of the best other model; NaN when one of them is missing."""
    others = [
        figures["mae"] for name, figures in models.items() if name not in (MILLRACE, MILLRACE_TOLD_DELAY)
    ]
    return models[MILLRACE]["mae"] / min(others) if MILLRACE in models and others else float("nan")


def markdown(kept: Mapping[str, Any], names: Sequence[str]) -> str:
    """The section of the document of benchmarks.

    Parameters
    ----------
    kept
        All figures, as docs/benchmarks/accuracy.json holds them.
    names
        The models in the order of their columns; those not measured are left out.

    Returns
    -------
    str
        The section.
    """
    pairs, shown = there(kept, names)
    lines = [
        "## Accuracy",
        "",
        "`make bench-accuracy`; raw figures in `docs/benchmarks/accuracy.json`. Prequential, labels so many"
        " rows late, all models on the same features as served. Millrace runs through its server's classes:"
        " bootstrap, pipeline (which a compiled plan is held to, every 100 rows, to 1e-9), journal records"
        " with what was served. No model is tuned to a stream.",
        "",
        "### Mean absolute error over the bootstrap targets' standard deviation",
        "",
        "An empty cell was not measured; best is the best of the others that were. Millrace's bootstrap takes"
        " labels to come `model.bootstrap_delay` rows late, 24 unless it is told.",
        "",
        f"| stream, delay | rows | {' | '.join(shown)} | millrace / best |",
        f"|---|---|{'---|' * len(shown)}---|",
    ]
    ratios = []
    for name, pair in pairs.items():
        models = pair["models"]
        cells = [f"{models[model]['mae_sd']:.4f}" if model in models else "" for model in shown]
        ratios.append(ratio(models))
        lines.append(f"| {name} | {pair['rows']:,} | {' | '.join(cells)} | {text(ratios[-1], '.3f')} |")
    lines.append(f"| geometric mean | | {'| ' * len(shown)}{text(geometric(ratios), '.3f')} |")
    return "\n".join([*lines, "", *own_lines(pairs), "", *cost_lines(pairs, shown)])


def there(kept: Mapping[str, Any], names: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The streams something was measured on, and the models that were."""
    pairs = {name: pair for name, pair in kept["pairs"].items() if pair["models"]}
    return pairs, [name for name in names if any(name in pair["models"] for pair in pairs.values())]


def own_lines(pairs: Mapping[str, Any]) -> list[str]:
    """Millrace's other figures."""
    lines = [
        "### Millrace: other errors, and its 90 % intervals",
        "",
        "The worst 1,000 rows in a row; the Winkler score over the deviation; what learning a label takes,"
        " and the bootstrap.",
        "",
        "| stream, delay | MAE | RMSE | R² | coverage | worst 1,000 | Winkler | µs a label | bootstrap, s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, pair in pairs.items():
        for own in (pair["models"][model] for model in (MILLRACE,) if model in pair["models"]):
            lines.append(
                f"| {name} | {own['mae']:,.4g} | {own['rmse']:,.4g} | {own['r2']:.4f} "
                f"| {own['coverage']:.1%} | {own['worst_block']:.1%} | {own['winkler_sd']:.3f} "
                f"| {own['learn_us']:,.0f} | {own['bootstrap_seconds']:.1f} |"
            )
    return lines


def cost_lines(pairs: Mapping[str, Any], shown: Sequence[str]) -> list[str]:
    """Microseconds a row."""
    lines = [
        "### Microseconds a row, learned and predicted",
        "",
        "Of processor time, on a shared machine: for orders of magnitude. Training again is included.",
        "",
        f"| stream, delay | {' | '.join(shown)} |",
        f"|---|{'---|' * len(shown)}",
    ]
    for name, pair in pairs.items():
        cells = [
            text(pair["models"].get(model, {}).get("us_per_row", float("nan")), ",.0f") for model in shown
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def screen(kept: Mapping[str, Any], names: Sequence[str]) -> Table:
    """The errors as a table for the terminal.

    Parameters
    ----------
    kept
        All figures, as docs/benchmarks/accuracy.json holds them.
    names
        The models in the order of their columns; those not measured are left out.

    Returns
    -------
    Table
        The table.
    """
    pairs, names = there(kept, names)
    table = Table(title="mean absolute error / standard deviation", box=box.SIMPLE, padding=(0, 1))
    for heading in ("stream, delay", *names, "ratio"):
        table.add_column(heading.replace(" ", "\n", 1), justify="right", no_wrap=True)
    for name, pair in pairs.items():
        models = pair["models"]
        cells = [f"{models[model]['mae_sd']:.4f}" if model in models else "" for model in names]
        table.add_row(name, *cells, text(ratio(models), ".3f"))
    return table


def geometric(ratios: Sequence[float]) -> float:
    """The geometric mean of those there are."""
    measured_ratios = [value for value in ratios if value == value]
    return float(np.exp(np.mean(np.log(measured_ratios)))) if measured_ratios else float("nan")


def text(value: float, form: str) -> str:
    """A figure, or nothing when there is none."""
    return "" if value != value else format(value, form)


def rolling(forecast: Forecast, stream: Stream) -> list[float]:
    """Mean absolute error over the deviation in windows of up to 1,000 rows, at most 200 points.

    Parameters
    ----------
    forecast
        The predictions of the tested rows.
    stream
        The stream they are of.

    Returns
    -------
    list of float
        The means, oldest first.
    """
    error = np.abs(stream.targets[stream.bootstrap :] - forecast.predictions) / stream.deviation
    window = max(1, min(BLOCK_ROWS, len(error) // 5))
    means = np.convolve(error, np.ones(window), "valid") / window
    return [round(float(mean), 5) for mean in means[:: max(1, len(means) // 200)]]


def plot(path: Path, title: str, lines: Mapping[str, Sequence[float]], rows: int) -> None:
    """Draw rolling errors as an SVG file, the worst models cut off at the top.

    Parameters
    ----------
    path
        The file; its folder is made.
    title
        The heading.
    lines
        The points of every model, over the same rows.
    rows
        How many rows the points are spread over.
    """
    tops = sorted(max(points) for points in lines.values())
    top = min(tops[-1], 3.0 * tops[0]) or 1.0
    width, height, left = 900, 420, 60
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">'
        f'<rect width="{width}" height="{height}" fill="#fff"/>'
        f'<text x="{left}" y="24" font-size="16">{html.escape(title)}</text>'
    ]
    for step in range(5):
        y = 370 - step * 80
        parts.append(f'<line x1="{left}" x2="700" y1="{y}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="8" y="{y + 4}" font-size="12">{top * step / 4:.3g}</text>')
    for index, (name, points) in enumerate(lines.items()):
        colour, bold = COLOURS[index % len(COLOURS)], 3 if name == MILLRACE else 1.2
        spots = " ".join(
            f"{left + 640 * index / max(1, len(points) - 1):.1f},{370 - 320 * min(point / top, 1.0):.1f}"
            for index, point in enumerate(points)
        )
        parts.append(f'<polyline points="{spots}" fill="none" stroke="{colour}" stroke-width="{bold}"/>')
        parts.append(
            f'<text x="710" y="{60 + 20 * index}" font-size="13" fill="{colour}">{html.escape(name)}</text>'
        )
    parts.append(f'<text x="{left}" y="400" font-size="12">{rows:,} rows after bootstrap</text></svg>')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(parts), encoding="utf-8")
