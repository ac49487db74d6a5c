from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING

import pytest
from typing_extensions import override

from service.core.namespaces import Channel
from service.errors import SettingsError
from service.settings import Mode, Secret, Settings, load, load_database
from tests.service.settings.environment import DEVELOPMENT, PRODUCTION, problems_of, settings

if TYPE_CHECKING:
    from pathlib import Path


class TestModes:
    """What holds where."""

    def test_production_is_the_default(self) -> None:
        """A forgotten setting opens nothing."""
        loaded = settings()

        assert Mode.PRODUCTION is loaded.process.mode
        assert ("0.0.0.0", "127.0.0.1") == (loaded.http.host, loaded.admin.host)  # noqa: S104 - the default
        assert not loaded.channels.anonymous
        assert not loaded.http.demo_page
        assert frozenset() == loaded.generated
        assert () == loaded.warnings

    def test_production_takes_the_secrets_given(self) -> None:
        """And asks for none."""
        loaded = settings()

        assert Secret(PRODUCTION["API_KEY"]) == loaded.api.key
        assert Secret(PRODUCTION["ADMIN_KEY"]) == loaded.admin.key
        assert Secret(PRODUCTION["TOKEN_HMAC_SECRET"]) == loaded.tokens.hmac_secret

    def test_production_does_not_start_without_secrets(self) -> None:
        """Each is named, with what to do."""
        problems = problems_of({})

        assert ["API_KEY: is missing", "ADMIN_KEY: is missing", "TOKEN_HMAC_SECRET: is missing"] == [
            problem.partition(";")[0] for problem in problems
        ]

    @pytest.mark.parametrize("blank", ["", " ", "\n"])
    def test_empty_secret_is_missing(self, blank: str) -> None:
        """As composed files leave it."""
        (problem,) = problems_of(PRODUCTION, API_KEY=blank)

        assert problem.startswith("API_KEY: is missing")

    def test_weak_secret_is_not_missing_too(self) -> None:
        """One mistake, one line."""
        (problem,) = problems_of(PRODUCTION, TOKEN_HMAC_SECRET="short")

        assert problem.startswith("TOKEN_HMAC_SECRET: is weak")

    def test_unknown_mode_is_the_only_problem_it_makes(self) -> None:
        """What depends on the mode is not judged."""
        (problem,) = problems_of({"SLACKWATER_MODE": "staging", "API_KEY": "short"})

        assert "SLACKWATER_MODE: must be production or development, is 'staging'" == problem

    def test_development_makes_secrets_up(self) -> None:
        """One each, and says which."""
        loaded = settings(DEVELOPMENT)

        assert {"API_KEY", "ADMIN_KEY", "TOKEN_HMAC_SECRET"} == loaded.generated
        assert loaded.api.key is not None
        assert loaded.admin.key is not None
        assert loaded.tokens.hmac_secret is not None
        assert loaded.api.key.reveal().startswith("made-up-")
        assert 3 == len({loaded.api.key, loaded.admin.key, loaded.tokens.hmac_secret})

    def test_development_is_open_to_this_machine(self) -> None:
        """Loopback, the page, and connections without a token."""
        loaded = settings(DEVELOPMENT)

        assert loaded.is_development
        assert ("127.0.0.1", "127.0.0.1") == (loaded.http.host, loaded.admin.host)
        assert loaded.channels.anonymous
        assert loaded.http.demo_page
        assert isinstance(loaded.namespaces.resolve("demo:lobby"), Channel)

    def test_development_keeps_the_secrets_given(self) -> None:
        """Only what is missing is made up."""
        loaded = settings(DEVELOPMENT, API_KEY="mine")

        assert Secret("mine") == loaded.api.key
        assert {"ADMIN_KEY", "TOKEN_HMAC_SECRET"} == loaded.generated

    def test_development_does_not_replace_a_bad_secret(self) -> None:
        """It was given, so it is judged."""
        (problem,) = problems_of(DEVELOPMENT, TOKEN_HMAC_SECRET="short")

        assert problem.startswith("TOKEN_HMAC_SECRET: is weak")

    def test_development_can_be_closed(self) -> None:
        """Its defaults are defaults."""
        loaded = settings(DEVELOPMENT, WS_ANONYMOUS="false", DEMO_PAGE="no")

        assert not loaded.channels.anonymous
        assert not loaded.http.demo_page
        assert not isinstance(loaded.namespaces.resolve("demo:lobby"), Channel)


