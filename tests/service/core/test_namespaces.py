from __future__ import annotations

import dataclasses
import math
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core import namespaces as module
from service.core.codes import Error, Errors
from service.core.namespaces import (
    BUILT_IN,
    DEMO,
    ORGANIZATIONS,
    PROBE,
    Channel,
    Namespace,
    NamespaceProblems,
    Namespaces,
    json_schema,
    parse_namespaces,
)

HISTORY = {"history_size": 10, "history_ttl": 60.0}


def resolve(name: str, *namespaces: Namespace) -> Channel:
    """Resolve a name that must be a channel."""
    channel = Namespaces(namespaces or (Namespace(), Namespace(name="chat"))).resolve(name)
    assert isinstance(channel, Channel)
    return channel


def refusal(name: str, *namespaces: Namespace, **options: int) -> Error:
    """Resolve a name that must be refused."""
    error = Namespaces(namespaces or (Namespace(), Namespace(name="chat")), **options).resolve(name)
    assert isinstance(error, Error)
    return error


def problems_of(document: object) -> tuple[str, ...]:
    """Parse a document that must be refused."""
    with pytest.raises(NamespaceProblems) as caught:
        parse_namespaces(document)
    return caught.value.problems


def problems_with(*namespaces: Namespace) -> tuple[str, ...]:
    """Put together namespaces that do not fit."""
    with pytest.raises(NamespaceProblems) as caught:
        Namespaces(namespaces)
    return caught.value.problems


class TestNamespace:
    """One namespace by itself."""

    def test_everything_is_off_by_default(self) -> None:
        """A namespace with no options lets nobody do anything."""
        options = msgspec.structs.asdict(Namespace(name="bare"))

        assert {"name", "durability"} == {name for name, value in options.items() if value}

    @pytest.mark.parametrize(
        ("size", "ttl", "expected"),
        [
            pytest.param(0, 0.0, False, id="neither"),
            pytest.param(1, 0.0, False, id="size-alone"),
            pytest.param(0, 0.001, False, id="ttl-alone"),
            pytest.param(1, 0.001, True, id="the-least"),
        ],
    )
    def test_history_needs_size_and_ttl(self, size: int, ttl: float, *, expected: bool) -> None:
        """Nothing is kept unless something is kept for some time."""
        assert expected is Namespace(history_size=size, history_ttl=ttl).has_history

    @pytest.mark.parametrize(
        ("option", "recoverable", "positionable"),
        [
            pytest.param("presence", False, False, id="neither"),
            pytest.param("allow_recovery", True, True, id="recovery-on-request"),
            pytest.param("force_recovery", True, True, id="recovery-always"),
            pytest.param("allow_positioning", False, True, id="positioning-on-request"),
            pytest.param("force_positioning", False, True, id="positioning-always"),
        ],
    )
    def test_recovery_includes_positioning(self, option: str, *, recoverable: bool, positionable: bool) -> None:
        """What recovers is positioned; what is positioned need not recover."""
        with_history = msgspec.convert({**HISTORY, option: True}, Namespace)
        without = msgspec.convert({option: True}, Namespace)

        assert (recoverable, positionable) == (with_history.recoverable, with_history.positionable)
        assert (False, False) == (without.recoverable, without.positionable)

    def test_cannot_be_changed(self) -> None:
        """Channels share a namespace, so nobody may change it."""
        with pytest.raises(AttributeError):
            Namespace().presence = True  # type: ignore[misc]  # that is the point


