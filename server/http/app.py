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
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import CollectorRegistry

from online.core.config import Config
from online.core.home import Home
from server.http.fast_path import FastLane
from server.http.problems import exception_handlers, problem_plugin
from server.http.routes import admin_routes as admin
from server.http.routes import label_routes as labels
from server.http.routes import learn_routes as learn
from server.http.routes import predict_routes as predict
from server.http.routes import state_routes as state
from server.http.service import Service
from server.observability.logs import HEADER, REQUEST, RequestIds
from server.observability.metrics import Metrics

__all__ = ["create_app"]

log = logging.getLogger(__name__)


def create_app(home: Home, config: Config) -> FastLane:
    """Build the app; files are opened when it starts, closed when it stops."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        service = Service(home, config, Metrics(CollectorRegistry()))
        app.state.service = service
        try:
            yield
        finally:
            service.close()

    app = Litestar(
        route_handlers=[
            predict.predict_route(config.schema), predict.prediction,
            learn.learn_route(config.schema), learn.quarantine, learn.release, learn.discard,
            labels.labels_wanted,
            state.model, state.snapshots, state.alarms, state.drift, state.outcomes,
            state.weights, state.errors,
            state.live, state.ready, state.metrics, admin.snapshot, admin.rollback, admin.pin, admin.unpin,
        ],
        dependencies={"service": Provide(service_of, sync_to_thread=False)},
        signature_types=[Service],
        lifespan=[lifespan],
        middleware=[timed],
        plugins=[problem_plugin()],
        exception_handlers=exception_handlers(),
        request_max_body_size=config.server.max_body_bytes,
        openapi_config=OpenAPIConfig(
            title=f"Millrace: {config.stream}", version=importlib.metadata.version("millrace"), path="/docs",
            description="Predictions that keep learning from their labels.",
            render_plugins=[SwaggerRenderPlugin()],
        ),
        logging_config=None,
        state=State({"requests": RequestIds()}),
    )  # fmt: skip
    return FastLane(app)


def service_of(state: State) -> Service:
    """The worker's service."""
    found: Service = state.service
    return found


def timed(app: ASGIApp) -> ASGIApp:
    """Middleware: each request has a name, and how long its route takes is noted by status."""

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        code = "500"
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        name = scope["litestar_app"].state.requests.name(scope["headers"])
        REQUEST.set(name)

        async def noting(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = str(message["status"])
                message["headers"] = [*message["headers"], (HEADER, name.encode())]
            await send(message)

        try:
            await app(scope, receive, noting)
        finally:
            observe(scope, code, time.perf_counter() - began)

    return middleware


def observe(scope: Any, code: str, seconds: float) -> None:
    """Note a request under its route's template, not its path."""
    handler = scope.get("route_handler")
    route = min(handler.paths) if handler is not None else "unknown"
    scope["litestar_app"].state.service.metrics.count_request(route, code, seconds)
    level = level_of(scope["method"], route, code)
    if log.isEnabledFor(level):
        fields = {"route": route, "status": int(code), "milliseconds": round(1000 * seconds, 3)}
        log.log(level, "%s %s answered %s", scope["method"], route, code, extra={"fields": fields})


def level_of(method: str, route: str, code: str) -> int:
    """How much a request is worth telling: failures most, then orders, then what was refused."""
    if code >= "500":
        return logging.ERROR
    ordered = method == "POST" and route not in ("/predict", "/learn")
    return logging.INFO if ordered or code >= "400" else logging.DEBUG
