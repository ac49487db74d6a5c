"""What a channel may do, decided by the namespace in its name.

Sans-I/O: the caller reads the file and passes in what it holds. Who may do what
with a channel is ``service.auth.policy``; this module knows no users' rights, only
the options that the policy reads.

Rules for a channel name, where the protocol leaves room (Source: Centrifuge client
protocol v2, channel names):

* Visible ASCII only (0x21 to 0x7E). A space or a control character would make two
  names that look the same, so both are refused like non-ASCII: bad request.
* ``/``, ``*`` and ``&`` are reserved by the protocol and refused. To allow them later
  breaks nobody; to give them a meaning after they were allowed would.
* A name that begins with ``:`` names the namespace with the empty name, which cannot
  be named that way: unknown channel.
* ``#`` always makes a channel user-limited, also where the namespace does not allow
  such channels. It is then no ordinary channel either: only a token or the server
  opens it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta
from typing_extensions import override

from service.core.codes import Error, Errors
from service.errors import NamespaceProblems

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = (
    "BUILT_IN",
    "DEMO",
    "MAX_CHANNEL_LENGTH",
    "ORGANIZATIONS",
    "PROBE",
    "Channel",
    "Namespace",
    "NamespaceProblems",
    "Namespaces",
    "NamespacesFile",
    "json_schema",
    "parse_namespaces",
)

MAX_CHANNEL_LENGTH: Final = 255
"""Characters of a channel name when nothing else is asked for."""

_MAX_HISTORY_TTL_SECONDS: Final = 31_536_000.0  # a year; past it a slip of the unit is likelier than a wish
_CACHED_CHANNELS: Final = 16_384  # at 255 characters a name about 8 MiB
_NAME: Final = re.compile(r"[-a-zA-Z0-9_]{2,}")
_CHANNEL: Final = re.compile(r"[!-%'-)+-.0-~]+")  # visible ASCII without & * /
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+", re.ASCII)
_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PRIVATE_PREFIX: Final = "$"
_NAMESPACE_BOUNDARY: Final = ":"
_USERS_BOUNDARY: Final = "#"

_Name: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^([-a-zA-Z0-9_]{2,})?$",
        description='The part of a channel name before its first ":"; at least two of letters, digits, "-" and "_". '
        'The empty name ("") holds the options of channels without a namespace.',
    ),
]
_HistorySize: TypeAlias = Annotated[
    int, Meta(ge=0, description="Publications kept in a channel; 0 keeps none. Needs history_ttl.")
]
_HistoryTtl: TypeAlias = Annotated[
    float,
    Meta(
        ge=0,
        le=_MAX_HISTORY_TTL_SECONDS,
        description='How long a publication is kept, in seconds, or with a unit: "300s", "5m", "24h"; 0 keeps none, '
        "at most a year. Needs history_size.",
    ),
]
_Regex: TypeAlias = Annotated[
    str | None,
    Meta(
        description="A Python regular expression that the part of the name after the namespace must match as a whole; "
        "without it any name will do. Keep it simple: it runs on names that clients choose.",
    ),
]


class Namespace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of every channel whose name starts with ``name:``.

    Everything is off unless it is switched on. Durations are in seconds.
    """

    name: _Name = ""
    presence: Annotated[bool, Meta(description="Keep who is in a channel, so that it can be asked for.")] = False
    join_leave: Annotated[
        bool, Meta(description="Announce who comes and goes, to the subscribers that asked for it.")
    ] = False
    force_push_join_leave: Annotated[bool, Meta(description="Announce it to every subscriber. Needs join_leave.")] = (
        False
    )
    history_size: _HistorySize = 0
    history_ttl: _HistoryTtl = 0.0
    durability: Annotated[
        Literal["database", "memory"],
        Meta(
            description='Where the history is kept: in the "database", so that an acknowledged publication survives '
            'the end of the process, or in "memory", which is faster. Without a database all of it is in memory.',
        ),
    ] = "database"
    force_recovery: Annotated[bool, Meta(description="Every subscription recovers what it missed. Needs history.")] = (
        False
    )
    force_positioning: Annotated[bool, Meta(description="Every subscription is checked for gaps. Needs history.")] = (
        False
    )
    allow_recovery: Annotated[
        bool, Meta(description="A subscription may ask to recover what it missed. Needs history.")
    ] = False
    allow_positioning: Annotated[
        bool, Meta(description="A subscription may ask to be checked for gaps. Needs history.")
    ] = False
    allow_subscribe_for_client: Annotated[bool, Meta(description="Users may subscribe without a token.")] = False
    allow_subscribe_for_anonymous: Annotated[
        bool, Meta(description="The same for connections without a user. Needs allow_subscribe_for_client.")
    ] = False
    allow_publish_for_client: Annotated[bool, Meta(description="Users may publish.")] = False
    allow_publish_for_subscriber: Annotated[bool, Meta(description="Users who are subscribed may publish.")] = False
    allow_publish_for_anonymous: Annotated[
        bool,
        Meta(
            description="The same for connections without a user. "
            "Needs allow_publish_for_client or allow_publish_for_subscriber."
        ),
    ] = False
    allow_history_for_client: Annotated[bool, Meta(description="Users may read history. Needs history.")] = False
    allow_history_for_subscriber: Annotated[
        bool, Meta(description="Users who are subscribed may read history. Needs history.")
    ] = False
    allow_history_for_anonymous: Annotated[
        bool,
        Meta(
            description="The same for connections without a user. "
            "Needs allow_history_for_client or allow_history_for_subscriber."
        ),
    ] = False
    allow_presence_for_client: Annotated[bool, Meta(description="Users may read presence. Needs presence.")] = False
    allow_presence_for_subscriber: Annotated[
        bool, Meta(description="Users who are subscribed may read presence. Needs presence.")
    ] = False
    allow_presence_for_anonymous: Annotated[
        bool,
        Meta(
            description="The same for connections without a user. "
            "Needs allow_presence_for_client or allow_presence_for_subscriber."
        ),
    ] = False
    allow_user_limited_channels: Annotated[
        bool,
        Meta(description='A channel whose name ends with "#" and user ids, comma separated, is open to those users.'),
    ] = False
    channel_regex: _Regex = None

    @property
    def has_history(self) -> bool:
        """Whether publications are kept at all; without, history is not available."""
        return self.history_size > 0 and self.history_ttl > 0

    @property
    def is_durable(self) -> bool:
        """Whether publications are kept in the database, where there is one."""
        return self.durability == "database" and self.has_history

    @property
    def recoverable(self) -> bool:
        """Whether a subscription may recover from a position, if only when it asks."""
        return self.has_history and (self.force_recovery or self.allow_recovery)

    @property
    def positionable(self) -> bool:
        """Whether a subscription may be checked for gaps; one that recovers always is."""
        return self.recoverable or (self.has_history and (self.force_positioning or self.allow_positioning))


class NamespacesFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of namespaces: the whole list, with no others but the probe's and the organizations' beside it."""

    namespaces: Annotated[list[Namespace], Meta(description="One entry a namespace; no name twice.")]


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel name, taken apart.

    Attributes:
        name: The whole name, as sent; names are compared as wholes.
        namespace: The options that hold for it.
        is_private: The name starts with ``$``: every subscription needs a token.
        users: The ids after the last ``#``, without empty ones; None when there is no
            ``#``. Empty when a ``#`` names nobody, and then nobody is admitted.
    """

    name: str
    namespace: Namespace
    is_private: bool = False
    users: frozenset[str] | None = None

    @property
    def is_user_limited(self) -> bool:
        """Whether the name itself lists who may subscribe."""
        return self.users is not None

    def admits(self, user: str) -> bool:
        """Return whether the name opens the channel to ``user``; never to the anonymous ``""``."""
        return self.users is not None and self.namespace.allow_user_limited_channels and user in self.users


class Namespaces:
    """All namespaces, and the one way from a channel name to its options.

    Args:
        namespaces: At most one of each name. The empty name holds for channels without
            a namespace; when it is missing, such channels are unknown.
        max_channel_length: Longest channel name in characters, at least 1.

    Raises:
        NamespaceProblems: A name is double or malformed, or options contradict each other.

    Concurrency: event loop only. ``resolve`` remembers names, a bounded number of them.
    """

    def __init__(self, namespaces: Iterable[Namespace], *, max_channel_length: int = MAX_CHANNEL_LENGTH) -> None:
        self._all = tuple(namespaces)
        problems = tuple(_problems(self._all))
        if problems:
            raise NamespaceProblems(problems)
        self._max_channel_length = max_channel_length
        self._by_name = {namespace.name: namespace for namespace in self._all}
        self._patterns = {
            namespace.name: re.compile(namespace.channel_regex)
            for namespace in self._all
            if namespace.channel_regex is not None
        }
        self._resolved: dict[str, Channel] = {}

    def __iter__(self) -> Iterator[Namespace]:
        """Iterate in the order they were given."""
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    @override
    def __repr__(self) -> str:
        return f"Namespaces({', '.join(repr(namespace.name) for namespace in self._all)})"

    def get(self, name: str) -> Namespace | None:
        """Return the namespace with exactly this name, None when there is none."""
        return self._by_name.get(name)

    def resolve(self, name: str) -> Channel | Error:
        """Take a channel name apart and find its namespace.

        Returns:
            ``Errors.BAD_REQUEST`` when the name is empty, too long, has characters that
            are not allowed or does not match the namespace's pattern;
            ``Errors.UNKNOWN_CHANNEL`` when the namespace is not configured.
        """
        known = self._resolved.get(name)
        if known is not None:
            return known
        channel = self._parse(name)
        if isinstance(channel, Channel):
            if len(self._resolved) >= _CACHED_CHANNELS:
                # Names are cheap to take apart again; removing the oldest one by one is not.
                self._resolved.clear()
            self._resolved[name] = channel
        return channel

    def personal(self, user: str) -> Channel | None:
        """Return the channel ``#user`` that belongs to one user alone.

        Returns:
            None when there is no such channel: for the anonymous user ``""``, for an id
            that cannot be part of a name, and for one that would name somebody else (the
            comma in ``42,43`` would let 42 and 43 in).
        """
        channel = self.resolve(_USERS_BOUNDARY + user)
        return channel if isinstance(channel, Channel) and channel.users == frozenset((user,)) else None

    def _parse(self, name: str) -> Channel | Error:
        if len(name) > self._max_channel_length or _CHANNEL.fullmatch(name) is None:
            return Errors.BAD_REQUEST
        is_private = name.startswith(_PRIVATE_PREFIX)
        prefix, boundary, rest = name[is_private:].partition(_NAMESPACE_BOUNDARY)
        if not boundary:
            prefix, rest = "", prefix
        namespace = self._by_name.get(prefix)
        if namespace is None or (boundary and not prefix):
            return Errors.UNKNOWN_CHANNEL
        pattern = self._patterns.get(prefix)
        if not rest or (pattern is not None and pattern.fullmatch(rest) is None):
            return Errors.BAD_REQUEST
        _, limited, ids = rest.rpartition(_USERS_BOUNDARY)
        users = frozenset(user for user in ids.split(",") if user) if limited else None
        return Channel(name=name, namespace=namespace, is_private=is_private, users=users)


