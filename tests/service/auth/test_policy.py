from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Final

import msgspec
import pytest

from service.auth import policy
from service.core.codes import Error, Errors
from service.core.namespaces import Channel, Namespace, Namespaces
from service.core.organizations import Role

YES: Final = None
NO: Final = Errors.PERMISSION_DENIED
OFF: Final = Errors.NOT_AVAILABLE

ANONYMOUS, ANN, BOB = "", "42", "7"

_ASK: Final[dict[str, Callable[..., Error | None]]] = {
    "publish": policy.may_publish,
    "history": policy.may_read_history,
    "presence": policy.may_read_presence,
}


def options(text: str) -> Namespace:
    """Return a namespace with the options in ``text`` on, by the words that the tables below use."""
    found: dict[str, object] = dict.fromkeys(text.split(), True)
    if found.pop("history", False):
        found |= {"history_size": 100, "history_ttl": 60.0}
    return msgspec.convert(found, Namespace)


def channel(name: str, text: str) -> Channel:
    """Return a channel of a namespace that passed the checks of the settings."""
    resolved = Namespaces((options(text),)).resolve(name)
    assert isinstance(resolved, Channel)
    return resolved


CLIENT = "allow_subscribe_for_client"
ALL = f"{CLIENT} allow_subscribe_for_anonymous"
LIMITED = "allow_user_limited_channels"


@pytest.mark.parametrize(
    ("name", "text", "anonymous", "ann", "bob"),
    [
        # An ordinary channel: who is named by the options.
        ("room", "", NO, NO, NO),
        ("room", CLIENT, NO, YES, YES),
        ("room", ALL, YES, YES, YES),
        ("room", LIMITED, NO, NO, NO),
        ("room", f"{ALL} {LIMITED}", YES, YES, YES),
        # A user-limited channel: who is named by the channel, if the namespace has such channels.
        ("#42", "", NO, NO, NO),
        ("#42", ALL, NO, NO, NO),
        ("#42", LIMITED, NO, YES, NO),
        ("#42", f"{CLIENT} {LIMITED}", NO, YES, NO),
        ("#42", f"{ALL} {LIMITED}", NO, YES, NO),
        ("dialog#42,7", LIMITED, NO, YES, YES),
        ("dialog#7", LIMITED, NO, NO, YES),
        ("dialog#7#42", LIMITED, NO, YES, NO),
        ("dialog#421", f"{ALL} {LIMITED}", NO, NO, NO),
        ("dialog#", f"{ALL} {LIMITED}", NO, NO, NO),
        ("dialog#,", f"{ALL} {LIMITED}", NO, NO, NO),
        # A private channel: nobody without a token.
        ("$room", "", NO, NO, NO),
        ("$room", ALL, NO, NO, NO),
        ("$room#42", f"{ALL} {LIMITED}", NO, NO, NO),
    ],
)
def test_may_subscribe(name: str, text: str, anonymous: Error | None, ann: Error | None, bob: Error | None) -> None:
    """Without a token the options and the name decide; with a valid one everybody is let in."""
    asked = channel(name, text)
    verdicts = [policy.may_subscribe(asked, user, has_valid_token=False) for user in (ANONYMOUS, ANN, BOB)]
    with_token = [policy.may_subscribe(asked, user, has_valid_token=True) for user in (ANONYMOUS, ANN, BOB)]

    assert [anonymous, ann, bob] == verdicts
    assert [YES] * 3 == with_token


@pytest.mark.parametrize("verb", ["publish", "history", "presence"])
@pytest.mark.parametrize("name", ["room", "$room", "room#7", "room#42"])
@pytest.mark.parametrize(
    ("ways", "verdicts"),
    [
        # An anonymous stranger, an anonymous subscriber, a user, a user who is subscribed.
        ("", (NO, NO, NO, NO)),
        ("client", (NO, NO, YES, YES)),
        ("subscriber", (NO, NO, NO, YES)),
        ("client subscriber", (NO, NO, YES, YES)),
        ("client anonymous", (YES, YES, YES, YES)),
        ("subscriber anonymous", (NO, YES, NO, YES)),
        ("client subscriber anonymous", (YES, YES, YES, YES)),
    ],
)
def test_publish_history_and_presence_share_one_rule(
    verb: str, name: str, ways: str, verdicts: tuple[Error | None, ...]
) -> None:
    """Some way in must be open, and to the anonymous only if it is open to them."""
    kept = {"publish": "", "history": "history", "presence": "presence"}[verb]
    asked = channel(name, " ".join([kept, *(f"allow_{verb}_for_{way}" for way in ways.split())]))
    decide = _ASK[verb]

    assert verdicts == tuple(
        decide(asked, user, subscribed=subscribed) for user in (ANONYMOUS, ANN) for subscribed in (False, True)
    )


