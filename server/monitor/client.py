"""What the monitor reads from the Millrace API, as frozen Structs.

A server that is down, slow or answers nonsense becomes a :class:`Reading` that says so; nothing here
raises into a callback. A missing field and a null one are the same: the field's default.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import httpx
import msgspec

__all__ = [
    "Alarm",
    "Alarms",
    "Labels",
    "Learner",
    "Model",
    "Outcomes",
    "Prequential",
    "Reader",
    "Reading",
    "Snapshot",
    "Snapshots",
    "open_client",
]

HISTORY = "/outcomes?points=600"
RECENT = "/outcomes?points=250&last=250"

Column = tuple[float | None, ...]
Moment = float | str | None
T = TypeVar("T")


class Learner(msgspec.Struct, frozen=True):
    """Whether the learner runs, and when it last said so (unix seconds)."""

    alive: bool | None = None
    updated_at: float | None = None


class Prequential(msgspec.Struct, frozen=True):
    """Error of the predictions as served, over the last ``window`` labels."""

    window: int = 1000
    n: int = 0
    mae: float | None = None
    rmse: float | None = None
    r2: float | None = None
    baseline_mae: float | None = None
    coverage: float | None = None
    delay_seconds: float | None = None


class Labels(msgspec.Struct, frozen=True):
    """Counts of labels."""

    learned: int | None = None


class Model(msgspec.Struct, frozen=True):
    """``GET /model``: what is served now, and how well."""

    stream: str = ""
    target: str = ""
    model_version: int | str | None = None
    learned_seq: int | None = None
    journal_seq: int | None = None
    labels_waiting: int | None = None
    learner: Learner = Learner()
    prequential: Prequential = Prequential()
    labels: Labels = Labels()
    millrace_version: str = ""


class Outcomes(msgspec.Struct, frozen=True):
    """``GET /outcomes``: scored predictions as columns, oldest first."""

    seq: Column = ()
    received_at: Column = ()
    truth: Column = ()
    prediction: Column = ()
    lower: Column = ()
    upper: Column = ()
    mae: Column = ()
    baseline_mae: Column = ()
    delay_seconds: Column = ()


class Alarm(msgspec.Struct, frozen=True):
    """One drift alarm."""

    seq: int | None = None
    at: Moment = None
    detector: str = ""
    subject: str = ""
    before: float | None = None
    after: float | None = None
    message: str = ""


class Alarms(msgspec.Struct, frozen=True):
    """``GET /alarms``, newest first."""

    alarms: tuple[Alarm, ...] = ()


class Snapshot(msgspec.Struct, frozen=True):
    """One version of the model."""

    version: int | str | None = None
    parent: int | str | None = None
    seq: int | None = None
    created_at: Moment = None
    reason: str = ""
    metrics: dict[str, Any] = {}

    @property
    def mae(self) -> float | None:
        """The rolling error at that moment, when it was known."""
        value = self.metrics.get("mae")
        return float(value) if isinstance(value, int | float) else None


class Snapshots(msgspec.Struct, frozen=True):
    """``GET /snapshots``, newest first, and which one is served."""

    active: int | str | None = None
    snapshots: tuple[Snapshot, ...] = ()


class Reading(msgspec.Struct, frozen=True):
    """All the monitor knows at one moment.

    What could not be read keeps the value it last had. ``down`` says why the server cannot be reached,
    ``problems`` which single answers could not be used.
    """

    api_url: str = ""
    down: str = ""
    ready: bool = True
    problems: tuple[str, ...] = ()
    model: Model | None = None
    history: Outcomes | None = None
    recent: Outcomes | None = None
    alarms: Alarms | None = None
    snapshots: Snapshots | None = None


class Reader:
    """Reads the API, at most once in ``max_age`` seconds however many pages are open.

    May be called from any thread.

    Parameters
    ----------
    http
        A client whose base address is the API's.
    max_age
        Seconds for which a reading is handed out again.
    clock
        Seconds that never go back.
    """

    def __init__(
        self, http: httpx.Client, *, max_age: float = 0.75, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.http = http
        self.max_age = max_age
        self.clock = clock
        self.lock = threading.Lock()
        self.last = Reading(api_url=str(http.base_url).rstrip("/"))
        self.expires = float("-inf")

    def read(self) -> Reading:
        """The state now, or the last one when it is recent enough."""
        with self.lock:
            if self.clock() >= self.expires:
                self.last = self.fetch()
                self.expires = self.clock() + self.max_age
            return self.last

    def fetch(self) -> Reading:
        """Ask for everything once. Without an answer to ``/model`` the server counts as down."""
        try:
            model = self.get("/model", Model)
        except (httpx.HTTPError, msgspec.MsgspecError) as exc:
            return msgspec.structs.replace(self.last, down=reason(exc), problems=())
        problems: list[str] = []
        last = self.last
        return Reading(
            api_url=last.api_url,
            ready=self.ready(),
            model=model,
            history=self.attempt(HISTORY, Outcomes, last.history, problems),
            recent=self.attempt(RECENT, Outcomes, last.recent, problems),
            alarms=self.attempt("/alarms", Alarms, last.alarms, problems),
            snapshots=self.attempt("/snapshots", Snapshots, last.snapshots, problems),
            problems=tuple(problems),
        )

    def attempt(self, path: str, kind: type[T], last: T | None, problems: list[str]) -> T | None:
        """One answer, or the last one with the reason noted in ``problems``."""
        try:
            return self.get(path, kind)
        except (httpx.HTTPError, msgspec.MsgspecError) as exc:
            problems.append(f"GET {path.partition('?')[0]}: {reason(exc)}")
            return last

    def get(self, path: str, kind: type[T]) -> T:
        """One answer as a Struct. Raises httpx.HTTPError or msgspec.MsgspecError."""
        response = self.http.get(path)
        response.raise_for_status()
        return msgspec.convert(without_nulls(msgspec.json.decode(response.content)), kind)

    def ready(self) -> bool:
        """Whether the server says that it is ready to predict."""
        try:
            return self.http.get("/health/ready").is_success
        except httpx.HTTPError:
            return False


def open_client(api_url: str) -> httpx.Client:
    """A client for the API at this address, asked directly whatever proxy the environment names."""
    return httpx.Client(base_url=api_url, timeout=httpx.Timeout(5.0, connect=2.0), trust_env=False)


def without_nulls(value: Any) -> Any:
    """The same JSON with null members of objects left out; nulls in columns stay."""
    if isinstance(value, dict):
        return {name: without_nulls(member) for name, member in value.items() if member is not None}
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return [without_nulls(item) for item in value]
    return value


def reason(exc: Exception) -> str:
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
