from __future__ import annotations

import ipaddress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from service.settings import GROUPS, Kind, LogFormat, LogLevel, Secret, Setting, Settings, settings_of
from tests.service.settings.environment import PRODUCTION, problems_of, settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

PEM = serialization.Encoding.PEM
SETTINGS = {setting.name: setting for group in GROUPS.values() for setting in settings_of(group).values()}


def read(name: str, text: str) -> object:
    """Read one setting out of a whole environment."""
    loaded = settings(PRODUCTION, **{name: text})
    for field, group in GROUPS.items():
        for attribute, setting in settings_of(group).items():
            if setting.name == name:
                value: object = getattr(getattr(loaded, field), attribute)
                return value
    raise LookupError(name)


def problem_of(name: str, text: str) -> str:
    """Give one setting a text that must be refused."""
    (problem,) = problems_of(PRODUCTION, **{name: text})
    assert problem.startswith(f"{name}: ")
    return problem.removeprefix(f"{name}: ")


@cache
def rsa_key(bits: int) -> rsa.RSAPrivateKey:
    """Make a key once."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def public(key: PrivateKeyTypes) -> str:
    """Write the public half down."""
    return key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def private(key: PrivateKeyTypes) -> str:
    """Write the private half down."""
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()


BOUNDS = [
    # name, smallest, largest, smallest when read, largest when read
    ("PORT", "0", "65535", 0, 65_535),
    ("ADMIN_PORT", "0", "65535", 0, 65_535),
    ("HISTORY_MAX_BYTES", "1048576", "1099511627776", 1_048_576, 1_099_511_627_776),
    ("DATABASE_POOL_SIZE", "1", "1000", 1, 1000),
    ("DATABASE_POOL_OVERFLOW", "0", "1000", 0, 1000),
    ("OUTBOX_MAX_TRIES", "1", "1000", 1, 1000),
    ("RECOVERY_MAX_BYTES", "1024", "786432", 1024, 786_432),
    ("HTTP_MAX_BODY_BYTES", "1", "67108864", 1, 67_108_864),
    ("API_MAX_BATCH_COMMANDS", "1", "1000000", 1, 1_000_000),
    ("API_MAX_BROADCAST_CHANNELS", "1", "1000000", 1, 1_000_000),
    ("WS_MAX_CONNECTIONS", "1", "1000000", 1, 1_000_000),
    ("WS_MAX_CONNECTIONS_PER_USER", "0", "1000000", 0, 1_000_000),
    ("WS_MAX_CONNECTIONS_PER_ADDRESS", "0", "1000000", 0, 1_000_000),
    ("WS_MESSAGES_PER_MINUTE", "0", "1000000", 0, 1_000_000),
    ("WS_COMMANDS_PER_MINUTE", "0", "1000000", 0, 1_000_000),
    ("WS_REFUSALS_PER_MINUTE", "1", "1000000", 1, 1_000_000),
    ("WS_MAX_COMMANDS_PER_FRAME", "1", "1000000", 1, 1_000_000),
    ("WS_MAX_CHANNELS_PER_CLIENT", "1", "1000000", 1, 1_000_000),
    ("WS_MAX_CHANNEL_LENGTH", "1", "1024", 1, 1024),
    ("WS_MAX_MESSAGE_BYTES", "1", "1048576", 1, 1_048_576),  # the default of WS_MAX_FRAME_BYTES
    ("WS_MAX_FRAME_BYTES", "65536", "1048576", 65_536, 1_048_576),  # the defaults of its neighbours
    ("WS_SEND_BUFFER_BYTES", "1048576", "67108864", 1_048_576, 67_108_864),
    ("WS_PING_INTERVAL", "100", "86400000", 0.1, 86_400.0),
    ("WS_PONG_TIMEOUT", "1", "29999", 0.001, 29.999),  # less than WS_PING_INTERVAL
    ("WS_IDLE_TIMEOUT", "0", "31536000000", 0.0, 31_536_000.0),
    ("WS_CONNECT_TIMEOUT", "1", "86400000", 0.001, 86_400.0),
    ("WS_REQUEST_HEAD_TIMEOUT", "1", "86400000", 0.001, 86_400.0),
]


def test_every_whole_number_is_in_the_table_of_bounds() -> None:
    """A new setting with bounds is tested at them."""
    numbers = {name for name, setting in SETTINGS.items() if setting.kind.accepts.startswith("whole number")}

    assert numbers == {name for name, *_ in BOUNDS}


@pytest.mark.parametrize(("name", "low", "high", "lowest", "highest"), BOUNDS, ids=[row[0] for row in BOUNDS])
def test_whole_number_is_accepted_at_its_bounds(name: str, low: str, high: str, lowest: float, highest: float) -> None:
    """At a bound is within it."""
    assert lowest == read(name, low)
    assert highest == read(name, high)


@pytest.mark.parametrize(("name", "low", "high"), [row[:3] for row in BOUNDS], ids=[row[0] for row in BOUNDS])
def test_whole_number_is_refused_one_past_its_bounds(name: str, low: str, high: str) -> None:
    """By its own name, also where it is another setting that bounds it."""
    for text in (str(int(low) - 1), str(int(high) + 1)):
        problems = problems_of(PRODUCTION, **{name: text})

        assert any(name in problem for problem in problems)


@pytest.mark.parametrize("text", ["1.5", "1,000", "1_000", "1e3", "0x10", "+1", "-1", "many", "٣", "1" * 16, "1 000"])
def test_whole_number_is_plain_digits(text: str) -> None:
    """Nothing is guessed, and what was written is shown."""
    problem = problem_of("WS_MAX_CONNECTIONS", text)

    assert f"must be a whole number of connections from 1 to 1000000, is {text!r}" == problem


def test_long_text_is_not_repeated_in_full() -> None:
    """A value in the wrong place may be long."""
    assert problem_of("PORT", "x" * 41).endswith(f"is '{'x' * 40}...'")
    assert problem_of("PORT", "x" * 40).endswith(f"is '{'x' * 40}'")


@pytest.mark.parametrize(
    ("name", "low", "high", "below", "beyond"),
    [
        ("WS_UNAUTHENTICATED_SHARE", "0.000000000000001", "1", "0", "1.000000000000001"),
        ("DRAIN_GRACE_SECONDS", "0", "23.9", "-0.1", "3600.1"),
        ("DRAIN_SPREAD_SECONDS", "0", "24.9", "-1", "3601"),
        ("DRAIN_BUDGET_SECONDS", "1.1", "3600", "0", "3600.5"),
        ("ADMIN_TTL_SECONDS", "1", "86400", "0.999", "86400.1"),
        ("DATABASE_POOL_TIMEOUT", "0.001", "3600", "0", "3600.1"),
        ("DATABASE_CONNECT_TIMEOUT", "0.001", "3600", "0", "3600.1"),
        ("DATABASE_STATEMENT_TIMEOUT", "0.001", "3600", "0", "3600.1"),
        ("LOCK_PROVE_SECONDS", "0.01", "4.9", "0.009", "3600.1"),
        ("LOCK_SERVE_SECONDS", "2.1", "5.9", "0.009", "3600.1"),
        ("LOCK_SESSION_SECONDS", "2.1", "3600", "0", "3600.1"),
        ("LOCK_WAIT_SECONDS", "5.1", "3600", "0", "3600.1"),
        ("OUTBOX_POLL_SECONDS", "0.01", "3600", "0", "3600.1"),
        ("OUTBOX_KEEP_SECONDS", "0", "31536000", "-1", "31536000.1"),
        ("IDEMPOTENCY_SECONDS", "1", "86400", "0.9", "86400.1"),
        ("TOKEN_MAX_SECONDS", "1", "31536000", "0", "31536000.1"),
    ],
)
def test_decimal_is_accepted_at_its_bounds_and_refused_past_them(
    name: str, low: str, high: str, below: str, beyond: str
) -> None:
    """With or without a fraction."""
    assert float(low) == read(name, low)
    assert float(high) == read(name, high)
    assert "must be a number" in problem_of(name, below)
    assert "must be a number" in problem_of(name, beyond)


@pytest.mark.parametrize("text", ["nan", "inf", "1e-1", ".5", "5.", "1,5", "-0.5", "half"])
def test_decimal_is_plain_digits(text: str) -> None:
    """What is not a number would pass every comparison."""
    assert f"must be a number above 0 to 1, is {text!r}" == problem_of("WS_UNAUTHENTICATED_SHARE", text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("true", True), ("1", True), ("YES", True), ("On", True), ("false", False), ("0", False), ("no", False)],
)
def test_switch_has_many_words(text: str, *, expected: bool) -> None:
    """Upper and lower case are the same."""
    assert expected is read("WS_ANONYMOUS", text)


@pytest.mark.parametrize("text", ["2", "y", "enabled", "truetrue"])
def test_switch_guesses_nothing(text: str) -> None:
    """Any other word is refused."""
    assert f"must be true or false, is {text!r}" == problem_of("WS_ANONYMOUS", text)


def test_choice_is_one_of_its_words() -> None:
    """Upper and lower case are the same."""
    assert LogLevel.WARNING is read("LOG_LEVEL", "Warning")
    assert LogFormat.JSON is read("LOG_FORMAT", "json")
    assert "must be debug or info or warning or error, is 'loud'" == problem_of("LOG_LEVEL", "loud")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("192.0.2.1", "192.0.2.1"), ("::1", "::1"), ("0:0::1", "::1"), ("localhost", "localhost"), ("a-b.c_d", "a-b.c_d")],
)
def test_host_is_a_name_or_an_address(text: str, expected: str) -> None:
    """An IPv6 address in its one spelling."""
    assert expected == read("HOST", text)


@pytest.mark.parametrize("text", ["http://a", "a:3000", "[::1]", "a b", "a/b", "1::2::3"])
def test_host_is_nothing_more(text: str) -> None:
    """The port has its own setting."""
    assert "without a scheme, brackets or a port" in problem_of("HOST", text)


@pytest.mark.parametrize("name", ["API_KEY", "ADMIN_KEY"])
@pytest.mark.parametrize("text", ["a" * 32 + " b", "a" * 32 + "é", "a" * 32 + "\tb", "a" * 32 + "\x7f"])
def test_key_fits_in_a_header(name: str, text: str) -> None:
    """What cannot be sent cannot be right; the key is not shown."""
    assert "must be printable ASCII without spaces, because it travels in a header" == problem_of(name, text)


@pytest.mark.parametrize("name", ["API_KEY", "ADMIN_KEY", "TOKEN_HMAC_SECRET"])
@pytest.mark.parametrize("text", [" " + "a" * 40, "a" * 40 + "\n"])
def test_secret_with_white_space_around_it_is_refused(name: str, text: str) -> None:
    """Another program may use the very same bytes."""
    assert "begins or ends with white space; remove it where the value is stored" == problem_of(name, text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("-----BEGIN PUBLIC KEY-----" + "x" * 40, id="pem"),
        pytest.param("x" * 40 + "-----BEGIN RSA PRIVATE KEY-----", id="pem-inside"),
        pytest.param("ssh-rsa AAAA" + "x" * 40, id="ssh"),
        pytest.param("ecdsa-sha2-nistp256 AAAA" + "x" * 40, id="ssh-ecdsa"),
    ],
)
def test_hmac_secret_is_no_key_of_a_pair(text: str) -> None:
    """Whoever knows the public key could sign tokens."""
    assert problem_of("TOKEN_HMAC_SECRET", text).startswith("holds a key of a key pair")


@pytest.mark.parametrize("text", ["a" * 32, "é" * 16, "with spaces inside and 32 bytes!"])
def test_hmac_secret_of_32_bytes_is_enough(text: str) -> None:
    """Bytes, not characters."""
    assert Secret(text) == read("TOKEN_HMAC_SECRET", text)


@pytest.mark.parametrize("text", ["a" * 31, "é" * 15 + "a"])
@pytest.mark.parametrize("mode", ["production", "development"])
def test_hmac_secret_of_31_bytes_is_weak(text: str, mode: str) -> None:
    """In every mode, since tokens can be tried offline."""
    (problem,) = problems_of(PRODUCTION, TOKEN_HMAC_SECRET=text, SLACKWATER_MODE=mode, HOST="127.0.0.1")

    assert problem.startswith("TOKEN_HMAC_SECRET: is weak: needs at least 32 bytes")
    assert text not in problem


class TestRsaKey:
    """TOKEN_RSA_PUBLIC_KEY."""

    def test_is_read_from_text(self) -> None:
        """With real line ends, and with the two characters that stand for them."""
        pem = public(rsa_key(2048))

        assert pem == read("TOKEN_RSA_PUBLIC_KEY", pem)
        assert pem == read("TOKEN_RSA_PUBLIC_KEY", pem.replace("\n", "\\n"))

    def test_is_read_from_a_file(self, tmp_path: Path) -> None:
        """Named after an at sign."""
        path = tmp_path / "key.pem"
        path.write_text(public(rsa_key(2048)))

        assert public(rsa_key(2048)) == read("TOKEN_RSA_PUBLIC_KEY", f"@{path}")

    def test_missing_file_is_a_problem(self, tmp_path: Path) -> None:
        """With its path."""
        path = tmp_path / "none.pem"

        assert f"cannot read {path}: No such file or directory" == problem_of("TOKEN_RSA_PUBLIC_KEY", f"@{path}")

    def test_file_that_is_no_text_is_a_problem(self, tmp_path: Path) -> None:
        """A key in binary form, say."""
        path = tmp_path / "key.der"
        path.write_bytes(b"\x30\x82\xff")

        assert f"cannot read {path}: it is not UTF-8 text" == problem_of("TOKEN_RSA_PUBLIC_KEY", f"@{path}")

    def test_private_key_is_refused(self, tmp_path: Path) -> None:
        """It has no business here, and is not shown."""
        pem = private(rsa_key(2048))
        path = tmp_path / "key.pem"
        path.write_text(pem)

        for text in (pem, f"@{path}", pem + public(rsa_key(2048))):
            problem = problem_of("TOKEN_RSA_PUBLIC_KEY", text)

            assert problem.startswith("holds a private key")
            assert pem.splitlines()[1] not in problem

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("-----BEGIN CERTIFICATE-----", "holds a certificate"),
            ("hello", "must be one public key in PEM form, or @ and the path"),
            ("ssh-rsa AAAA", "must be one public key in PEM form, or @ and the path"),
            ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "this one cannot be read"),
            ("-----BEGIN PUBLIC KEY-----", "this one cannot be read"),
        ],
    )
    def test_anything_else_is_refused(self, text: str, expected: str) -> None:
        """With what to do about it."""
        assert expected in problem_of("TOKEN_RSA_PUBLIC_KEY", text)

    def test_two_keys_are_refused(self) -> None:
        """Which one should count?"""
        assert "must be one public key" in problem_of("TOKEN_RSA_PUBLIC_KEY", public(rsa_key(2048)) * 2)

    def test_less_than_2048_bits_is_weak(self) -> None:
        """Source: RFC 7518, section 3.3."""
        assert "is weak: needs at least 2048 bits, has 1024" == problem_of(
            "TOKEN_RSA_PUBLIC_KEY", public(rsa_key(1024))
        )

    @pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()])
    def test_other_kinds_are_refused(self, key: PrivateKeyTypes) -> None:
        """Each setting is bound to one family."""
        assert "must be an RSA key, is of another kind" == problem_of("TOKEN_RSA_PUBLIC_KEY", public(key))


class TestEcdsaKey:
    """TOKEN_ECDSA_PUBLIC_KEY."""

    @pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
    def test_three_curves_are_known(self, curve: ec.EllipticCurve) -> None:
        """One for each algorithm."""
        pem = public(ec.generate_private_key(curve))

        assert pem == read("TOKEN_ECDSA_PUBLIC_KEY", pem)

    @pytest.mark.parametrize("curve", [ec.SECP256K1(), ec.BrainpoolP256R1()], ids=lambda curve: curve.name)
    def test_other_curves_are_refused(self, curve: ec.EllipticCurve) -> None:
        """No algorithm of ours uses them."""
        problem = problem_of("TOKEN_ECDSA_PUBLIC_KEY", public(ec.generate_private_key(curve)))

        assert f"must be on the curve P-256, P-384 or P-521, is on {curve.name}" == problem

    def test_other_kinds_are_refused(self) -> None:
        """Each setting is bound to one family."""
        keys: tuple[PrivateKeyTypes, ...] = (rsa_key(2048), ed25519.Ed25519PrivateKey.generate())
        for key in keys:
            problem = problem_of("TOKEN_ECDSA_PUBLIC_KEY", public(key))

            assert "must be an elliptic-curve key, is of another kind" == problem

    def test_private_key_is_refused(self) -> None:
        """It has no business here."""
        pem = private(ec.generate_private_key(ec.SECP256R1()))

        assert problem_of("TOKEN_ECDSA_PUBLIC_KEY", pem).startswith("holds a private key")


class TestOrigins:
    """Three settings that together say who may connect."""

    def test_all_three_are_allowed(self) -> None:
        """As browsers write them."""
        origins = settings(
            PRODUCTION,
            FRONTEND_URL="https://App.example.com:443/home?x=1",
            REPL_URL="https://repl.example.com:8443/",
            WS_ALLOWED_ORIGINS=" https://a.example , https://b.example,, https://a.example",
        ).origins

        assert {
            "https://app.example.com",
            "https://repl.example.com:8443",
            "https://a.example",
            "https://b.example",
        } == origins.allowed

    def test_none_are_allowed_by_default(self) -> None:
        """There is no wildcard to fall back on."""
        assert frozenset() == Settings().origins.allowed

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("*", "entry 1 must be a whole origin, there are no wildcards"),
            ("https://a.example,https://*.example", "entry 2 must be a whole origin, there are no wildcards"),
            ("https://a.example,,https://b.example/", "entry 3 must end after the host"),
            ("https://a.example/app", "entry 1 must end after the host"),
            ("https://user:hunter2@a.example", "entry 1 must not hold a user name"),
            ("null", "entry 1 must start with https://"),
            ("a.example", "entry 1 must start with https://"),
        ],
    )
    def test_list_holds_whole_origins(self, text: str, expected: str) -> None:
        """The entry is told by its place, since its text may hold a password."""
        problem = problem_of("WS_ALLOWED_ORIGINS", text)

        assert problem.startswith(expected)
        assert "hunter2" not in problem

    @pytest.mark.parametrize("name", ["FRONTEND_URL", "REPL_URL"])
    @pytest.mark.parametrize("text", ["*", "app.example.com", "https://user:hunter2@a.example", "ftp://a.example"])
    def test_url_has_an_origin(self, name: str, text: str) -> None:
        """Nothing of it is repeated."""
        assert "hunter2" not in problem_of(name, text)


class TestTrustedProxies:
    """TRUSTED_PROXIES."""

    def test_are_addresses_and_networks(self) -> None:
        """Of both families."""
        assert (
            ipaddress.ip_network("10.0.0.0/8"),
            ipaddress.ip_network("192.0.2.1/32"),
            ipaddress.ip_network("2001:db8::/32"),
        ) == read("TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.1 ,2001:db8::/32,")

    @pytest.mark.parametrize("text", ["10.0.0.1/8", "proxy", "10.0.0.0/33", "10.0.0", "10.0.0.1:80"])
    def test_anything_else_is_refused(self, text: str) -> None:
        """Host bits behind the mask too: they show that something else was meant."""
        assert problem_of("TRUSTED_PROXIES", f"10.0.0.0/8,{text}").startswith("entry 2 is no address or network: ")

    @pytest.mark.parametrize("text", ["0.0.0.0/0", "::/0"])
    def test_everybody_is_no_proxy(self, text: str) -> None:
        """Then anybody could forge an address."""
        assert problem_of("TRUSTED_PROXIES", text).startswith("entry 1 covers every address")


@pytest.mark.parametrize("text", ["2", "0", "many", "16"])
def test_more_than_one_worker_is_refused(text: str) -> None:
    """With the reason."""
    assert "live in the memory of one process" in problem_of("WEB_CONCURRENCY", text)


def test_one_worker_is_accepted() -> None:
    """Platforms may set it."""
    assert 1 == read("WEB_CONCURRENCY", "1")


def test_texts_and_paths_are_kept() -> None:
    """Without white space around them."""
    loaded = settings(
        PRODUCTION, TOKEN_AUDIENCE=" app ", TOKEN_ISSUER="me", DATA_DIR=" /data ", IMAGE_DIGEST="sha256:ab"
    )

    assert ("app", "me") == (loaded.tokens.audience, loaded.tokens.issuer)
    assert (Path("/data"), "sha256:ab") == (loaded.process.data_dir, loaded.process.image_digest)


def test_database_url_is_kept_and_not_shown() -> None:
    """It may hold a password."""
    url = "postgresql://me:hunter2@db/app"
    loaded = settings(PRODUCTION, DATABASE_URL=url)

    assert Secret(url) == loaded.database.url
    assert "hunter2" not in repr(loaded)


@pytest.mark.parametrize("name", ["DATABASE_URL", "DATABASE_DIRECT_URL"])
def test_database_url_that_names_nothing_is_refused(name: str) -> None:
    """And says what it should begin with."""
    assert problem_of(name, "mysql://me:hunter2@db/app").startswith("must begin with postgresql:// or postgres://")


@pytest.mark.parametrize("text", ["memory:", "sqlite:///data.db"])
def test_direct_url_is_a_postgres(text: str) -> None:
    """Nothing else has a pooler before it."""
    assert problem_of("DATABASE_DIRECT_URL", text).startswith("must be the address of a Postgres")


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=lambda setting: setting.name)
def test_default_is_what_its_own_text_means(setting: Setting) -> None:
    """What the reference page says can be written into the environment."""
    shown = setting.kind.show(setting.default)

    assert setting.default == (setting.kind.parse(shown) if shown else setting.default)
    assert bool(shown) or not setting.default
    assert isinstance(setting.kind, Kind)
