"""Measure the drift detectors against River's at their defaults, and against a dummy that always fires.

    python -m scripts.bench.bench_drift [--seeds 5]

Generated streams whose drifts are known to the row (scripts/bench/drift_streams.py): 10,000 rows served after
a year of bootstrap rows. River's detectors get what an operator would give them: one for every numeric
column, one for every category's indicator, one for the predictions, one for the absolute error. All
detections are merged with the same cooldown, ours and theirs. A merged alarm within 1,500 rows after a
drift began finds it; one while a gradual drift goes on, or within 1,500 rows after a recurring one went,
is neither right nor wrong; all others are false.
"""

from __future__ import annotations

import functools
import json
import platform
import statistics
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click
import numpy as np
import river
from rich.console import Console
from river import drift

from online.core.config import DriftConfig
from online.drift.error_drift import ErrorDriftDetector
from online.drift.input_drift import InputDriftDetector
from online.features.value_encoder import Encoder
from scripts.bench.drift_streams import GRADUAL, KINDS, PERIOD, STREAM_ROWS, DriftStream, make
from tests.support.benchmark_document import FIGURES, replace_section

DRIFT_FIGURES = FIGURES / "drift.json"
WITHIN = 1500  # rows after its beginning in which a drift is found, or missed
DRIFT_SETTINGS = DriftConfig()

Places = list[int]


def ours(stream: DriftStream) -> Places:
    """Millrace's detectors with their default budget."""
    share = 3.0 * DRIFT_SETTINGS.rows_per_week / DRIFT_SETTINGS.alarms_per_week
    inputs = InputDriftDetector(stream.schema, stream.bootstrap, DRIFT_SETTINGS.month_rows, share)
    errors = ErrorDriftDetector(DRIFT_SETTINGS.month_rows, share)
    detections = [
        detection.index for detection in inputs.update(np.column_stack([stream.rows, stream.predictions]))
    ]
    return sorted(
        detections + [detection.index for detection in errors.update(stream.errors, stream.half_widths)]
    )


def rivers(make_one: Callable[[], Any]) -> Callable[[DriftStream], Places]:
    """One of River's detectors on every column, the predictions and the error."""

    def run(stream: DriftStream) -> Places:
        numbers = [column for column, name in enumerate(column_names(stream)) if name not in CALENDAR_COLUMNS]
        series = [*stream.rows[:, numbers].T, stream.predictions, stream.errors]
        return sorted(row_index for values in series for row_index in fired(make_one(), values))

    return run


def always(_stream: DriftStream) -> Places:
    """The dummy."""
    return list(range(STREAM_ROWS))


CALENDAR_COLUMNS = ("day", "day:sin", "day:cos", "hour", "hour:sin", "hour:cos")
DETECTORS: dict[str, Callable[[DriftStream], Places]] = {
    "millrace": ours,
    "ADWIN": rivers(drift.ADWIN),
    "PageHinkley": rivers(drift.PageHinkley),
    "KSWIN": rivers(lambda: drift.KSWIN(seed=1)),
    "always": always,
}

STRICTER: dict[str, list[Callable[[], Any]]] = {  # River's, from their defaults on ever less nervous
    "ADWIN, as rare": [
        functools.partial(drift.ADWIN, delta=delta) for delta in (2e-3, 1e-4, 1e-6, 1e-9, 1e-14, 1e-20, 1e-30)
    ],
    "PageHinkley, as rare": [
        functools.partial(drift.PageHinkley, threshold=bar) for bar in (50, 100, 200, 500, 1000, 2000, 5000)
    ],
}


def column_names(stream: DriftStream) -> list[str]:
    """The encoded columns."""
    return Encoder.of(stream.schema).columns


def fired(detector: Any, values: Iterable[float]) -> Iterator[int]:
    """Where a detector of River's fires; it begins anew by itself."""
    for row_index, value in enumerate(values):
        detector.update(float(value))
        if detector.drift_detected:
            yield row_index


def merged(places: Places) -> Places:
    """Those that come later than a cooldown after the last one kept."""
    alarms: Places = []
    for row_index in places:
        if not alarms or row_index - alarms[-1] > DRIFT_SETTINGS.cooldown_rows:
            alarms.append(row_index)
    return alarms


