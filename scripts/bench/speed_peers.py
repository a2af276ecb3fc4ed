"""What Millrace is measured beside, one server a call:

    python scripts/bench/speed_peers.py asgi      --fd N             an ASGI app that echoes the body
    python scripts/bench/speed_peers.py litestar  --fd N             the same as a Litestar @asgi handler
    python scripts/bench/speed_peers.py fastapi   --fd N --rows FILE  FastAPI, a typed body, River's ARF-10

All on uvicorn with the settings Millrace has. Stands alone, as another Python may run it: one with FastAPI.
"""

from __future__ import annotations

import argparse
import json
import socket
from pathlib import Path
from typing import Any

import uvicorn


async def body_of(receive: Any) -> bytes:
    """A request's whole body."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)


async def echo(receive: Any, send: Any) -> None:
    """Answer with what was sent."""
    body = await body_of(receive)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def asgi_app(_: Path | None) -> Any:
    """The raw echo."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await echo(receive, send)

    return app


def litestar_app(_: Path | None) -> Any:
    """The echo in Litestar."""
    from litestar import Litestar, asgi

    @asgi("/predict", copy_scope=False)
    async def predict(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001 - Litestar's signature
        await echo(receive, send)

    return Litestar([predict], openapi_config=None, logging_config=None)


def fastapi_app(rows: Path | None) -> Any:
    """FastAPI before a forest of River's, which has learned some rows."""
    from fastapi import FastAPI
    from pydantic import create_model
    from river import forest

    if rows is None:
        raise SystemExit("give --rows")
    content = json.loads(rows.read_text())
    model = forest.ARFRegressor(n_models=10, seed=1)
    first = content["rows"][0]
    texts = {name for name, value in first.items() if isinstance(value, str)}  # the forest's lines take none
    for row, target in zip(content["rows"], content["labels"], strict=True):
        model.learn_one({name: value for name, value in row.items() if name not in texts}, target)
    fields: dict[str, Any] = {name: (type(value), ...) for name, value in first.items()}
    row_type = create_model("Row", **fields)
    app = FastAPI()

    async def predict(row: row_type) -> dict[str, float]:  # type: ignore[valid-type]
        return {"prediction": model.predict_one(row.model_dump(exclude=texts))}  # type: ignore[attr-defined]

    predict.__annotations__["row"] = row_type
    app.post("/predict")(predict)
    return app


APPS = {"asgi": asgi_app, "litestar": litestar_app, "fastapi": fastapi_app}


def main() -> None:
    """Serve one of them on a bound socket."""
    parser = argparse.ArgumentParser()
    parser.add_argument("app", choices=list(APPS))
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--rows", type=Path)
    given = parser.parse_args()
    app = APPS[given.app](given.rows)
    settings = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)
    uvicorn.Server(settings).run(sockets=[socket.socket(fileno=given.fd)])


if __name__ == "__main__":
    main()
