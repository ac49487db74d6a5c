"""A mapping out of a document, with the way to it, so that what is said of it can name file, field and line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deploytool.model.finding import Evidence

if TYPE_CHECKING:
    from deploytool.model.finding import Scalar

__all__ = ("Lined", "Node", "Place", "Setting")

_SCALARS = (str, int, float, bool)
_LONGEST_SEEN = 400


class Lined(dict[Any, Any]):
    """A mapping that knows on which line each of its keys stands."""

    __slots__ = ("lines",)

    def __init__(self, content: Mapping[Any, Any], lines: Mapping[Any, int]) -> None:
        super().__init__(content)
        self.lines = lines


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was read.

    Attributes:
        source: File as the user named it, ``-`` for standard input, or the path that was asked of the API server.
        document: Position of the YAML document in the file, counted from 1; None where it is no such file.
        at: When, in unix seconds; None means when the report is made.
    """

    source: str
    document: int | None = None
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """One value as it stands in a document, not yet judged.

    Attributes:
        field: Dotted path from the document's root, such as ``spec.replicas``.
        value: None when the field is absent or null; a description in brackets of what is no scalar.
        line: In the file, counted from 1; None when it is not known.
    """

    field: str
    value: Scalar
    place: Place
    line: int | None = None

    @property
    def evidence(self) -> Evidence:
        """The value as evidence."""
        return Evidence(self.place.source, self.field, self.value, self.place.document, self.line, self.place.at)

    @property
    def count(self) -> int | None:
        """The value when it is a plain whole number that is not negative; else None."""
        value = self.value
        return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


@dataclass(frozen=True, slots=True)
class Node:
    """A mapping inside a document.

    Whatever is asked of it is answered: what is absent, or is of another kind than was asked for, is empty.
    An object of the cluster is ``Node(Place("GET /apis/...", at=...), raw_dictionary)``.
    """

    place: Place
    content: Mapping[Any, Any]
    path: str = ""

    def __contains__(self, key: str) -> bool:
        """Whether something other than null stands under the key."""
        return self.content.get(key) is not None

    def child(self, *keys: str) -> Node:
        """Return the mapping that the keys lead to; an empty one when there is none."""
        node = self
        for key in keys:
            value = node.content.get(key)
            node = Node(node.place, value if isinstance(value, Mapping) else {}, f"{node.path}{key}.")
        return node

    def children(self, key: str) -> tuple[Node, ...]:
        """Return the mappings in the list under ``key``."""
        value = self.content.get(key)
        entries = value if isinstance(value, list) else ()
        return tuple(
            Node(self.place, entry, f"{self.path}{key}[{index}].")
            for index, entry in enumerate(entries)
            if isinstance(entry, Mapping)
        )

    def named(self) -> tuple[tuple[str, Node], ...]:
        """Return the mappings in here by their keys."""
        return tuple((str(key), self.child(key)) for key, value in self.content.items() if isinstance(value, Mapping))

    def texts(self, key: str) -> tuple[str, ...]:
        """Return the scalars in the list under ``key`` as text."""
        value = self.content.get(key)
        return tuple(str(one) for one in value if isinstance(one, _SCALARS)) if isinstance(value, list) else ()

    def text(self, key: str) -> str:
        """Return the scalar under ``key`` as text; empty when there is none."""
        value = self.content.get(key)
        return str(value) if isinstance(value, _SCALARS) else ""

    def setting(self, key: str) -> Setting:
        """Return what stands under ``key``."""
        return Setting(f"{self.path}{key}", _scalar(self.content.get(key)), self.place, self.line(key))

    def line(self, key: str) -> int | None:
        """Return the line on which a key stands; None when that is not known."""
        return self.content.lines.get(key) if isinstance(self.content, Lined) else None

    @property
    def first_line(self) -> int | None:
        """The line on which the mapping begins; None when that is not known."""
        return min(self.content.lines.values(), default=None) if isinstance(self.content, Lined) else None

    @property
    def kind(self) -> str:
        """Kind of a Kubernetes object; empty when it is none."""
        return self.text("kind")

    @property
    def name(self) -> str:
        """Name of a Kubernetes object; empty when it has none."""
        metadata = self.child("metadata")
        return metadata.text("name") or metadata.text("generateName")

    @property
    def namespace(self) -> str:
        """Namespace of a Kubernetes object; empty when it names none."""
        return self.child("metadata").text("namespace")

    @property
    def subject(self) -> str:
        """A Kubernetes object for people."""
        return f"{self.kind} {self.name or '(unnamed)'}"


def _scalar(value: object) -> Scalar:
    if isinstance(value, str) and len(value) > _LONGEST_SEEN:
        return f"{value[:_LONGEST_SEEN]}…"
    if value is None or isinstance(value, _SCALARS):
        return value
    # Never as a whole: aliases can make a small file endlessly large.
    return "(a mapping)" if isinstance(value, Mapping) else "(a list)" if isinstance(value, list) else str(value)[:80]
