"""``POST /predict`` and ``GET /predictions/{id}``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Request, Response, get, post
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler

from online.core.schema import Schema
from online.scoring.scored import Scored
from online.storage.served_predictions import shown
from server.http.bodies import decode_rows, read_body, reply
from server.http.openapi import row_operation
from server.http.service import Service

__all__ = ["Prediction", "PredictionColumns", "predict_route", "prediction", "singles"]


class Prediction(msgspec.Struct, frozen=True):
    """One row's prediction and interval, in target units."""

    prediction: float
    lower: float
    upper: float
    id: str
    drifted: bool
    model_version: int
    learned_seq: int
    imputed: Sequence[str] | msgspec.UnsetType = msgspec.UNSET


class PredictionColumns(msgspec.Struct, frozen=True):
    """The same for an array of rows, as columns; ``imputed`` only where any row had something imputed."""

    predictions: Sequence[float]
    lower: Sequence[float]
    upper: Sequence[float]
    ids: Sequence[str]
    drifted: list[bool]
    model_version: int
    learned_seq: int
    imputed: Sequence[Sequence[str]] | msgspec.UnsetType = msgspec.UNSET


def predict_route(schema: Schema) -> HTTPRouteHandler:
    """The route, documented with the stream's own features."""

    @post("/predict", status_code=200, operation_class=row_operation(schema), tags=["predictions"])
    async def predict(
        request: Request[Any, Any, Any], service: Service, record: bool = True
    ) -> Response[bytes]:
        """Score one row, or an array of rows. Dirty values are imputed and reported, never refused.

        With `?record=false` nothing is kept: a question about the future, which no label will answer.
        """
        content_type = request.headers.get("content-type", "")
        rows = decode_rows(await read_body(request), content_type, limit=service.config.server.max_batch_rows)
        scored = service.predict(rows.rows, record=record)
        return reply(request, singles(scored)[0] if rows.single else columns(scored))

    return predict


def singles(scored: Scored) -> list[Prediction]:
    """The replies to rows that came one by one."""
    version, seq = scored.plan.info.version, scored.plan.info.seq
    return [
        Prediction(prediction, low, high, name, bool(drifted), version, seq, imputed or msgspec.UNSET)
        for prediction, low, high, name, drifted, imputed in zip(
            scored.predictions,
            scored.lower,
            scored.upper,
            scored.names,
            scored.drifted,
            scored.imputed,
            strict=True,
        )
    ]


def columns(scored: Scored) -> PredictionColumns:
    """The reply to an array of rows."""
    info = scored.plan.info
    return PredictionColumns(
        scored.predictions,
        scored.lower,
        scored.upper,
        scored.names,
        list(map(bool, scored.drifted)),
        info.version,
        info.seq,
        scored.imputed if any(scored.imputed) else msgspec.UNSET,
    )


@get("/predictions/{name:path}", tags=["predictions"], sync_to_thread=True)
def prediction(request: Request[Any, Any, Any], service: Service, name: str) -> Response[bytes]:
    """A prediction as it was served, with its label when that has come."""
    name = name.removeprefix("/")  # a path parameter, as an id may hold slashes
    service.ledger.flush()
    served = service.ledger.find([name]).get(name)
    with service.journal() as journal:
        record = journal.find(name)
    if served is None and record is None:
        raise NotFoundException(f"no prediction with id {name!r} is known")
    return reply(request, {"served": shown(served), "label": shown(record)})
