"""Protobuf of the API, only as far as Helm and kubectl speak it to what is tested: read, and never written.

Source: k8s.io/apimachinery ``runtime.Unknown`` and the published ``generated.proto`` files.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from tests.simcluster.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ("MEDIA_TYPE", "decode")

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"

_MAGIC = b"k8s\x00"
_FIXED64 = 1

_Value = int | bytes
# Number of a field to its name in JSON and how it is read; a repeated one collects.
_Schema = dict[int, tuple[str, "Callable[[_Value], Any]", bool]]


def _fields(data: bytes) -> Iterator[tuple[int, _Value]]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        match wire:
            case 0:
                value, at = _varint(data, at)
                yield number, value
            case 2:
                length, at = _varint(data, at)
                yield number, data[at : at + length]
                at += length
            case 1 | 5:
                at += 8 if wire == _FIXED64 else 4
            case _:
                raise ApiError(400, "BadRequest", f"protobuf: unknown wire type {wire}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data):
            raise ApiError(400, "BadRequest", "protobuf: cut off")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _raw(value: _Value) -> bytes:
    return value if isinstance(value, bytes) else b""


def _text(value: _Value) -> str:
    return _raw(value).decode()


def _base64(value: _Value) -> str:
    return base64.b64encode(_raw(value)).decode()


def _bool(value: _Value) -> bool:
    return bool(value)


def _int(value: _Value) -> int:
    return value if isinstance(value, int) else 0


def _pair(read: Callable[[_Value], Any]) -> Callable[[_Value], dict[str, Any]]:
    def _read(value: _Value) -> dict[str, Any]:
        entry = dict(_fields(_raw(value)))
        return {_text(entry.get(1, b"")): read(entry.get(2, b""))}

    return _read


def _message(schema: _Schema) -> Callable[[_Value], dict[str, Any]]:
    return lambda value: _decoded(_raw(value), schema)


def _decoded(data: bytes, schema: _Schema) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, value in _fields(data):
        if number not in schema:
            continue
        name, read, is_repeated = schema[number]
        one = read(value)
        if is_repeated and isinstance(one, dict) and name in ("data", "labels", "annotations", "stringData"):
            found.setdefault(name, {}).update(one)
        elif is_repeated:
            found.setdefault(name, []).append(one)
        elif one not in ("", 0, False):
            found[name] = one
    return found


_OWNER: _Schema = {
    5: ("apiVersion", _text, False),
    1: ("kind", _text, False),
    3: ("name", _text, False),
    4: ("uid", _text, False),
    6: ("controller", _bool, False),
    7: ("blockOwnerDeletion", _bool, False),
}
_META: _Schema = {
    1: ("name", _text, False),
    2: ("generateName", _text, False),
    3: ("namespace", _text, False),
    5: ("uid", _text, False),
    6: ("resourceVersion", _text, False),
    11: ("labels", _pair(_text), True),
    12: ("annotations", _pair(_text), True),
    13: ("ownerReferences", _message(_OWNER), True),
    14: ("finalizers", _text, True),
}
_SECRET: _Schema = {
    1: ("metadata", _message(_META), False),
    2: ("data", _pair(_base64), True),
    3: ("type", _text, False),
    4: ("stringData", _pair(_text), True),
    5: ("immutable", _bool, False),
}
_PRECONDITIONS: _Schema = {1: ("uid", _text, False), 2: ("resourceVersion", _text, False)}
_DELETE_OPTIONS: _Schema = {
    1: ("gracePeriodSeconds", _int, False),
    2: ("preconditions", _message(_PRECONDITIONS), False),
    3: ("orphanDependents", _bool, False),
    4: ("propagationPolicy", _text, False),
    5: ("dryRun", _text, True),
}
_EVICTION: _Schema = {
    1: ("metadata", _message(_META), False),
    2: ("deleteOptions", _message(_DELETE_OPTIONS), False),
}
_RESOURCE_ATTRIBUTES: _Schema = {
    1: ("namespace", _text, False),
    2: ("verb", _text, False),
    3: ("group", _text, False),
    4: ("version", _text, False),
    5: ("resource", _text, False),
    6: ("subresource", _text, False),
    7: ("name", _text, False),
}
_ACCESS_SPEC: _Schema = {1: ("resourceAttributes", _message(_RESOURCE_ATTRIBUTES), False)}
_RULES_SPEC: _Schema = {1: ("namespace", _text, False)}
_KINDS: Mapping[str, _Schema] = {
    "DeleteOptions": _DELETE_OPTIONS,
    "Eviction": _EVICTION,
    "Namespace": {1: ("metadata", _message(_META), False)},
    "Secret": _SECRET,
    "SelfSubjectAccessReview": {2: ("spec", _message(_ACCESS_SPEC), False)},
    "SelfSubjectReview": {},
    "SelfSubjectRulesReview": {2: ("spec", _message(_RULES_SPEC), False)},
}


def decode(body: bytes) -> dict[str, Any]:
    """Decode an object.

    Raises:
        ApiError: 415, when it is of a kind that is not understood.
    """
    if not body.startswith(_MAGIC):
        raise ApiError(400, "BadRequest", "protobuf: no magic number")
    unknown = dict(_fields(body[len(_MAGIC) :]))
    type_meta = dict(_fields(_raw(unknown.get(1, b""))))
    api_version, kind = _text(type_meta.get(1, b"")), _text(type_meta.get(2, b""))
    if kind not in _KINDS:
        text = f"the simulated cluster reads protobuf of {', '.join(sorted(_KINDS))} alone, not of {kind}"
        raise ApiError(415, "UnsupportedMediaType", text)
    return {"apiVersion": api_version, "kind": kind, **_decoded(_raw(unknown.get(2, b"")), _KINDS[kind])}
