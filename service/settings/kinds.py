"""What the text of a setting may be: how it is read, and how to say so.

Each kind refuses with what to do about it, in words that follow the setting's name.
None repeats a text that may hold a secret.
"""

from __future__ import annotations

import enum
import ipaddress
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from service.core.database_url import parse as parse_database_url
from service.core.origins import origin_of
from service.core.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = (
    "DATABASE",
    "ECDSA_KEY",
    "FILE",
    "HMAC_SECRET",
    "HOST",
    "KEY",
    "KEY_LENGTH",
    "NETWORKS",
    "ORIGINS",
    "PATH",
    "POSTGRES",
    "RSA_KEY",
    "SWITCH",
    "TEXT",
    "URL",
    "WORKERS",
    "Kind",
    "Network",
    "decimal",
    "milliseconds",
    "one_of",
    "read_file",
    "whole",
)

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

KEY_LENGTH: Final = 32
"""Characters of a key, and bytes of a shared secret, below which it is weak."""

_T_co = TypeVar("_T_co", covariant=True)
_E = TypeVar("_E", bound=enum.Enum)

_DAY_MS: Final = 86_400_000
_RSA_BITS: Final = 2048
# Source: RFC 7518, section 3.4: each ES algorithm has one curve.
_CURVES: Final = {"secp256r1", "secp384r1", "secp521r1"}
_SHOWN_CHARACTERS: Final = 40
_WORDS: Final = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(("false", "0", "no", "off"), False)


@dataclass(frozen=True, slots=True)
class Kind(Generic[_T_co]):
    """One way to read a value.

    Attributes:
        accepts: What may be written, in words, with its unit and bounds.
        parse: Takes text that is not empty, and raises ``ValueError`` with what to do.
        show: Writes a default the way it would be written in the environment; empty
            when there is none.
        is_exact: White space around the text is a mistake. Elsewhere it is cut off.
    """

    accepts: str
    parse: Callable[[str], _T_co]
    show: Callable[[Any], str] = str
    is_exact: bool = False


def whole(minimum: int, maximum: int = 1_000_000, unit: str = "") -> Kind[int]:
    """Return a whole number within bounds, both included."""
    accepts = f"whole number{unit and ' of ' + unit} from {minimum} to {maximum}"

    def parse(text: str) -> int:
        value = int(text) if re.fullmatch(r"[0-9]{1,15}", text) else -1
        if not minimum <= value <= maximum:
            raise ValueError(f"must be a {accepts}, is {_quoted(text)}")
        return value

    return Kind(accepts, parse)


def milliseconds(minimum: int, maximum: int = _DAY_MS) -> Kind[float]:
    """Return a duration that is written in whole milliseconds and read as seconds."""
    number = whole(minimum, maximum, "milliseconds")
    return Kind(number.accepts, lambda text: number.parse(text) / 1000, lambda seconds: str(round(seconds * 1000)))


def decimal(minimum: float, maximum: float, unit: str = "", *, above: bool = False) -> Kind[float]:
    """Return a number with or without a fraction; ``above`` leaves the minimum itself out."""
    bounds = f"{'above' if above else 'from'} {minimum:g} to {maximum:g}"
    accepts = f"number{unit and ' of ' + unit} {bounds}"

    def parse(text: str) -> float:
        value = float(text) if re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,15})?", text) else math.nan
        if not minimum <= value <= maximum or (above and value == minimum):
            raise ValueError(f"must be a {accepts}, is {_quoted(text)}")
        return value

    return Kind(accepts, parse, lambda value: "" if value is None else f"{value:g}")


def one_of(choices: type[_E]) -> Kind[_E]:
    """Return one member of an enum of strings; upper and lower case are the same."""
    by_value = {member.value: member for member in choices}
    accepts = " or ".join(by_value)

    def parse(text: str) -> _E:
        if (member := by_value.get(text.lower())) is None:
            raise ValueError(f"must be {accepts}, is {_quoted(text)}")
        return member

    return Kind(accepts, parse, lambda member: str(member.value))


