"""Every error that this package raises on purpose.

* ``ServiceError``
    * ``DatabaseError``: the database did not do what it was asked; caught where any of these will do
        * ``DatabaseUnavailable``: and surely nothing of the call was committed
        * ``OutcomeUnknown``: the connection was lost while a commit was under way
        * ``OutOfStep``: it holds what the caller does not know of; nothing was committed
        * ``Overtaken``: another instance holds the fencing token; nothing was committed
        * ``RowsRefused``: for what is in some of the rows; nothing was committed
        * ``DatabaseUnfit``: it cannot serve on this database before a person has changed something
    * ``NamespaceProblems``: what is wrong with a list of namespaces
    * ``NotCommitted``: a publication, or a change of a stream, that was not kept
    * ``SettingsError``: what is wrong with the environment; the process does not start

What a peer did wrong is not here: the core answers it with a coded row of
``service.core.codes`` and raises nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterable

    from service.core.codes import Error

__all__ = (
    "DatabaseError",
    "DatabaseUnavailable",
    "DatabaseUnfit",
    "NamespaceProblems",
    "NotCommitted",
    "OutOfStep",
    "OutcomeUnknown",
    "Overtaken",
    "RowsRefused",
    "ServiceError",
    "SettingsError",
)


class ServiceError(Exception):
    """Base of the tree; never raised itself."""


class NamespaceProblems(ServiceError):  # noqa: N818 - it is a list of findings, not one error
    """A list of namespaces cannot be used.

    Attributes:
        problems: One line each, starting with the namespace it is about. Never empty.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    @override
    def __str__(self) -> str:
        return "\n".join(self.problems)


class SettingsError(ServiceError):
    """The settings cannot be used.

    Attributes:
        problems: One line each, starting with the name of the setting and saying what to
            do. Never empty, and never with the value of a secret.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    @override
    def __str__(self) -> str:
        return "\n".join(("the settings cannot be used:", *(f"  {problem}" for problem in self.problems)))


class DatabaseError(ServiceError):
    """The database did not do what it was asked.

    Attributes:
        reason: A short phrase for logs, status and metrics, without secrets, addresses or data.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)

    @override
    def __str__(self) -> str:
        return self.reason


class DatabaseUnavailable(DatabaseError):  # noqa: N818 - a condition that passes by itself
    """Nothing of this call was committed, surely; the same call may succeed later."""


class OutcomeUnknown(DatabaseError):  # noqa: N818 - what is known is that nothing is known
    """The connection was lost while a commit was under way: all of the call is committed, or nothing of it."""


class OutOfStep(DatabaseError):  # noqa: N818 - what is wrong is what the caller believes
    """The database holds something that the caller does not know of, and nothing was committed.

    A commit that was given up can still come through late; whoever appends behind it finds its place taken.
    """

    def __init__(self, reason: str = "the database is not where this instance believed it to be") -> None:
        super().__init__(reason)


class Overtaken(DatabaseError):  # noqa: N818 - what happened to this instance
    """The fencing token is no longer ours: another instance has taken over, and nothing was committed."""

    def __init__(self, reason: str = "another instance has taken over") -> None:
        super().__init__(reason)


class RowsRefused(DatabaseError):  # noqa: N818 - a refusal, not a failure
    """The database refuses rows for what is in them; nothing of the call was committed.

    Attributes:
        indexes: Places of the refused rows in what was handed over, ascending. Empty when the database
            does not tell which: then the caller finds out by halving.
    """

    def __init__(self, reason: str, indexes: Iterable[int] = ()) -> None:
        self.indexes = tuple(sorted(indexes))
        super().__init__(reason)


class DatabaseUnfit(DatabaseError):  # noqa: N818 - a verdict
    """This service cannot run on this database before a person has changed something.

    ``reason`` is a whole sentence that says what to change.
    """


class NotCommitted(ServiceError):  # noqa: N818 - what the caller has to know about its publication
    """A publication, or a change of a stream, was not kept as far as is known; nothing of it was delivered.

    Attributes:
        error: What whoever asked for it is answered with.
    """

    def __init__(self, error: Error) -> None:
        self.error = error
        super().__init__(error)

    @override
    def __str__(self) -> str:
        return self.error.message
