"""Runs a rollout: one phase after the other, back when one fails, and on from wherever it was left.

What is intended is written into the journal before it is done, and what came of it after. The writing is a comparison
with what was there, so whoever was overtaken finds out before the next step and does no more.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from deploytool.errors import DeploytoolError
from deploytool.rollout.errors import (
    LeftError,
    LockLostError,
    OperatorError,
    OutsideWindowError,
    PhaseError,
    RefusedError,
    RolloutError,
    TransientError,
)
from deploytool.rollout.keeper import Keeper
from deploytool.rollout.phases import FORWARD, Course, Phase, course
from deploytool.rollout.plan import Ending
from deploytool.rollout.ports import Event
from deploytool.rollout.steps import Steps, drift, scaled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from deploytool.rollout.journal import Journal
    from deploytool.rollout.plan import Plan
    from deploytool.rollout.ports import Ports, WorkloadState

__all__ = ("Runner",)

_DRILL: Final = "it was a drill, and the new image had served"
_RECORD_TRIES: Final = 3
_LONGEST_WAIT: Final = 10.0


class Runner:
    """One rollout, from its beginning or from where it was left.

    Args:
        ports: The world.
        plan: What is wanted.
        journal: Of a new rollout without a step, or the one that was found.
    """

    def __init__(self, ports: Ports, plan: Plan, journal: Journal) -> None:
        self._ports = ports
        self._plan = plan
        self._journal = journal
        deadlines = plan.deadlines
        self._keeper = Keeper(ports, ttl_seconds=deadlines.ttl, poll_seconds=deadlines.poll)
        self._keeper.note = lambda text: self._show("note", text)
        self._steps = Steps(ports, plan, self._keeper)
        self._checks: Callable[[], str] | None = None

    @property
    def journal(self) -> Journal:
        """As it was written down last."""
        return self._journal

    def before_preflight(self, checks: Callable[[], str]) -> None:
        """Have something else checked before the preflight; it returns what was seen, or raises."""
        self._checks = checks

    def run(self) -> Ending:
        """Begin it.

        Raises:
            DeploytoolError: It did not begin; nothing was changed.
        """
        journal = replace(self._journal, override=self._plan.override)
        try:
            self._begin(journal)
        except PhaseError as error:
            # Nothing has begun that could be gone back from.
            is_unknown = isinstance(error.__cause__, TransientError)
            raise (TransientError if is_unknown else RefusedError)(str(error)) from error
        self._take(journal.begin(Phase.LOCK, self._wall()), is_resuming=False)
        return self._closed(lambda: self._forward(FORWARD[FORWARD.index(Phase.ANNOUNCE) :], is_locking=True))

    def _begin(self, journal: Journal) -> None:
        self._keeper.attempt("looking at the lock", self._ports.lock.require_free)
        self._show("phase", "", Phase.PREFLIGHT)
        self._hook(Phase.PREFLIGHT, "before", journal)
        if self._checks is not None:
            self._show("note", self._checks(), Phase.PREFLIGHT)
        note = self._steps.preflight(journal)
        self._hook(Phase.PREFLIGHT, "after", journal)
        self._show("done", note, Phase.PREFLIGHT)
        self._keeper.safe_point()

    def drain(self, hold_seconds: float) -> Ending:
        """Empty the instance, keep it empty for a time, and let clients in again; the image stays.

        Raises:
            DeploytoolError: It did not begin; nothing was changed.
        """
        journal = replace(self._journal, new="", override=self._plan.override)
        self._take(journal.begin(Phase.LOCK, self._wall()), is_resuming=False)
        return self._closed(lambda: self._emptied(hold_seconds))

    def _emptied(self, hold_seconds: float) -> Ending:
        phases = FORWARD[FORWARD.index(Phase.ANNOUNCE) : FORWARD.index(Phase.SWITCH)]
        ending = self._forward(phases, is_locking=True)
        if ending.phase is not Phase.COMMIT:
            return ending
        self._show("note", f"drained; clients are let in again after {hold_seconds:g} s, or by Ctrl-C")
        self._keeper.pause(hold_seconds)
        return self._back("the drain is over", 0)

    def resume(self, *, is_aborting: bool = False) -> Ending:
        """Look at the cluster, and go on or back.

        Args:
            is_aborting: Back in any case.

        Raises:
            DeploytoolError: Somebody else does, or nothing can be seen; nothing was changed.
        """
        self._show("note", "taking the lock; when it was left behind, it is waited for until it has expired")
        self._take(self._journal, is_resuming=True)
        return self._closed(lambda: self._go_on(is_aborting=is_aborting))

    def _take(self, journal: Journal, *, is_resuming: bool) -> None:
        lock = self._ports.lock
        self._keeper.attempt("taking the lock", lambda: lock.acquire(journal, is_resuming=is_resuming))
        self._journal = journal
        self._keeper.was_renewed()

    def _closed(self, work: Callable[[], Ending]) -> Ending:
        try:
            ending = work()
        except (LeftError, LockLostError) as error:
            commands = tuple(f"deploytool rollout {verb} {self._where}" for verb in ("status", "resume", "abort"))
            ending = Ending(self._journal.phase, error.exit_code, str(error), commands)
        finally:
            self._ports.client.close()
        self._show("end", ending.text, ending.phase, {"exit_code": ending.exit_code})
        return ending

    @property
    def _where(self) -> str:
        return f"--workload {self._journal.workload}"

    def _go_on(self, *, is_aborting: bool) -> Ending:  # noqa: PLR0911 - one for each course
        journal = self._journal
        try:
            state = self._seen(journal)
        except (LeftError, LockLostError):
            raise
        except DeploytoolError as error:
            return self._stop(error)
        found = course(
            last=journal.phase,
            is_done=journal.has_ended,
            was_gated=journal.was_gated,
            is_old=state.image == journal.old,
            is_new=state.image == journal.new,
            # A drain alone has no image to go on to.
            is_aborting=is_aborting or bool(journal.failure) or not journal.new,
        )
        self._show("note", f"{journal.phase.value} was the last phase; {found.value}")
        asked = "the operator asked to go back" if is_aborting else journal.failure
        # What was to go back anyway has gone well when it is back: a drill, and a drain alone.
        code = 0 if is_aborting or journal.was_practised or not journal.new else 8
        match found:
            case Course.CLOSE:
                self._release(journal)
                self.remember()
                return Ending(journal.phase, 0, "it had ended already")
            case Course.DRIFT:
                return self._stop(OperatorError(drift(state)))
            case Course.CANCEL:
                return self._cancel(asked, code)
            case Course.GO_BACK:
                return self._back(asked or "it was going back", code)
            case Course.VERIFY:
                return self._forward(FORWARD[FORWARD.index(Phase.READY) :])
        return self._forward(FORWARD[FORWARD.index(Phase.ANNOUNCE) :])

    def _seen(self, journal: Journal) -> WorkloadState:
        """Return what the workload asks for, once it is no longer half done."""
        workload = self._ports.workload
        if journal.was_gated and self._steps.mend(journal):
            self._steps.ready(journal, journal.old)
        return self._keeper.attempt("looking at the workload", workload.observe)

    def _forward(self, phases: Sequence[Phase], *, is_locking: bool = False) -> Ending:
        try:
            if is_locking:
                self._write(self._journal.finish(self._wall()))
            for phase in phases:
                if phase is Phase.COMMIT and self._journal.drill:
                    return self._back(_DRILL, 0)
                self._do(phase)
        except (LeftError, LockLostError):
            raise
        except OperatorError as error:
            return self._stop(error)
        except DeploytoolError as error:
            self._show("failed", str(error))
            if self._journal.was_gated:
                return self._back(str(error), 8)
            return self._cancel(str(error), 7 if isinstance(error, OutsideWindowError) else 8)
        return Ending(Phase.COMMIT, 0, f"{self._journal.new} serves, and {self._back_again()}")

    def _back_again(self) -> str:
        found = next((one.note for one in reversed(self._journal.steps) if one.phase is Phase.RECONNECT), "")
        return found or "clients were not counted"

    def _do(self, phase: Phase) -> None:
        self._keeper.safe_point()
        self._write(self._journal.begin(phase, self._wall()))
        self._show("phase", "")
        self._hook(phase, "before", self._journal)
        journal, note = self._steps.table[phase](self._journal)
        self._hook(phase, "after", journal)
        done = journal.finish(self._wall(), note)
        if phase is Phase.COMMIT:
            self._release(done)
        else:
            self._write(done)
        self._show("done", note)
        if phase is Phase.COMMIT:
            self.remember()

    def remember(self) -> None:
        """Put a rollout that is over on record; that this does not work is told, and does no harm."""
        records, journal = self._ports.records, self._journal
        if records is None or not journal.has_ended or not journal.was_switched:
            return
        problem: DeploytoolError | None = None
        for _ in range(_RECORD_TRIES):
            try:
                self._show("note", f"on record: {records.store(journal, is_drill=journal.was_practised)}")
            except TransientError as error:
                # The lock is no longer ours to renew, so this does not wait by way of the keeper.
                problem = error
                self._ports.clock.pause(min(max(error.retry_seconds, self._plan.deadlines.poll), _LONGEST_WAIT))
            except DeploytoolError as error:
                problem = error
                break
            else:
                return
        self._show("note", f"warning: this rollout is not on record: {problem}")

    def _hook(self, phase: Phase, moment: str, journal: Journal) -> None:
        self._ports.hooks.run(phase, moment, journal, self._keeper.pause)

    def _cancel(self, why: str, exit_code: int) -> Ending:
        journal = replace(self._journal, failure=why).begin(Phase.CANCELLED, self._wall())
        self._steps.withdraw()
        self._release(journal.finish(self._wall(), why))
        return Ending(Phase.CANCELLED, exit_code, f"cancelled, and nothing was changed: {why}")

    def _back(self, why: str, exit_code: int) -> Ending:
        """Go back to the old image, through the same gates."""
        self._keeper.go_back()
        try:
            self._write(replace(self._journal, failure=why).begin(Phase.ROLLING_BACK, self._wall()))
            self._show("phase", why)
            self._hook(Phase.ROLLING_BACK, "before", self._journal)
            note = self._undo()
            self._hook(Phase.ROLLING_BACK, "after", self._journal)
            self._write(self._journal.finish(self._wall(), note))
            done = self._journal.begin(Phase.ROLLED_BACK, self._wall()).finish(self._wall(), why)
            self._release(done)
        except (LeftError, LockLostError):
            raise
        except DeploytoolError as error:
            return self._stop(RolloutError(f"{why}; and going back failed: {error}"))
        self._show("done", note)
        self.remember()
        return Ending(Phase.ROLLED_BACK, exit_code, f"rolled back to {self._journal.old}: {why}")

    def _require_left_to_us(self, state: WorkloadState) -> None:
        """Check that nobody else, and no lost node, stands in the way back.

        Raises:
            OperatorError: Somebody does.
        """
        if not state.replicas:
            # There is nobody who could be let in, and nobody is started against somebody's will.
            raise OperatorError(scaled(state))
        if state.image not in (self._journal.old, self._journal.new):
            raise OperatorError(drift(state))
        if state.lost and state.image == self._journal.new:
            raise OperatorError(state.lost)

    def _undo(self) -> str:
        journal, steps = self._journal, self._steps
        state = self._keeper.attempt("looking at the workload", self._ports.workload.observe)
        self._require_left_to_us(state)
        if state.image == journal.old:
            if journal.was_switched:
                steps.mend(journal)
            return steps.reopened(journal)
        steps.shut(journal)
        steps.restore(journal)
        steps.forget_restarts()
        steps.ready(journal, journal.old)
        steps.smoke(journal)
        try:
            _, note = steps.reconnect(journal, journal.old)
        except OperatorError:
            raise
        except RolloutError as error:
            if isinstance(error, LeftError | LockLostError):
                raise
            # They are let in; that some stay away does not make it worth a person's night.
            note = str(error)
        return note

    def _stop(self, error: DeploytoolError) -> Ending:
        """Keep the lock, and say what a person can do."""
        journal, text = self._journal, str(error)
        stopped = journal
        if journal.phase is not Phase.NEEDS_OPERATOR:
            stopped = journal.begin(Phase.NEEDS_OPERATOR, self._wall()).finish(self._wall(), text)
        try:
            self._write(stopped)
        except (LeftError, LockLostError):
            raise
        except DeploytoolError as failure:
            self._show("note", f"the journal could not be written: {failure}")
        self._steps.diagnose(Phase.NEEDS_OPERATOR)
        commands = (
            *self._ports.workload.commands(journal),
            f"deploytool rollout status {self._where}",
            f"deploytool rollout resume {self._where}",
            f"deploytool rollout abort {self._where}",
        )
        return Ending(Phase.NEEDS_OPERATOR, OperatorError.exit_code, text, commands)

    def _write(self, journal: Journal) -> None:
        # It may be tried for as long as the lock is proven to be ours; `attempt` looks before each.
        self._keeper.attempt("writing the journal", lambda: self._ports.lock.write(journal), float("inf"))
        self._journal = journal
        self._keeper.was_renewed()

    def _release(self, journal: Journal) -> None:
        self._keeper.let_go()
        self._keeper.attempt("releasing the lock", lambda: self._ports.lock.release(journal), float("inf"))
        self._journal = journal

    def _wall(self) -> float:
        return self._ports.clock.wall()

    def _show(self, kind: str, text: str, phase: Phase | None = None, data: dict[str, object] | None = None) -> None:
        self._ports.view.show(Event(self._wall(), kind, phase or self._journal.phase, text, data or {}))
