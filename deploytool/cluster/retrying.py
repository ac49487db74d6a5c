"""Which errors of the API server may be over in a moment."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from deploytool.cluster.errors import AnswerError, ConflictError, UnreachableError
from deploytool.rollout.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("transient",)


@contextmanager
def transient() -> Iterator[None]:
    """Raise as `TransientError` what may be over in a moment: no answer, a conflict, an error of the server."""
    try:
        yield
    except (UnreachableError, ConflictError, AnswerError) as error:
        raise TransientError(str(error), retry_seconds=error.retry_seconds) from error
