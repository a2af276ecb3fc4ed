"""The Litestar app of one scorer worker."""

from __future__ import annotations

import contextlib
import importlib.metadata
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

from online.config import Config
from online.home import Home
from server.lane import FastLane
from server.metrics import Metrics
from server.problems import exception_handlers, problem_plugin
from server.routes import admin, learn, predict, state
from server.service import Service

__all__ = ["create_app"]


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
            learn.learn_route(config.schema), learn.quarantine, learn.release,
            state.model, state.snapshots, state.alarms, state.outcomes, state.weights, state.errors,
            state.live, state.ready, state.metrics, admin.snapshot, admin.rollback,
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
    )  # fmt: skip
    return FastLane(app)


def service_of(state: State) -> Service:
    """The worker's service."""
    found: Service = state.service
    return found


def timed(app: ASGIApp) -> ASGIApp:
    """Middleware: how long each route takes, by status."""

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        code = "500"

        async def noting(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = str(message["status"])
            await send(message)

        try:
            await app(scope, receive, noting)
        finally:
            if scope["type"] == ScopeType.HTTP:
                observe(scope, code, time.perf_counter() - began)

    return middleware


def observe(scope: Any, code: str, seconds: float) -> None:
    """Note a request under its route's template, not its path."""
    handler = scope.get("route_handler")
    route = min(handler.paths) if handler is not None else "unknown"
    scope["litestar_app"].state.service.metrics.count_request(route, code, seconds)
