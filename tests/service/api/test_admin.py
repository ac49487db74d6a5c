"""The admin API shows the instance as it is, and changes nothing but what it was asked to."""

from __future__ import annotations

from typing import Any

import pytest

from service.core.codes import Disconnects
from service.core.phase import Phase
from service.realtime.drainer import Origin
from tests.support.surfaces import ADMIN_KEY, INSTANCE_ID, Surfaces

NO_KEY = "no admin key: send it as X-Admin-Key"

STATUS = "/api/admin/status"
ANNOUNCE = "/api/admin/announce"
GATE = "/api/admin/gate"
DRAIN = "/api/admin/drain"
PROBE_TOKENS = "/api/admin/probe-tokens"

PATHS = [
    ("GET", STATUS),
    ("POST", PROBE_TOKENS),
    *((method, path) for path in (ANNOUNCE, GATE, DRAIN) for method in ("POST", "DELETE")),
]

SERVING = (Phase.ACTIVE, Phase.GATED, Phase.DRAINING, Phase.DRAINED)
NOT_SERVING = (Phase.STARTING, Phase.STANDBY, Phase.CLOSED)


@pytest.fixture
def surfaces() -> Surfaces:
    """One instance that serves, with nobody connected."""
    return Surfaces()


# Keys.


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize(
    ("request_parts", "detail"),
    [
        pytest.param({"headers": {}}, NO_KEY, id="none"),
        pytest.param({"headers": {"X-Admin-Key": ""}}, NO_KEY, id="empty"),
        pytest.param({"headers": {"X-Admin-Key": ADMIN_KEY + "x"}}, "wrong admin key", id="longer"),
        pytest.param({"headers": {"X-Admin-Key": ADMIN_KEY[:-1]}}, "wrong admin key", id="shorter"),
        pytest.param({"headers": {b"X-Admin-Key": b"\xff\xfe"}}, "wrong admin key", id="not ASCII"),
        pytest.param(
            {"headers": [("X-Admin-Key", ADMIN_KEY), ("X-Admin-Key", "x")]}, "more than one admin key", id="two"
        ),
        pytest.param({"headers": {"Authorization": f"apikey {ADMIN_KEY}"}}, NO_KEY, id="Authorization"),
        pytest.param({"headers": {"Authorization": f"Bearer {ADMIN_KEY}"}}, NO_KEY, id="Bearer"),
        pytest.param({"headers": {"X-API-Key": ADMIN_KEY}}, NO_KEY, id="X-API-Key"),
        pytest.param(
            {"headers": {}, "params": {"X-Admin-Key": ADMIN_KEY, "api_key": ADMIN_KEY}},
            NO_KEY,
            id="in the URL",
        ),
    ],
)
async def test_request_is_refused_with_key(
    surfaces: Surfaces, method: str, path: str, request_parts: dict[str, Any], detail: str
) -> None:
    """Only the one header counts, and a wrong key changes nothing."""
    answer = await surfaces.ask(method, path, **request_parts)

    assert 401 == answer.status_code
    assert {"type": "about:blank", "title": "Unauthorized", "status": 401, "detail": detail} == answer.json()
    assert Phase.ACTIVE is surfaces.instance.lifecycle.phase
    assert surfaces.instance.announcements.data is None


async def test_no_key_is_right_when_none_is_set() -> None:
    """A forgotten key closes the admin API; it does not open it."""
    surfaces = Surfaces(key=None)

    for key in ("", "None", ADMIN_KEY):
        assert 401 == (await surfaces.ask("GET", STATUS, headers={"X-Admin-Key": key})).status_code


async def test_key_is_asked_for_before_the_body_is_read(surfaces: Surfaces) -> None:
    """A stranger learns nothing about what would be accepted."""
    answer = await surfaces.ask("POST", GATE, headers={"X-Admin-Key": "wrong"}, content=b"{")

    assert 401 == answer.status_code


# Status.


