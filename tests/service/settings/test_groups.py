from __future__ import annotations

import dataclasses
from pathlib import Path, PurePath

import pytest

from service.settings import GROUPS, Database, Drain, Limits, Mode, Process, Secret, Settings, settings_of


def test_settings_can_be_built_without_an_environment() -> None:
    """With every production default, and no secrets."""
    settings = Settings()

    assert Mode.PRODUCTION is settings.process.mode
    assert not settings.is_development
    assert settings.api.key is settings.admin.key is settings.tokens.hmac_secret is None
    assert settings == Settings()


def test_groups_are_the_fields_of_settings() -> None:
    """Nothing can be described and not read."""
    fields = {item.name: item.type for item in dataclasses.fields(Settings)}

    assert {name: group.__name__ for name, group in GROUPS.items()} == {
        name: type_ for name, type_ in fields.items() if name not in ("namespaces", "generated", "warnings")
    }


@pytest.mark.parametrize("group", GROUPS.values(), ids=GROUPS)
def test_every_field_is_a_setting(group: type) -> None:
    """A group has nothing that cannot be set."""
    assert [item.name for item in dataclasses.fields(group)] == list(settings_of(group))


def test_no_name_is_used_twice() -> None:
    """One setting, one field."""
    names = [setting.name for group in GROUPS.values() for setting in settings_of(group).values()]

    assert len(names) == len(set(names))


@pytest.mark.parametrize("group", [*GROUPS.values(), Settings], ids=lambda group: group.__name__)
def test_no_group_can_be_changed(group: type) -> None:
    """Nor can anything be added to one."""
    built = group()
    name = dataclasses.fields(group)[0].name

    assert not hasattr(built, "__dict__")
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(built, name, getattr(built, name))


def test_defaults_are_those_that_were_promised() -> None:
    """As written in the environment; what is not here has none."""
    constants = {
        setting.name: setting.kind.show(setting.default)
        for group in GROUPS.values()
        for setting in settings_of(group).values()
        if setting.kind.show(setting.default)
    }

    assert {
        "SLACKWATER_MODE": "production",
        "DATA_DIR": "data",
        "WEB_CONCURRENCY": "1",
        "DATABASE_POOL_SIZE": "5",
        "DATABASE_POOL_OVERFLOW": "5",
        "DATABASE_POOL_TIMEOUT": "5",
        "DATABASE_CONNECT_TIMEOUT": "5",
        "DATABASE_STATEMENT_TIMEOUT": "5",
        "LOCK_PROVE_SECONDS": "2",
        "LOCK_SERVE_SECONDS": "5",
        "LOCK_SESSION_SECONDS": "15",
        "LOCK_WAIT_SECONDS": "6",
        "OUTBOX": "true",
        "OUTBOX_POLL_SECONDS": "1",
        "OUTBOX_MAX_TRIES": "5",
        "OUTBOX_KEEP_SECONDS": "86400",
        "HOST": "0.0.0.0",  # noqa: S104 - in a container
        "PORT": "3000",
        "HTTP_MAX_BODY_BYTES": "1048576",
        "HISTORY_MAX_BYTES": "268435456",
        "RECOVERY_MAX_BYTES": "786432",
        "IDEMPOTENCY_SECONDS": "300",
        "WS_REQUEST_HEAD_TIMEOUT": "5000",
        "DEMO_PAGE": "false",
        "ADMIN_HOST": "127.0.0.1",
        "ADMIN_PORT": "3001",
        "ADMIN_TTL_SECONDS": "120",
        "API_MAX_BATCH_COMMANDS": "1000",
        "API_MAX_BROADCAST_CHANNELS": "1000",
        "TOKEN_MAX_SECONDS": "86400",
        "WS_ANONYMOUS": "false",
        "PERSONAL_CHANNELS": "true",
        "WS_MAX_CONNECTIONS": "1000",
        "WS_UNAUTHENTICATED_SHARE": "0.2",
        "WS_MAX_CONNECTIONS_PER_USER": "0",
        "WS_MAX_CONNECTIONS_PER_ADDRESS": "0",
        "WS_MESSAGES_PER_MINUTE": "100",
        "WS_COMMANDS_PER_MINUTE": "6000",
        "WS_REFUSALS_PER_MINUTE": "100",
        "WS_MAX_MESSAGE_BYTES": "65536",
        "WS_MAX_FRAME_BYTES": "1048576",
        "WS_MAX_COMMANDS_PER_FRAME": "512",
        "WS_MAX_CHANNELS_PER_CLIENT": "128",
        "WS_MAX_CHANNEL_LENGTH": "255",
        "WS_PING_INTERVAL": "30000",
        "WS_PONG_TIMEOUT": "10000",
        "WS_IDLE_TIMEOUT": "86400000",
        "WS_CONNECT_TIMEOUT": "10000",
        "WS_SEND_BUFFER_BYTES": "1048576",
        "DRAIN_GRACE_SECONDS": "0",
        "DRAIN_BUDGET_SECONDS": "25",
        "LOG_LEVEL": "info",
        "LOG_FORMAT": "auto",
    } == constants


@pytest.mark.parametrize(
    ("connections", "share", "expected"),
    [
        pytest.param(1000, 0.2, 200, id="default"),
        pytest.param(100, 0.07, 7, id="not-exact-in-binary"),
        pytest.param(10, 0.29, 2, id="rounded-down"),
        pytest.param(1, 0.2, 1, id="at-least-one"),
        pytest.param(1000, 1.0, 1000, id="all"),
    ],
)
def test_share_of_strangers_is_a_number_of_connections(connections: int, share: float, expected: int) -> None:
    """Never none, else nobody could begin."""
    assert expected == Limits(max_connections=connections, unauthenticated_share=share).max_unauthenticated


@pytest.mark.parametrize(
    ("given", "connections", "expected"),
    [
        pytest.param(None, 0, 0.0, id="nobody"),
        pytest.param(None, 500, 0.5, id="a-thousand-a-second"),
        pytest.param(None, 10_000, 10.0, id="at-the-most"),
        pytest.param(None, 10_001, 10.0, id="beyond-the-most"),
        pytest.param(0.0, 500, 0.0, id="all-at-once"),
        pytest.param(12.5, 500, 12.5, id="as-set"),
    ],
)
def test_spread_follows_the_connections_unless_set(given: float | None, connections: int, expected: float) -> None:
    """As short as the next instance can accept."""
    assert expected == Drain(spread_seconds=given).spread_for(connections)


def test_database_is_a_file_in_the_directory_for_data_unless_named() -> None:
    """Durable without any setting, where the directory is."""
    unset = Settings(process=Process(data_dir=Path("/data"))).database_target
    memory = Settings(database=Database(url=Secret("memory:"))).database_target

    assert ("sqlite", PurePath("/data/slackwater.db")) == (unset.kind, unset.path)
    assert "memory" == memory.kind


def test_direct_address_is_the_database_itself_unless_named() -> None:
    """For sessions that last."""
    url, direct = Secret("postgresql://pooler:6432/app"), Secret("postgresql://db/app")

    assert (("pooler", 6432),) == Settings(database=Database(url=url)).direct_target.hosts
    assert (("db", 5432),) == Settings(database=Database(url=url, direct_url=direct)).direct_target.hosts
