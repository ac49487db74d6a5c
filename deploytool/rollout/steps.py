"""What is done in each phase. Each step may be done twice: it looks before it acts."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from deploytool.rollout.errors import OperatorError, OutsideWindowError, PhaseError, RefusedError, TransientError
from deploytool.rollout.phases import Phase
from deploytool.rollout.plan import LEAST_RECONNECT_SECONDS, DrainPolicy
from deploytool.rollout.ports import Event, Serving

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploytool.rollout.journal import Journal
    from deploytool.rollout.keeper import Keeper
    from deploytool.rollout.plan import Plan
    from deploytool.rollout.ports import Mark, Ports, Proposal, WorkloadState

__all__ = ("Steps", "drift", "scaled")

_ADMITS: Final = "ACTIVE"
_EMPTY: Final = "DRAINED"
_SERVING: Final = frozenset({"ACTIVE", "GATED", "DRAINING", "DRAINED"})
_LONGEST_WAIT: Final = 30.0


def drift(state: WorkloadState) -> str:
    """Say who changed the workload beside us."""
    by = f" by {state.manager}" if state.manager else ""
    return f"the workload asks for {state.image}{by}, and that is neither the old image nor the new one"


def scaled(state: WorkloadState) -> str:
    """Say who asked for another number of pods beside us."""
    by = f" by {state.scaler}" if state.scaler else ""
    return f"the workload was scaled to {state.replicas}{by}; it is left like that: scale it to 1, then resume"


class Steps:
    """The phases of one rollout; what they remember beside the journal is lost with the process."""

    def __init__(self, ports: Ports, plan: Plan, keeper: Keeper) -> None:
        self._ports = ports
        self._plan = plan
        self._keeper = keeper
        self._mark: Mark | None = None
        self._is_holding = False
        self._restarts: int | None = None
        self.table: dict[Phase, Callable[[Journal], tuple[Journal, str]]] = {
            Phase.ANNOUNCE: self.announce,
            Phase.AWAIT_WINDOW: self.await_window,
            Phase.RECHECK: self.recheck,
            Phase.GATE: self.gate,
            Phase.DRAIN: self.drain,
            Phase.SWITCH: self.switch,
            Phase.READY: lambda journal: self.ready(journal, journal.new),
            Phase.SMOKE: self.smoke,
            Phase.RECONNECT: lambda journal: self.reconnect(journal, journal.new),
            Phase.COMMIT: self.commit,
        }

    def preflight(self, journal: Journal) -> str:
        """See that everything is there that is going to be needed; changes nothing.

        Raises:
            RefusedError: Something is not.
            OutsideWindowError: It may not start, and not soon enough.
        """
        state = self._keeper.attempt("looking at the workload", self._ports.workload.observe)
        if state.image == journal.new:
            raise RefusedError(f"{journal.workload} runs {journal.new} already")
        if not state.is_serving(journal.old):
            raise RefusedError(
                f"{journal.workload} is not in order before it is changed: {len(state.ready)} of {state.replicas} pods "
                f"ready, {state.terminating} going{f'; {state.failure}' if state.failure else ''}"
            )
        self._require_window(self._ports.clock.wall() + self._plan.wait_seconds)
        if not self._plan.is_degraded:
            serving = self._status()
            if serving.phase != _ADMITS:
                raise RefusedError(f"the service is {serving.phase} and has to be {_ADMITS}: who gates or drains it?")
        # What keeps us out now would keep us from seeing later whether anybody is let in.
        if not self._keeper.attempt("opening a WebSocket", self._ports.client.knock, self._plan.deadlines.gate):
            raise RefusedError("a new WebSocket is refused at the public address, before anything was changed")
        proposal = self._keeper.attempt("the dry run", lambda: self._ports.workload.preflight(journal.new))
        for line in proposal.changes:
            self._show(Phase.PREFLIGHT, "note", line)
        self._try_out(journal, proposal)
        return f"{len(proposal.changes)} changes, from {journal.old} to {journal.new}"

    def _try_out(self, journal: Journal, proposal: Proposal) -> None:
        trial = self._ports.trial
        if trial is None:
            self._show(Phase.PREFLIGHT, "note", "the new image is not tried first")
            return
        trial.sweep()
        pod = proposal.pod
        self._show(Phase.PREFLIGHT, "note", "trying the new image in a pod of its own")
        seen = self._keeper.attempt(
            "trying the image", lambda: trial.run(journal, pod, self._keeper.wait), self._plan.deadlines.trial
        )
        for line in seen:
            self._show(Phase.PREFLIGHT, "note", line)

    def announce(self, journal: Journal) -> tuple[Journal, str]:
        """Tell clients, and go on telling them."""
        if self._plan.is_degraded:
            return journal, "degraded: nobody is told"
        self._keeper.keep("the announcement", self._tell)
        return journal, self._plan.message

    def _tell(self) -> None:
        explanation = self._plan.explain(self._ports.clock.wall())
        upcoming = explanation.upcoming
        starts_at = None if explanation.may_start or upcoming is None else upcoming.span.start
        self._ports.service.announce(
            self._plan.message,
            starts_at=starts_at,
            seconds=max(1.0, self._plan.need.estimate_seconds),
            ttl_seconds=self._plan.deadlines.ttl,
        )

    def await_window(self, journal: Journal) -> tuple[Journal, str]:
        """Wait until a window is open that is long enough."""
        until = self._ports.clock.wall() + self._plan.wait_seconds
        while True:
            explanation = self._require_window(until)
            if explanation is None:
                return journal, "; ".join(self._plan.explain(self._ports.clock.wall()).reasons)
            left = explanation - self._ports.clock.wall()
            self._progress(Phase.AWAIT_WINDOW, f"the window opens in {left:.0f} s", {"seconds": round(left)})
            self._keeper.wait(min(left, _LONGEST_WAIT))

    def _require_window(self, until: float) -> float | None:
        """Return when a window opens; None when one is open.

        Raises:
            OutsideWindowError: None opens before ``until``.
        """
        explanation = self._plan.explain(self._ports.clock.wall())
        if explanation.may_start:
            return None
        reasons, upcoming = "; ".join(explanation.reasons), explanation.upcoming
        if upcoming is None:
            need = self._plan.need.seconds / 60
            raise OutsideWindowError(f"no window of the {need:.0f} min that it takes opens within ten years: {reasons}")
        if upcoming.span.start > until:
            wait = upcoming.span.start - explanation.at
            opens = dt.datetime.fromtimestamp(upcoming.span.start, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
            raise OutsideWindowError(
                f"{reasons}; the next window opens in {wait / 60:.0f} min, at {opens}: --wait for it, or --now WHY"
            )
        return upcoming.span.start

    def recheck(self, journal: Journal) -> tuple[Journal, str]:
        """See that nothing has changed meanwhile, and count clients."""
        state = self._keeper.attempt("looking at the workload", self._ports.workload.observe)
        if state.image != journal.old:
            raise PhaseError(drift(state))
        if not state.is_serving(journal.old):
            why = scaled(state) if state.replicas != 1 else state.failure or "its pod is not ready"
            raise PhaseError(f"{journal.workload} is not in order any more: {why}")
        if self._plan.is_degraded:
            return journal, "degraded: clients are not counted"
        serving = self._status()
        self._show_clients(Phase.RECHECK, serving)
        if serving.phase != _ADMITS:
            if not journal.was_gated:
                raise PhaseError(f"the service is {serving.phase}, and we did not tell it to be")
            return replace(journal, instance=serving.instance), f"{serving.phase}, as we left it"
        mark = self._keeper.attempt("publishing a mark", self._ports.client.mark, self._plan.deadlines.smoke)
        self._mark = replace(mark, is_durable=serving.is_durable)
        self._keeper.attempt("opening a WebSocket", self._ports.client.hold, self._plan.deadlines.smoke)
        self._is_holding = True
        # Those who came back to a gate that had lapsed are fewer than there were.
        baseline = max(serving.clients, journal.baseline or 0)
        return replace(journal, instance=serving.instance, baseline=baseline), f"{baseline} clients"

    def gate(self, journal: Journal) -> tuple[Journal, str]:
        """Refuse new WebSockets, and see that they are refused and the open ones are not."""
        if self._plan.is_degraded:
            return journal, "degraded: no gate"
        ttl, reason = self._plan.deadlines.ttl, f"rollout {journal.rollout}"
        self._keeper.keep("the gate", lambda: self._ports.service.gate(reason, ttl))
        until = self._ports.clock.now() + self._plan.deadlines.gate
        while self._keeper.attempt("trying the gate", self._ports.client.knock, self._plan.deadlines.gate):
            if self._ports.clock.now() >= until:
                raise PhaseError("the gate is closed, and a new WebSocket is let in all the same")
            self._keeper.wait(self._plan.deadlines.poll)
        if self._is_holding and not self._ports.client.is_held():
            raise PhaseError("the gate closed a WebSocket that was open")
        return journal, "new WebSockets are refused, open ones live"

    def drain(self, journal: Journal) -> tuple[Journal, str]:
        """Close what is open, and watch it go."""
        if self._plan.is_degraded:
            return journal, "degraded: SIGTERM drains"
        before = journal.baseline or 0
        self._progress(Phase.DRAIN, f"{before} connections", {"left": before, "total": before, "rate": 0.0})
        self._keeper.keep("the drain", lambda: self._ports.service.drain(self._plan.deadlines.ttl))
        began, total = self._ports.clock.now(), journal.baseline or 0
        while True:
            serving = self._status()
            self._show_drain(Phase.DRAIN, serving, total, self._ports.clock.now() - began)
            if journal.instance and serving.instance != journal.instance:
                raise PhaseError("another process serves now: the old pod was replaced while it was drained")
            took = self._ports.clock.now() - began
            if serving.phase == _EMPTY and serving.clients == 0:
                return journal, f"{journal.baseline} clients in {took:.1f} s"
            if took >= self._plan.deadlines.drain and self._gives_up(serving):
                return journal, f"{serving.clients} clients are left, and are cut off"
            self._keeper.wait(self._plan.deadlines.poll)

    def _show_drain(self, phase: Phase, serving: Serving, total: int, took: float) -> None:
        rate = max(0, total - serving.clients) / took if took > 0 else 0.0
        eta = serving.clients / rate if rate > 0 else None
        to_go = "" if eta is None else f", {rate:.0f}/s, {eta:.0f} s to go"
        data: dict[str, object] = {"left": serving.clients, "total": total, "rate": round(rate, 1), "seconds": eta}
        self._progress(phase, f"{serving.clients} of {total} connections left{to_go}", data)

    def _gives_up(self, serving: Serving) -> bool:
        """Return whether to go on with clients left; False waits."""
        policy = self._plan.drain_policy
        if policy is DrainPolicy.FORCE:
            return True
        left = self._plan.explain(self._ports.clock.wall()).left_seconds
        if policy is DrainPolicy.ABORT or left < self._plan.need.reserve_seconds:
            raise PhaseError(f"the drain did not finish: {serving.clients} clients are left")
        return False

    def switch(self, journal: Journal) -> tuple[Journal, str]:
        """Ask for the new image."""
        self._let_go()
        return journal, self._ask_for(journal, journal.old, journal.new, self._ports.workload.switch)

    def restore(self, journal: Journal) -> str:
        """Ask for the old image."""
        self._let_go()
        return self._ask_for(journal, journal.new, journal.old, self._ports.workload.restore)

    def _let_go(self) -> None:
        # Renewed once more, and then no longer: whoever serves next must not be gated by us.
        self._keeper.renew_now()
        self._keeper.drop("the gate", "the drain", "the announcement")

    def mend(self, journal: Journal) -> str:
        """Bring into order what was left half done by whoever was cut off; returns what was done, empty for nothing."""
        workload, pause = self._ports.workload, self._keeper.pause
        mended = self._keeper.attempt("mending the release", lambda: workload.mend(journal, pause))
        if mended:
            self._show(journal.phase, "note", mended)
        return mended

    def _ask_for(
        self, journal: Journal, before: str, after: str, act: Callable[[Journal, Callable[[float], None]], str]
    ) -> str:
        def ask() -> str:
            # Also when it was us a moment ago: what is asked for may be there, and its release be pending all the same.
            self.mend(journal)
            state = self._ports.workload.observe()
            if state.image == after:
                return f"{after} is asked for already"
            if state.image != before:
                raise OperatorError(drift(state))
            if state.replicas != 1:
                # Helm would set it to what its chart says.
                raise OperatorError(scaled(state))
            # The last look before what cannot be taken back: nobody has overtaken us, and there is time for it.
            self._ports.lock.renew()
            self._keeper.was_renewed()
            return act(journal, self._keeper.pause)

        return self._keeper.attempt(f"asking for {after}", ask, self._plan.deadlines.switch)

    def ready(self, journal: Journal, image: str) -> tuple[Journal, str]:
        """Wait for the one pod with an image, and see nobody beside it."""
        began = self._ports.clock.now()
        while True:
            state = self._look(image)
            if state is not None and state.is_serving(image) and self._admits(journal):
                self._restarts = state.restarts
                return journal, f"after {self._ports.clock.now() - began:.1f} s"
            if self._ports.clock.now() - began >= self._plan.deadlines.ready:
                self.diagnose(journal.phase)
                if state is not None and state.lost:
                    raise OperatorError(state.lost)
                raise PhaseError(f"{image} was not ready within {self._plan.deadlines.ready:g} s")
            if state is not None:
                self._show_pods(journal.phase, state)
            self._keeper.wait(self._plan.deadlines.poll)

    def _admits(self, journal: Journal) -> bool:
        serving = self._try_status()
        if serving is None:
            return False
        self._show_clients(journal.phase, serving)
        return serving.phase == _ADMITS

    def _show_pods(self, phase: Phase, state: WorkloadState) -> None:
        # Without a pod that is ready, and without one that is going, nobody can be connected.
        is_empty = state.is_observed and not state.ready and not state.terminating
        data: dict[str, object] = {"clients": 0} if is_empty else {}
        self._progress(phase, f"{len(state.ready)} ready, {state.terminating} going", data)

    def _show_clients(self, phase: Phase, serving: Serving) -> None:
        if not self._plan.is_degraded:
            self._progress(phase, "", {"clients": serving.clients})

    def _look(self, image: str) -> WorkloadState | None:
        """Return what is seen; None when nothing can be seen now.

        Raises:
            PhaseError: It is known already that it will not become ready.
            OperatorError: Somebody else changed it, or a node took its pod with it.
        """
        try:
            state = self._ports.workload.observe()
        except TransientError as error:
            self._keeper.heed(error)
            return None
        if state.image != image:
            raise OperatorError(drift(state))
        if state.replicas != 1:
            raise OperatorError(scaled(state))
        if state.lost:
            raise OperatorError(state.lost)
        if state.failure:
            self.diagnose(Phase.READY)
            raise PhaseError(state.failure)
        return state

    def smoke(self, journal: Journal) -> tuple[Journal, str]:
        """Be a client of the new instance."""
        serving = None if self._plan.is_degraded else self._status()
        if serving is not None:
            self._show_clients(journal.phase, serving)
        instance, note = self._keeper.attempt(
            "trying it as a client", lambda: self._ports.client.smoke(self._mark), self._plan.deadlines.smoke
        )
        if serving is not None and instance and instance != serving.instance:
            raise PhaseError(f"clients reach instance {instance}, and the admin API instance {serving.instance}")
        return journal, note

    def reconnect(self, journal: Journal, image: str) -> tuple[Journal, str]:
        """Watch clients come back, and the instance go on well."""
        began, baseline = self._ports.clock.now(), journal.baseline or 0
        wanted = math.ceil(baseline * self._plan.share)
        deadline = max(LEAST_RECONNECT_SECONDS, self._plan.deadlines.reconnect)
        back = 0
        back_at: float | None = None
        while True:
            self._require_steady(image)
            serving = self._try_status()
            took = self._ports.clock.now() - began
            back = back if serving is None else serving.clients
            data: dict[str, object] = {"back": back, "total": baseline, "is_seen": serving is not None}
            self._progress(journal.phase, f"{back} of {baseline} clients are back", data)
            if back < wanted:
                back_at = None
            elif back_at is None:
                back_at = took
            if back_at is not None and took >= self._plan.deadlines.settle and serving is not None:
                return journal, f"{back} of {baseline} clients are back after {back_at:.1f} s"
            if took >= deadline:
                raise PhaseError(f"{back} of {baseline} clients are back after {took:.0f} s, {wanted} are wanted")
            self._keeper.wait(self._plan.deadlines.poll)

    def _require_steady(self, image: str) -> None:
        state = self._look(image)
        if state is None or self._restarts is None:
            return
        if state.restarts > self._restarts:
            self.diagnose(Phase.RECONNECT)
            raise PhaseError(f"{image} was restarted {state.restarts - self._restarts} times after it was ready")

    def commit(self, journal: Journal) -> tuple[Journal, str]:
        """See for the last time that it is the new image that runs; it is on record with the journal."""
        state = self._keeper.attempt("looking at the workload", self._ports.workload.observe)
        if state.image != journal.new:
            raise OperatorError(drift(state))
        return journal, f"{journal.new} serves"

    def readmit(self) -> str:
        """Let clients in again, and tell them; needs no more than that the instance lives."""
        self._keeper.drop("the gate", "the drain", "the announcement")
        if self._plan.is_degraded:
            return "degraded"
        service = self._ports.service
        self._keeper.attempt("cancelling the drain", service.undrain, self._plan.deadlines.retry)
        self._keeper.attempt("opening the gate", service.ungate, self._plan.deadlines.retry)
        self.withdraw()
        return "clients are let in again"

    def reopened(self, journal: Journal) -> str:
        """Let clients in again where the old instance never went, and see that it serves."""
        note = ""
        try:
            note = self.readmit()
        except PhaseError as error:
            # A process that has just been replaced, or whose gate has lapsed, has nothing to be told.
            self._show(journal.phase, "note", str(error))
        self.ready(journal, journal.old)
        return note or "it serves"

    def withdraw(self) -> None:
        """Tell clients that it is over, if they can be told."""
        self._keeper.drop("the announcement")
        if self._plan.is_degraded:
            return
        try:
            self._keeper.attempt("withdrawing the announcement", self._ports.service.withdraw, 5.0)
        except PhaseError as error:
            self._show(Phase.ANNOUNCE, "note", f"{error}; it lapses by itself")

    def shut(self, journal: Journal) -> None:
        """Empty an instance that is about to go, if it listens."""
        if self._plan.is_degraded:
            return
        ttl, service = self._plan.deadlines.ttl, self._ports.service
        try:
            if (serving := self._try_status()) is None or serving.phase not in _SERVING:
                return
            self._keeper.keep("the gate", lambda: service.gate(f"rollout {journal.rollout} goes back", ttl))
            self._keeper.keep("the drain", lambda: service.drain(ttl))
            began, total = self._ports.clock.now(), max(serving.clients, 1)
            while self._ports.clock.now() < began + self._plan.deadlines.drain:
                serving = self._status()
                self._show_drain(journal.phase, serving, total, self._ports.clock.now() - began)
                if serving.phase == _EMPTY:
                    return
                self._keeper.wait(self._plan.deadlines.poll)
        except PhaseError as error:
            self._show(Phase.ROLLING_BACK, "note", f"it is not drained first: {error}")

    def diagnose(self, phase: Phase) -> None:
        """Show events and logs."""
        for line in self._ports.workload.diagnose() or ("no warning among the events, and nothing in the log",):
            self._show(phase, "note", line)

    def forget_restarts(self) -> None:
        """Count from the next pod on."""
        self._restarts = None

    def _status(self) -> Serving:
        return self._keeper.attempt("asking the service", self._ports.service.status, self._plan.deadlines.retry)

    def _try_status(self) -> Serving | None:
        if self._plan.is_degraded:
            return Serving("", _ADMITS, 0)
        try:
            return self._ports.service.status()
        except TransientError as error:
            self._keeper.heed(error)
            return None

    def _show(self, phase: Phase, kind: str, text: str) -> None:
        self._ports.view.show(Event(self._ports.clock.wall(), kind, phase, text))

    def _progress(self, phase: Phase, text: str, data: dict[str, object]) -> None:
        self._ports.view.show(Event(self._ports.clock.wall(), "progress", phase, text, data))