def parse_namespaces(
    document: object, *, demo: bool = False, max_channel_length: int = MAX_CHANNEL_LENGTH
) -> Namespaces:
    """Check what a file of namespaces holds, and report everything that is wrong with it at once.

    The file is the whole list: the built-in namespaces are gone, so that whoever reads
    it sees every channel that a client can reach. Only ``probe`` and ``org`` (and ``demo`` where
    it is asked for) are added when the file does not define them.

    Args:
        document: The parsed file: a mapping with the one key ``namespaces``, a list of
            mappings with the fields of ``Namespace``. Durations may be numbers of
            seconds or strings such as "300s", "5m", "24h".
        demo: Add the namespace of the demonstration page.
        max_channel_length: As in ``Namespaces``.

    Raises:
        NamespaceProblems: With every problem, each starting with the namespace's name.
    """
    problems: list[str] = []
    namespaces = [
        namespace
        for index, entry in enumerate(_entries(document, problems))
        if (namespace := _namespace(entry, f"namespaces[{index}]", problems)) is not None
    ]
    defined = {namespace.name for namespace in namespaces}
    extras = (PROBE, ORGANIZATIONS, *((DEMO,) if demo else ()))
    namespaces += [extra for extra in extras if extra.name not in defined]
    problems += _problems(namespaces)
    if problems:
        raise NamespaceProblems(problems)
    return Namespaces(namespaces, max_channel_length=max_channel_length)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a namespaces file."""
    schema = msgspec.json.schema(NamespacesFile)
    for definition in schema["$defs"].values():
        definition["description"] = " ".join(definition["description"].replace("``", "`").split())
    namespace = schema["$defs"]["Namespace"]
    # A struct can be built without a name; in a file a forgotten one would open all channels that have none.
    namespace["required"] = ["name"]
    del namespace["properties"]["name"]["default"]
    # The struct holds seconds; a file may also hold text with units.
    namespace["properties"]["history_ttl"] |= {"type": ["number", "string"], "pattern": f"^{_DURATION.pattern}$"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Slackwater namespaces"} | schema


def _entries(document: object, problems: list[str]) -> list[object]:
    """Return the entries of the file, noting what is wrong around them."""
    if not isinstance(document, dict):
        problems.append("the file must hold a table with the key 'namespaces'")
        return []
    problems += [f"unknown key {key!r} beside 'namespaces'" for key in document if key != "namespaces"]
    entries = document.get("namespaces")
    if not isinstance(entries, list):
        problems.append("'namespaces' must be a list of namespaces")
        return []
    return entries


def _namespace(entry: object, place: str, problems: list[str]) -> Namespace | None:
    """Return one namespace, or None after noting every field that is wrong."""
    if not isinstance(entry, dict):
        problems.append(f"{place}: must be a table of options")
        return None
    if "name" not in entry:
        problems.append(f'{place}: name is missing; the name of channels without a namespace is ""')
        return None
    label = _label(entry["name"])
    known = {field.name: field for field in msgspec.structs.fields(Namespace)}
    found = [f"{label}: unknown option {key!r}" for key in entry if key not in known]
    values: dict[str, Any] = {}
    for name in known.keys() & entry.keys():
        try:
            values[name] = msgspec.convert(_plain(name, entry[name]), known[name].type)
        except (msgspec.ValidationError, ValueError) as error:
            found.append(f"{label}: {name}: {error}")
    problems += sorted(found)
    return None if found else Namespace(**values)


def _plain(field: str, value: object) -> object:
    """Turn a duration with units into seconds; leave everything else to the field's own type."""
    if field != "history_ttl":
        return value
    if value != value:  # noqa: PLR0124 - only NaN differs from itself; it would pass every bound
        raise ValueError("is not a number")
    if not isinstance(value, str):
        return value
    if _DURATION.fullmatch(value) is None:
        raise ValueError(f'{value!r} is no duration; write seconds, or a number with ms, s, m, h or d such as "5m"')
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(value))