def read_file(path: Path) -> str:
    """Return the text of a file.

    Raises:
        ValueError: It cannot be read; with its path and the reason.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"cannot read {path}: it is not UTF-8 text") from None


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "...")


def _switch(text: str) -> bool:
    if (value := _WORDS.get(text.lower())) is None:
        raise ValueError(f"must be true or false, is {_quoted(text)}")
    return value


def _host(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9._-]+", text):
        return text
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise ValueError("must be a host name or an address, without a scheme, brackets or a port") from None


def _key(text: str) -> Secret:
    if not (text.isascii() and text.isprintable() and " " not in text):
        raise ValueError("must be printable ASCII without spaces, because it travels in a header")
    return Secret(text)


def _hmac_secret(text: str) -> Secret:
    # With a public key as the shared secret, anybody who knows that key could sign tokens.
    if "-----BEGIN" in text or text.startswith(("ssh-", "ecdsa-")):
        raise ValueError("holds a key of a key pair; set a shared secret, and a public key in its own setting")
    if len(text.encode()) < KEY_LENGTH:
        raise ValueError(f"is weak: needs at least {KEY_LENGTH} bytes; make one with `python -m service apikey`")
    return Secret(text)


def _read_pem(text: str) -> str:
    r"""Return PEM text that was given itself, with ``\n`` written out or not, or as ``@/path``."""
    pem = read_file(Path(text[1:])) if text.startswith("@") else text.replace("\\n", "\n")
    if "PRIVATE KEY" in pem:
        raise ValueError("holds a private key; give its public half: openssl pkey -in KEY -pubout")
    if "CERTIFICATE" in pem:
        raise ValueError("holds a certificate; give its public key: openssl x509 -in CERT -noout -pubkey")
    if pem.count("-----BEGIN") != 1:
        raise ValueError("must be one public key in PEM form, or @ and the path of a file with one")
    return pem.strip() + "\n"


def _public_key(pem: str) -> object:
    try:
        return load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("must be one public key in PEM form; this one cannot be read") from None


def _rsa_key(text: str) -> str:
    pem = _read_pem(text)
    key = _public_key(pem)
    bits = key.key_size if isinstance(key, rsa.RSAPublicKey) else 0
    if not bits:
        raise ValueError("must be an RSA key, is of another kind")
    if bits < _RSA_BITS:
        raise ValueError(f"is weak: needs at least {_RSA_BITS} bits, has {bits}")
    return pem


def _ecdsa_key(text: str) -> str:
    pem = _read_pem(text)
    key = _public_key(pem)
    curve = key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else None
    if curve is None:
        raise ValueError("must be an elliptic-curve key, is of another kind")
    if curve not in _CURVES:
        raise ValueError(f"must be on the curve P-256, P-384 or P-521, is on {curve}")
    return pem


def _database(text: str) -> Secret:
    parse_database_url(text)
    return Secret(text)


def _postgres(text: str) -> Secret:
    if parse_database_url(text).kind != "postgres":
        raise ValueError("must be the address of a Postgres, as in postgresql://user:password@host:5432/database")
    return Secret(text)


def _items(text: str) -> Iterator[tuple[int, str]]:
    """Yield the position, counted from 1, and the text of each item of a comma list."""
    yield from ((number, item) for number, raw in enumerate(text.split(","), 1) if (item := raw.strip()))


def _origins(text: str) -> frozenset[str]:
    origins = set()
    for number, item in _items(text):
        try:
            origins.add(origin_of(item, whole=True))
        except ValueError as error:
            raise ValueError(f"entry {number} {error}") from None
    return frozenset(origins)


def _networks(text: str) -> tuple[Network, ...]:
    networks: list[Network] = []
    for number, item in _items(text):
        try:
            network = ipaddress.ip_network(item)
        except ValueError as error:
            raise ValueError(f"entry {number} is no address or network: {error}") from None
        if not network.prefixlen:
            raise ValueError(f"entry {number} covers every address, so anybody could forge where they come from")
        networks.append(network)
    return tuple(networks)


def _workers(text: str) -> int:
    if text != "1":
        raise ValueError(
            "must be 1 or unset: connections, subscriptions and presence live in the memory of one process, and a "
            "second one would not see them; run a single worker"
        )
    return 1


def _given(value: object) -> str:
    return str(value) if value else ""


SWITCH: Final = Kind("true or false", _switch, lambda value: "" if value is None else str(value).lower())
TEXT: Final[Kind[str | None]] = Kind("text", str, _given)
HOST: Final = Kind("host name or address", _host)
PATH: Final = Kind("path", Path)
FILE: Final[Kind[Path | None]] = Kind("path of a .toml, .yaml or .json file", Path, _given)
URL: Final[Kind[str | None]] = Kind("http or https URL", lambda text: origin_of(text, whole=False), _given)
ORIGINS: Final = Kind("origins, comma separated", _origins, _given)
NETWORKS: Final = Kind("addresses or networks, comma separated", _networks, _given)
WORKERS: Final = Kind("1", _workers)
DATABASE: Final[Kind[Secret | None]] = Kind(
    "address of a Postgres as libpq writes it, `sqlite:///path`, or `memory:`", _database, _given
)
POSTGRES: Final[Kind[Secret | None]] = Kind("address of a Postgres as libpq writes it", _postgres, _given)
KEY: Final[Kind[Secret | None]] = Kind(
    f"secret, printable ASCII, in production at least {KEY_LENGTH} characters", _key, _given, is_exact=True
)
HMAC_SECRET: Final[Kind[Secret | None]] = Kind(
    f"secret of at least {KEY_LENGTH} bytes, not in PEM form", _hmac_secret, _given, is_exact=True
)
RSA_KEY: Final[Kind[str | None]] = Kind(
    f"RSA public key of at least {_RSA_BITS} bits: PEM or `@/path`", _rsa_key, _given
)
ECDSA_KEY: Final[Kind[str | None]] = Kind("public key on P-256, P-384 or P-521: PEM or `@/path`", _ecdsa_key, _given)
