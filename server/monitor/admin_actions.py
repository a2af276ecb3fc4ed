"""What the monitor does to the server when somebody says so: roll back, and release a label."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from server.monitor.api_reader import failure_text

__all__ = ["AdminAction", "perform", "refusal"]

ACTION_TIMEOUT_SECONDS = 90.0  # a rollback is answered once its result is served
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
ACTION_PATHS = {"rollback": "/snapshots/rollback", "release": "/quarantine/{}/release"}


class AdminAction(msgspec.Struct, frozen=True):
    """An order: to ``rollback`` to a version, or ``release`` a quarantined label, by number."""

    action: str
    target: int


def refusal(headers: Mapping[str, str], address: str | None, key: str) -> str:
    """Why an order from a browser is not passed on; empty when it is.

    The server takes orders without a key from its own machine, and the monitor is on it: so without one, the
    browser has to be there too, on a page it got by a name of this machine.
    """
    host = headers.get("Host", "")
    origin = headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != host:
        return "Orders are not taken from pages of another origin."
    if not key and not (loopback(address) and urlsplit(f"//{host}").hostname in LOCAL_NAMES):
        return "From another machine, an order needs the admin key."
    return ""


def loopback(address: str | None) -> bool:
    """Whether an address is this machine's own."""
    try:
        return address is not None and ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def perform(http: httpx.Client, action: AdminAction, key: str) -> tuple[bool, str]:
    """Give the order; whether it was carried out, and what to say."""
    if action.action not in ACTION_PATHS:
        return False, f"Nothing known as {action.action!r} can be done."
    path, body = ACTION_PATHS[action.action].format(action.target), {"version": action.target}
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        answer = http.post(path, json=body, headers=headers, timeout=ACTION_TIMEOUT_SECONDS)
    except httpx.HTTPError as exc:
        return False, f"The server could not be asked: {failure_text(exc)}."
    return answer.is_success, outcome_text(action, answer)


def outcome_text(action: AdminAction, answer: httpx.Response) -> str:
    """The server's answer in a sentence."""
    content = json_object(answer)
    if not answer.is_success:
        return f"Refused: {content.get('detail') or answer.reason_phrase}."
    if action.action == "release":
        return f"Released: it is learned as seq {content.get('seq')}."
    if "version" in content:
        return f"Done: model_v{content['version']} is model_v{action.target} again."
    return "Accepted: it is carried out once the learner gets to it."


def json_object(answer: httpx.Response) -> dict[str, Any]:
    """An answer's object; empty when it is none."""
    try:
        found = msgspec.json.decode(answer.content)
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}
