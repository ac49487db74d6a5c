from __future__ import annotations

import pytest

from service.settings import GROUPS, settings_of
from service.settings.rules import RULES
from tests.service.settings.environment import DEVELOPMENT, PRODUCTION, problems_of


def test_rules_name_settings() -> None:
    """A rule about a name that nobody knows would never be passed over."""
    names = {setting.name for group in GROUPS.values() for setting in settings_of(group).values()}

    assert all(names.issuperset(rule.names) for rule in RULES)


@pytest.mark.parametrize("name", ["HOST", "ADMIN_HOST"])
@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_is_fine_in_development(name: str, host: str) -> None:
    """In every spelling."""
    assert () == problems_of(DEVELOPMENT, **{name: host})


@pytest.mark.parametrize("name", ["HOST", "ADMIN_HOST"])
@pytest.mark.parametrize("host", ["::", "192.0.2.1", "example.com", "localhost.example.com", "127.0.0.1.x"])
def test_anything_else_is_refused_in_development_alone(name: str, host: str) -> None:
    """Made-up secrets are printed, so nobody else may reach the service."""
    (problem,) = problems_of(DEVELOPMENT, **{name: host})

    assert problem.startswith(f"{name}: must be a loopback address in development mode")
    assert () == problems_of(PRODUCTION, **{name: host})


@pytest.mark.parametrize(
    ("port", "admin_port", "allowed"),
    [("3000", "3001", True), ("8080", "8080", False), ("0", "0", True), ("3001", "", False), ("0", "3001", True)],
)
def test_ports_differ_unless_any_is_taken(port: str, admin_port: str, *, allowed: bool) -> None:
    """The admin API is not for the public."""
    if allowed:
        assert () == problems_of(PRODUCTION, PORT=port, ADMIN_PORT=admin_port)
    else:
        assert ("ADMIN_PORT: must differ from PORT: the admin API is not for the public",) == problems_of(
            PRODUCTION, PORT=port, ADMIN_PORT=admin_port
        )


@pytest.mark.parametrize("name", ["API_KEY", "ADMIN_KEY"])
def test_key_of_31_characters_is_weak_outside_development(name: str) -> None:
    """32 are enough, and the key is not shown."""
    assert () == problems_of(PRODUCTION, **{name: "k" * 32})
    assert () == problems_of(DEVELOPMENT, **{name: "k" * 8})
    (problem,) = problems_of(PRODUCTION, **{name: "k" * 31})

    assert problem.startswith(f"{name}: is weak: needs at least 32 characters")
    assert "kkk" not in problem


@pytest.mark.parametrize("environ", [PRODUCTION, DEVELOPMENT], ids=["production", "development"])
@pytest.mark.parametrize(
    ("first", "second"),
    [("ADMIN_KEY", "API_KEY"), ("TOKEN_HMAC_SECRET", "API_KEY"), ("TOKEN_HMAC_SECRET", "ADMIN_KEY")],
)
def test_no_secret_serves_two_purposes(environ: dict[str, str], first: str, second: str) -> None:
    """Who may do one thing may not therefore do another."""
    (problem,) = problems_of(environ, **{first: "k" * 40, second: "k" * 40})

    assert problem.startswith(f"{first}: must differ from {second}")
    assert "kkk" not in problem


