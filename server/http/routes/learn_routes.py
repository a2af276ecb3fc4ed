"""``POST /learn``, and the quarantine of labels that were set aside."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler

from online.core.schema import Schema
from online.storage.records import Receipt
from server.http.access import admin_only, same_origin
from server.http.bodies import decode_rows, read_body, reply
from server.http.openapi import label_operation
from server.http.service import SERVED_WAIT_SECONDS, Service, last_seq

__all__ = ["REFUSED", "Accepted", "discard", "learn_route", "quarantine", "release", "source_of", "summary"]

SOURCE_LIMIT = 100  # characters
REFUSED = "millrace.refused"  # a key of a request's scope: why the fast path's labels were refused


class SetAside(msgspec.Struct, frozen=True):
    """A row of the request that was quarantined; ``seq`` is what releases it."""

    index: int
    reason: str
    seq: int


class Accepted(msgspec.Struct, frozen=True):
    """What became of the labels; ``seq`` is the last journal record they are in."""

    accepted: int
    duplicates: int
    corrections: int
    quarantined: list[SetAside]
    seq: int


def learn_route(schema: Schema) -> HTTPRouteHandler:
    """The route, documented with the stream's own features."""

    @post(
        "/learn",
        status_code=202,
        guards=[same_origin],
        operation_class=label_operation(schema),
        tags=["labels"],
    )
    async def learn(request: Request[Any, Any, Any], service: Service, wait: bool = False) -> Response[bytes]:
        """Accept labels: durable when answered 202; with `?wait=1`, 200 once predictions reflect them."""
        if (refused := refusal(request)) is not None:
            raise refused
        server = service.config.server
        content_type = request.headers.get("content-type", "")
        numbers = (schema.target.name,)
        rows = decode_rows(
            await read_body(request), content_type, limit=server.max_batch_rows, numbers=numbers
        )
        accepted = summary(await service.learn(rows.rows, source(request)))
        learned = wait and await service.learned(accepted.seq, SERVED_WAIT_SECONDS)
        return reply(request, accepted, 200 if learned else 202)

    return learn


def refusal(request: Request[Any, Any, Any]) -> Exception | None:
    """Why the fast path did not take labels in, be it unforeseen; None when it has not tried."""
    scope: Any = request.scope
    refused: Exception | None = scope.get(REFUSED)
    return refused


def source(request: Request[Any, Any, Any]) -> str | None:
    """Who sends labels: what the header `X-Label-Source` says, else the caller's address."""
    client = request.client.host if request.client is not None else None
    return source_of(request.headers.get("x-label-source", ""), client)


def source_of(named: str, client: str | None) -> str | None:
    """Who sends labels.

    Parameters
    ----------
    named
        The header ``X-Label-Source``; empty when there is none.
    client
        The caller's address.

    Returns
    -------
    str or None
        The header's value, cut, else the address.
    """
    return named[:SOURCE_LIMIT] or client


def summary(receipts: Sequence[Receipt]) -> Accepted:
    """The reply for a request's receipts."""
    statuses = [receipt.status for receipt in receipts]
    aside = [
        SetAside(index, receipt.reason or "", receipt.seq)
        for index, receipt in enumerate(receipts)
        if receipt.status == "quarantined"
    ]
    return Accepted(
        statuses.count("accepted"),
        statuses.count("duplicate"),
        statuses.count("correction"),
        aside,
        last_seq(receipts),
    )


@get("/quarantine", tags=["labels"], sync_to_thread=True)
def quarantine(request: Request[Any, Any, Any], service: Service) -> Response[bytes]:
    """Labels that were set aside, newest first, each with its reason."""
    with service.journal() as journal:
        return reply(request, {"quarantined": [label.shown() for label in journal.quarantine()]})


@post(
    "/quarantine/{seq:int}/discard", guards=[admin_only], status_code=200, tags=["admin"], sync_to_thread=True
)
def discard(request: Request[Any, Any, Any], service: Service, seq: int) -> Response[bytes]:
    """Close a quarantined label without learning it."""
    with service.journal() as journal:
        journal.discard(seq)
    return reply(request, {"discarded": seq})


@post(
    "/quarantine/{seq:int}/release", guards=[admin_only], status_code=202, tags=["admin"], sync_to_thread=True
)
def release(request: Request[Any, Any, Any], service: Service, seq: int) -> Response[bytes]:
    """Learn a quarantined label after all."""
    with service.journal() as journal:
        return reply(request, {"seq": journal.release(seq, time.time())}, 202)
