"""``GET /labels/wanted``: which labels would help most."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.params import Parameter

from online.drift.store import PredictionReader
from online.labels.label_queries import choose_queries
from server.http.bodies import reply
from server.http.service import Service

__all__ = ["labels_wanted"]

Budget = Annotated[int, Parameter(ge=1, le=10_000, description="How many rows at most.")]
Share = Annotated[float, Parameter(ge=0, le=1, description="Share of them drawn at random.")]
Last = Annotated[int, Parameter(ge=1, le=50_000, description="How many served rows back.")]


@get("/labels/wanted", tags=["labels"], sync_to_thread=True)
def labels_wanted(
    request: Request[Any, Any, Any],
    service: Service,
    budget: Budget = 100,
    random: Share = 0.2,
    last: Last = 5000,
) -> Response[bytes]:
    """Served rows without a label whose labels would help most, with reasons; some are drawn at random."""
    service.ledger.flush()
    reader = PredictionReader(service.home.ledger, service.config.schema)
    try:
        rows = [one for _, one in reader.newest(last)]
    finally:
        reader.close()
    with service.journal() as journal:
        known = journal.labelled_ids([one.id for one in rows])
    unlabelled = [one for one in rows if one.id not in known]
    return reply(
        request,
        {
            "wanted": choose_queries(unlabelled, service.segments, budget, random),
            "unlabelled": len(unlabelled),
        },
    )
