"""Bodies of requests in the OpenAPI document, for handlers that decode them themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from litestar.openapi.spec import Example, OpenAPIMediaType, Operation, Parameter, RequestBody

__all__ = ("described",)


def described(
    body: type[msgspec.Struct] | None = None,
    *,
    example: object = None,
    required: Sequence[str] = (),
    query: type[msgspec.Struct] | None = None,
) -> type[Operation]:
    """Return an operation that describes what Litestar does not decode and so cannot know.

    Args:
        body: What the handler decodes the body to; None for no body.
        example: A body that can be sent as it stands.
        required: Fields of it that must be there; empty for those without a default.
        query: What the handler decodes the query to; None for no parameters.
    """
    content = None if body is None else _content(body, example, required)
    parameters = [] if query is None else _parameters(query)

    @dataclass
    class Described(Operation):
        def __post_init__(self) -> None:
            if content is not None:
                self.request_body = RequestBody(content={"application/json": content}, required=True)
            if parameters:
                self.parameters = [*(self.parameters or ()), *parameters]

    return Described


def _content(body: type[msgspec.Struct], example: object, required: Sequence[str]) -> OpenAPIMediaType:
    schema: Any = _schema(body)  # plain JSON Schema is written out as it is
    if required:
        schema["required"] = list(required)
    return OpenAPIMediaType(schema=schema, examples={"example": Example(value=example)})


def _parameters(query: type[msgspec.Struct]) -> list[Parameter]:
    properties: dict[str, Any] = _schema(query)["properties"]
    return [
        Parameter(
            name=name,
            param_in="query",
            required=False,
            description=schema.get("description", ""),
            schema={key: value for key, value in schema.items() if key != "description"},  # type: ignore[arg-type]  # plain JSON Schema is written out as it is
        )
        for name, schema in properties.items()
    ]


def _schema(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the JSON Schema of a type with everything it refers to written out in place."""
    (top,), components = msgspec.json.schema_components((struct,), ref_template="{name}")
    inlined: dict[str, Any] = _inline(top, components)
    return inlined


def _inline(schema: Any, components: dict[str, Any]) -> Any:  # noqa: ANN401 - any part of a JSON document
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inline(components[schema["$ref"]], components)
        # A default of null says no more than that the parameter is not required.
        return {
            name: _inline(part, components)
            for name, part in schema.items()
            if not (name == "required" and not part) and not (name == "default" and not part)
        }
    return [_inline(part, components) for part in schema] if isinstance(schema, list) else schema