def judged(kind: str, stream: DriftStream, places: Places) -> dict[str, Any]:
    """Delays of the drifts found, how many were missed, and false alarms."""
    alarms = merged(places)
    delays: list[int] = []
    missed = 0
    excused: set[int] = set()
    for begun in stream.drifts:
        over = begun + WITHIN + (GRADUAL if kind.startswith("gradual") else 0)
        hits = [row_index for row_index in places if begun <= row_index < over]
        excused |= {row_index for row_index in alarms if begun <= row_index < over}
        delays += [hits[0] - begun] if hits else []
        missed += not hits
        if kind.startswith("recurring"):
            gone = begun + PERIOD
            excused |= {row_index for row_index in alarms if gone <= row_index < gone + WITHIN}
    return {
        "delays": delays,
        "missed": missed,
        "false": len(set(alarms) - excused),
        "drifts": len(stream.drifts),
    }


def measure(seeds: int, console: Console) -> dict[str, Any]:
    """Every detector on every stream."""
    results: dict[str, Any] = {}
    detectors = DETECTORS | as_rare(seeds)
    for kind in KINDS:
        for seed in range(1, seeds + 1):
            stream = make(kind, seed)
            for name, detector in detectors.items():
                run = judged(kind, stream, detector(stream))
                results.setdefault(kind, {}).setdefault(name, []).append(run)
        console.print(kind, {name: summary(runs) for name, runs in results[kind].items()})
    return results


def as_rare(seeds: int) -> dict[str, Callable[[DriftStream], Places]]:
    """River's detectors at the most nervous setting with no more false alarms than ours.

    On streams without drift; where no setting is as rare, the least nervous one.
    """
    quiet = [(kind, make(kind, seed)) for kind in KINDS[:2] for seed in range(1, seeds + 1)]

    def false(detector: Callable[[DriftStream], Places]) -> int:
        return sum(judged(kind, stream, detector(stream))["false"] for kind, stream in quiet)

    most = false(ours)
    chosen = {}
    for name, settings in STRICTER.items():
        runs = [rivers(make_one) for make_one in settings]
        chosen[name] = next((run for run in runs if false(run) <= most), runs[-1])
    return chosen


def summary(runs: list[dict[str, Any]]) -> str:
    """Median delay, misses and false alarms per 10,000 rows."""
    delays = [delay for run in runs for delay in run["delays"]]
    drifts, missed = sum(run["drifts"] for run in runs), sum(run["missed"] for run in runs)
    false = statistics.fmean(run["false"] for run in runs) * 10_000 / STREAM_ROWS
    delay = f"{statistics.median(delays):,.0f}" if delays else "-"
    return f"{false:.1f}" if not drifts else f"{delay} / {missed} of {drifts} / {false:.1f}"


def section(figures: dict[str, Any]) -> str:
    """The section of docs/benchmarks.md."""
    runs = figures["runs"]
    names = [*DETECTORS, *STRICTER]
    head = ["stream", *names]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for kind, detectors in runs.items():
        lines.append("| " + " | ".join([kind, *(summary(detectors[name]) for name in names)]) + " |")
    return f"""## Drift

`make bench-drift`; raw figures in `docs/benchmarks/drift.json`. {figures["seeds"]} streams of each kind,
10,000 rows served after a year of bootstrap rows; a shift is of one standard deviation (a gradual one of
1.5 over 2,000 rows). Median delay in rows / drifts missed / false alarms per 10,000 rows; where nothing
drifts, false alarms alone. River's detectors at their defaults, one for every column but the calendar,
the predictions and the error, and "as rare": at the most nervous setting with no more false alarms than
Millrace on streams without drift. All detections are merged with the same cooldown of
{DRIFT_SETTINGS.cooldown_rows} rows.

{chr(10).join(lines)}
"""


@click.command(help=__doc__)
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True, help="Streams of each kind.")
def main(seeds: int) -> None:
    """Measure, and write the figures and the section."""
    runs = measure(seeds, Console())
    versions = {"python": platform.python_version(), "river": river.__version__}
    figures = json.loads(DRIFT_FIGURES.read_text()) if DRIFT_FIGURES.exists() else {}
    figures = figures | {"seeds": seeds, "versions": versions, "runs": runs}
    DRIFT_FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
    replace_section("drift", section(figures))


if __name__ == "__main__":
    main()