async def test_status_describes_an_instance_that_serves() -> None:
    """Every fact, with null for what is not there."""
    surfaces = Surfaces(image_digest="sha256:abc")
    surfaces.clients(2)
    surfaces.world.client()
    probe = surfaces.world.client()
    probe.do("connect", token=surfaces.probe.issue(60).valid.connection)
    surfaces.world.clock.advance(2.5)

    status = await surfaces.status()

    limits = status.pop("limits")
    assert {
        "instance": INSTANCE_ID,
        "version": "1.2.3",
        "image_digest": "sha256:abc",
        "uptime_seconds": 2.5,
        "phase": {"name": "ACTIVE", "since": "2027-01-15T08:00:00.000Z", "reason": "serving"},
        "gate": None,
        "drain": None,
        "announcement": None,
        "connections": {"total": 4, "unauthenticated": 1, "authenticated": 3, "probe": 1},
        "lock": {"kind": "local", "held": True, "token": 0},
        "database": None,
    } == status
    assert (1000, 200, 100, 65_536) == (
        limits["max_connections"],
        limits["max_unauthenticated"],
        limits["messages_per_minute"],
        limits["max_message_bytes"],
    )


async def test_answers_are_never_cached(surfaces: Surfaces) -> None:
    """Neither a state that has passed nor a token."""
    for method, path in PATHS:
        assert "no-store" == (await surfaces.ask(method, path)).headers["cache-control"]


# Announcements.


async def test_announcement_reaches_every_client(surfaces: Surfaces) -> None:
    """Those who are there, those who come, and nobody before they have said who they are."""
    (client,) = surfaces.clients(1)
    silent = surfaces.world.client()
    body = {
        "message": "Back in a minute.",
        "starts_at": "2027-01-15T10:00:00+02:00",
        "duration_seconds": 60,
        "data": {"banner": "amber"},
    }

    answer = await surfaces.ask("POST", ANNOUNCE, body)

    expected = {
        "type": "maintenance",
        "state": "announced",
        "message": "Back in a minute.",
        "starts_at": "2027-01-15T08:00:00.000Z",
        "duration_seconds": 60.0,
        "data": {"banner": "amber"},
    }
    assert {"data": expected, "ttl_left_seconds": 120.0} == answer.json()["announcement"]
    assert {"data": expected} == client.expect_push("message")
    silent.expect_no_push()
    silent.connect("late")
    assert {"data": expected} == silent.expect_push("message")


async def test_announcement_may_be_empty(surfaces: Surfaces) -> None:
    """That there is maintenance is something to say already."""
    (client,) = surfaces.clients(1)

    await surfaces.ask("POST", ANNOUNCE)

    assert {"data": {"type": "maintenance", "state": "announced"}} == client.expect_push("message")


async def test_announcement_is_renewed_without_telling_anybody_twice(surfaces: Surfaces) -> None:
    """The same words mean that it holds for longer."""
    (client,) = surfaces.clients(1)
    await surfaces.ask("POST", ANNOUNCE, {"message": "soon", "ttl_seconds": 10})
    client.expect_push("message")
    surfaces.world.advance(9)

    await surfaces.ask("POST", ANNOUNCE, {"message": "soon", "ttl_seconds": 10})
    surfaces.world.advance(9)

    client.expect_no_push()
    assert 1.0 == (await surfaces.status())["announcement"]["ttl_left_seconds"]
    surfaces.world.advance(1)
    assert (await surfaces.status())["announcement"] is None
    client.expect_no_push()


async def test_announcement_is_withdrawn(surfaces: Surfaces) -> None:
    """Clients are told, once."""
    (client,) = surfaces.clients(1)
    await surfaces.ask("POST", ANNOUNCE)
    client.expect_push("message")

    first = await surfaces.ask("DELETE", ANNOUNCE)
    second = await surfaces.ask("DELETE", ANNOUNCE)

    assert first.json()["announcement"] is None
    assert 200 == second.status_code
    assert {"data": {"type": "maintenance", "state": "cancelled"}} == client.expect_push("message")
    client.expect_no_push()


@pytest.mark.parametrize(("length", "status"), [(16_384, 200), (16_385, 422)])
async def test_announcement_is_bounded(surfaces: Surfaces, length: int, status: int) -> None:
    """It is kept, and sent to everybody."""
    frame = len('{"type":"maintenance","state":"announced","data":{"text":""}}')

    answer = await surfaces.ask("POST", ANNOUNCE, {"data": {"text": "x" * (length - frame)}})

    assert status == answer.status_code