def _label(name: object) -> str:
    return name if isinstance(name, str) and name else f"{name!r}"


def _contradictions(namespace: Namespace) -> Iterator[str]:
    """Yield what the options of one namespace ask for and cannot have."""
    if (namespace.history_size != 0) != (namespace.history_ttl != 0):
        given, missing = ("history_size", "history_ttl") if namespace.history_size else ("history_ttl", "history_size")
        yield f"{given} is set and {missing} is 0: history needs both, or neither"
    for option, needs, has in _NEEDS:
        if getattr(namespace, option) and not has(namespace):
            yield f"{option} needs {needs}"


def _problems(namespaces: Iterable[Namespace]) -> Iterator[str]:
    """Yield every problem of a list of namespaces, in its order."""
    seen: set[str] = set()
    for namespace in namespaces:
        label = _label(namespace.name)
        if namespace.name and _NAME.fullmatch(namespace.name) is None:
            yield f'{label}: a name is at least two of letters, digits, "-" and "_", or empty'
        if namespace.name in seen:
            yield f"{label}: defined twice"
        seen.add(namespace.name)
        yield from (f"{label}: {text}" for text in _contradictions(namespace))
        if namespace.channel_regex is not None:
            try:
                re.compile(namespace.channel_regex)
            except re.error as error:
                yield f"{label}: channel_regex is no regular expression: {error}"


