"""Lines are complete, in one form, and hold nothing that does not belong into a log."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from typing_extensions import override

from service.core.codes import Disconnects, Errors
from service.core.phase import Phase
from service.observability.logs import LoggingObserver, configure
from service.settings import LogFormat, LogLevel, Logs
from tests.support.clock import ManualClock

SERVER_LOGGERS = ("uvicorn", "uvicorn.error", "uvicorn.access")


class Terminal(io.StringIO):
    """Says that a person is looking."""

    @override
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Leave the process's logging to the next test as it was found."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    logging.getLogger("slackwater").setLevel(logging.NOTSET)
    structlog.reset_defaults()


@pytest.fixture
def clock() -> ManualClock:
    """Time stands still."""
    return ManualClock()


@pytest.fixture
def stream() -> io.StringIO:
    """What is collected by a platform."""
    stream = io.StringIO()
    configure(Logs(), stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """Return every line, without what differs from run to run, and empty the stream."""
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    stream.seek(0)
    stream.truncate()
    for line in found:
        assert line.pop("timestamp").endswith("Z")
    return found


# Form.


def test_line_is_json_when_nobody_looks(stream: io.StringIO) -> None:
    """With the level, the logger and the time beside the facts."""
    structlog.get_logger("slackwater").info("drain.batch", index=3)

    assert [{"event": "drain.batch", "index": 3, "level": "info", "logger": "slackwater"}] == lines(stream)


@pytest.mark.parametrize(
    ("stream", "form", "is_json"),
    [
        (io.StringIO, LogFormat.AUTO, True),
        (Terminal, LogFormat.AUTO, False),
        (io.StringIO, LogFormat.TEXT, False),
        (Terminal, LogFormat.JSON, True),
    ],
)
def test_form_is_as_set_or_as_the_reader_needs_it(
    monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO], form: LogFormat, *, is_json: bool
) -> None:
    """People get text, collectors get JSON, and either can be forced."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = stream()
    configure(Logs(format=form), out)

    structlog.get_logger("slackwater").info("something", index=3)

    text = out.getvalue()
    assert is_json is text.startswith("{")
    assert "something" in text
    # Colours are for terminals.
    assert ("\x1b[" in text) is (not is_json and out.isatty())


@pytest.mark.parametrize(("said", "is_coloured"), [("1", False), ("", True)])
def test_colours_can_be_declined(monkeypatch: pytest.MonkeyPatch, said: str, *, is_coloured: bool) -> None:
    """By what other programs go by too; empty says nothing."""
    monkeypatch.setenv("NO_COLOR", said)
    out = Terminal()
    configure(Logs(format=LogFormat.AUTO), out)

    structlog.get_logger("slackwater").info("something")

    assert is_coloured is ("\x1b[" in out.getvalue())


def test_migration_is_logged_without_its_prelude(stream: io.StringIO) -> None:
    """What was done to the database is news; how the library came to do it is none."""
    logger = logging.getLogger("alembic.runtime.migration")
    for text in ("Context impl SQLiteImpl.", "Will assume transactional DDL.", "Running upgrade  -> 0001, tables"):
        logger.info(text)

    assert ["Running upgrade  -> 0001, tables"] == [line["event"] for line in lines(stream)]


def test_level_is_as_set() -> None:
    """For our lines and for those of others."""
    out = io.StringIO()
    configure(Logs(level=LogLevel.WARNING), out)

    for log in (structlog.get_logger("slackwater"), logging.getLogger("somebody.else")):
        log.info("quiet")
        log.warning("loud")

    assert ["loud", "loud"] == [line["event"] for line in lines(out)]


@pytest.mark.parametrize("name", [*SERVER_LOGGERS, "websockets.server", "somebody.else"])
def test_finest_level_is_for_our_own_lines(name: str) -> None:
    """At theirs, servers show what is in the frames."""
    out = io.StringIO()
    configure(Logs(level=LogLevel.DEBUG), out)

    structlog.get_logger("slackwater").debug("ours")
    logging.getLogger(name).debug("< TEXT '%s'", "a token")

    assert ["ours"] == [line["event"] for line in lines(out)]


def test_configuring_again_starts_anew(stream: io.StringIO) -> None:
    """No line comes twice."""
    other = io.StringIO()
    configure(Logs(), other)

    structlog.get_logger("slackwater").info("once")

    assert "" == stream.getvalue()
    assert 1 == len(lines(other))


def test_line_break_does_not_begin_a_new_line(stream: io.StringIO) -> None:
    """Nobody can forge a line by what they send."""
    structlog.get_logger("slackwater").info("x", reason='a\n{"event": "forged"}')

    assert ["x"] == [line["event"] for line in lines(stream)]


def test_text_cannot_steer_the_terminal() -> None:
    """Control characters are shown as what they are."""
    out = io.StringIO()
    configure(Logs(format=LogFormat.TEXT), out)

    structlog.get_logger("slackwater").info("x", reason="a\x1b[2Jb\nc\u202ed")
    logging.getLogger("somebody.else").warning("from %s", "a\x1b[2Jb\nc\u202ed")

    text = out.getvalue()
    assert 2 == text.count("\n")
    assert "\x1b" not in text
    assert 2 == text.count(r"a\x1b[2Jb\nc\u202ed")


# Other people's lines.