class TestReading:
    """From names to values."""

    def test_all_problems_come_at_once(self) -> None:
        """By name: of single settings, of missing ones, of several together, of a file."""
        problems = problems_of(
            PRODUCTION,
            PORT="x",
            WEB_CONCURRENCY="4",
            ADMIN_KEY="",
            FRONTEND_URL="*",
            WS_PONG_TIMEOUT="30000",
            NAMESPACES_FILE="/nowhere.toml",
        )

        assert {
            "PORT",
            "WEB_CONCURRENCY",
            "ADMIN_KEY",
            "FRONTEND_URL",
            "WS_PONG_TIMEOUT",
            "NAMESPACES_FILE",
        } == {problem.partition(":")[0] for problem in problems}
        assert len(problems) == 6

    def test_text_of_the_error_lists_them(self) -> None:
        """One line each."""
        with pytest.raises(SettingsError) as caught:
            load({}, secret=str)

        assert "the settings cannot be used:" == str(caught.value).splitlines()[0]
        assert 4 == len(str(caught.value).splitlines())

    @pytest.mark.parametrize("name", ["API_KEY", "ADMIN_KEY", "TOKEN_HMAC_SECRET", "DATABASE_URL"])
    @pytest.mark.parametrize(
        "value", ["hunter2", " hunter2" + "x" * 40, "hunter2é" + "x" * 40, "-----BEGIN hunter2", "hunter2\udc80"]
    )
    def test_secret_is_in_no_text(self, name: str, value: str) -> None:
        """Neither in what is refused nor in what is accepted."""
        problems = problems_of(PRODUCTION, **{name: value})
        shown = (problems, SettingsError(problems)) if problems else (settings(PRODUCTION, **{name: value}),)

        assert "hunter2" not in f"{shown!r} {shown[-1]}"

    def test_text_that_was_no_utf8_is_a_problem(self) -> None:
        """The environment holds bytes; what is no text cannot be compared to any."""
        assert ("TOKEN_ISSUER: must be UTF-8 text",) == problems_of(PRODUCTION, TOKEN_ISSUER="a\udcff")

    @pytest.mark.parametrize(("buffer", "expected"), [("2000000", 786_432), ("1048576", 786_432), ("100000", 75_000)])
    def test_recovery_follows_the_send_buffer(self, buffer: str, expected: int) -> None:
        """So that one setting is enough."""
        loaded = settings(PRODUCTION, WS_SEND_BUFFER_BYTES=buffer, WS_MAX_FRAME_BYTES="65536")

        assert expected == loaded.channels.recovery_max_bytes

    @pytest.mark.parametrize(
        ("ping", "expected"),
        [("30000", 10.0), ("15000", 10.0), ("14999", 14.999 * 2 / 3), ("3000", 2.0), ("100", 0.1 * 2 / 3)],
    )
    def test_pong_timeout_follows_the_ping_interval(self, ping: str, expected: float) -> None:
        """So that one setting is enough."""
        limits = settings(PRODUCTION, WS_PING_INTERVAL=ping).limits

        assert expected == pytest.approx(limits.pong_timeout_seconds)
        assert limits.pong_timeout_seconds < limits.ping_interval_seconds

    def test_pong_timeout_given_is_kept(self) -> None:
        """Also when it is more than the default would be."""
        limits = settings(PRODUCTION, WS_PING_INTERVAL="3000", WS_PONG_TIMEOUT="2900").limits

        assert 2.9 == limits.pong_timeout_seconds

    def test_nothing_but_the_mapping_is_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Not the environment of this process."""
        monkeypatch.setenv("PORT", "4000")
        monkeypatch.setenv("SLACKWATER_MODE", "development")

        assert 3000 == settings().http.port
        assert "PORT" in os.environ

    def test_a_public_key_is_key_enough(self, tmp_path: Path) -> None:
        """Then no shared secret is missing, nor made up."""
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - for this test alone
        from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - only where it is needed

        path = tmp_path / "key.pem"
        path.write_bytes(
            ec.generate_private_key(ec.SECP256R1())
            .public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        changes = {"TOKEN_HMAC_SECRET": "", "TOKEN_ECDSA_PUBLIC_KEY": f"@{path}"}

        assert settings(PRODUCTION, **changes).tokens.hmac_secret is None
        assert {"API_KEY", "ADMIN_KEY"} == settings(DEVELOPMENT, **changes).generated

    def test_any_mapping_will_do(self) -> None:
        """It is only looked at."""

        class Frozen(Mapping[str, str]):
            @override
            def __getitem__(self, name: str) -> str:
                return PRODUCTION[name]

            @override
            def __iter__(self) -> Iterator[str]:
                return iter(PRODUCTION)

            @override
            def __len__(self) -> int:
                return len(PRODUCTION)

        assert settings() == load(Frozen(), secret=str)


TOML = """
[[namespaces]]
name = "rooms"
presence = true
history_size = 10
history_ttl = "5m"
"""
YAML = """
namespaces:
  - name: rooms
    presence: true
    history_size: 10
    history_ttl: 5m
