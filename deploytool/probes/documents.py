"""Documents and rules that stand somewhere on the web: fetched now, within limits."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from deploytool.model.observations import AlertRule, DocumentTrial, PrometheusRules, Unseen
from deploytool.probes.errors import ProbeError

if TYPE_CHECKING:
    from collections.abc import Collection

    from deploytool.clock import Clock

__all__ = ("MOST_DOCUMENTS", "fetch_document", "fetch_documents", "fetch_rules")

MOST_DOCUMENTS: Final = 40
"""Of one check; those beyond are said to be unread."""

_OK: Final = 200
_SECONDS: Final = 10.0
_MOST_BYTES: Final = 8 << 20
_MOST_REDIRECTS: Final = 5
_AT_ONCE: Final = 4
_SCHEMES: Final = ("https://", "http://")


def fetch_documents(urls: Collection[str], clock: Clock, *, ca_file: str = "") -> tuple[DocumentTrial, ...]:
    """Fetch documents, a few at a time; each has a limit of time and size."""
    wanted = sorted(set(urls))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = tuple(pool.map(lambda url: fetch_document(url, clock, ca_file=ca_file), wanted[:MOST_DOCUMENTS]))
    error = f"a check fetches at most {MOST_DOCUMENTS} documents"
    return found + tuple(DocumentTrial(clock.wall(), url, None, error=error) for url in wanted[MOST_DOCUMENTS:])


def fetch_document(url: str, clock: Clock, *, ca_file: str = "") -> DocumentTrial:
    """Fetch one document, and say what became of it."""
    if not url.startswith(_SCHEMES):
        return DocumentTrial(clock.wall(), url, None, error="it is no address of the web: say https://…")
    try:
        status, digest, _ = _get(url, ca_file=ca_file)
    except ProbeError as error:
        return DocumentTrial(clock.wall(), url, None, error=error.problem.removeprefix(f"{url} "))
    return DocumentTrial(clock.wall(), url, status, digest)


def fetch_rules(url: str, clock: Clock, *, ca_file: str = "") -> PrometheusRules | Unseen:
    """Ask a Prometheus for the alerting rules that it has loaded.

    Args:
        url: Of the Prometheus, without a path of its API.
        clock: Says when.
        ca_file: More certificate authorities to believe, in PEM.
    """
    source = f"{url.rstrip('/')}/api/v1/rules?type=alert"
    try:
        status, _, body = _get(source, ca_file=ca_file)
        if status != _OK:
            return Unseen(f"{source} answered HTTP {status}", "Look at --prometheus-url.")
        groups = json.loads(body)["data"]["groups"]
        rules = tuple(_rule(one) for group in groups for one in group["rules"] if one.get("type") == "alerting")
    except ProbeError as error:
        return Unseen(error.problem, "Look at --prometheus-url.")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Unseen(f"{source} answered with something that is not of a Prometheus", "Look at --prometheus-url.")
    return PrometheusRules(source, clock.wall(), rules)


def _rule(one: Any) -> AlertRule:  # noqa: ANN401 - JSON
    return AlertRule(
        name=str(one["name"]),
        query=str(one["query"]),
        health=str(one.get("health", "unknown")),
        error=str(one.get("lastError") or ""),
        annotations={str(name): str(value) for name, value in (one.get("annotations") or {}).items()},
    )


def _get(url: str, *, ca_file: str) -> tuple[int, str, bytes]:
    """Return status, sha256 and body.

    Raises:
        ProbeError: No answer came, or too long a one.
    """
    try:
        import httpx  # noqa: PLC0415 - not there without the extra
    except ImportError as error:
        raise ProbeError(
            "fetching documents needs the package httpx, and it is not installed",
            "Install it: pip install 'slackwater[deploytool]'",
        ) from error
    try:
        with (
            httpx.Client(
                timeout=_SECONDS,
                verify=_tls(ca_file),
                follow_redirects=True,
                max_redirects=_MOST_REDIRECTS,
                headers={"User-Agent": "deploytool", "Accept-Encoding": "identity"},
            ) as client,
            client.stream("GET", url) as answer,
        ):
            body = b""
            for piece in answer.iter_bytes():
                body += piece
                if len(body) > _MOST_BYTES:
                    raise ProbeError(f"{url} has more than {_MOST_BYTES} bytes")
            return answer.status_code, hashlib.sha256(body).hexdigest(), body
    except httpx.TimeoutException as error:
        raise ProbeError(f"{url} did not answer within {_SECONDS:g} s") from error
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise ProbeError(f"{url} cannot be fetched: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """Return what the operating system said, where it said anything: '[Errno -2]' helps nobody."""
    below = error.__cause__ or error.__context__
    while below is not None and not (isinstance(below, OSError) and below.strerror):
        below = below.__cause__ or below.__context__
    strerror = below.strerror if isinstance(below, OSError) else None
    return strerror or str(error) or type(error).__name__


def _tls(ca_file: str) -> Any:  # noqa: ANN401 - a flag or a context
    import ssl  # noqa: PLC0415 - with httpx alone

    if not ca_file:
        return True
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ProbeError(f"the certificates in {ca_file} cannot be used") from error
    return context
