"""Lines about the work, for people and for collectors of logs.

Events with facts, one line each: JSON, or text on a terminal. Never a payload, a token
or the query of a URL. Standard logging carries everything, so that uvicorn's
lines, Litestar's and ours leave by the same way in the same form.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any, Final

import structlog
from typing_extensions import override

from service.realtime.ports import Observer
from service.settings import LogFormat

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from typing import TextIO

    from structlog.typing import FilteringBoundLogger, Processor

    from service.core.phase import Phase
    from service.settings import Logs

__all__ = ("LoggingObserver", "configure")

_NAME: Final = "slackwater"
_SERVERS: Final = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi")
_NOISE: Final = frozenset({"Invalid HTTP request received.", "Unsupported upgrade request."})
_MIGRATIONS: Final = "alembic.runtime.migration"
_TRACES: Final = frozenset({"exception", "stack"})

_EVERY_SECONDS: Final = 60.0
_MAX_KEYS: Final = 1024


def configure(logs: Logs, stream: TextIO | None = None) -> None:
    """Send all lines of this process to one place in one form; to call it again starts anew.

    Args:
        logs: How much, and how. Finer than ``info`` are our own lines alone.
        stream: The error output unless told otherwise. Whether it is a terminal decides over the form
            when the settings leave it open.
    """
    stream = sys.stderr if stream is None else stream
    is_text = logs.format is LogFormat.TEXT or (logs.format is LogFormat.AUTO and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.addFilter(_is_news)
    handler.addFilter(_without_query)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(stream, is_text)],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    level = logging.getLevelName(logs.level.value.upper())
    # At its finest, the server's own log shows frames and headers, and with them payloads and tokens.
    root.setLevel(max(level, logging.INFO))
    logging.getLogger(_NAME).setLevel(level)
    for name in _SERVERS:
        server = logging.getLogger(name)
        server.handlers, server.propagate = [], True
        # Its own level, since uvicorn looks at that one to decide whether it traces. Its progress we tell ourselves.
        server.setLevel(max(root.level, logging.WARNING))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


_SHARED: Final[tuple[Processor, ...]] = (
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def _rendering(stream: TextIO, is_text: bool) -> list[Processor]:  # noqa: FBT001 - decided in one place, used in one
    if is_text:
        # Its default shows local variables with a traceback, and those may hold tokens.
        plain = structlog.dev.plain_traceback
        colors = stream.isatty() and not os.environ.get("NO_COLOR")
        return [_printable, structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def _is_news(record: logging.LogRecord) -> bool:
    """Leave out what any stranger can make the server write as often as they like, and preludes."""
    if record.name == _MIGRATIONS:
        return record.getMessage().startswith("Running ")
    return record.name not in _SERVERS or record.getMessage() not in _NOISE


def _without_query(record: logging.LogRecord) -> bool:
    """Cut the query off every address that the server mentions: tokens have been seen there."""
    if record.name in _SERVERS and isinstance(record.args, tuple):
        record.args = tuple(arg.partition("?")[0] if isinstance(arg, str) else arg for arg in record.args)
    return True


def _printable(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Keep whoever writes into a line from steering the terminal that it is read on."""
    for key, value in event.items():
        if isinstance(value, str) and key not in _TRACES and not value.isprintable():
            event[key] = "".join(char if char.isprintable() else repr(char)[1:-1] for char in value)
    return event


class LoggingObserver(Observer):
    """Writes down what an operator wants to know of, and of what comes in floods only some.

    Args:
        now: Monotonic seconds.
        logger: Where the lines go; structlog's unless told otherwise.
    """

    def __init__(self, now: Callable[[], float], logger: FilteringBoundLogger | None = None) -> None:
        self._log: FilteringBoundLogger = structlog.get_logger(_NAME) if logger is None else logger
        self._sparse = _Sparse(now)

    @override
    def phase_changed(self, before: Phase, after: Phase, reason: str) -> None:
        self._log.info("phase.changed", before=before.value, after=after.value, reason=reason)

    @override
    def drained(self, batch: int, closed: int, remaining: int) -> None:
        self._log.info("drain.batch", index=batch, closed=closed, remaining=remaining)

    @override
    def failed(self, where: str, error: BaseException) -> None:
        # By kind, so that a defect in every message does not hide another one.
        kept_back = self._sparse.pass_on(("failed", where, type(error).__name__))
        if kept_back is not None:
            trace = (type(error), error, error.__traceback__)
            self._log.error("failed", where=where, kept_back=kept_back, exc_info=trace)

    @override
    def upgrade_refused(self, reason: str) -> None:
        kept_back = self._sparse.pass_on(("upgrade.refused", reason))
        if kept_back is not None:
            self._log.warning("upgrade.refused", reason=reason, kept_back=kept_back)

    @override
    def limited(self, limit: str) -> None:
        kept_back = self._sparse.pass_on(("limited", limit))
        if kept_back is not None:
            self._log.warning("limited", limit=limit, kept_back=kept_back)

    @override
    def noted(self, event: str, **facts: object) -> None:
        kept_back = self._sparse.pass_on((event, *map(str, facts.values())))
        if kept_back is not None:
            self._log.warning(event, **facts, kept_back=kept_back)


class _Sparse:
    """Lets the first event of a kind through, then one a minute, each with how many were kept back before it.

    Knows a bounded number of kinds; when there are more, the rest count as one.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        # kind -> [when the next one may pass, kept back since the last]
        self._kinds: dict[tuple[str, ...], list[float]] = {}

    def pass_on(self, kind: tuple[str, ...]) -> int | None:
        """Return how many of this kind were kept back, None to keep this one back too."""
        now = self._now()
        if kind not in self._kinds and len(self._kinds) >= _MAX_KEYS:
            self._kinds = {known: state for known, state in self._kinds.items() if now < state[0]}
            if len(self._kinds) >= _MAX_KEYS:
                kind = (kind[0],)
        state = self._kinds.setdefault(kind, [now, 0])
        if now < state[0]:
            state[1] += 1
            return None
        kept_back = int(state[1])
        state[:] = [now + _EVERY_SECONDS, 0]
        return kept_back
