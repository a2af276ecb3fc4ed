"""The other side of label requests: an endpoint that is posted feature rows and answers with their labels."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx
import tenacity

from bootstrap.sources.retry import TransientError, asked_seconds, retrying
from online.core.errors import InputError
from online.features.value_encoder import number

__all__ = ["LabelEndpoint"]

BUSY = (408, 425, 429, 500, 502, 503, 504)
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 30.0


class LabelEndpoint:
    """Asks for labels in batches of a size that the endpoint takes.

    Parameters
    ----------
    url
        Posted a JSON array of rows.
    field
        The label's name in the answer's objects; an answer may also be an array of numbers.
    path
        Where in the answer the array stands, as ``data.rows``; empty for the answer itself.
    names
        What features are called there, where they are called otherwise.
    batch
        Rows asked for at once, at first: halved when they are too many, doubled after some that were not.
    attempts
        How often a request is tried.
    headers
        Sent along.
    sleep
        How to wait.
    """

    def __init__(  # noqa: PLR0913 - settings, each with a default
        self,
        url: str,
        field: str,
        *,
        path: str = "",
        names: Mapping[str, str] | None = None,
        batch: int = 1000,
        attempts: int = 6,
        headers: Mapping[str, str] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._http = httpx.Client(timeout=60.0, headers=dict(headers or {}))
        self._url = url
        self._field = field
        self._path = [part for part in path.split(".") if part]
        self._names = names or {}
        self._attempts = attempts
        self._sleep = sleep
        self._most = 10 * batch
        self.batch = batch
        self._taken = 0

    def labels(self, rows: Sequence[Mapping[str, Any]]) -> list[float | None]:
        """Labels of the first rows, as many as were taken at once; None for a row that has none.

        Raises InputError when there is no answer, or one that cannot be read.
        """
        while True:
            asked = rows[: self.batch]
            answer = self._post([self._named(row) for row in asked])
            if answer is not None:
                self._grow()
                return self._read(answer, len(asked))
            if len(asked) == 1:
                raise InputError(f"{self._url} says that a single row is too many", field="endpoint")
            self.batch, self._taken = max(1, len(asked) // 2), 0

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _grow(self) -> None:
        self._taken += 1
        if self._taken >= 20:
            self.batch, self._taken = min(self._most, 2 * self.batch), 0

    def _named(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return {self._names.get(name, name): value for name, value in row.items()}

    def _post(self, rows: list[dict[str, Any]]) -> Any:
        """The answer; None when the rows are too many."""
        again = retrying(
            tenacity.stop_after_attempt(self._attempts),
            first_seconds=FIRST_PAUSE_SECONDS,
            longest_seconds=LONGEST_PAUSE_SECONDS,
            sleep=self._sleep,
        )
        try:
            return again(self._post_once, rows)
        except TransientError as exc:
            raise InputError(
                f"{self._url} gives no labels: {exc}; try again later", field="endpoint"
            ) from exc

    def _post_once(self, rows: list[dict[str, Any]]) -> Any:
        try:
            reply = self._http.post(self._url, json=rows)
        except httpx.TransportError as exc:
            raise TransientError(f"{type(exc).__name__}: {exc}") from exc
        if reply.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
            return None
        if reply.status_code in BUSY:
            raise TransientError(f"it answered {reply.status_code}", asked_seconds(reply))
        return self._content(reply)

    def _content(self, reply: httpx.Response) -> Any:
        if not reply.is_success:
            raise InputError(
                f"{self._url} answered {reply.status_code}: {reply.text[:200]}", field="endpoint"
            )
        try:
            content = reply.json()
            for name in self._path:
                content = content[name]
        except (ValueError, LookupError, TypeError) as exc:
            where = ".".join(self._path) or "JSON array"
            raise InputError(f"{self._url}: no {where} came: {reply.text[:80]}", field="reply") from exc
        return content

    def _read(self, answer: Any, asked: int) -> list[float | None]:
        """Labels in the order of the rows; a shorter answer leaves the last rows without."""
        if not isinstance(answer, list) or len(answer) > asked:
            raise InputError(f"{self._url}: an array of {asked} labels was to come", field="reply")
        labels = [label(entry.get(self._field) if isinstance(entry, dict) else entry) for entry in answer]
        return labels + [None] * (asked - len(answer))


def label(value: Any) -> float | None:
    """A finite number, from text too; None for anything else."""
    return None if isinstance(value, bool) else number(value)
