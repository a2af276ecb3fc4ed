"""Rounds of label requests: what the server wants labelled, asked of an endpoint, and learned.

What was asked for and not answered stands in ``data/label_requests.json``, so that a round that is broken off
goes on where it stopped; what came is appended to ``data/labeled_drift.csv`` before it is taught.
"""

from __future__ import annotations

import collections
import csv
import dataclasses
import io
import os
from typing import Any

import httpx
import msgspec
import tenacity

from bootstrap.sources.label_endpoint import LabelEndpoint
from bootstrap.sources.retry import TransientError, asked_seconds, retrying
from online.core.csv_rows import csv_lines, csv_rows
from online.core.errors import InputError
from online.core.home import Home, write_atomically
from online.core.schema import Schema
from online.drift.drift_log import complete_length

__all__ = ["LabelRequests", "RequestRound", "checked_reply"]

ASKED_AGAIN = 3  # rounds in which a row without a label is asked for again
LEARNED_AT_ONCE = 500  # labels of a request, which waits until all of them are learned


class RequestState(msgspec.Struct):
    """What is under way: rows asked for (as the server listed them), and how often ids had no label."""

    pending: list[dict[str, Any]] = []
    unanswered: dict[str, int] = {}


@dataclasses.dataclass
class RequestRound:
    """What one round came to: counts, and absolute errors of the rows labelled, as served and after."""

    asked: int = 0
    labelled: int = 0
    empty: int = 0
    errors: list[float] = dataclasses.field(default_factory=list)
    reasons: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    again: list[float] = dataclasses.field(default_factory=list)


class LabelRequests:
    """Label requests of one home; one process at a time.

    Parameters
    ----------
    home, schema
        The stream.
    server
        A client of its server.
    endpoint
        Where labels come from.
    """

    def __init__(self, home: Home, schema: Schema, server: httpx.Client, endpoint: LabelEndpoint) -> None:
        self._target = schema.target.name
        self._features = [feature.name for feature in schema.features]
        self._server = server
        self._endpoint = endpoint
        self._file = home.data / "label_requests.json"
        self._table = home.data / "labeled_drift.csv"
        self._state = self._recover()

    def round(self, budget: int, random: float) -> RequestRound:
        """Ask for so many labels at most.

        Parameters
        ----------
        budget
            The most labels asked for in this round; one that was broken off is finished first, whatever its
            size.
        random
            The share of rows drawn at random, from 0 to 1.

        Returns
        -------
        RequestRound
            What came of it.

        Raises
        ------
        InputError
            The server or the endpoint cannot be used; what came before that is kept and learned.
        """
        done = RequestRound()
        if not self._state.pending:
            self._state.pending = self._wanted(budget, random)
            self._save()
        while self._state.pending:
            asked = self._state.pending
            labels = self._endpoint.labels([row["features"] for row in asked])
            answered = list(zip(asked, labels, strict=False))  # the endpoint may take fewer rows at once
            done.asked += len(answered)
            self._take([(row, label) for row, label in answered if label is not None], done)
            for row, label in answered:
                if label is None:
                    done.empty += 1
                    self._state.unanswered[row["id"]] = self._state.unanswered.get(row["id"], 0) + 1
            # only now: rows forgotten before their labels are kept would never be asked for again
            self._state.pending = asked[len(answered) :]
            self._save()
        return done

    def _wanted(self, budget: int, random: float) -> list[dict[str, Any]]:
        hopeless = {name for name, times in self._state.unanswered.items() if times >= ASKED_AGAIN}
        # the server does not know which rows have no label: so many more are asked for, then left out
        asked = {"budget": min(10_000, budget + len(hopeless)), "random": random}
        rows = checked_reply(self._server.get("/labels/wanted", params=asked))["wanted"]
        return [row for row in rows if row["id"] not in hopeless][:budget]

    def _take(self, labelled: list[tuple[dict[str, Any], float]], done: RequestRound) -> None:
        """Keep labels, then teach them; teaching one twice changes nothing."""
        if not labelled:
            return
        self._append(labelled)
        for start in range(0, len(labelled), LEARNED_AT_ONCE):
            part = labelled[start : start + LEARNED_AT_ONCE]
            self._learn([{"id": row["id"], self._target: label} for row, label in part])
        # scored anew to show what the labels changed; not recorded, or the rows would be wanted again
        again = self._server.post(
            "/predict", params={"record": "false"}, json=[row["features"] for row, _ in labelled]
        )
        for (row, label), prediction in zip(labelled, checked_reply(again)["predictions"], strict=True):
            done.labelled += 1
            done.errors.append(abs(row["prediction"] - label))
            done.again.append(abs(prediction - label))
            done.reasons.update(row["reasons"])

    def _learn(self, labels: list[dict[str, Any]]) -> None:
        """Teach labels, waiting while the server has too many."""
        retrying(tenacity.stop_never, first_seconds=1.0, longest_seconds=10.0)(self._learn_once, labels)

    def _learn_once(self, labels: list[dict[str, Any]]) -> None:
        reply = self._server.post("/learn", params={"wait": "1"}, json=labels)
        if reply.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise TransientError("the server has too many labels to learn", asked_seconds(reply))
        checked_reply(reply)

    def _append(self, labelled: list[tuple[dict[str, Any], float]]) -> None:
        known = self._known
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        if not self._table.exists() or self._table.stat().st_size == 0:
            writer.writerow(["id", "served_at", "reasons", "prediction", *self._features, self._target])
        for row, label in labelled:
            if row["id"] not in known:
                features = [row["features"].get(name) for name in self._features]
                reasons = "; ".join(row["reasons"])
                writer.writerow([row["id"], row["served_at"], reasons, row["prediction"], *features, label])
                known.add(row["id"])
        with self._table.open("ab") as file:
            file.write(text.getvalue().encode())
            file.flush()
            os.fsync(file.fileno())  # the endpoint may charge for a label: it is on disk before it is taught

    def _recover(self) -> RequestState:
        """What was under way; half a line that a crash left in the table is cut off."""
        self._known: set[str] = set()
        if self._table.exists():
            content = self._table.read_bytes()
            complete = complete_length(content)
            os.truncate(self._table, complete)
            self._known = {str(row["id"]) for row in csv_rows(csv_lines(content[:complete]))}
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=RequestState)
        except (FileNotFoundError, msgspec.MsgspecError):
            return RequestState()

    def _save(self) -> None:
        write_atomically(self._file, msgspec.json.encode(self._state))


def checked_reply(reply: httpx.Response) -> Any:
    """The server's reply. Raises InputError when it refuses."""
    if not reply.is_success:
        raise InputError(f"{reply.url} answered {reply.status_code}: {reply.text[:300]}", field="url")
    return reply.json()
