"""What was observed, once, before any check looks at it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ("Autoscaler", "Place", "Setting", "Snapshot", "Workload")


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was read.

    Attributes:
        source: File as the user named it; ``-`` is standard input.
        document: Position of the YAML document in the file, counted from 1.
    """

    source: str
    document: int


@dataclass(frozen=True, slots=True)
class Setting:
    """One value as it stands in a document, not yet judged.

    Attributes:
        field: Dotted path from the document's root, such as ``spec.replicas``.
        value: An int, or the text of anything else that stands there; None when the field is absent or null.
    """

    field: str
    value: int | str | None


@dataclass(frozen=True, slots=True)
class Workload:
    """Something that runs copies of a container.

    Attributes:
        kind: Kubernetes kind, ``Service (compose)``, or ``Kustomization`` for an entry that overrides a count.
        name: Its name; empty when the document gives none.
        counts: Every setting that says how many copies run; a copy count of None means the platform's default, 1.
        runs_everywhere: One copy on each node, whatever the counts say.
        replacement: How old and new copies follow each other on an update; None where the kind cannot overlap them
            or has no such setting.
    """

    kind: str
    name: str
    place: Place
    counts: tuple[Setting, ...]
    runs_everywhere: Setting | None = None
    replacement: Setting | None = None

    @property
    def subject(self) -> str:
        """Name for people."""
        return f"{self.kind} {self.name or '(unnamed)'}"


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """Something that changes a workload's copy count by itself.

    Attributes:
        target: Name of the workload that it scales; empty when the document does not say.
        ceiling: The most copies it may ask for.
        default_ceiling: What an absent ceiling means; None when the platform requires one.
    """

    kind: str
    name: str
    target: str
    place: Place
    ceiling: Setting
    default_ceiling: int | None = None

    @property
    def subject(self) -> str:
        """Name for people."""
        return f"{self.kind} {self.name or '(unnamed)'}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that was read, frozen.

    Attributes:
        document_count: YAML documents read, also those that hold neither workload nor autoscaler.
    """

    workloads: tuple[Workload, ...]
    autoscalers: tuple[Autoscaler, ...]
    document_count: int

    def only(self, names: frozenset[str]) -> Snapshot:
        """Return what concerns the workloads of these names; an empty set keeps everything."""
        if not names:
            return self
        return Snapshot(
            workloads=tuple(workload for workload in self.workloads if workload.name in names),
            autoscalers=tuple(scaler for scaler in self.autoscalers if scaler.target in names),
            document_count=self.document_count,
        )
