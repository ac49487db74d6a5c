"""A request to the API server, taken apart; an answer, before it is sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import yaml

from tests.simcluster.errors import ApiError
from tests.simcluster.identity import ADMIN, User
from tests.simcluster.protobuf import MEDIA_TYPE, decode
from tests.simcluster.registry import Options

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from tests.simcluster.kinds import Kinds, Resource

__all__ = ("Answer", "Request", "Target", "target_of")


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names.

    Attributes:
        name: Empty for the whole collection.
        subresource: Empty for the object itself.
        rest: Path below a proxy, without a slash before it.
    """

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    rest: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        query: Decoded, the last value of each name.
        raw_query: As it was sent.
        headers: Names in small letters.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    user: User = ADMIN
    raw_query: str = ""

    @property
    def accept(self) -> str:
        """Of the headers."""
        return self.headers.get("accept", "")

    @property
    def content_type(self) -> str:
        """Without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip()

    def flag(self, name: str) -> bool:
        """Read a query parameter that is true or not there."""
        return self.query.get(name, "").lower() in ("true", "1")

    def options(self, warnings: list[str], subresource: str = "") -> Options:
        """Return how a write is to be made."""
        agent = self.headers.get("user-agent", "unknown").partition("/")[0]
        return Options(
            user=self.user,
            manager=self.query.get("fieldManager") or agent or "unknown",
            is_dry_run=self.query.get("dryRun") == "All",
            is_forced=self.flag("force"),
            subresource=subresource,
            warnings=warnings,
        )

    def read(self) -> Any:  # noqa: ANN401 - JSON
        """Decode the body.

        Raises:
            ApiError: 400 when it is malformed, 415 for protobuf of a kind that is not understood.
        """
        if not self.body:
            return {}
        if self.content_type == MEDIA_TYPE:
            return decode(self.body)
        try:
            if self.content_type.endswith("yaml"):
                return yaml.safe_load(self.body)
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, yaml.YAMLError) as error:
            raise ApiError(400, "BadRequest", f"error decoding the body: {error}") from error


@dataclass(slots=True)
class Answer:
    """What is sent back: a body, or pieces as they come.

    Attributes:
        body: Encoded as JSON unless it is bytes.
        pieces: Sent one after another, in chunks; ends with the request.
    """

    code: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    pieces: AsyncIterator[bytes] | None = None

    def encoded(self) -> bytes:
        """Return the bytes of the body."""
        return self.body if isinstance(self.body, bytes) else msgspec.json.encode(self.body)


def target_of(kinds: Kinds, path: str) -> Target | None:
    """Take a path apart; None when it is not that of a kind that is served."""
    parts = path.lstrip("/").split("/")
    if parts[0] == "api" and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and kinds.find(group, version, rest[2]):
        namespace, rest = rest[1], rest[2:]
    resource = kinds.find(group, version, rest[0])
    if resource is None:
        return None
    name, subresource = (*rest[1:3], "", "")[:2]
    return Target(resource, namespace, name, subresource, "/".join(rest[3:]))