"""


class TestNamespacesFile:
    """NAMESPACES_FILE."""

    def load(self, path: Path, text: str) -> Settings:
        """Write a file and load it."""
        path.write_text(text, encoding="utf-8")
        return settings(PRODUCTION, NAMESPACES_FILE=str(path), PERSONAL_CHANNELS="false")

    def problem(self, path: Path, text: str) -> str:
        """Write a file that must be refused."""
        path.write_text(text, encoding="utf-8")
        (problem,) = problems_of(PRODUCTION, NAMESPACES_FILE=str(path))
        return problem

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("n.toml", TOML),
            ("n.yaml", YAML),
            ("n.yml", YAML),
            ("N.YAML", YAML),
            (
                "n.json",
                json.dumps(
                    {"namespaces": [{"name": "rooms", "presence": True, "history_size": 10, "history_ttl": 300}]}
                ),
            ),
        ],
    )
    def test_three_formats_say_the_same(self, tmp_path: Path, name: str, text: str) -> None:
        """The end of the name tells which."""
        rooms = self.load(tmp_path / name, text).namespaces.get("rooms")

        assert rooms is not None
        assert rooms.presence
        assert (10, 300.0) == (rooms.history_size, rooms.history_ttl)

    def test_file_replaces_the_built_in_ones(self, tmp_path: Path) -> None:
        """But for those of the probe and of organizations."""
        namespaces = self.load(tmp_path / "n.toml", TOML).namespaces

        assert ["rooms", "probe", "org"] == [namespace.name for namespace in namespaces]

    def test_file_needs_a_known_ending(self, tmp_path: Path) -> None:
        """Nothing is guessed from what it holds."""
        path = tmp_path / "namespaces"

        assert f"NAMESPACES_FILE: {path}: must end in .toml, .yaml, .yml or .json" == self.problem(path, TOML)

    def test_missing_file_is_a_problem(self, tmp_path: Path) -> None:
        """With its path and the reason."""
        path = tmp_path / "none.toml"

        assert (f"NAMESPACES_FILE: cannot read {path}: No such file or directory",) == problems_of(
            PRODUCTION, NAMESPACES_FILE=str(path)
        )

    @pytest.mark.parametrize(
        ("name", "text", "expected"),
        [
            pytest.param("n.json", '{"namespaces": [\n}', " line 2: ", id="json"),
            pytest.param("n.yaml", "namespaces:\n  - name: 'x\n", " line 3: ", id="yaml"),
            pytest.param("n.yaml", "a: !!python/name:os.system\n", " line 1: ", id="yaml-object"),
            pytest.param("n.yaml", "a: \x00", ": unacceptable character", id="yaml-character"),
            pytest.param("n.yaml", "a: 2024-99-99", ": month must be in 1..12", id="yaml-date"),
            pytest.param("n.toml", "\n[[namespaces]\n", "(at line 2, column 13)", id="toml"),
            pytest.param("n.json", "[" * 100_000, ": is nested too deeply", id="too-deep"),
        ],
    )
    def test_place_of_a_mistake_is_told(self, tmp_path: Path, name: str, text: str, expected: str) -> None:
        """File and line, where the format's reader knows it."""
        problem = self.problem(tmp_path / name, text)

        assert problem.startswith(f"NAMESPACES_FILE: {tmp_path / name}")
        assert expected in problem
        assert "\n" not in problem

    def test_all_problems_of_a_file_come_at_once(self, tmp_path: Path) -> None:
        """With the file, the namespace and the option."""
        path = tmp_path / "n.toml"
        path.write_text('[[namespaces]]\nname = "rooms"\npresence = 1\ncolour = 2\n')

        assert (
            f"NAMESPACES_FILE: {path}: rooms: presence: Expected `bool`, got `int`",
            f"NAMESPACES_FILE: {path}: rooms: unknown option 'colour'",
        ) == problems_of(PRODUCTION, NAMESPACES_FILE=str(path))

    def test_length_of_names_is_limited_as_set(self, tmp_path: Path) -> None:
        """With a file and without one."""
        path = tmp_path / "n.toml"
        path.write_text(TOML + '[[namespaces]]\nname = ""\n')
        for changes in ({}, {"NAMESPACES_FILE": str(path)}):
            namespaces = settings(PRODUCTION, WS_MAX_CHANNEL_LENGTH="5", **changes).namespaces

            assert isinstance(namespaces.resolve("abcde"), Channel)
            assert not isinstance(namespaces.resolve("abcdef"), Channel)


