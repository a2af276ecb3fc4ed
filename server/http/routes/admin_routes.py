"""Snapshots on request, and rollback."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
from litestar import Request, Response, post

from online.core.errors import InputError
from server.http.access import admin_only
from server.http.bodies import reply
from server.http.service import SERVED_WAIT_SECONDS, Service

__all__ = ["pin", "rollback", "snapshot", "unpin"]


class Rollback(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which version to go back to."""

    version: int


@post("/snapshots", guards=[admin_only], status_code=202, tags=["admin"])
async def snapshot(request: Request[Any, Any, Any], service: Service) -> Response[bytes]:
    """Snapshot the model with every label accepted so far: 201 once written, 202 if that takes long."""
    seq = await asyncio.to_thread(order, service, "snapshot")
    return await carried_out(request, service, seq)


@post("/snapshots/rollback", guards=[admin_only], status_code=202, tags=["admin"])
async def rollback(request: Request[Any, Any, Any], service: Service, data: Rollback) -> Response[bytes]:
    """Go back to an older version, which becomes the newest: 201 once served, 202 if that takes long."""
    await asyncio.to_thread(service.store.check, data.version)
    seq = await asyncio.to_thread(order, service, "rollback", version=data.version)
    return await carried_out(request, service, seq)


@post(
    "/snapshots/{version:int}/pin", guards=[admin_only], status_code=200, tags=["admin"], sync_to_thread=True
)
def pin(request: Request[Any, Any, Any], service: Service, version: int) -> Response[bytes]:
    """Keep a version whatever the retention."""
    service.store.pin(version)
    return reply(request, {"version": version, "pinned": True})


@post(
    "/snapshots/{version:int}/unpin",
    guards=[admin_only],
    status_code=200,
    tags=["admin"],
    sync_to_thread=True,
)
def unpin(request: Request[Any, Any, Any], service: Service, version: int) -> Response[bytes]:
    """Let a version go when its time comes."""
    service.store.pin(version, keep=False)
    return reply(request, {"version": version, "pinned": False})


def order(service: Service, kind: Any, **payload: Any) -> int:
    """Put an order into the journal; returns its seq."""
    with service.journal() as journal:
        return journal.append_command(kind, time.time(), **payload)


async def carried_out(request: Request[Any, Any, Any], service: Service, seq: int) -> Response[bytes]:
    """Answer once the order is carried out and its result served."""
    if not await service.learned(seq, SERVED_WAIT_SECONDS):
        return reply(
            request, {"seq": seq, "status": "accepted, not carried out yet: see GET /snapshots"}, 202
        )
    for manifest in await asyncio.to_thread(service.store.manifests):
        if manifest.seq == seq:
            return reply(request, {"seq": seq, "version": manifest.version, "parent": manifest.parent}, 201)
    raise InputError(f"the learner refused order {seq}: GET /alarms and its log say why")
