"""What stands between clients and a service, and what may stand there by mistake; each in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

__all__ = ("Certificate", "certificate", "odd_server", "serve_pages", "tls_front")

_CHUNK_BYTES = 65_536
_START_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Certificate:
    """A server's certificate that is its own authority.

    Attributes:
        context: For the server.
        pem: For clients that are to believe it.
    """

    context: ssl.SSLContext
    pem: bytes

    def write(self, folder: Path) -> str:
        """Write what clients are to believe, and return the path."""
        path = folder / "authority.pem"
        path.write_bytes(self.pem)
        return str(path)


def certificate(*names: str, days: float = 90.0) -> Certificate:
    """Make a certificate.

    Args:
        names: That it is for; addresses too.
        days: Until it expires; less than 0 for one that has.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    until = datetime.now(UTC) + timedelta(days=days)  # noqa: TID251 - a real certificate, for real clients
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(until - timedelta(days=365))
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName([_general(one) for one in names]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "server.pem"
        path.write_bytes(private + pem)
        context.load_cert_chain(path)
    return Certificate(context, pem)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@contextmanager
def _listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], tls: ssl.SSLContext | None
) -> Iterator[int]:
    """Serve on loopback until the block ends; yields the port."""
    ready = threading.Event()
    port, loop, stop = 0, asyncio.new_event_loop(), asyncio.Event()

    async def main() -> None:
        nonlocal port
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        ready.set()
        await stop.wait()
        server.close()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(main())

    thread = threading.Thread(target=run, name="edge", daemon=True)
    thread.start()
    assert ready.wait(_START_SECONDS)
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(_START_SECONDS)


@contextmanager
def tls_front(host: str, port: int, cert: Certificate) -> Iterator[int]:
    """End TLS in front of an address, as an Ingress does; yields the port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back_reader, back_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.transport.abort()
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(_copy(reader, back_writer))
            group.create_task(_copy(back_reader, writer))

    with _listening(serve, cert.context) as front:
        yield front


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, ssl.SSLError):
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, ssl.SSLError):
        writer.close()


@contextmanager
def odd_server(answer: bytes | None, *, cert: Certificate | None = None) -> Iterator[int]:
    """Answer every request with the same bytes and hang up, or never answer at all; yields the port.

    Args:
        answer: None to let everybody wait.
        cert: For TLS; None without.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ssl.SSLError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            if answer is None:
                await reader.read()
            else:
                writer.write(answer)
                await writer.drain()
        with contextlib.suppress(OSError, ssl.SSLError):
            writer.close()

    with _listening(serve, None if cert is None else cert.context) as port:
        yield port


@contextmanager
def serve_pages(pages: dict[str, bytes]) -> Iterator[str]:
    """Serve pages over HTTP, by path; the mapping may change meanwhile. Yields the address, without a slash."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ")[1].decode()
            body = pages.get(path)
            status = b"404 Not Found" if body is None else b"200 OK"
            body = b"no such page" if body is None else body
            length = str(len(body)).encode()
            writer.write(b"HTTP/1.1 %s\r\nContent-Length: %s\r\nConnection: close\r\n\r\n" % (status, length) + body)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()

    with _listening(serve, None) as port:
        yield f"http://127.0.0.1:{port}"
