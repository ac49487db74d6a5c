"""Every error that this package raises on purpose.

* ``ServiceError``
    * ``NamespaceProblems``: what is wrong with a list of namespaces
    * ``SettingsError``: what is wrong with the environment; the process does not start

What a peer did wrong is not here: the core answers it with a coded row of
``service.core.codes`` and raises nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("NamespaceProblems", "ServiceError", "SettingsError")


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