@pytest.mark.parametrize(
    "text", ["2027-01-15T10:00:00", "tomorrow", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"]
)
async def test_announcement_needs_a_real_instant(surfaces: Surfaces, text: str) -> None:
    """One without a zone would be read in another one."""
    answer = await surfaces.ask("POST", ANNOUNCE, {"starts_at": text})

    assert 422 == answer.status_code
    assert (await surfaces.status())["announcement"] is None


# The gate.


async def test_gate_refuses_new_websockets_and_keeps_the_open_ones(surfaces: Surfaces) -> None:
    """Its reason is shown."""
    (client,) = surfaces.clients(1)

    status = (await surfaces.ask("POST", GATE, {"ttl_seconds": 30, "reason": "rollout 7"})).json()

    assert {"ttl_left_seconds": 30.0, "reason": "rollout 7"} == status["gate"]
    assert ("GATED", "rollout 7") == (status["phase"]["name"], status["phase"]["reason"])
    refusal = surfaces.instance.admission.check("192.0.2.1")
    assert refusal is not None
    assert (503, "phase") == (refusal.status, refusal.reason)
    client.expect_no_push()


async def test_gate_holds_as_long_as_the_settings_say(surfaces: Surfaces) -> None:
    """Without a TTL in the request."""
    assert 120.0 == (await surfaces.ask("POST", GATE)).json()["gate"]["ttl_left_seconds"]


async def test_gate_opens_by_itself_when_nobody_renews_it(surfaces: Surfaces) -> None:
    """And says so."""
    await surfaces.ask("POST", GATE, {"ttl_seconds": 30})
    surfaces.world.advance(20)
    await surfaces.ask("POST", GATE, {"ttl_seconds": 30})
    surfaces.world.advance(29)
    assert 1.0 == (await surfaces.status())["gate"]["ttl_left_seconds"]

    surfaces.world.advance(1)

    status = await surfaces.status()
    assert status["gate"] is None
    assert ("ACTIVE", "the gate was not renewed in time") == (status["phase"]["name"], status["phase"]["reason"])
    assert "2027-01-15T08:00:50.000Z" == status["phase"]["since"]
    assert surfaces.instance.admission.check("192.0.2.1") is None


async def test_gate_is_opened(surfaces: Surfaces) -> None:
    """To open it twice is no error."""
    await surfaces.ask("POST", GATE)

    for _ in range(2):
        answer = await surfaces.ask("DELETE", GATE)
        assert 200 == answer.status_code
        assert answer.json()["gate"] is None


async def test_gate_cannot_be_opened_under_a_drain(surfaces: Surfaces) -> None:
    """The drain has to be cancelled, which opens the gate as well."""
    surfaces.clients(1)
    await surfaces.ask("POST", GATE)
    await surfaces.ask("POST", DRAIN, {"grace_seconds": 5, "ttl_seconds": 60})

    answer = await surfaces.ask("DELETE", GATE)

    assert 409 == answer.status_code
    assert {
        "type": "about:blank",
        "title": "Conflict",
        "status": 409,
        "detail": "a drain keeps the gate closed: cancel the drain",
        "phase": "DRAINING",
    } == answer.json()
    assert {"ttl_left_seconds": 60.0, "reason": "drain by admin"} == (await surfaces.status())["gate"]
    assert (await surfaces.ask("DELETE", DRAIN)).json()["gate"] is None


# The drain.


async def test_drain_shows_how_far_it_has_come(surfaces: Surfaces) -> None:
    """From the first close to the last, and afterwards."""
    clients = surfaces.clients(10)
    body = {"grace_seconds": 2, "spread_seconds": 10, "budget_seconds": 20, "ttl_seconds": 60}

    begun = (await surfaces.ask("POST", DRAIN, body)).json()

    assert ("DRAINING", "drain by admin") == (begun["phase"]["name"], begun["phase"]["reason"])
    assert {
        "origin": "admin",
        "total": 10,
        "closed": 0,
        "remaining": 10,
        "rate_per_second": 0.0,
        "eta_seconds": 12.0,
        "finished": False,
        "ttl_left_seconds": 60.0,
        "budget_left_seconds": 20.0,
    } == begun["drain"]
    assert {"type": "maintenance", "state": "draining", "seconds": 12.0} == clients[0].expect_push("message")["data"]
    clients[9].lose()
    surfaces.world.advance(5)
    assert {
        "origin": "admin",
        "total": 10,
        "closed": 4,
        "remaining": 5,
        "rate_per_second": 0.8,
        "eta_seconds": 7.0,
        "finished": False,
        "ttl_left_seconds": 55.0,
        "budget_left_seconds": 15.0,
    } == (await surfaces.status())["drain"]
    clients[0].expect_closed(Disconnects.SHUTDOWN)
    surfaces.world.advance(6)
    surfaces.world.advance(4)
    status = await surfaces.status()
    assert ("DRAINED", "no connection is left") == (status["phase"]["name"], status["phase"]["reason"])
    assert {
        "origin": "admin",
        "total": 10,
        "closed": 9,
        "remaining": 0,
        "rate_per_second": 0.82,
        "eta_seconds": 0.0,
        "finished": True,
        "ttl_left_seconds": 45.0,
        "budget_left_seconds": 0.0,
    } == status["drain"]


async def test_drain_without_a_plan_takes_the_settings(surfaces: Surfaces) -> None:
    """A spread by how many are connected, the budget and the TTL."""
    surfaces.clients(100)

    drain = (await surfaces.ask("POST", DRAIN)).json()["drain"]

    assert (0.1, 25.0, 120.0) == (drain["eta_seconds"], drain["budget_left_seconds"], drain["ttl_left_seconds"])


async def test_drain_past_its_plan_ends_with_its_budget(surfaces: Surfaces) -> None:
    """Somebody who slipped in after the plan was made is closed then."""
    surfaces.clients(1)
    await surfaces.ask("POST", DRAIN, {"spread_seconds": 0, "grace_seconds": 1, "budget_seconds": 20})
    late = surfaces.world.connected("late")
    late.expect_no_push()
    surfaces.world.advance(2)

    drain = (await surfaces.status())["drain"]

    assert (1, 1, 18.0, False) == (drain["closed"], drain["remaining"], drain["eta_seconds"], drain["finished"])
    surfaces.world.advance(18)
    late.expect_closed(Disconnects.SHUTDOWN)
    assert (await surfaces.status())["drain"]["finished"]


async def test_drain_is_undone_when_nobody_renews_it(surfaces: Surfaces) -> None:
    """Whoever began it may have died; repeated calls renew the TTL and leave the plan alone."""
    surfaces.clients(10)
    plan = {"grace_seconds": 100, "budget_seconds": 3600, "ttl_seconds": 30}
    await surfaces.ask("POST", DRAIN, plan)
    surfaces.world.advance(20)
    renewed = (await surfaces.ask("POST", DRAIN, {"spread_seconds": 0, "ttl_seconds": 30})).json()["drain"]
    assert (30.0, 10) == (renewed["ttl_left_seconds"], renewed["remaining"])

    surfaces.world.advance(30)

    status = await surfaces.status()
    assert (None, None) == (status["drain"], status["gate"])
    assert ("ACTIVE", "the drain was not renewed in time") == (status["phase"]["name"], status["phase"]["reason"])
    assert 10 == status["connections"]["total"]


async def test_drain_is_cancelled(surfaces: Surfaces) -> None:
    """Those who are still there stay; to cancel twice is no error."""
    surfaces.clients(10)
    await surfaces.ask("POST", DRAIN, {"spread_seconds": 10})
    surfaces.world.advance(5)

    await surfaces.ask("DELETE", DRAIN)
    status = (await surfaces.ask("DELETE", DRAIN)).json()

    assert (None, None, "ACTIVE") == (status["drain"], status["gate"], status["phase"]["name"])
    surfaces.world.advance(60)
    assert 4 == (await surfaces.status())["connections"]["total"]


async def test_drain_by_sigterm_cannot_be_cancelled(surfaces: Surfaces) -> None:
    """Nor does asking for another one prolong it."""
    surfaces.clients(10)
    surfaces.instance.drain(Origin.SIGNAL, spread_seconds=10)

    answer = await surfaces.ask("DELETE", DRAIN)

    assert (409, "DRAINING") == (answer.status_code, answer.json()["phase"])
    assert "SIGTERM began this drain: the process is going to end" == answer.json()["detail"]
    status = (await surfaces.ask("POST", DRAIN, {"ttl_seconds": 1})).json()
    assert ("signal", None) == (status["drain"]["origin"], status["drain"]["ttl_left_seconds"])
    assert status["gate"]["ttl_left_seconds"] is None


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param({"grace_seconds": 10, "spread_seconds": 10, "budget_seconds": 20}, 200, id="just enough"),
        pytest.param({"grace_seconds": 10, "spread_seconds": 10, "budget_seconds": 19.9}, 422, id="too little"),
        pytest.param({"spread_seconds": 26}, 422, id="more than the budget of the settings"),
        pytest.param({"budget_seconds": 0.005}, 422, id="less than the spread of the settings"),
    ],
)
async def test_drain_needs_a_budget_for_its_plan(surfaces: Surfaces, body: dict[str, float], status: int) -> None:
    """A plan that would be cut short is a mistake, and nothing is begun."""
    surfaces.clients(10)

    answer = await surfaces.ask("POST", DRAIN, body)

    assert status == answer.status_code
    assert (surfaces.instance.drainer.drain is None) == (status != 200)