def _any_of(*options: str) -> Callable[[Namespace], bool]:
    return lambda namespace: any(getattr(namespace, option) for option in options)


def _history(namespace: Namespace) -> bool:
    return namespace.history_size != 0 or namespace.history_ttl != 0


_HISTORY_TEXT: Final = "history: set history_size and history_ttl"

_NEEDS: Final[tuple[tuple[str, str, Callable[[Namespace], bool]], ...]] = (
    ("force_push_join_leave", "join_leave", _any_of("join_leave")),
    *(
        (option, _HISTORY_TEXT, _history)
        for option in (
            "force_recovery",
            "force_positioning",
            "allow_recovery",
            "allow_positioning",
            "allow_history_for_client",
            "allow_history_for_subscriber",
        )
    ),
    ("allow_presence_for_client", "presence", _any_of("presence")),
    ("allow_presence_for_subscriber", "presence", _any_of("presence")),
    ("allow_subscribe_for_anonymous", "allow_subscribe_for_client", _any_of("allow_subscribe_for_client")),
    *(
        (
            f"allow_{verb}_for_anonymous",
            f"allow_{verb}_for_client or allow_{verb}_for_subscriber",
            _any_of(f"allow_{verb}_for_client", f"allow_{verb}_for_subscriber"),
        )
        for verb in ("publish", "history", "presence")
    ),
)
"""Option, what it needs in words, and whether a namespace has that."""


def _built_in(name: str, *, announces: bool = False, history_ttl: float = 300.0) -> Namespace:
    """Return a namespace for people talking to each other.

    Args:
        announces: Push joins and leaves to everybody, and not just to those who ask for
            them. For channels of tens of people: a thousand who come at once tell each other a million times.
    """
    return Namespace(
        name=name,
        presence=True,
        join_leave=True,
        force_push_join_leave=announces,
        history_size=300,
        history_ttl=history_ttl,
        force_recovery=True,
        allow_recovery=True,
        allow_positioning=True,
        allow_subscribe_for_client=True,
        allow_publish_for_subscriber=True,
        allow_history_for_subscriber=True,
        allow_presence_for_subscriber=True,
        allow_user_limited_channels=True,
    )


PROBE: Final = Namespace(
    name="probe",
    history_size=300,
    history_ttl=300.0,
    allow_recovery=True,
    allow_positioning=True,
    allow_publish_for_subscriber=True,
    allow_history_for_subscriber=True,
)
"""For the deploy tool's own traffic: entered with a token alone, seen by nobody else."""

ORGANIZATIONS: Final = _built_in("org", history_ttl=86_400.0)
"""For organizations: ``org:<id>`` and ``org:<id>:<room>`` are open to their members alone, whatever the options say."""

DEMO: Final = _built_in("demo", announces=True)
"""For the demonstration page; added only where that page is on."""

BUILT_IN: Final = (
    _built_in(""),
    _built_in("chat", announces=True),
    Namespace(
        name="news",
        history_size=300,
        history_ttl=300.0,
        force_recovery=True,
        allow_recovery=True,
        allow_positioning=True,
        allow_subscribe_for_client=True,
        allow_subscribe_for_anonymous=True,
        allow_history_for_subscriber=True,
        allow_history_for_anonymous=True,
    ),
    PROBE,
    ORGANIZATIONS,
)
"""What holds when no file is given: ``""`` and ``chat`` to talk, ``news`` to listen, ``probe``, ``org``."""
