"""Why no answer came."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Final

from deploytool.cluster.errors import CertificateError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploytool.cluster.errors import ClusterError

__all__ = ("failure",)

_KUBECONFIG: Final = "Look at the server in the kubeconfig: kubectl cluster-info"


def failure(host: str, error: BaseException, seconds: float) -> ClusterError:  # noqa: PLR0911 - a table
    """Return what a failed request means.

    Args:
        host: Address of the API server.
        error: Of urllib3, or of the operating system.
        seconds: That the request was allowed.
    """
    import urllib3  # noqa: PLC0415 - comes with the official client

    chain = tuple(_chain(error))

    def found(*kinds: type[BaseException]) -> BaseException | None:
        return next((one for one in chain if isinstance(one, kinds)), None)

    # In this order: to urllib3 a connection that was refused is a kind of timeout.
    if isinstance(unverified := found(ssl.SSLCertVerificationError), ssl.SSLCertVerificationError):
        return _certificate(host, unverified)
    if found(socket.gaierror, urllib3.exceptions.NameResolutionError):
        return UnreachableError(f"the name of {host} cannot be resolved", _KUBECONFIG)
    if found(ConnectionRefusedError):
        return UnreachableError(f"nothing listens at {host}", _KUBECONFIG)
    if found(TimeoutError, urllib3.exceptions.TimeoutError):
        return UnreachableError(f"{host} did not answer within {seconds:.3g} s", _KUBECONFIG)
    if isinstance(odd := found(ssl.SSLError), ssl.SSLError):
        return UnreachableError(f"{host} does not speak TLS as we do: {odd.reason or odd}", _KUBECONFIG)
    return UnreachableError(f"{host} cannot be reached: {type(chain[-1]).__name__}", _KUBECONFIG)


def _certificate(host: str, error: ssl.SSLCertVerificationError) -> CertificateError:
    reason = error.verify_message or "it cannot be verified"
    if "expired" in reason:
        return CertificateError(
            f"the certificate of {host} has expired", "Renew it; on kubeadm: kubeadm certs check-expiration"
        )
    return CertificateError(f"the certificate of {host} is not believed: {reason}", _KUBECONFIG)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what is inside of it, the outermost first; libraries hide the cause in different places."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop(0)
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [one.__cause__, one.__context__, getattr(one, "reason", None)]
        waiting += [inner for inner in one.args if isinstance(inner, BaseException)]
        waiting = [inner for inner in waiting if inner is None or isinstance(inner, BaseException)]
