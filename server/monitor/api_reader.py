"""What the monitor reads from the Millrace API, and how often.

A server that is down, slow or answers nonsense becomes a :class:`Reading` that says so; nothing here
raises into a callback. A missing field and a null one are the same: the field's default.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

import httpx
import msgspec

from server.monitor.api_replies import (
    AlarmsReply,
    DriftReply,
    ErrorsReply,
    ModelReply,
    OutcomesReply,
    QuarantineReply,
    SnapshotsReply,
    WeightsReply,
)
from server.monitor.traffic import MetricsSample, Traffic, parse_metrics, traffic_between

__all__ = ["RANGES", "ApiReader", "ApiState", "open_client"]

RANGES = {500: "500", 2_000: "2,000", 10_000: "10,000", 200_000: "all"}  # labels shown, and how it is said
POINTS = 600
CHARTS_SECONDS = 3.0  # how often what is costly to tell is asked for
TABLES_SECONDS = 6.0
TRAFFIC_SECONDS = 5.0

T = TypeVar("T")


class ApiState(msgspec.Struct, frozen=True):
    """All the monitor knows at one moment.

    What could not be read keeps the value it last had. ``down`` says why the server cannot be reached,
    ``problems`` which single answers could not be used.
    """

    api_url: str = ""
    down: str = ""
    ready: bool = True
    problems: tuple[str, ...] = ()
    model: ModelReply | None = None
    history: OutcomesReply | None = None
    weights: WeightsReply | None = None
    drift: DriftReply | None = None
    errors: ErrorsReply | None = None
    alarms: AlarmsReply | None = None
    snapshots: SnapshotsReply | None = None
    quarantine: QuarantineReply | None = None
    traffic: Traffic = Traffic()


class ApiReader:
    """Reads the API, each answer no more often than it changes, however many pages are open.

    May be called from any thread.

    Parameters
    ----------
    http
        A client whose base address is the API's.
    max_age
        Seconds for which the state is handed out again; charts and tables are kept longer, by ``patience``.
    patience
        How much of the pause between costly questions is kept: 1 in use, 0 to ask each time.
    clock
        Seconds that never go back.
    """

    def __init__(
        self, http: httpx.Client, *, max_age: float = 0.75, patience: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.http = http
        self.max_age = max_age
        self.patience = patience
        self.clock = clock
        self.lock = threading.Lock()
        self.api_url = str(http.base_url).rstrip("/")
        self.kept: dict[str, tuple[float, Any]] = {}
        self.problems: dict[str, str] = {}
        self.looked: MetricsSample | None = None

    def read(self, last: int = 2_000) -> ApiState:
        """The state now, with charts of the ``last`` labels; what is fresh is not asked for again."""
        with self.lock:
            return self.fetch(last)

    def forget(self) -> None:
        """Ask for everything anew at the next reading: something was changed."""
        with self.lock:
            self.kept = {path: (float("-inf"), value) for path, (_, value) in self.kept.items()}

    def fetch(self, last: int) -> ApiState:
        """Ask for what is due. Without an answer to ``/model`` the server counts as down."""
        down, model, fine = "", self.found("/model"), f"points={POINTS}&last={last}"
        try:
            model = self.due("/model", self.max_age, lambda: self.get("/model", ModelReply))
        except (httpx.HTTPError, msgspec.MsgspecError) as exc:
            down, self.problems = failure_text(exc), {}
        ask = self.attempt if not down else self.last_said
        return ApiState(
            api_url=self.api_url,
            down=down,
            ready=bool(down) or self.due("/health/ready", TABLES_SECONDS * self.patience, self.ready),
            model=model,
            history=ask(f"/outcomes?{fine}", OutcomesReply, CHARTS_SECONDS),
            weights=ask(f"/weights?{fine}", WeightsReply, CHARTS_SECONDS),
            drift=ask("/drift?points=200", DriftReply, TABLES_SECONDS),
            errors=ask(f"/errors?last={min(last, 20_000)}", ErrorsReply, 2 * TABLES_SECONDS),
            alarms=ask("/alarms", AlarmsReply, CHARTS_SECONDS),
            snapshots=ask("/snapshots", SnapshotsReply, CHARTS_SECONDS),
            quarantine=ask("/quarantine", QuarantineReply, TABLES_SECONDS),
            traffic=Traffic() if down else self.traffic(),
            problems=tuple(self.problems.values()),
        )

    def due(self, path: str, seconds: float, ask: Callable[[], T]) -> T:
        """An answer, the last one while it is younger than ``seconds``."""
        expires, value = self.kept.get(path, (float("-inf"), None))
        if self.clock() >= expires:
            value = ask()
            self.kept[path] = (self.clock() + seconds, value)
        return cast(T, value)

    def found(self, path: str) -> Any:
        """The last answer, however old."""
        return self.kept.get(path, (0.0, None))[1]

    def last_said(self, path: str, kind: type[T], seconds: float) -> T | None:
        """The last answer; the server is not asked."""
        return cast("T | None", self.found(path))

    def attempt(self, path: str, kind: type[T], seconds: float) -> T | None:
        """One answer, or the last one with the reason noted in ``problems``."""
        plain = path.partition("?")[0]
        try:
            answer: T | None = self.due(path, seconds * self.patience, lambda: self.get(path, kind))
        except (httpx.HTTPError, msgspec.MsgspecError) as exc:
            if not is_unknown_route(exc):  # an older server knows less, and says nothing of it
                self.problems[plain] = f"GET {plain}: {failure_text(exc)}"
            return cast("T | None", self.found(path))
        self.problems.pop(plain, None)
        return answer

    def get(self, path: str, kind: type[T]) -> T:
        """One answer as a Struct. Raises httpx.HTTPError or msgspec.MsgspecError."""
        response = self.http.get(path)
        response.raise_for_status()
        return msgspec.convert(without_nulls(msgspec.json.decode(response.content)), kind)

    def traffic(self) -> Traffic:
        """Requests since the look before; nothing while the metrics cannot be read."""
        try:
            return self.due("/metrics", TRAFFIC_SECONDS * self.patience, self.measure)
        except (httpx.HTTPError, ValueError):
            return Traffic()

    def measure(self) -> Traffic:
        """Look at the metrics and compare."""
        response = self.http.get("/metrics").raise_for_status()
        before, self.looked = self.looked, parse_metrics(response.text, self.clock())
        return traffic_between(before, self.looked)

    def ready(self) -> bool:
        """Whether the server says that it is ready to predict."""
        try:
            return self.http.get("/health/ready").is_success
        except httpx.HTTPError:
            return False


def open_client(api_url: str) -> httpx.Client:
    """A client for the API at this address, asked directly whatever proxy the environment names."""
    return httpx.Client(base_url=api_url, timeout=httpx.Timeout(5.0, connect=2.0), trust_env=False)


def is_unknown_route(exc: Exception) -> bool:
    """Whether the server has no such route."""
    return isinstance(exc, httpx.HTTPStatusError) and exc.response.status_code == httpx.codes.NOT_FOUND


def without_nulls(value: Any) -> Any:
    """The same JSON with null members of objects left out; nulls in columns stay."""
    if isinstance(value, dict):
        return {name: without_nulls(member) for name, member in value.items() if member is not None}
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return [without_nulls(item) for item in value]
    return value


def failure_text(exc: Exception) -> str:
    """Why a read failed, short enough for one line."""
    if isinstance(exc, httpx.HTTPStatusError):
        return f"it answered {exc.response.status_code} {exc.response.reason_phrase}".rstrip()
    if isinstance(exc, httpx.TimeoutException):
        return "no answer in time"
    if isinstance(exc, httpx.ConnectError):
        return "nothing listens there"
    if isinstance(exc, msgspec.MsgspecError):
        return f"its answer cannot be read: {exc}"
    return str(exc) or type(exc).__name__
