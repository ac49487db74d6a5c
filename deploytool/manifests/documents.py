"""Reads YAML and JSON, with the line of each key; the only importer of a YAML parser in the deploy tool.

Files come from anywhere, so nothing in them may cost much: what is too large, too deep, or made large by aliases is
refused with a sentence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from typing_extensions import override

from deploytool.errors import ManifestError
from deploytool.model.node import Lined

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ("MAX_BYTES", "load")

MAX_BYTES = 16 * 1024 * 1024
"""Longest file that is read."""

_MAX_VALUES = 200_000
_MAX_DEPTH = 200
_HARMLESS_BYTES = 4096
_MERGE = "tag:yaml.org,2002:merge"

# The parser in C is ten times as fast; PyYAML is installed without it where there is no wheel.
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]  # one of two classes
    """Safe loader that remembers lines, and refuses a key given twice, since only one of the two would be looked at."""

    @override
    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Put merged keys in, and stop where merges of merges grow without end."""
        # A merge list that names the same big mapping again and again doubles at each level.
        for key, value in node.value:
            if key.tag == _MERGE and isinstance(value, yaml.SequenceNode):
                total = sum(len(one.value) for one in value.value if isinstance(one, yaml.MappingNode))
                if total > _MAX_VALUES:
                    raise yaml.MarkedYAMLError(problem="merges grow without end", problem_mark=key.start_mark)
        super().flatten_mapping(node)
        if len(node.value) > _MAX_VALUES:
            raise yaml.MarkedYAMLError(problem="merges grow without end", problem_mark=node.start_mark)

    def lined_mapping(self, node: yaml.MappingNode) -> dict[Hashable, Any]:
        """Construct a mapping with the line of each key."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen and key.tag != _MERGE:
                    problem = f"the key {key.value[:60]!r} is given twice"
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
                seen.add(key.value)
        content = self.construct_mapping(node)
        lines = {key.value: key.start_mark.line + 1 for key, _ in node.value if isinstance(key, yaml.ScalarNode)}
        return Lined(content, lines)

    def tagged(self, node: yaml.Node) -> object:
        """Construct what one of compose's own tags stands before."""
        if isinstance(node, yaml.MappingNode):
            return self.lined_mapping(node)
        return self.construct_sequence(node) if isinstance(node, yaml.SequenceNode) else None


_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.lined_mapping)
# Source: https://docs.docker.com/reference/compose-file/merge/
_Loader.add_constructor("!override", _Loader.tagged)
_Loader.add_constructor("!reset", _Loader.tagged)


def load(source: str, data: bytes) -> list[object]:
    """Return the documents of one file; mappings know the lines of their keys.

    Args:
        source: Name of the file, for errors.
        data: Its content, in UTF-8 or in UTF-16 with a byte order mark.

    Raises:
        ManifestError: It is not YAML, has a key twice in one mapping, or is made to be expensive.
    """
    if len(data) > MAX_BYTES:
        raise ManifestError(source, f"larger than {MAX_BYTES // 1024**2} MiB")
    try:
        _refuse_depth(source, data)
        documents = list(yaml.load_all(data, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        raise _marked(source, data, error) from error
    except yaml.reader.ReaderError as error:
        raise ManifestError(source, f"not text: {error.reason}") from error
    except RecursionError as error:
        raise ManifestError(source, "nested too deeply") from error
    except ValueError as error:  # such as the 30th of February, which the parser takes for a date
        raise ManifestError(source, f"not valid YAML: {error}") from error
    _refuse_bombs(source, documents)
    return documents


def _refuse_depth(source: str, data: bytes) -> None:
    """Look at events alone first: the parser in C overflows the stack of the process where nesting has no end."""
    if len(data) <= _HARMLESS_BYTES:
        return
    depth = 0
    for event in yaml.parse(data, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_DEPTH:
                line = event.start_mark.line + 1 if event.start_mark else None
                raise ManifestError(source, "nested too deeply", line=line)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _marked(source: str, data: bytes, error: yaml.MarkedYAMLError) -> ManifestError:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
    problem = error.problem or error.context or "it cannot be read"
    if b"{{" in data:
        problem = (
            "not YAML but a template, it seems; name the chart's directory, or render it first (helm template ...)"
        )
        return ManifestError(source, problem, line=line, column=column)
    if "depth" in problem:
        return ManifestError(source, "nested too deeply", line=line, column=column)
    return ManifestError(source, f"not valid YAML: {problem}", line=line, column=column)


def _refuse_bombs(source: str, documents: list[object]) -> None:
    """Count values as whoever follows every alias would; a few lines can stand for billions."""
    waiting: list[object] = list(documents)
    count = 0
    while waiting:
        value = waiting.pop()
        count += 1
        if count > _MAX_VALUES:
            raise ManifestError(source, f"more than {_MAX_VALUES:,} values, counting what aliases repeat")
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