@pytest.mark.parametrize("subscribed", [True, False])
@pytest.mark.parametrize("user", [ANONYMOUS, ANN])
def test_what_is_not_kept_is_not_available_before_anything_else(user: str, subscribed: bool) -> None:  # noqa: FBT001 - a parameter of the cases
    """108 comes before 103, and the leave to read does not make something to read."""
    everything = Namespace(
        allow_history_for_client=True,
        allow_history_for_anonymous=True,
        allow_presence_for_client=True,
        allow_presence_for_anonymous=True,
    )
    for namespace in (Namespace(), everything):
        asked = Channel("room", namespace)

        assert OFF is policy.may_read_history(asked, user, subscribed=subscribed)
        assert OFF is policy.may_read_presence(asked, user, subscribed=subscribed)


@pytest.mark.parametrize(("size", "ttl"), [(0, 0.0), (0, 60.0), (100, 0.0)])
def test_history_needs_a_size_and_a_ttl(size: int, ttl: float) -> None:
    """Either of them at 0 keeps nothing."""
    asked = Channel("room", Namespace(history_size=size, history_ttl=ttl, allow_history_for_client=True))

    assert OFF is policy.may_read_history(asked, ANN, subscribed=True)


@pytest.mark.parametrize(
    ("text", "user", "recovery", "positioning", "join_leave"),
    [
        ("", ANN, False, False, False),
        ("history", ANN, False, False, False),
        ("history allow_recovery", ANN, True, False, False),
        ("history allow_recovery", ANONYMOUS, True, False, False),
        ("history allow_positioning", ANN, False, True, False),
        ("history allow_history_for_subscriber", ANN, True, True, False),
        ("history allow_history_for_client", ANN, True, True, False),
        ("history allow_history_for_subscriber", ANONYMOUS, False, False, False),
        ("history allow_history_for_subscriber allow_history_for_anonymous", ANONYMOUS, True, True, False),
        ("join_leave", ANN, False, False, False),
        ("presence allow_presence_for_client", ANN, False, False, False),
        ("join_leave presence", ANN, False, False, False),
        ("join_leave presence allow_presence_for_client", ANN, False, False, True),
        ("join_leave presence allow_presence_for_subscriber", ANN, False, False, True),
        ("join_leave presence allow_presence_for_subscriber", ANONYMOUS, False, False, False),
    ],
)
def test_what_a_subscriber_may_ask_for(
    text: str,
    user: str,
    recovery: bool,  # noqa: FBT001 - a column
    positioning: bool,  # noqa: FBT001 - a column
    join_leave: bool,  # noqa: FBT001 - a column
) -> None:
    """A flag is honoured where it is allowed, or where the same can be had by asking."""
    asked = channel("room", text)

    assert recovery is policy.grants_recovery(asked, user)
    assert positioning is policy.grants_positioning(asked, user)
    assert join_leave is policy.grants_join_leave(asked, user)


def test_recovery_without_history_is_not_granted() -> None:
    """Options that contradict each other end on the careful side."""
    asked = Channel("room", Namespace(allow_recovery=True, allow_positioning=True))

    assert not policy.grants_recovery(asked, ANN)
    assert not policy.grants_positioning(asked, ANN)


# Every combination of every option, also those that the settings would refuse.

_FLAGS: Final = (
    *("presence", "allow_subscribe_for_client", "allow_subscribe_for_anonymous", "allow_user_limited_channels"),
    *(f"allow_{verb}_for_{way}" for verb in _ASK for way in ("client", "subscriber", "anonymous")),
)
_NAMES: Final = (("room", False, None), ("$room", True, None), ("#42", False, frozenset({"42"})))