@pytest.mark.parametrize("name", SERVER_LOGGERS)
def test_server_lines_go_the_same_way(stream: io.StringIO, name: str) -> None:
    """In the same form, and only once, whatever uvicorn had set up before."""
    logging.getLogger(name).addHandler(logging.StreamHandler(io.StringIO()))
    configure(Logs(), stream)

    logging.getLogger(name).warning("Cancel %d running task(s)", 7)

    assert [{"event": "Cancel 7 running task(s)", "level": "warning", "logger": name}] == lines(stream)
    assert [] == logging.getLogger(name).handlers


@pytest.mark.parametrize("query", ["token=secret", 'a="token=secret', "a=b?token=secret", "token=secret#x"])
def test_queries_are_never_logged(stream: io.StringIO, query: str) -> None:
    """Neither of a request nor of a WebSocket."""
    path = f"/ws?{query}"
    logging.getLogger("uvicorn.access").warning('%s - "%s %s HTTP/%s" %d', "192.0.2.1:5", "GET", path, "1.1", 200)
    logging.getLogger("uvicorn.error").warning('%s - "WebSocket %s" [accepted]', "192.0.2.1:5", path)

    text = stream.getvalue()
    assert "secret" not in text
    assert ['192.0.2.1:5 - "GET /ws HTTP/1.1" 200', '192.0.2.1:5 - "WebSocket /ws" [accepted]'] == [
        line["event"] for line in lines(stream)
    ]


# What is logged.


@pytest.fixture
def observer(stream: io.StringIO, clock: ManualClock) -> LoggingObserver:
    """Writes into the stream."""
    del stream
    return LoggingObserver(clock.now)


def test_phases_and_batches_are_logged(observer: LoggingObserver, stream: io.StringIO) -> None:
    """Each of them: they are few, and an operator waits for them."""
    observer.phase_changed(Phase.ACTIVE, Phase.DRAINING, "drain by signal")
    observer.drained(1, 84, 916)
    observer.drained(2, 84, 832)

    assert [
        {"event": "phase.changed", "before": "ACTIVE", "after": "DRAINING", "reason": "drain by signal"},
        {"event": "drain.batch", "index": 1, "closed": 84, "remaining": 916},
        {"event": "drain.batch", "index": 2, "closed": 84, "remaining": 832},
    ] == [{key: line[key] for key in line if key not in ("level", "logger")} for line in lines(stream)]


def fail(secret: str) -> BaseException:
    """Return an exception that was raised where a secret is in a local variable."""
    try:
        raise ValueError("broken" if secret else "")  # noqa: TRY301 - for its traceback
    except ValueError as error:
        return error


@pytest.mark.parametrize("form", [LogFormat.JSON, LogFormat.TEXT])
def test_defect_is_logged_with_its_traceback(clock: ManualClock, form: LogFormat) -> None:
    """With the lines of the source, and without the values that were in their variables."""
    out = Terminal()
    configure(Logs(format=form), out)

    LoggingObserver(clock.now).failed("tick", fail("tok3n"))

    text = out.getvalue()
    assert "ValueError" in text
    assert "broken" in text
    assert "test_logs.py" in text
    assert "tok3n" not in text.replace('fail("tok3n")', "")


@pytest.mark.parametrize("event", ["refused", "limited", "failed", "noted"])
def test_what_comes_in_floods_is_logged_once_a_minute(
    observer: LoggingObserver, stream: io.StringIO, clock: ManualClock, event: str
) -> None:
    """The first at once, then one with how many were kept back."""
    error = fail("x")

    def happen(kind: str) -> None:
        calls = {
            "refused": lambda: observer.upgrade_refused(kind),
            "limited": lambda: observer.limited(kind),
            "failed": lambda: observer.failed(kind, error),
            "noted": lambda: observer.noted("forwarder.unlisted", address=kind),
        }
        calls[event]()

    for _ in range(100):
        happen("a")
    happen("b")
    clock.advance(59.9)
    happen("a")
    assert [0, 0] == [line["kept_back"] for line in lines(stream)]

    clock.advance(0.1)
    happen("a")

    assert [100] == [line["kept_back"] for line in lines(stream)]


def test_unlisted_forwarder_is_logged_as_a_warning(observer: LoggingObserver, stream: io.StringIO) -> None:
    """With its address: it is what has to be listed."""
    observer.noted("forwarder.unlisted", address="192.0.2.1")

    assert [
        {
            "event": "forwarder.unlisted",
            "address": "192.0.2.1",
            "kept_back": 0,
            "level": "warning",
            "logger": "slackwater",
        }
    ] == lines(stream)


def test_memory_of_what_was_logged_is_bounded(
    observer: LoggingObserver, stream: io.StringIO, clock: ManualClock
) -> None:
    """Past a number of addresses the rest count as one, until a minute has passed."""
    for number in range(5000):
        observer.noted("forwarder.unlisted", address=str(number))
    assert 1025 == len(lines(stream))
    assert 1025 == len(observer._sparse._kinds)

    clock.advance(60)
    observer.noted("forwarder.unlisted", address="new")

    assert 1 == len(lines(stream))
    assert 1 == len(observer._sparse._kinds)


def test_traffic_is_not_logged(observer: LoggingObserver, stream: io.StringIO) -> None:
    """What happens for every client is for the metrics."""
    observer.connection_opened()
    observer.authenticated()
    observer.command("publish")
    observer.error("publish", Errors.BAD_REQUEST)
    observer.published(10)
    observer.delivered(10, 10)
    observer.recovered(1, success=False)
    observer.connection_closed(Disconnects.IDLE, 1.0)

    assert "" == stream.getvalue()
