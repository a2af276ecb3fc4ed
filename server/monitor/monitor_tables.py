"""The monitor's tables: versions, alarms and quarantine, with what can be done to them."""

from __future__ import annotations

from typing import Any

from dash import html

from server.monitor import format
from server.monitor.api_replies import (
    AlarmReply,
    AlarmsReply,
    QuarantinedLabelReply,
    QuarantineReply,
    SnapshotReply,
    SnapshotsReply,
)
from server.monitor.page_elements import action_button, empty_note, table_element, time_element

__all__ = ["alarms_table", "quarantine_table", "versions_table"]

MAX_TABLE_ROWS = 12


def versions_table(reply: SnapshotsReply) -> Any:
    """The newest versions, the active one marked; the others can be gone back to."""
    if not reply.snapshots:
        return empty_note("No version yet: the first is kept by bootstrap.")
    heads = ("Version", "From", "Reason", "Seq", "Time (UTC)", "MAE", "Covered", "Go back")
    rows = [version_row(s, active=s.version == reply.active) for s in reply.snapshots[:MAX_TABLE_ROWS]]
    return table_element(heads, rows, len(reply.snapshots), "versions")


def version_row(snapshot: SnapshotReply, *, active: bool) -> Any:
    """One version."""
    mark: list[Any] = [" ", html.Span("active", className="badge")] if active else []
    name = format.version_name(snapshot.version)
    back = (
        action_button("rollback", snapshot.version, "Roll back", f"Roll back to {name}")
        if isinstance(snapshot.version, int) and not active
        else format.NO_VALUE
    )
    cells = [
        html.Th([name, *mark], scope="row"),
        html.Td(format.version_name(snapshot.parent)),
        html.Td(snapshot.reason or format.NO_VALUE),
        html.Td(format.count(snapshot.seq), className="figure"),
        html.Td(time_element(snapshot.created_at)),
        html.Td(format.number(snapshot.mae), className="figure"),
        html.Td(format.percent(snapshot.metric("coverage")), className="figure"),
        html.Td(back),
    ]
    return html.Tr(cells, className="active" if active else "")


def alarms_table(reply: AlarmsReply) -> Any:
    """The newest alarms."""
    if not reply.alarms:
        return empty_note("No alarm yet: no detector has found a drift.")
    heads = ("Seq", "Time (UTC)", "Since (UTC)", "Alarm", "Before → after", "Cost", "Message")
    return table_element(
        heads, [alarm_row(a) for a in reply.alarms[:MAX_TABLE_ROWS]], len(reply.alarms), "alarms"
    )


def alarm_row(alarm: AlarmReply) -> Any:
    """One alarm."""
    return html.Tr(
        [
            html.Th(format.count(alarm.seq), scope="row", className="figure"),
            html.Td(time_element(alarm.at)),
            html.Td(time_element(alarm.since)),
            html.Td(format.detector_text(alarm), className="text short"),
            html.Td(f"{format.number(alarm.before)} → {format.number(alarm.after)}", className="figure"),
            html.Td(format.cost(alarm), className="figure"),
            html.Td(alarm.message, className="text"),
        ]
    )


def quarantine_table(reply: QuarantineReply) -> Any:
    """The newest labels set aside; those that are still can be released."""
    if not reply.quarantined:
        return empty_note("No label is set aside: all that came were plausible.")
    heads = ("No", "Time (UTC)", "Id", "Label", "Reason", "Release")
    rows = [quarantine_row(label) for label in reply.quarantined[:MAX_TABLE_ROWS]]
    return table_element(heads, rows, len(reply.quarantined), "quarantine")


def quarantine_row(label: QuarantinedLabelReply) -> Any:
    """One label set aside."""
    record = label.record
    value = record.get("target")
    return html.Tr(
        [
            html.Th(format.count(label.seq), scope="row", className="figure"),
            html.Td(time_element(record.get("received_at"))),
            html.Td(str(record.get("id") or format.NO_VALUE)[:40]),
            html.Td(format.number(value if isinstance(value, int | float) else None), className="figure"),
            html.Td(label.reason or format.NO_VALUE, className="text"),
            html.Td(release_cell(label)),
        ]
    )


def release_cell(label: QuarantinedLabelReply) -> Any:
    """What can be done with a label set aside, or what was."""
    if label.released_as is not None:
        return f"learned as seq {label.released_as:,}"
    if label.seq is None:
        return format.NO_VALUE
    return action_button("release", label.seq, "Release", f"Release label {label.seq}")
