"""CEL, as admission policies use it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import celpy
from celpy.adapter import json_to_cel
from celpy.celparser import CELParseError
from celpy.evaluation import CELEvalError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("ExpressionError", "evaluate", "to_cel")


class ExpressionError(Exception):
    """An expression cannot be compiled, or has no value for this input."""


@lru_cache(maxsize=512)
def _program(expression: str) -> celpy.Runner:
    environment = celpy.Environment()
    try:
        return environment.program(environment.compile(expression))
    except CELParseError as error:
        raise ExpressionError(f"compilation failed: {error}") from error


def to_cel(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Turn JSON into values of CEL."""
    return None if value is None else json_to_cel(value)


def evaluate(expression: str, inputs: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a value of CEL
    """Return the value of an expression.

    Args:
        inputs: Values of CEL by the name of the variable.

    Raises:
        ExpressionError: There is none.
    """
    try:
        result = _program(expression).evaluate(dict(inputs))
    except CELEvalError as error:
        raise ExpressionError(str(error)) from error
    if isinstance(result, CELEvalError):
        raise ExpressionError(str(result))
    return result
