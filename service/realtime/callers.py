"""Who sends a request of the server API: the operator, or an organization with a key of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.auth.api_keys import OPERATOR, ApiKey, ApiKeyFault, Caller, presented_key
from service.core.codes import Error, Errors
from service.errors import DatabaseError
from service.realtime.organizations import TooMany

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.realtime.organizations import Organizations

__all__ = ("Callers", "Stranger")

_RETRY_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Stranger:
    """A request whose key does not let it in, at least not now.

    Attributes:
        error: ``UNAUTHORIZED``; ``TOO_MANY_REQUESTS`` for a good key that is used too often; ``INTERNAL``
            when the database does not say whether it is a good one.
        text: For whoever reads the answer.
        retry_after: Seconds; 0 when to try again is of no use.
    """

    error: Error
    text: str
    retry_after: int = 0


class Callers:
    """Finds out who a request is from.

    Args:
        key: The operator's.
        organizations: Know the others.
    """

    __slots__ = ("_key", "_organizations")

    def __init__(self, key: ApiKey, organizations: Organizations) -> None:
        self._key = key
        self._organizations = organizations

    async def identify(
        self, x_api_key: Sequence[str], authorization: Sequence[str] = (), *, in_url: bool = False
    ) -> Caller | Stranger:
        """Decide over a request; the arguments are those of `ApiKey.check`."""
        fault = self._key.check(x_api_key, authorization, in_url=in_url)
        if fault is None:
            return OPERATOR
        if fault is not ApiKeyFault.WRONG:
            return Stranger(Errors.UNAUTHORIZED, fault.value)
        presented = presented_key(x_api_key, authorization)
        try:
            found = await self._organizations.identify(presented) if isinstance(presented, str) else presented
        except DatabaseError:
            text = "the database does not answer, so that the key cannot be looked up"
            return Stranger(Errors.INTERNAL, text, retry_after=_RETRY_SECONDS)
        if isinstance(found, TooMany):
            return Stranger(Errors.TOO_MANY_REQUESTS, "this key has used up its minute", found.retry_after)
        return found if isinstance(found, Caller) else Stranger(Errors.UNAUTHORIZED, found.value)
