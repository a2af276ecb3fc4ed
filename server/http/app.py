"""The Litestar app of one scorer worker."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide
from litestar.enums import ScopeType
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import CollectorRegistry

from online.core.config import Config
from online.core.home import Home
from online.core.schema import Schema
from server.http.fast_path import FALLBACK_REASONS, LEARN, PREDICT, FastPath
from server.http.problems import exception_handlers, problem_plugin
from server.http.routes import admin_routes, label_routes, learn_routes, predict_routes, state_routes
from server.http.service import Service
from server.observability.logs import HEADER, REQUEST, RequestIds
from server.observability.metrics import Metrics

__all__ = ["create_app"]

log = logging.getLogger(__name__)


def create_app(home: Home, config: Config) -> FastPath:
    """Build the app; files are opened when it starts, closed when it stops.

    Parameters
    ----------
    home, config
        The stream served.

    Returns
    -------
    FastPath
        The ASGI app, Litestar's routes behind it.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        metrics = Metrics(CollectorRegistry())
        metrics.expose_fallbacks((PREDICT, LEARN), FALLBACK_REASONS)
        service = Service(home, config, metrics)
        app.state.service = service
        try:
            yield
        finally:
            service.close()

    version = importlib.metadata.version("millrace")
    app = Litestar(
        route_handlers=routes(config.schema),
        dependencies={"service": Provide(service_of, sync_to_thread=False)},
        signature_types=[Service],
        lifespan=[lifespan],
        middleware=[timed],
        plugins=[problem_plugin()],
        exception_handlers=exception_handlers(),
        request_max_body_size=config.server.max_body_bytes,
        openapi_config=OpenAPIConfig(
            title=f"Millrace: {config.stream}",
            version=version,
            path="/docs",
            description="Predictions that keep learning from their labels.",
            render_plugins=[SwaggerRenderPlugin()],
        ),
        logging_config=None,  # observability.logs sets it up
        state=State({"request_ids": RequestIds()}),
    )
    return FastPath(app)


def routes(schema: Schema) -> list[HTTPRouteHandler]:
    """Every route, documented with the stream's own features."""
    return [
        predict_routes.predict_route(schema),
        predict_routes.prediction,
        learn_routes.learn_route(schema),
        learn_routes.quarantine,
        learn_routes.release,
        learn_routes.discard,
        label_routes.labels_wanted,
        state_routes.model,
        state_routes.snapshots,
        state_routes.alarms,
        state_routes.drift,
        state_routes.outcomes,
        state_routes.weights,
        state_routes.errors,
        state_routes.live,
        state_routes.ready,
        state_routes.metrics,
        admin_routes.snapshot,
        admin_routes.rollback,
        admin_routes.pin,
        admin_routes.unpin,
    ]


def service_of(state: State) -> Service:
    """The worker's service."""
    service: Service = state.service
    return service


def timed(app: ASGIApp) -> ASGIApp:
    """Middleware: gives each request its id, and counts how long its route takes."""

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        code = "500"
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        request_id = scope["litestar_app"].state.request_ids.name(scope["headers"])
        REQUEST.set(request_id)

        async def send_with_id(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = str(message["status"])
                message["headers"] = [*message["headers"], (HEADER, request_id.encode())]
            await send(message)

        try:
            await app(scope, receive, send_with_id)
        finally:
            count_and_log(scope, code, time.perf_counter() - began)

    return middleware


def count_and_log(scope: Any, code: str, seconds: float) -> None:
    """Count a request under its route's template, not its path: a path may be anything."""
    handler = scope.get("route_handler")
    route = min(handler.paths) if handler is not None else "unknown"
    scope["litestar_app"].state.service.metrics.count_request(route, code, seconds)
    level = level_of(scope["method"], route, code)
    if log.isEnabledFor(level):
        fields = {"route": route, "status": int(code), "milliseconds": round(1000 * seconds, 3)}
        log.log(level, "%s %s answered %s", scope["method"], route, code, extra={"fields": fields})


def level_of(method: str, route: str, code: str) -> int:
    """The log level of a request: failures most, then admin calls and what was refused, then the rest."""
    if code >= "500":
        return logging.ERROR
    admin_call = method == "POST" and route not in (PREDICT, LEARN)
    return logging.INFO if admin_call or code >= "400" else logging.DEBUG