class TestResolve:
    """From a name to a channel."""

    def test_name_without_boundary_has_the_empty_namespace(self) -> None:
        """No colon, no namespace: the options of the empty name hold."""
        channel = resolve("lobby")

        assert Channel(name="lobby", namespace=Namespace()) == channel
        assert (False, None, False) == (channel.is_private, channel.users, channel.is_user_limited)

    @pytest.mark.parametrize("name", ["chat:1", "chat:a:b", "chat::", "$chat:1", "$chat:$1"])
    def test_namespace_ends_at_the_first_colon(self, name: str) -> None:
        """Further colons belong to the rest of the name."""
        channel = resolve(name)

        assert "chat" == channel.namespace.name
        assert name == channel.name

    @pytest.mark.parametrize(
        ("name", "private"),
        [("$lobby", True), ("$chat:1", True), ("lo$bby", False), ("chat:$1", False), ("$$x", True)],
    )
    def test_only_a_leading_dollar_is_private(self, name: str, *, private: bool) -> None:
        """A dollar elsewhere is a character like any other."""
        assert private is resolve(name).is_private

    @pytest.mark.parametrize("name", ["nope:1", "$nope:1", "Chat:1", "c:1", "chatx:1", "a#b:1"])
    def test_unconfigured_namespace_is_unknown(self, name: str) -> None:
        """A namespace that nobody defined has no channels, and case matters."""
        assert Errors.UNKNOWN_CHANNEL == refusal(name)

    @pytest.mark.parametrize("name", [":x", "$:x", ":"])
    def test_empty_prefix_does_not_name_the_empty_namespace(self, name: str) -> None:
        """Else one channel would have two names' worth of options."""
        assert Errors.UNKNOWN_CHANNEL == refusal(name)

    def test_name_without_namespace_is_unknown_when_the_empty_one_is_missing(self) -> None:
        """A list without the empty name has no channels without a namespace."""
        assert Errors.UNKNOWN_CHANNEL == refusal("lobby", Namespace(name="chat"))

    @pytest.mark.parametrize(
        "name",
        [
            pytest.param("", id="empty"),
            pytest.param("$", id="nothing-after-the-prefix"),
            pytest.param("chat:", id="nothing-after-the-namespace"),
            pytest.param("$chat:", id="nothing-after-both"),
            pytest.param("a b", id="space"),
            pytest.param("a\n", id="line-end"),
            pytest.param("\na", id="line-start"),
            pytest.param("a\x00", id="nul"),
            pytest.param("a\x1f", id="last-control"),
            pytest.param("a\x7f", id="delete"),
            pytest.param("café", id="latin-1"),
            pytest.param("a\u0661", id="digit-outside-ascii"),
            pytest.param("a\ud800", id="surrogate"),
            pytest.param("a\U0001f30a", id="astral"),
            pytest.param("a/b", id="reserved-slash"),
            pytest.param("a*", id="reserved-star"),
            pytest.param("a&b", id="reserved-ampersand"),
            pytest.param("nope:a b", id="characters-before-namespace"),
        ],
    )
    def test_malformed_name_is_a_bad_request(self, name: str) -> None:
        """What is not a name is no unknown channel."""
        assert Errors.BAD_REQUEST == refusal(name)

    def test_every_other_visible_character_is_allowed(self) -> None:
        """All of ASCII that can be seen, but for the three reserved characters."""
        name = "x" + "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in ":/*&#")

        assert name == resolve(name).name

    @pytest.mark.parametrize(("length", "allowed"), [(254, True), (255, True), (256, False)])
    def test_length_is_limited(self, length: int, *, allowed: bool) -> None:
        """255 characters by default, all of the name counted."""
        resolved = Namespaces([Namespace(name="chat")]).resolve("chat:".ljust(length, "x"))

        assert allowed is isinstance(resolved, Channel)
        assert allowed or Errors.BAD_REQUEST == resolved

    @pytest.mark.parametrize(("length", "allowed"), [(8, True), (9, False)])
    def test_length_limit_can_be_set(self, length: int, *, allowed: bool) -> None:
        """At the limit is within it."""
        resolved = Namespaces([Namespace()], max_channel_length=8).resolve("x" * length)

        assert allowed is isinstance(resolved, Channel)

    @pytest.mark.parametrize(
        ("name", "users"),
        [
            pytest.param("#42", {"42"}, id="personal"),
            pytest.param("dialog#42,43", {"42", "43"}, id="two"),
            pytest.param("chat:x#42", {"42"}, id="with-namespace"),
            pytest.param("$x#42", {"42"}, id="private-too"),
            pytest.param("a#1#2", {"2"}, id="after-the-last"),
            pytest.param("x#42,42", {"42"}, id="twice"),
            pytest.param("x#", set(), id="nobody"),
            pytest.param("x#,", set(), id="nobody-twice"),
            pytest.param("x#42,", {"42"}, id="trailing-comma"),
        ],
    )
    def test_users_follow_the_last_hash(self, name: str, users: set[str]) -> None:
        """Ids are separated by commas, and an empty id is none."""
        channel = resolve(name)

        assert frozenset(users) == channel.users
        assert channel.is_user_limited

    def test_hash_limits_also_where_the_namespace_does_not_allow_it(self) -> None:
        """Such a channel admits nobody by its name, and is no ordinary channel either."""
        channel = resolve("x#42", Namespace(allow_user_limited_channels=False))

        assert channel.is_user_limited
        assert not channel.admits("42")

    @pytest.mark.parametrize(
        ("name", "user", "expected"),
        [
            pytest.param("x#42,43", "43", True, id="listed"),
            pytest.param("x#42,43", "4", False, id="prefix-of-a-listed-one"),
            pytest.param("x#42,43", "42,43", False, id="both-as-one"),
            pytest.param("x#42,", "", False, id="anonymous-and-a-trailing-comma"),
            pytest.param("x#", "", False, id="anonymous-and-nobody"),
            pytest.param("x", "42", False, id="no-hash"),
        ],
    )
    def test_admits_listed_users_alone(self, name: str, user: str, *, expected: bool) -> None:
        """An id is compared whole, and the anonymous user is never listed."""
        assert expected is resolve(name, Namespace(allow_user_limited_channels=True)).admits(user)

    @pytest.mark.parametrize(
        ("name", "allowed"),
        [("id:12", True), ("$id:12", True), ("id:12a", False), ("id:a12", False), ("id:", False), ("12", True)],
    )
    def test_pattern_must_match_the_whole_rest(self, name: str, *, allowed: bool) -> None:
        """The pattern of one namespace does not see its prefix, nor other namespaces."""
        resolved = Namespaces([Namespace(), Namespace(name="id", channel_regex=r"\d+")]).resolve(name)

        assert allowed is isinstance(resolved, Channel)
        assert allowed or Errors.BAD_REQUEST == resolved

    def test_pattern_with_alternatives_is_still_whole(self) -> None:
        """``a|b`` does not match ``ax``."""
        assert Errors.BAD_REQUEST == refusal("ax", Namespace(channel_regex="a|b"))

    def test_same_name_gives_the_same_channel(self) -> None:
        """A channel is parsed once as long as it is remembered."""
        namespaces = Namespaces([Namespace()])

        assert namespaces.resolve("lobby") is namespaces.resolve("lobby")

    def test_memory_of_names_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Names that clients make up cannot fill the memory, and refused ones are not kept."""
        monkeypatch.setattr(module, "_CACHED_CHANNELS", 2)
        namespaces = Namespaces([Namespace()])
        for name in ("a", "b", "b", "a b", "nope:x"):
            namespaces.resolve(name)
        before = set(namespaces._resolved)
        namespaces.resolve("c")

        assert {"a", "b"} == before
        assert {"c"} == set(namespaces._resolved)

    @given(st.text(alphabet=st.sampled_from(":$#,ab*é\n 1"), max_size=12))
    def test_any_text_is_answered(self, name: str) -> None:
        """A channel that is resolved keeps its name; anything else is one of two errors."""
        resolved = Namespaces([Namespace(), Namespace(name="ab")]).resolve(name)

        if isinstance(resolved, Channel):
            assert name == resolved.name
            assert name.startswith("$") is resolved.is_private
            assert ("#" in name) is resolved.is_user_limited
            assert "" not in (resolved.users or ())
        else:
            assert resolved in (Errors.BAD_REQUEST, Errors.UNKNOWN_CHANNEL)


class TestPersonal:
    """The channel of one user."""

    def test_personal_channel_is_the_users_own(self) -> None:
        """User 42 has ``#42``."""
        channel = Namespaces(BUILT_IN).personal("42")

        assert channel is not None
        assert ("#42", frozenset({"42"})) == (channel.name, channel.users)

    @pytest.mark.parametrize(
        "user",
        [
            pytest.param("", id="anonymous"),
            pytest.param("42,43", id="would-admit-others"),
            pytest.param("x#42", id="would-be-somebody-else"),
            pytest.param("urn:42", id="would-be-a-namespace"),
            pytest.param("a b", id="space"),
            pytest.param("é", id="not-ascii"),
            pytest.param("x" * 255, id="one-too-long"),
        ],
    )
    def test_some_users_have_none(self, user: str) -> None:
        """An id that would name somebody else, or nothing, gets no channel."""
        assert Namespaces(BUILT_IN).personal(user) is None

    def test_longest_user_has_one(self) -> None:
        """One character is the hash."""
        assert Namespaces(BUILT_IN).personal("x" * 254) is not None

    def test_none_without_the_empty_namespace(self) -> None:
        """A personal channel has no namespace, so its options must be defined."""
        assert Namespaces([Namespace(name="chat")]).personal("42") is None


class TestNamespaces:
    """Namespaces put together."""

    def test_lists_what_it_was_given(self) -> None:
        """Order is kept, and names are found."""
        chat, empty = Namespace(name="chat"), Namespace()
        namespaces = Namespaces([chat, empty])

        assert [chat, empty] == list(namespaces)
        assert 2 == len(namespaces)
        assert chat is namespaces.get("chat")
        assert empty is namespaces.get("")
        assert namespaces.get("news") is None
        assert "Namespaces('chat', '')" == repr(namespaces)

    @pytest.mark.parametrize("name", ["ab", "A-_9", "--", "x" * 200])
    def test_good_name_is_accepted(self, name: str) -> None:
        """At least two of letters, digits, hyphen and underscore."""
        assert 1 == len(Namespaces([Namespace(name=name)]))

    @pytest.mark.parametrize("name", ["a", "a.b", "a:b", "$ab", "ab\n", "éé", "a b", " "])
    def test_bad_name_is_a_problem(self, name: str) -> None:
        """One character is too few, and separators would never match."""
        assert (f'{name}: a name is at least two of letters, digits, "-" and "_", or empty',) == problems_with(
            Namespace(name=name)
        )

    def test_double_name_is_a_problem(self) -> None:
        """Two definitions of one name would hide each other."""
        assert ("chat: defined twice", "'': defined twice") == problems_with(
            Namespace(name="chat"), Namespace(), Namespace(name="chat"), Namespace()
        )

    def test_broken_pattern_is_a_problem(self) -> None:
        """A pattern is tried when the namespaces are put together, not when a client comes."""
        (problem,) = problems_with(Namespace(name="chat", channel_regex="("))

        assert problem.startswith("chat: channel_regex is no regular expression: ")

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            pytest.param({"history_size": 1}, "history_size is set and history_ttl is 0", id="size-without-ttl"),
            pytest.param({"history_ttl": 1.0}, "history_ttl is set and history_size is 0", id="ttl-without-size"),
            *(
                pytest.param({option: True}, f"{option} needs history: set history_size and history_ttl", id=option)
                for option in (
                    "force_recovery",
                    "force_positioning",
                    "allow_recovery",
                    "allow_positioning",
                    "allow_history_for_client",
                    "allow_history_for_subscriber",
                )
            ),
            *(
                pytest.param({option: True}, f"{option} needs {needed}", id=option)
                for option, needed in (
                    ("force_push_join_leave", "join_leave"),
                    ("allow_presence_for_client", "presence"),
                    ("allow_presence_for_subscriber", "presence"),
                    ("allow_subscribe_for_anonymous", "allow_subscribe_for_client"),
                    (
                        "allow_publish_for_anonymous",
                        "allow_publish_for_client or allow_publish_for_subscriber",
                    ),
                )
            ),
            *(
                pytest.param(
                    {option: True, **HISTORY, "presence": True},
                    f"{option} needs {option.replace('anonymous', 'client')} "
                    f"or {option.replace('anonymous', 'subscriber')}",
                    id=option,
                )
                for option in ("allow_history_for_anonymous", "allow_presence_for_anonymous")
            ),
        ],
    )
    def test_contradiction_is_a_problem(self, options: dict[str, Any], expected: str) -> None:
        """An option that cannot have an effect is a mistake, and named."""
        (problem,) = problems_with(Namespace(name="chat", **options))

        assert problem.startswith(f"chat: {expected}")

    @pytest.mark.parametrize("to_whom", ["client", "subscriber"])
    @pytest.mark.parametrize("what", ["publish", "history", "presence"])
    def test_anonymous_needs_one_of_two(self, what: str, to_whom: str) -> None:
        """It widens an access that is given to all clients, or to subscribers."""
        options = {f"allow_{what}_for_{to_whom}": True, f"allow_{what}_for_anonymous": True}

        assert 1 == len(Namespaces([msgspec.convert({"presence": True, **HISTORY, **options}, Namespace)]))

    def test_half_a_history_is_reported_once(self) -> None:
        """What needs history is not blamed when the history itself is the mistake."""
        (problem,) = problems_with(Namespace(name="chat", history_size=5, force_recovery=True))

        assert problem.startswith("chat: history_size is set and history_ttl is 0")

    def test_all_problems_come_at_once(self) -> None:
        """Nobody mends a file one start at a time."""
        problems = problems_with(
            Namespace(name="a", force_recovery=True, force_push_join_leave=True), Namespace(name="chat", history_size=1)
        )

        assert ["a", "a", "a", "chat"] == [problem.partition(":")[0] for problem in problems]
        assert "\n".join(problems) == str(NamespaceProblems(problems))


class TestBuiltIn:
    """What holds without a file."""

    def test_they_fit_together(self) -> None:
        """No file is needed."""
        assert ["", "chat", "news", "probe", "org", "demo"] == [item.name for item in Namespaces([*BUILT_IN, DEMO])]

    def test_talking_is_for_users_who_subscribed(self) -> None:
        """The empty namespace is for users; connections without one get nothing."""
        empty = BUILT_IN[0]

        assert empty.allow_subscribe_for_client
        assert empty.allow_publish_for_subscriber
        assert empty.allow_history_for_subscriber
        assert empty.allow_presence_for_subscriber
        assert empty.allow_user_limited_channels
        assert empty.recoverable
        assert not empty.allow_publish_for_client
        assert empty.force_recovery
        assert not empty.force_push_join_leave

    @pytest.mark.parametrize("namespace", [*BUILT_IN, DEMO], ids=lambda namespace: namespace.name or "empty")
    def test_all_keep_a_history(self, namespace: Namespace) -> None:
        """300 publications, for those who subscribed, and positions to go on from; organizations for a day."""
        seconds = 86_400.0 if namespace.name == "org" else 300.0

        assert (300, seconds) == (namespace.history_size, namespace.history_ttl)
        assert namespace.allow_history_for_subscriber
        assert namespace.allow_positioning

    @pytest.mark.parametrize("namespace", [BUILT_IN[1], DEMO], ids=["chat", "demo"])
    def test_chat_is_the_same_and_announces(self, namespace: Namespace) -> None:
        """Who comes and goes is pushed to every subscriber."""
        assert namespace == msgspec.structs.replace(BUILT_IN[0], name=namespace.name, force_push_join_leave=True)

    @pytest.mark.parametrize("namespace", [*BUILT_IN, DEMO], ids=lambda namespace: namespace.name or "empty")
    def test_only_news_is_for_anybody(self, namespace: Namespace) -> None:
        """And nobody but back ends publishes there."""
        anonymous = [
            name for name, value in msgspec.structs.asdict(namespace).items() if name.endswith("anonymous") and value
        ]

        assert bool(anonymous) is (namespace.name == "news")
        assert "allow_publish_for_anonymous" not in anonymous

    def test_news_cannot_be_published_to(self) -> None:
        """Clients listen."""
        news = BUILT_IN[2]

        assert news.allow_subscribe_for_anonymous
        assert news.allow_history_for_anonymous
        assert news.recoverable
        assert not news.allow_publish_for_client
        assert not news.allow_publish_for_subscriber

    def test_probe_is_entered_with_a_token_alone(self) -> None:
        """It recovers, and its traffic has no audience."""
        assert not PROBE.allow_subscribe_for_client
        assert not PROBE.allow_user_limited_channels
        assert PROBE.allow_publish_for_subscriber
        assert PROBE.recoverable


class TestParse:
    """What a file may hold."""

    def test_file_is_the_whole_list_but_for_probe_and_organizations(self) -> None:
        """Whoever reads the file sees what clients can reach."""
        namespaces = parse_namespaces({"namespaces": [{"name": "x-1", "presence": True}]})

        assert [Namespace(name="x-1", presence=True), PROBE, ORGANIZATIONS] == list(namespaces)

    def test_demo_is_added_when_asked_for(self) -> None:
        """The page needs its namespace also where there is a file."""
        assert [PROBE, ORGANIZATIONS, DEMO] == list(parse_namespaces({"namespaces": []}, demo=True))

    def test_file_can_define_the_added_ones_itself(self) -> None:
        """Its own definition holds."""
        entries = [{"name": "probe"}, {"name": "demo"}, {"name": "org"}]

        namespaces = parse_namespaces({"namespaces": entries}, demo=True)

        assert [Namespace(name="probe"), Namespace(name="demo"), Namespace(name="org")] == list(namespaces)

    def test_every_option_can_be_set(self) -> None:
        """What a namespace is, written down, is read as the same."""
        switches: dict[str, Any] = {
            field.name: True for field in msgspec.structs.fields(Namespace) if field.default is False
        }
        full = Namespace(
            **switches,
            name="full",
            history_size=7,
            history_ttl=9.5,
            channel_regex="[a-z]+",
        )

        assert full == parse_namespaces({"namespaces": [msgspec.to_builtins(full)]}).get("full")

    def test_history_can_be_switched_off_in_words(self) -> None:
        """Zero is a value like any other."""
        entry = {"name": "chat", "history_size": 0, "history_ttl": 0}

        assert Namespace(name="chat") == parse_namespaces({"namespaces": [entry]}).get("chat")

    def test_length_limit_is_passed_on(self) -> None:
        """It is the caller's to choose."""
        namespaces = parse_namespaces({"namespaces": [{"name": ""}]}, max_channel_length=3)

        assert isinstance(namespaces.resolve("abc"), Channel)
        assert Errors.BAD_REQUEST == namespaces.resolve("abcd")

    @pytest.mark.parametrize(
        ("written", "seconds"),
        [
            (300, 300.0),
            (0.5, 0.5),
            ("300s", 300.0),
            ("5m", 300.0),
            ("24h", 86_400.0),
            ("1d", 86_400.0),
            ("250ms", 0.25),
            ("1.5h", 5400.0),
            ("1h30m", 5400.0),
            (31_536_000, 31_536_000.0),
            ("365d", 31_536_000.0),
        ],
    )
    def test_duration_is_seconds_or_has_units(self, written: object, seconds: float) -> None:
        """A year is the most."""
        entry = {"name": "chat", "history_size": 1, "history_ttl": written}

        chat = parse_namespaces({"namespaces": [entry]}).get("chat")

        assert chat is not None
        assert math.isclose(seconds, chat.history_ttl)

    @pytest.mark.parametrize(
        "written",
        [
            "5",
            "5 m",
            "m",
            "-5m",
            "5w",
            "5M",
            "",
            "5m ",
            "\u0665m",
            -1,
            True,
            None,
            [],
            math.inf,
            math.nan,
            31_536_001,
            "366d",
        ],
    )
    def test_anything_else_is_no_duration(self, written: object) -> None:
        """A bare number in quotes has lost its unit."""
        (problem,) = problems_of({"namespaces": [{"name": "chat", "history_size": 1, "history_ttl": written}]})

        assert problem.startswith("chat: history_ttl: ")

    @pytest.mark.parametrize(
        ("document", "expected"),
        [
            pytest.param(None, "the file must hold a table with the key 'namespaces'", id="empty-file"),
            pytest.param([], "the file must hold a table with the key 'namespaces'", id="list"),
            pytest.param({}, "'namespaces' must be a list of namespaces", id="no-key"),
            pytest.param({"namespaces": {"chat": {}}}, "'namespaces' must be a list of namespaces", id="table"),
            pytest.param({"namespaces": [], "version": 1}, "unknown key 'version' beside 'namespaces'", id="other-key"),
            pytest.param({"namespaces": ["chat"]}, "namespaces[0]: must be a table of options", id="string"),
            pytest.param(
                {"namespaces": [{"presence": True}]},
                'namespaces[0]: name is missing; the name of channels without a namespace is ""',
                id="no-name",
            ),
            pytest.param({"namespaces": [{"name": "chat", "colour": 1}]}, "chat: unknown option 'colour'", id="option"),
            pytest.param({"namespaces": [{"name": "chat", 1: 1}]}, "chat: unknown option 1", id="key-no-string"),
            pytest.param({"namespaces": [{"name": 5}]}, "5: name: Expected `str`, got `int`", id="name-no-string"),
        ],
    )
    def test_wrong_shape_is_a_problem(self, document: object, expected: str) -> None:
        """Where it is and what is wrong."""
        assert (expected,) == problems_of(document)

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("presence", "true"),
            ("presence", 1),
            ("history_size", True),
            ("history_size", "5"),
            ("history_size", -1),
            ("history_size", 1.5),
            ("channel_regex", 5),
            ("name", "a"),
        ],
    )
    def test_wrong_type_is_a_problem(self, option: str, value: object) -> None:
        """Nothing is converted behind the writer's back."""
        (problem,) = problems_of({"namespaces": [{"name": "chat", option: value}]})

        assert f": {option}: Expected" in problem

    def test_all_problems_come_at_once(self) -> None:
        """Those of the shape, of single options and of options together."""
        problems = problems_of(
            {
                "extra": 1,
                "namespaces": [
                    {"name": "one", "presence": 1, "history_size": -1, "oops": 1},
                    {"name": "two", "force_recovery": True},
                    7,
                ],
            }
        )

        assert ["unknown key 'extra'", "one", "one", "one", "namespaces[2]", "two"] == [
            problem.partition(" beside")[0].partition(":")[0] for problem in problems
        ]


class TestSchema:
    """The published description of a file."""

    def accepts(self, document: object) -> bool:
        """Ask the schema."""
        return jsonschema.Draft202012Validator(json_schema()).is_valid(document)

    def test_is_a_schema(self) -> None:
        """Editors can load it."""
        jsonschema.Draft202012Validator.check_schema(json_schema())

    def test_describes_every_option(self) -> None:
        """An editor shows what an option means."""
        properties = json_schema()["$defs"]["Namespace"]["properties"]

        assert list(properties) == [field.name for field in msgspec.structs.fields(Namespace)]
        assert all(option["description"] for option in properties.values())

    @pytest.mark.parametrize("ttl", [0, 1.5, "5m", "1h30m", 31_536_000])
    def test_accepts_what_is_read(self, ttl: object) -> None:
        """Durations in both forms."""
        assert self.accepts({"namespaces": [{"name": "", "history_ttl": ttl}, {"name": "chat", "channel_regex": None}]})

    @pytest.mark.parametrize(
        "document",
        [
            {},
            {"namespaces": [{}]},
            {"namespaces": [{"name": "a"}]},
            {"namespaces": [{"name": "chat", "colour": 1}]},
            {"namespaces": [{"name": "chat", "history_ttl": "5"}]},
            {"namespaces": [{"name": "chat", "history_ttl": 31_536_001}]},
            {"namespaces": [{"name": "chat", "history_size": -1}]},
            {"namespaces": [], "other": 1},
        ],
    )
    def test_refuses_what_is_not_read(self, document: object) -> None:
        """The schema is no laxer than the service."""
        assert not self.accepts(document)
        assert problems_of(document)


def test_channel_is_a_value() -> None:
    """Frozen and without a dictionary, since there may be many."""
    assert not hasattr(resolve("x"), "__dict__")
    with pytest.raises(dataclasses.FrozenInstanceError):
        resolve("x").name = "y"  # type: ignore[misc]  # that is the point