class TestDatabase:
    """What is read for work on the database alone."""

    def test_needs_no_keys(self) -> None:
        """A migration signs nothing."""
        loaded = load_database({"DATABASE_URL": "sqlite:///x.db", "DATABASE_POOL_SIZE": "2", "PORT": "none"})

        assert (PurePath("x.db"), 2) == (loaded.database_target.path, loaded.database.pool_size)

    def test_problems_come_at_once(self) -> None:
        """By name, and without what may be a password."""
        with pytest.raises(SettingsError) as caught:
            load_database({"DATABASE_URL": "mysql://me:hunter2@db", "DATABASE_POOL_SIZE": "-1"})

        assert ["DATABASE_URL", "DATABASE_POOL_SIZE"] == [line.partition(":")[0] for line in caught.value.problems]
        assert "hunter2" not in str(caught.value)


class TestWarnings:
    """What is accepted, and doubted."""

    @pytest.mark.parametrize(
        ("name", "likely"),
        [
            ("WS_MAX_CONNECTION", "WS_MAX_CONNECTIONS"),
            ("WS_PING_INTERVALL", "WS_PING_INTERVAL"),
            ("WS_PING_INTERVAL_MS", "WS_PING_INTERVAL"),
            ("DRAIN_SPREAD_SECOND", "DRAIN_SPREAD_SECONDS"),
            ("TOKEN_HMAC_SECERT", "TOKEN_HMAC_SECRET"),
            ("ADMIN_KEYS", "ADMIN_KEY"),
            ("DATABASE_POOLSIZE", "DATABASE_POOL_SIZE"),
            ("LOCK_WAIT_SECOND", "LOCK_WAIT_SECONDS"),
            ("OUTBOX_POLL_SECOND", "OUTBOX_POLL_SECONDS"),
        ],
    )
    def test_misspelled_name_is_pointed_out(self, name: str, likely: str) -> None:
        """Without its value, which may be a secret."""
        (warning,) = settings(PRODUCTION, **{name: "hunter2"}).warnings

        assert f"{name}: is no setting and is ignored; did you mean {likely}?" == warning

    @pytest.mark.parametrize("name", ["PATH", "WS_LOG", "API_SERVICE_HOST", "PORTS", "ADMIN_EMAIL_ADDRESS"])
    def test_other_names_are_somebody_elses(self, name: str) -> None:
        """An environment is shared."""
        assert () == settings(PRODUCTION, **{name: "x"}).warnings

    def test_production_without_origins_is_pointed_out(self) -> None:
        """It starts, and no browser can connect."""
        (warning,) = settings(PRODUCTION, FRONTEND_URL="").warnings

        assert warning.startswith("FRONTEND_URL: no origin is allowed")
        assert () == settings(DEVELOPMENT).warnings

    def test_origin_without_tls_is_pointed_out_in_production(self) -> None:
        """Anybody on the way can speak for that page."""
        (warning,) = settings(PRODUCTION, REPL_URL="http://app.example.com").warnings

        assert warning.startswith("http://app.example.com: is allowed without TLS")
        assert () == settings(DEVELOPMENT, REPL_URL="http://app.example.com").warnings

    def test_personal_channels_need_the_empty_namespace(self, tmp_path: Path) -> None:
        """A file may leave it out, and then they are silently gone."""
        path = tmp_path / "n.toml"
        path.write_text(TOML)
        (warning,) = settings(PRODUCTION, NAMESPACES_FILE=str(path)).warnings

        assert warning.startswith("PERSONAL_CHANNELS: there are none")
        assert () == settings(PRODUCTION, NAMESPACES_FILE=str(path), PERSONAL_CHANNELS="no").warnings
