"""The monitor's tables: versions, alarms and quarantine, with what can be done to them."""

from __future__ import annotations

from typing import Any

from dash import html

from server.monitor import format as words
from server.monitor.answers import Alarm, Alarms, Quarantine, QuarantinedLabel, Snapshot, Snapshots
from server.monitor.markup import act_button, empty, table, time

__all__ = ["alarms_table", "quarantine_table", "versions_table"]

ROWS = 12


def versions_table(found: Snapshots) -> Any:
    """The newest versions, the active one marked; the others can be gone back to."""
    if not found.snapshots:
        return empty("No version yet: the first is kept by bootstrap.")
    heads = ("Version", "From", "Reason", "Seq", "Time (UTC)", "MAE", "Covered", "Go back")
    rows = [version_row(s, active=s.version == found.active) for s in found.snapshots[:ROWS]]
    return table(heads, rows, len(found.snapshots), "versions")


def version_row(snapshot: Snapshot, *, active: bool) -> Any:
    """One version."""
    mark: list[Any] = [" ", html.Span("active", className="badge")] if active else []
    name = words.version(snapshot.version)
    back = (
        act_button("rollback", snapshot.version, "Roll back", f"Roll back to {name}")
        if isinstance(snapshot.version, int) and not active
        else words.NONE
    )
    cells = [
        html.Th([name, *mark], scope="row"),
        html.Td(words.version(snapshot.parent)),
        html.Td(snapshot.reason or words.NONE),
        html.Td(words.count(snapshot.seq), className="figure"),
        html.Td(time(snapshot.created_at)),
        html.Td(words.number(snapshot.mae), className="figure"),
        html.Td(words.share(snapshot.metric("coverage")), className="figure"),
        html.Td(back),
    ]
    return html.Tr(cells, className="active" if active else "")


def alarms_table(found: Alarms) -> Any:
    """The newest alarms."""
    if not found.alarms:
        return empty("No alarm yet: no detector has found a drift.")
    heads = ("Seq", "Time (UTC)", "Since (UTC)", "Alarm", "Before → after", "Cost", "Message")
    return table(heads, [alarm_row(a) for a in found.alarms[:ROWS]], len(found.alarms), "alarms")


def alarm_row(alarm: Alarm) -> Any:
    """One alarm."""
    return html.Tr(
        [
            html.Th(words.count(alarm.seq), scope="row", className="figure"),
            html.Td(time(alarm.at)),
            html.Td(time(alarm.since)),
            html.Td(words.found_by(alarm), className="text short"),
            html.Td(f"{words.number(alarm.before)} → {words.number(alarm.after)}", className="figure"),
            html.Td(words.cost(alarm), className="figure"),
            html.Td(alarm.message, className="text"),
        ]
    )


def quarantine_table(found: Quarantine) -> Any:
    """The newest labels set aside; those that are still can be released."""
    if not found.quarantined:
        return empty("No label is set aside: all that came were plausible.")
    heads = ("No", "Time (UTC)", "Id", "Label", "Reason", "Release")
    rows = [quarantine_row(label) for label in found.quarantined[:ROWS]]
    return table(heads, rows, len(found.quarantined), "quarantine")


def quarantine_row(label: QuarantinedLabel) -> Any:
    """One label set aside."""
    record = label.record
    value = record.get("target")
    return html.Tr(
        [
            html.Th(words.count(label.seq), scope="row", className="figure"),
            html.Td(time(record.get("received_at"))),
            html.Td(str(record.get("id") or words.NONE)[:40]),
            html.Td(words.number(value if isinstance(value, int | float) else None), className="figure"),
            html.Td(label.reason or words.NONE, className="text"),
            html.Td(release_cell(label)),
        ]
    )


def release_cell(label: QuarantinedLabel) -> Any:
    """What can be done with a label set aside, or what was."""
    if label.released_as is not None:
        return f"learned as seq {label.released_as:,}"
    if label.seq is None:
        return words.NONE
    return act_button("release", label.seq, "Release", f"Release label {label.seq}")
