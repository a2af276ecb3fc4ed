"""The figures of ``make bench-speed`` as a section of the benchmarks' document."""

from __future__ import annotations

from typing import Any

__all__ = ["section"]

MILLRACE_SIDE = "Millrace"


def section(figures: dict[str, Any]) -> str:
    """Every part there are figures of, as Markdown."""
    lines = [SPEED_INTRODUCTION]
    for part, write in SUBSECTIONS.items():
        if part in figures:
            lines += [*write(figures[part]), ""]
    return "\n".join(lines)


SPEED_INTRODUCTION = """## Speed

`make bench-speed` (`FASTAPI_PYTHON=…` names a Python that has FastAPI); raw figures in
`docs/benchmarks/speed.json`. Rows of ten features, the default pool, one worker, the ledger on. Rounds of all
sides take turns in one run; medians.
"""


def single(part: dict[str, Any]) -> list[str]:
    """One row a request."""
    sides = part["sides"]
    echo = sides["Litestar @asgi echo"]["rate"]
    head = [
        "### One row a request",
        "",
        "| server | requests/s | share of Litestar's echo | median ms | p99 ms | processor µs |",
        "|---|---|---|---|---|---|",
    ]
    rows = [
        f"| {name} | {side['rate']:,.0f} | {side['rate'] / echo:.2f} | {side['median_ms']:.2f} |"
        f" {side['p99_ms']:.2f} | {side['cpu_us']:.0f} |"
        for name, side in sides.items()
    ]
    return head + rows + ["", f"Predictions the ledger had no room for: {part['ledger_lost_rows']:.0f}."]


def learning(part: dict[str, Any]) -> list[str]:
    """Latency while labels are learned."""
    p99, rate = part["p99_ms"], part["rate"]
    return [
        "### The 99th percentile at half of the maximal load",
        "",
        "| | requests/s | p99 ms |",
        "|---|---|---|",
        f"| no labels | {rate['idle']:,.0f} | {p99['idle']:.2f} |",
        f"| the learner kept busy | {rate['learning']:,.0f} | {p99['learning']:.2f} |",
        f"| ratio | | {part['ratio']:.2f} |",
    ]


def batch(part: dict[str, Any]) -> list[str]:
    """A thousand rows a request."""
    rates = part["rows_per_second"]
    return table(
        "A thousand rows a request", {f"{media}, rows/s": f"{rate:,.0f}" for media, rate in rates.items()}
    )


def plan(part: dict[str, Any]) -> list[str]:
    """The plan alone."""
    rate = f"{part['rows_per_second']:,.0f}"
    return table("`plan.score` on a matrix of 1,000 rows", {f"{part['experts']} experts, rows/s": rate})


def stages(part: dict[str, Any]) -> list[str]:
    """What a request goes through."""
    return table("Processor µs a request, by stage", {k: f"{v:.2f}" for k, v in part["stages"].items()})


def fresh(part: dict[str, Any]) -> list[str]:
    """From accepted to served."""
    figures = {
        f"{name}, ms": f"{part[key]:.0f}" for name, key in (("median", "median_ms"), ("p99", "p99_ms"))
    }
    return table(f"From 202 to served predictions, {part['labels_per_second']:.0f} labels/s", figures)


def learn(part: dict[str, Any]) -> list[str]:
    """Labels accepted."""
    rates = part["labels_per_second"]
    figures = {f"{name}, labels/s": f"{rate:,.0f}" for name, rate in rates.items()}
    return table("Labels accepted durably, 32 connections", figures)


def label(part: dict[str, Any]) -> list[str]:
    """What a label takes of the learner."""
    figures = {stage: f"{spent:.0f}" for stage, spent in part["microseconds"].items()}
    return table(
        "Of the learner's time, the refresh apart, µs a label", figures | {"in all": f"{part['in_all']:.0f}"}
    )


def start(part: dict[str, Any]) -> list[str]:
    """Start and memory."""
    figures = {
        "start to ready, s": f"{part['seconds']['ready']:.2f}",
        "until the learner learns, too, s": f"{part['seconds']['learning']:.2f}",
    }
    figures |= {f"{role}, MB": f"{size:.0f}" for role, size in part["resident_mb"].items()}
    return table("Start, and memory right after", figures)


def monitor(part: dict[str, Any]) -> list[str]:
    """What the monitor costs."""
    names = {"closed": "page closed", "open": "page open", "cost": "cost of the page"}
    figures = {f"{name}, % of a core": f"{part[key]:.2f}" for key, name in names.items() if key in part}
    return table("The scorer's processor time and the monitor's page", figures)


def table(title: str, figures: dict[str, str]) -> list[str]:
    """A table of two columns."""
    rows = (f"| {what} | {figure} |" for what, figure in figures.items())
    return [f"### {title}", "", "| what | figure |", "|---|---|", *rows]


SUBSECTIONS = {
    "single": single,
    "learning": learning,
    "batch": batch,
    "plan": plan,
    "stages": stages,
    "fresh": fresh,
    "learn": learn,
    "label": label,
    "start": start,
    "monitor": monitor,
}
