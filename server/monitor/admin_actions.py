"""What the monitor does to the server when somebody asks for it: roll back, or release a label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
import msgspec

from server.http.origin import is_foreign_origin, is_loopback, is_loopback_host
from server.monitor.api_reader import failure_text

__all__ = ["AdminAction", "perform", "refusal"]

ACTION_TIMEOUT_SECONDS = 90.0  # a rollback is answered once its result is served
ACTION_PATHS = {"rollback": "/snapshots/rollback", "release": "/quarantine/{}/release"}


class AdminAction(msgspec.Struct, frozen=True):
    """``rollback`` to a version, or ``release`` of a quarantined label; ``target`` is its number."""

    action: str
    target: int


def refusal(headers: Mapping[str, str], address: str | None, key: str) -> str:
    """Why an action asked for in a browser is not passed on to the server.

    Without an admin key the server takes such calls from its own machine, and the monitor runs on it. So
    without a key the browser has to be on that machine too, on a page it got by a loopback address.

    Parameters
    ----------
    headers
        Of the browser's request.
    address
        Where that request came from.
    key
        The admin key somebody typed, empty for none. The server says whether it is the right one.

    Returns
    -------
    str
        A sentence for that person; empty when the action may be passed on.
    """
    host = headers.get("Host", "")
    if is_foreign_origin(headers.get("Origin"), host):
        return "Orders are not taken from pages of another origin."
    if not key and not (is_loopback(address) and is_loopback_host(host)):
        return "From another machine, an order needs the admin key."
    return ""


def perform(http: httpx.Client, action: AdminAction, key: str) -> tuple[bool, str]:
    """Ask the server for an action, and wait for its answer.

    Parameters
    ----------
    http
        A client of the API.
    action
        What to do.
    key
        The admin key, empty for none.

    Returns
    -------
    tuple
        Whether it was done, and a sentence for the person who asked.
    """
    if action.action not in ACTION_PATHS:
        return False, f"Nothing known as {action.action!r} can be done."
    path, body = ACTION_PATHS[action.action].format(action.target), {"version": action.target}
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        response = http.post(path, json=body, headers=headers, timeout=ACTION_TIMEOUT_SECONDS)
    except httpx.HTTPError as exc:
        return False, f"The server could not be asked: {failure_text(exc)}."
    return response.is_success, outcome_text(action, response)


def outcome_text(action: AdminAction, response: httpx.Response) -> str:
    """The server's answer in a sentence."""
    content = json_object(response)
    if not response.is_success:
        return f"Refused: {content.get('detail') or response.reason_phrase}."
    if action.action == "release":
        return f"Released: it is learned as seq {content.get('seq')}."
    if "version" in content:
        return f"Done: model_v{content['version']} is model_v{action.target} again."
    return "Accepted: it is carried out once the learner gets to it."


def json_object(response: httpx.Response) -> dict[str, Any]:
    """A response's object; empty when its body is none."""
    try:
        content = msgspec.json.decode(response.content)
    except msgspec.DecodeError:
        return {}
    return content if isinstance(content, dict) else {}
