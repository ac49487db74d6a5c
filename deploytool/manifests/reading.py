"""Finds the files that were named, tells what each is, and puts them together."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploytool.errors import ManifestError
from deploytool.manifests import charts, compose, nginx
from deploytool.manifests.documents import MAX_BYTES, load
from deploytool.model.finding import Depth
from deploytool.model.node import Lined, Node, Place
from deploytool.model.observations import Unseen
from deploytool.model.snapshot import Snapshot, Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from deploytool.model.nginx import Directive

__all__ = ("STDIN", "Reading", "parse", "read")

STDIN = "-"

_DOCUMENTS = frozenset({".yaml", ".yml", ".json"})
_NGINX = ".conf"
_KUSTOMIZATIONS = frozenset({"kustomization.yaml", "kustomization.yml", "Kustomization"})
_VALUES = frozenset({"replicaCount", "autoscaling"})
_MOST_FILES = 10_000
_MOST_INCLUDED = 500


@dataclass(slots=True)
class Reading:
    """What was read so far.

    Attributes:
        environment: Variables for compose files, over those of a file ``.env`` beside them.
        value_files: Names and contents of values files for charts.
        assignments: Values for charts, as ``helm --set`` takes them.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    value_files: Sequence[tuple[str, bytes]] = ()
    assignments: Sequence[str] = ()
    _objects: list[Node] = field(default_factory=list)
    _compose: list[Node] = field(default_factory=list)
    _values: list[Node] = field(default_factory=list)
    _proxies: list[Directive] = field(default_factory=list)
    _unrendered: dict[str, Unseen] = field(default_factory=dict)
    _document_count: int = 0

    def add_documents(self, source: str, data: bytes, *, is_lined: bool = True) -> None:
        """Read a file of YAML or JSON.

        Args:
            source: Name of the file, for findings and errors.
            data: Its content, in UTF-8 or in UTF-16 with a byte order mark.
            is_lined: Whether its lines mean something to a person; those of a rendered chart do not.

        Raises:
            ManifestError: It cannot be read.
        """
        for index, document in enumerate(load(source, data), start=1):
            self._document_count += 1
            if isinstance(document, dict):
                self._add(source, Node(Place(source, index), document if is_lined else _bare(document)))

    def _add(self, source: str, node: Node) -> None:
        if not node.kind and isinstance(node.content.get("services"), dict):
            variables = {**_beside(source), **self.environment}
            services = Node(node.place, compose.interpolated(node.content, variables)).child("services")
            self._compose.extend(service for _, service in services.named())
            return
        if not node.kind and Path(source).name in _KUSTOMIZATIONS:
            node = Node(node.place, {**node.content, "kind": "Kustomization"})
        if not node.kind and node.content.keys() & _VALUES:
            self._values.append(node)
        else:
            self._objects.extend(_items(node))

    def add_proxy(self, source: str, data: bytes) -> None:
        """Read a configuration of nginx, and the files beside it that it includes.

        Raises:
            ManifestError: It cannot be read.
        """
        text = _text(source, data)
        self._proxies.append(nginx.parse(source, text, _Includes(source)))

    def add_chart(self, folder: Path) -> None:
        """Render a chart and read what comes out, or else its values alone.

        Raises:
            ManifestError: Its values cannot be read.
        """
        given = charts.values_of(self.value_files)
        found = charts.rendered(folder, given, self.assignments)
        if not isinstance(found, Unseen):
            for name, text in found.items():
                self.add_documents(str(folder / name), text.encode(), is_lined=False)
            return
        self._unrendered[str(folder)] = found
        own = folder / "values.yaml"
        base = charts.values_of([(str(own), _bytes(own))]) if own.is_file() else {}
        source = ", ".join(name for name, _ in self.value_files) or str(own)
        self._values.append(Node(Place(source), charts.merged(base, given)))

    def add_path(self, path: str) -> None:
        """Read a file, a directory with everything in it, or standard input.

        Raises:
            ManifestError: It does not exist, cannot be read, or holds nothing that could be.
        """
        if path == STDIN:
            self.add_documents(STDIN, sys.stdin.buffer.read(MAX_BYTES + 1))
            return
        try:
            self._add_existing(Path(path))
        except FileNotFoundError as error:
            raise ManifestError(path, "no such file or directory") from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ManifestError(path, f"cannot be read: {reason}") from error

    def _add_existing(self, path: Path) -> None:
        if not path.is_dir():
            self._add_file(path)
            return
        found = 0
        for file in _files(path):
            found += 1
            if file.name == charts.CHART_FILE:
                self.add_chart(file.parent)
            elif file.suffix != _NGINX:
                self._add_file(file)
            elif nginx.is_likely(_bytes(file).decode("utf-8", "replace")):
                self.add_proxy(str(file), _bytes(file))
            else:
                found -= 1
        if not found:
            raise ManifestError(str(path), "no chart, and no .yaml, .yml, .json or nginx .conf file in this directory")

    def _add_file(self, file: Path) -> None:
        data = _bytes(file)
        if file.name == charts.CHART_FILE:
            self.add_chart(file.parent)
        elif file.suffix == _NGINX:
            self.add_proxy(str(file), data)
        else:
            self.add_documents(str(file), data)

    def snapshot(self, sources: Sequence[str], at: float) -> Snapshot:
        """Return everything that was read.

        Args:
            sources: The paths as the user named them.
            at: Now, in unix seconds.
        """
        return Snapshot(
            Depth.OFFLINE,
            at,
            Target(sources=tuple(sources)),
            objects=tuple(self._objects),
            compose=tuple(self._compose),
            values=tuple(self._values),
            unrendered=self._unrendered,
            proxies=tuple(self._proxies),
            document_count=self._document_count,
        )


