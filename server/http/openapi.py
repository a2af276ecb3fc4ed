"""What ``/docs`` says of the two calls whose rows are the stream's own: typed with its features."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import msgspec
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody

from online.core.schema import Feature, Schema

__all__ = ["label_operation", "row_operation"]

Number = float | None
Text = str | None


def row_struct(schema: Schema, *, labelled: bool) -> type[msgspec.Struct]:
    """A struct of a stream's row: its features by place, an optional id and, when labelled, the target.

    It documents rows. Decoding stays lenient: a dirty value is imputed, not refused. Places stand in for
    names, as msgspec takes no quote or backslash in a field's name.
    """
    fields: list[tuple[str, Any, Any]] = []
    for place, feature in enumerate(schema.used):
        fields.append((f"feature_{place}", documented(feature), None))
    about = msgspec.Meta(description="Joins a label to its prediction; given by the server when left out.")
    fields.append(("id", Annotated[str | int | None, about], None))
    if labelled:
        about = msgspec.Meta(description="The label: a finite number.")
        fields.insert(0, ("target", Annotated[float, about], msgspec.NODEFAULT))
    name = "LabelledRow" if labelled else "FeatureRow"
    return msgspec.defstruct(name, fields, kw_only=True)


def documented(feature: Feature) -> Any:
    """A feature's type with words and an example."""
    if feature.kind == "time":
        return Annotated[
            Text, msgspec.Meta(description="ISO 8601 timestamp", examples=["2026-01-31T13:00:00"])
        ]
    if feature.values:
        about = msgspec.Meta(
            description=f"{feature.kind}: {', '.join(feature.values[:20])}", examples=[feature.values[0]]
        )
        return Annotated[str | float | None, about]
    span = "" if feature.low is None else f", {feature.low:g} to {feature.high:g} at bootstrap"
    about = msgspec.Meta(description=f"{feature.kind}{span}", examples=[feature.low or 0.0])
    return Annotated[Number, about]


def row_schema(schema: Schema, *, labelled: bool) -> dict[str, Any]:
    """The JSON schema of a stream's row, in one piece, by the features' own names."""
    struct = row_struct(schema, labelled=labelled)
    found: dict[str, Any] = msgspec.json.schema(struct)["$defs"][struct.__name__]
    names = {f"feature_{place}": feature.name for place, feature in enumerate(schema.used)}
    names["target"] = schema.target.name
    found["properties"] = {names.get(field, field): about for field, about in found["properties"].items()}
    found["required"] = [names.get(field, field) for field in found["required"]]
    return found


def rows_operation(row: dict[str, Any], extra: tuple[str, ...]) -> type[Operation]:
    """An operation whose body is one row or an array of them, with further media types as text."""
    either: Any = {"oneOf": [row, {"type": "array", "items": row}]}
    content = {
        media: OpenAPIMediaType(schema=either) for media in ("application/json", "application/msgpack")
    }
    text: Any = {"type": "string"}
    content |= {media: OpenAPIMediaType(schema=text) for media in extra}

    @dataclasses.dataclass
    class RowsOperation(Operation):
        def __post_init__(self) -> None:
            self.request_body = RequestBody(content=content, required=True)

    return RowsOperation


def row_operation(schema: Schema) -> type[Operation]:
    """The operation of ``POST /predict``."""
    return rows_operation(row_schema(schema, labelled=False), ("application/x-ndjson", "text/csv"))


def label_operation(schema: Schema) -> type[Operation]:
    """The operation of ``POST /learn``."""
    return rows_operation(row_schema(schema, labelled=True), ("application/x-ndjson", "text/csv"))