# Phases.


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("path", [ANNOUNCE, GATE, DRAIN])
async def test_change_is_refused_in_phases_that_serve_nobody(surfaces: Surfaces, phase: Phase, path: str) -> None:
    """With the phase, so that the caller knows what to wait for."""
    surfaces.enter(phase)

    answer = await surfaces.ask("POST", path)

    assert (200 if phase in SERVING else 409) == answer.status_code
    if phase in NOT_SERVING:
        assert phase.value == answer.json()["phase"]
        assert phase is surfaces.instance.lifecycle.phase


@pytest.mark.parametrize("phase", NOT_SERVING)
async def test_gate_cannot_be_opened_where_there_is_none(surfaces: Surfaces, phase: Phase) -> None:
    """A standby must not be let loose by mistake."""
    surfaces.enter(phase)

    assert 409 == (await surfaces.ask("DELETE", GATE)).status_code
    assert phase is surfaces.instance.lifecycle.phase


# Probe tokens.


async def test_probe_tokens_are_for_a_new_probe_each_time(surfaces: Surfaces) -> None:
    """Two probes cannot meet."""
    first = (await surfaces.ask("POST", PROBE_TOKENS)).json()
    second = (await surfaces.ask("POST", PROBE_TOKENS, {"ttl_seconds": 60})).json()

    assert first["channel"] == first["user"] != second["user"] == second["channel"]
    assert ("2027-01-15T08:05:00.000Z", "2027-01-15T08:01:00.000Z") == (first["expires_at"], second["expires_at"])
    assert 6 == len({token for kind in ("valid", "expired", "wrong_signature") for token in first[kind].values()})


async def test_probe_tokens_work_as_they_say(surfaces: Surfaces) -> None:
    """The instance that hands them out believes the valid ones and no others."""
    tokens = (await surfaces.ask("POST", PROBE_TOKENS)).json()
    client = surfaces.world.client()

    client.do("connect", token=tokens["valid"]["connection"])
    client.subscribe(tokens["channel"], token=tokens["valid"]["subscription"])

    for kind, closed in (("expired", None), ("wrong_signature", Disconnects.INVALID_TOKEN)):
        other = surfaces.world.client()
        other.ask("connect", token=tokens[kind]["connection"])
        if closed is None:
            other.take_in()
            assert 109 == other.inbox.popleft()["error"]["code"]
        else:
            other.expect_closed(closed)


async def test_unknown_path_is_not_found(surfaces: Surfaces) -> None:
    """There is no more than what the contract has."""
    assert 404 == (await surfaces.ask("GET", "/api/admin/other")).status_code
    assert 405 == (await surfaces.ask("PUT", GATE)).status_code