def read(paths: Sequence[str], at: float, reading: Reading | None = None) -> Snapshot:
    """Read files, directories (recursively) and standard input.

    Args:
        paths: In the order in which findings are to be reported; ``-`` is standard input. Hidden folders and
            ``node_modules`` inside a named directory are passed over; a folder with a Chart.yaml is a chart.
        at: Now, in unix seconds.
        reading: How to read them; None for without values and variables.

    Raises:
        ManifestError: A path does not exist, cannot be read, or is a directory without anything to read.
    """
    reading = reading or Reading()
    for path in paths:
        reading.add_path(path)
    return reading.snapshot(paths, at)


def parse(source: str, data: bytes, at: float = 0.0) -> Snapshot:
    """Read the documents of one file that is at hand.

    Args:
        source: Name of the file, for findings and errors; one that ends in ``.conf`` is nginx's.
        data: Its content.
        at: Now, in unix seconds.

    Raises:
        ManifestError: It cannot be read.
    """
    reading = Reading()
    if source.endswith(_NGINX):
        reading.add_proxy(source, data)
    else:
        reading.add_documents(source, data)
    return reading.snapshot([source], at)


def _files(root: Path) -> Iterator[Path]:
    """Yield the files to read below a folder, sorted; of a chart its Chart.yaml alone. Linked folders are left out."""
    count = 0
    for folder, folders, found in os.walk(root, followlinks=False):
        names = [charts.CHART_FILE] if charts.CHART_FILE in found else found
        if names is not found:
            folders.clear()
        folders[:] = sorted(one for one in folders if not one.startswith(".") and one != "node_modules")
        for name in sorted(names):
            file = Path(folder, name)
            if file.suffix in {*_DOCUMENTS, _NGINX} and not name.startswith(".") and file.is_file():
                count += 1
                if count > _MOST_FILES:
                    raise ManifestError(str(root), f"more than {_MOST_FILES:,} files to read; name a smaller folder")
                yield file


def _bytes(file: Path) -> bytes:
    if file.exists() and not file.is_file():
        raise ManifestError(str(file), "is no regular file")
    with file.open("rb") as opened:
        data = opened.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ManifestError(str(file), f"larger than {MAX_BYTES // 1024**2} MiB")
    return data


def _text(source: str, data: bytes) -> str:
    if b"\0" in data:
        raise ManifestError(source, "not text")
    return data.decode("utf-8", "replace")


class _Includes:
    """Reads what a configuration of nginx includes, when it is below its own folder; counts, since that may circle."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._folder = Path(source).parent
        self._count = 0

    def __call__(self, pattern: str) -> list[tuple[str, str]]:
        """Return names and contents of the files that an ``include`` stands for."""
        parts = Path(pattern).parts
        if not parts or Path(pattern).is_absolute() or {"..", "**"} & {*parts}:
            return []
        found = [file for file in sorted(self._folder.glob(pattern)) if file.is_file()]
        self._count += len(found)
        if self._count > _MOST_INCLUDED:
            raise ManifestError(self._source, f"includes more than {_MOST_INCLUDED} files")
        return [(str(file), _text(str(file), _bytes(file))) for file in found]


def _beside(source: str) -> Mapping[str, str]:
    file = Path(source).parent / ".env"
    if source == STDIN or not file.is_file():
        return {}
    return compose.dotenv(_text(str(file), _bytes(file)))


def _items(node: Node) -> Iterator[Node]:
    """Yield the objects of a document, those inside a ``List`` one by one."""
    if node.kind.endswith("List") and isinstance(node.content.get("items"), list):
        yield from node.children("items")
    else:
        yield node


def _bare(document: Any) -> Any:  # noqa: ANN401  # any document
    """Return a document without its lines."""
    if isinstance(document, Lined):
        return {key: _bare(value) for key, value in document.items()}
    return [_bare(one) for one in document] if isinstance(document, list) else document