def every_namespace() -> Iterator[Namespace]:
    """Yield all 16,384 of them."""
    for flags in itertools.product((False, True), repeat=len(_FLAGS)):
        for size in (0, 100):
            found: dict[str, object] = dict(zip(_FLAGS, flags, strict=True))
            yield msgspec.convert(found | {"history_size": size, "history_ttl": 60.0}, Namespace)


def test_no_combination_of_options_lets_in_whom_the_rules_keep_out() -> None:
    """The rules hold on the whole table: private, user-limited, anonymous, not kept."""
    for namespace in every_namespace():
        ordinary, private, limited = (
            Channel(name, namespace, is_private=secret, users=users) for name, secret, users in _NAMES
        )
        assert NO is policy.may_subscribe(private, ANN, has_valid_token=False)
        assert NO is policy.may_subscribe(limited, BOB, has_valid_token=False)
        assert NO is policy.may_subscribe(limited, ANONYMOUS, has_valid_token=False)
        if not namespace.allow_user_limited_channels:
            assert NO is policy.may_subscribe(limited, ANN, has_valid_token=False)
        if not namespace.allow_subscribe_for_anonymous:
            assert NO is policy.may_subscribe(ordinary, ANONYMOUS, has_valid_token=False)
        for verb, decide in _ASK.items():
            kept = {"publish": True, "history": namespace.has_history, "presence": namespace.presence}[verb]
            anonymous = decide(ordinary, ANONYMOUS, subscribed=True)
            outsider = decide(ordinary, ANN, subscribed=False)
            if not kept:
                assert {OFF} == {anonymous, outsider}
            if not getattr(namespace, f"allow_{verb}_for_anonymous"):
                assert anonymous is not YES
            if not getattr(namespace, f"allow_{verb}_for_client"):
                assert outsider is not YES


# Organizations.


@pytest.mark.parametrize(
    ("name", "organization"),
    [
        ("org:acme", "acme"),
        ("org:acme:room", "acme"),
        ("org:acme:a:b", "acme"),
        ("org:acme:room#42", "acme"),
        ("org:0-", "0-"),
        ("org:" + "a" * 63, "a" * 63),
        ("org:" + "a" * 64, ""),
        ("org:Acme", ""),
        ("org:-acme", ""),
        ("org:acme:", ""),
        ("org:acme::", ""),
        ("org:acme#42", ""),
        ("org:acme.x", ""),
        ("org::room", ""),
        ("$org:acme", ""),
        ("$org:acme:room", ""),
        ("chat:acme", None),
        ("org", None),
        ("#42", None),
    ],
)
def test_organization_is_in_the_name(name: str, organization: str | None) -> None:
    """Names in its namespace that are neither of the two forms are nobody's, not free for all."""
    resolved = Namespaces((Namespace(name="org"), Namespace(name="chat"), Namespace())).resolve(name)
    assert isinstance(resolved, Channel)

    assert organization == policy.organization_of(resolved)


def test_no_combination_of_options_outranks_membership() -> None:
    """Nobody but members, whatever the file says; viewers never publish; members only as far as the options go."""
    for namespace in every_namespace():
        org = msgspec.structs.replace(namespace, name="org")
        ours, plain = Channel("org:acme", org), Channel("room", namespace)
        assert NO is policy.may_subscribe(ours, ANN, has_valid_token=True)
        assert NO is policy.may_subscribe(ours, ANN, has_valid_token=False)
        assert not policy.admits(ours, None)
        assert YES is policy.may_subscribe(ours, ANN, has_valid_token=True, role=Role.VIEWER)
        for verb, decide in _ASK.items():
            for user, subscribed in itertools.product((ANONYMOUS, ANN), (False, True)):
                assert NO is decide(ours, user, subscribed=subscribed)
                for role in Role:
                    expected = decide(plain, user, subscribed=subscribed)
                    if verb == "publish" and role is Role.VIEWER:
                        expected = NO
                    assert expected is decide(ours, user, subscribed=subscribed, role=role)
