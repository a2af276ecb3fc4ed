"""What the monitor reads from the Millrace API, and how often.

A server that is down, slow or sends nonsense becomes an :class:`ApiState` that says so; nothing here raises
into a callback. A missing field and a null one are the same: the field's default. Nothing is retried here,
since the page asks again by itself.
"""

from __future__ import annotations

import logging
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

__all__ = ["RANGES", "ApiReader", "ApiState", "failure_text", "open_client", "without_nulls"]

log = logging.getLogger(__name__)

RANGES = {500: "500", 2_000: "2,000", 10_000: "10,000", 200_000: "all"}  # labels shown, and the button's text
CHART_POINTS = 600  # a chart is about as many pixels wide
DRIFT_POINTS = 200  # one strip is coarser than a line
MAX_ERROR_MAP_LABELS = 20_000  # the server adds them up anew for each answer
# Seconds between two questions whose answers cost the server something. Pages share the answers.
CHARTS_SECONDS = 3.0
TABLES_SECONDS = 6.0
TRAFFIC_SECONDS = 5.0

Reply = TypeVar("Reply")


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

    May be called from any thread; one reads at a time.

    Parameters
    ----------
    http
        A client whose base address is the API's.
    max_age
        Seconds for which the model's state is handed out again; charts and tables are kept longer.
    patience
        Factor on the seconds for which charts and tables are kept: 1 in use, 0 to ask each time.
    clock
        Seconds that never go back.
    """

    def __init__(
        self,
        http: httpx.Client,
        *,
        max_age: float = 0.75,
        patience: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._max_age = max_age
        self._patience = patience
        self._clock = clock
        self._lock = threading.Lock()  # Werkzeug serves each page's request in a thread of its own
        self._api_url = str(http.base_url).rstrip("/")
        self._cache: dict[str, tuple[float, Any]] = {}  # by path: when it expires, and the answer
        self._problems: dict[str, str] = {}
        self._last_sample: MetricsSample | None = None

    def read(self, last: int = 2_000) -> ApiState:
        """The state now, with charts of the ``last`` labels; what is fresh is not asked for again."""
        with self._lock:
            return self._read(last)

    def forget(self) -> None:
        """Ask for everything anew at the next reading: something was changed."""
        with self._lock:
            self._cache = {path: (float("-inf"), value) for path, (_, value) in self._cache.items()}

    def _read(self, last: int) -> ApiState:
        """Ask for what is due. Without an answer to ``/model`` the server counts as down."""
        down, model, shown = "", self._cached("/model"), f"points={CHART_POINTS}&last={last}"
        try:
            model = self._due("/model", self._max_age, lambda: self._get("/model", ModelReply))
        except (httpx.HTTPError, msgspec.MsgspecError) as exc:
            down, self._problems = failure_text(exc), {}

        def answer(path: str, kind: type[Reply], seconds: float) -> Reply | None:
            # a server that is down would cost every path a timeout
            return self._cached(path) if down else self._attempt(path, kind, seconds)

        errors_path = f"/errors?last={min(last, MAX_ERROR_MAP_LABELS)}"
        return ApiState(
            api_url=self._api_url,
            down=down,
            ready=bool(down) or self._due("/health/ready", TABLES_SECONDS * self._patience, self._ready),
            model=model,
            history=answer(f"/outcomes?{shown}", OutcomesReply, CHARTS_SECONDS),
            weights=answer(f"/weights?{shown}", WeightsReply, CHARTS_SECONDS),
            drift=answer(f"/drift?points={DRIFT_POINTS}", DriftReply, TABLES_SECONDS),
            errors=answer(errors_path, ErrorsReply, 2 * TABLES_SECONDS),
            alarms=answer("/alarms", AlarmsReply, CHARTS_SECONDS),
            snapshots=answer("/snapshots", SnapshotsReply, CHARTS_SECONDS),
            quarantine=answer("/quarantine", QuarantineReply, TABLES_SECONDS),
            traffic=Traffic() if down else self._traffic(),
            problems=tuple(self._problems.values()),
        )

    def _due(self, path: str, seconds: float, ask: Callable[[], Reply]) -> Reply:
        """An answer, the last one while it is younger than ``seconds``."""
        expires, value = self._cache.get(path, (float("-inf"), None))
        if self._clock() >= expires:
            value = ask()
            self._cache[path] = (self._clock() + seconds, value)
        return cast(Reply, value)

    def _cached(self, path: str) -> Any:
        """The last answer, however old; None when there is none."""
        return self._cache.get(path, (0.0, None))[1]

    def _attempt(self, path: str, kind: type[Reply], seconds: float) -> Reply | None:
        """One answer, or the last one with the reason noted in the state's ``problems``."""
        route = path.partition("?")[0]
        try:
            reply: Reply | None = self._due(path, seconds * self._patience, lambda: self._get(path, kind))
        except (httpx.HTTPError, msgspec.MsgspecError) as exc:
            if not is_unknown_route(exc):  # an older server knows less, and says nothing of it
                self._problems[route] = f"GET {route}: {failure_text(exc)}"
            return cast("Reply | None", self._cached(path))
        self._problems.pop(route, None)
        return reply

    def _get(self, path: str, kind: type[Reply]) -> Reply:
        """One answer as a Struct. Raises httpx.HTTPError or msgspec.MsgspecError."""
        response = self._http.get(path)
        response.raise_for_status()
        return msgspec.convert(without_nulls(msgspec.json.decode(response.content)), kind)

    def _traffic(self) -> Traffic:
        """Requests since the sample before; nothing while the metrics cannot be read."""
        try:
            return self._due("/metrics", TRAFFIC_SECONDS * self._patience, self._measure)
        except (httpx.HTTPError, ValueError) as exc:
            log.debug("GET /metrics: %s", exc)  # the page then shows a dash, and asks again
            return Traffic()

    def _measure(self) -> Traffic:
        """Take a sample of the metrics and compare it with the one before."""
        response = self._http.get("/metrics").raise_for_status()
        before, self._last_sample = self._last_sample, parse_metrics(response.text, self._clock())
        return traffic_between(before, self._last_sample)

    def _ready(self) -> bool:
        """Whether the server says that it is ready to predict."""
        try:
            return self._http.get("/health/ready").is_success
        except httpx.HTTPError as exc:
            log.debug("GET /health/ready: %s", exc)  # the page says that the server is not ready
            return False


def open_client(api_url: str) -> httpx.Client:
    """A client for the API at this address, asked directly whatever proxy the environment names."""
    return httpx.Client(base_url=api_url, timeout=httpx.Timeout(5.0, connect=2.0), trust_env=False)


def is_unknown_route(exc: Exception) -> bool:
    """Whether the server answered that it has no such route."""
    return isinstance(exc, httpx.HTTPStatusError) and exc.response.status_code == httpx.codes.NOT_FOUND


def without_nulls(value: Any) -> Any:
    """The same JSON with null members of objects left out; nulls in columns stay."""
    if isinstance(value, dict):
        return {name: without_nulls(member) for name, member in value.items() if member is not None}
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return [without_nulls(item) for item in value]
    return value


def failure_text(exc: Exception) -> str:
    """Why a request failed, short enough for one line."""
    if isinstance(exc, httpx.HTTPStatusError):
        return f"it answered {exc.response.status_code} {exc.response.reason_phrase}".rstrip()
    if isinstance(exc, httpx.TimeoutException):
        return "no answer in time"
    if isinstance(exc, httpx.ConnectError):
        return "nothing listens there"
    if isinstance(exc, msgspec.MsgspecError):
        return f"its answer cannot be read: {exc}"
    return str(exc) or type(exc).__name__
