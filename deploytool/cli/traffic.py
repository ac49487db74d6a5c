"""Real traffic, one probe after another, within one budget."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from deploytool.errors import DeploytoolError
from deploytool.model.observations import TokenKind, Unseen
from deploytool.probes.address import parse_address
from deploytool.probes.budget import allowance
from deploytool.probes.gauge import METRIC, try_gauge
from deploytool.probes.handshakes import try_handshakes, try_origins
from deploytool.probes.load import LOAD_SECONDS, LoadResult, LoadUser, plan_load, run_load
from deploytool.probes.load_files import write_report
from deploytool.probes.rate import RATE_SECONDS, try_rate
from deploytool.probes.running import Background, run
from deploytool.probes.tls import try_tls
from deploytool.probes.tokens import Credentials, try_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from deploytool.cli.live import LiveOptions, Progress
    from deploytool.clock import Clock
    from deploytool.model.expectations import LoadThresholds
    from deploytool.model.observations import LoadReport, Status
    from deploytool.probes.address import Address
    from deploytool.service_api import AdminApi, ProbeTokens

__all__ = ("Traffic",)

_TRIAL_SECONDS: Final = 45.0
_WORDS: Final = {
    "handshakes": "connecting several times",
    "origins": "connecting as pages of several sites",
    "tokens": "connecting with good and bad tokens",
    "tls": "shaking hands by TLS",
    "gauge": "counting connections",
    "load": "testing under load",
    "rate": "waiting until the burst of messages is forgotten",
}


@dataclass(slots=True)
class Traffic:
    """The probes of one check.

    Attributes:
        url: Public address; empty when it is not known.
        origins: That have to be let in.
        api: Makes tokens and counts connections.
        status: Of the service, as it was just now.
    """

    options: LiveOptions
    url: str
    origins: Sequence[str]
    thresholds: LoadThresholds
    api: AdminApi | Unseen
    status: Status | Unseen
    clock: Clock
    progress: Progress
    _burst: Background | None = None

    def run(self, wanted: Sequence[str]) -> Iterator[tuple[str, Any]]:
        """Yield the name of each wanted field and what was seen, or why nothing was."""
        ready = self._ready()
        if isinstance(ready, Unseen):
            yield from ((name, ready) for name in wanted)
            return
        address, most = ready
        known: dict[str, Callable[[], Any]] = {
            "handshakes": lambda: run(partial(try_handshakes, address, self.clock), address, _TRIAL_SECONDS),
            "origins": lambda: run(partial(try_origins, address, self.origins, self.clock), address, _TRIAL_SECONDS),
            "tokens": lambda: self._tokens(address),
            "tls": lambda: run(partial(try_tls, address, self.clock), address, _TRIAL_SECONDS),
            "gauge": lambda: self._gauge(address, most),
            "load": lambda: self._load(address),
            "rate": self._rate,
        }
        # The count must not be disturbed by a connection of our own, and the burst wants a minute: so in this order.
        order = [name for name in known if name in wanted]
        if "rate" in order:
            order.insert(order.index("rate") if "gauge" not in order else order.index("gauge") + 1, "")
        refused: Unseen | None = None
        for name in order:
            if not name:
                refused = self._begin_burst(address)
                continue
            self.progress.step(_WORDS[name])
            yield name, (refused or self._tried(known[name])) if name == "rate" else self._tried(known[name])

    def stop(self) -> None:
        """End what still runs."""
        if self._burst is not None:
            self._burst.stop()

    def _ready(self) -> tuple[Address, int] | Unseen:
        if not self.url:
            return Unseen("the public address is not known: no Ingress and no HTTPRoute names one", "--url wss://HOST")
        if isinstance(self.status, Unseen):
            return Unseen(
                f"probes want to know first how full the service is, and {self.status.why}", self.status.way_out
            )
        try:
            address = parse_address(self.url, connect_to=self.options.connect_to, ca_file=self.options.ca_file)
            return address, allowance(self.status)
        except DeploytoolError as error:
            return _why(error)

    def _tried(self, work: Callable[[], Any]) -> Any:  # noqa: ANN401 - what is seen, or why not
        try:
            return work()
        except DeploytoolError as error:
            return _why(error)

    def _issue(self, ttl_seconds: float = 300.0) -> ProbeTokens:
        return self._known_api().probe_tokens(ttl_seconds)

    def _known_api(self) -> AdminApi:
        if isinstance(self.api, Unseen):  # not so, since there is a status
            raise DeploytoolError(self.api.why)
        return self.api

    def _tokens(self, address: Address) -> Any:  # noqa: ANN401 - what is seen, or why not
        tokens = self._issue()
        pairs = {
            TokenKind.GOOD: (tokens.valid.connection, tokens.valid.subscription),
            TokenKind.EXPIRED: (tokens.expired.connection, tokens.expired.subscription),
            TokenKind.WRONG_KEY: (tokens.wrong_signature.connection, tokens.wrong_signature.subscription),
        }
        credentials = Credentials.of(tokens.channel, pairs)
        return run(partial(try_tokens, address, credentials, self.clock), address, _TRIAL_SECONDS)

    def _gauge(self, address: Address, most: int) -> Any:  # noqa: ANN401 - what is seen, or why not
        token, api = self._issue().valid.connection, self._known_api()

        def read() -> int:
            return int(api.metrics().samples.get(METRIC, -1))

        return run(partial(try_gauge, address, token, most, read, self.clock), address, _TRIAL_SECONDS)

    def _begin_burst(self, address: Address) -> Unseen | None:
        """Begin the burst, unless there is a reason not to."""
        if isinstance(self.status, Unseen):
            return self.status
        limit = int(self.status.limits.get("messages_per_minute", 0))
        if not limit:
            return Unseen("there is no limit of messages that could be tried: it is switched off", failed=False)
        try:
            tokens = self._issue()
        except DeploytoolError as error:
            return _why(error)
        entry = (tokens.channel, tokens.valid.subscription)
        work = partial(try_rate, address, tokens.valid.connection, entry, limit, self.clock)
        self._burst = Background(work, address, RATE_SECONDS)
        return None

    def _rate(self) -> Any:  # noqa: ANN401 - what is seen, or why not
        return self._burst.result() if self._burst is not None else Unseen("it was not begun")

    def _load(self, address: Address) -> LoadReport | Unseen:
        # How full it is now, not when we began.
        status = self._known_api().status()
        most = allowance(status)
        if self._burst is not None and most <= 1:
            # Its connection is all that we may have: one after the other.
            self._burst.result()
        elif self._burst is not None:
            most -= 1
        plan = plan_load(most, status.limits, self.thresholds, seconds=self.options.load_seconds)
        users = []
        for _ in range(plan.users):
            tokens = self._issue()
            users.append(LoadUser(tokens.channel, tokens.valid.connection, tokens.valid.subscription))
        work = partial(
            run_load, address, users, plan, self.clock, self.progress.count, image_digest=status.image_digest
        )
        result = run(work, address, LOAD_SECONDS)
        if isinstance(result, Unseen):
            return result
        return self._written(result)

    def _written(self, result: LoadResult) -> LoadReport:
        data, page = write_report(Path(self.options.report_dir), result)
        self.progress.note(f"load report: {data}, and with charts {page}")
        return result.report


def _why(error: DeploytoolError) -> Unseen:
    rule = getattr(error, "rule", "")
    return Unseen(getattr(error, "problem", str(error)), rule or getattr(error, "remediation", ""))