@pytest.mark.parametrize(
    ("ping", "pong", "allowed"),
    [("30000", "29999", True), ("30000", "30000", False), ("30000", "30001", False), ("10001", "10000", True)],
)
def test_pong_is_due_before_the_next_ping(ping: str, pong: str, *, allowed: bool) -> None:
    """Less, and not as much."""
    changes = {"WS_PING_INTERVAL": ping, "WS_PONG_TIMEOUT": pong}
    if allowed:
        assert () == problems_of(PRODUCTION, **changes)
    else:
        (problem,) = problems_of(PRODUCTION, **changes)

        assert problem.startswith("WS_PONG_TIMEOUT: must be less than WS_PING_INTERVAL")


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        pytest.param({"WS_MAX_MESSAGE_BYTES": "5000", "WS_MAX_FRAME_BYTES": "5000"}, None, id="frame-as-message"),
        pytest.param(
            {"WS_MAX_MESSAGE_BYTES": "5001", "WS_MAX_FRAME_BYTES": "5000"}, "WS_MAX_FRAME_BYTES", id="frame-too-small"
        ),
        pytest.param({"WS_SEND_BUFFER_BYTES": "70000", "WS_MAX_FRAME_BYTES": "70000"}, None, id="buffer-as-frame"),
        pytest.param(
            {"WS_SEND_BUFFER_BYTES": "69999", "WS_MAX_FRAME_BYTES": "70000"},
            "WS_SEND_BUFFER_BYTES",
            id="buffer-too-small",
        ),
    ],
)
def test_sizes_contain_each_other(changes: dict[str, str], name: str | None) -> None:
    """A message fits in a frame, and a frame in a buffer."""
    if name is None:
        assert () == problems_of(PRODUCTION, **changes)
    else:
        (problem,) = problems_of(PRODUCTION, **changes)

        assert problem.startswith(f"{name}: must be at least ")


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        pytest.param({"DRAIN_GRACE_SECONDS": "5", "DRAIN_SPREAD_SECONDS": "19.9"}, True, id="just-inside"),
        pytest.param({"DRAIN_GRACE_SECONDS": "5", "DRAIN_SPREAD_SECONDS": "20"}, False, id="no-time-left"),
        pytest.param({"DRAIN_BUDGET_SECONDS": "1.1"}, True, id="spread-by-default"),
        pytest.param({"DRAIN_BUDGET_SECONDS": "1"}, False, id="as-long-as-the-default-spread"),
        pytest.param({"DRAIN_BUDGET_SECONDS": "10.1", "WS_MAX_CONNECTIONS": "50000"}, True, id="longest-default"),
        pytest.param({"DRAIN_BUDGET_SECONDS": "10", "WS_MAX_CONNECTIONS": "50000"}, False, id="longest-default-cut"),
    ],
)
def test_budget_is_longer_than_the_drain(changes: dict[str, str], *, allowed: bool) -> None:
    """Else the spread is cut short, which nobody wants who sets one."""
    if allowed:
        assert () == problems_of(PRODUCTION, **changes)
    else:
        (problem,) = problems_of(PRODUCTION, **changes)

        assert problem.startswith("DRAIN_BUDGET_SECONDS: must be more than")


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        pytest.param({"LOCK_PROVE_SECONDS": "5"}, "LOCK_SERVE_SECONDS", id="proves-too-late-to-serve"),
        pytest.param({"LOCK_WAIT_SECONDS": "5"}, "LOCK_WAIT_SECONDS", id="waits-too-short"),
        pytest.param({"LOCK_SESSION_SECONDS": "2"}, "LOCK_SESSION_SECONDS", id="session-too-short"),
        pytest.param(
            {"RECOVERY_MAX_BYTES": "65536", "WS_SEND_BUFFER_BYTES": "65536", "WS_MAX_FRAME_BYTES": "65536"},
            "RECOVERY_MAX_BYTES",
            id="recovery-as-large-as-the-buffer",
        ),
        pytest.param({"DATABASE_DIRECT_URL": "postgresql://db/app"}, "DATABASE_DIRECT_URL", id="direct-of-no-postgres"),
    ],
)
def test_times_and_addresses_of_the_database_fit_together(changes: dict[str, str], name: str) -> None:
    """What one promises another must not break."""
    (problem,) = problems_of(PRODUCTION, **changes)

    assert problem.startswith(f"{name}: ")


def test_times_of_the_lock_may_be_a_tenth() -> None:
    """As tests have them."""
    tenth = {"LOCK_PROVE_SECONDS": "0.2", "LOCK_SERVE_SECONDS": "0.5", "LOCK_SESSION_SECONDS": "1.5"}

    assert () == problems_of(PRODUCTION, LOCK_WAIT_SECONDS="0.6", **tenth)


def test_rule_is_passed_over_when_a_setting_of_it_cannot_be_read() -> None:
    """One mistake, one line."""
    (problem,) = problems_of(PRODUCTION, WS_PING_INTERVAL="oops", WS_PONG_TIMEOUT="40000")

    assert problem.startswith("WS_PING_INTERVAL: must be a whole number")
