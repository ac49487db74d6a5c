"""What can go wrong in the deploy tool, apart from findings.

::

    DeploytoolError
    ├── ManifestError     a file that was named cannot be read as manifests
    ├── SettingsError     deploytool.yaml, or what the command line says beside it, makes no sense
    └── UnverifiedError   something could not be asked or tried; each room has its own: ends with 5
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("DeploytoolError", "ManifestError", "SettingsError", "UnverifiedError")


class DeploytoolError(Exception):
    """An error that a person can do something about; shown without a traceback.

    Attributes:
        exit_code: What the process ends with.
    """

    exit_code: ClassVar[int] = 1


class UnverifiedError(DeploytoolError):
    """Something could not be found out: nothing is known, neither good nor bad.

    Attributes:
        problem: What happened, as a clause without its full stop.
        remediation: What a person does about it; empty when there is nothing to say.
    """

    exit_code = 5

    def __init__(self, problem: str, remediation: str = "") -> None:
        super().__init__(problem, remediation)
        self.problem = problem
        self.remediation = remediation

    @override
    def __str__(self) -> str:
        return f"{self.problem}. {self.remediation}" if self.remediation else self.problem


class ManifestError(DeploytoolError):
    """A file that was named on the command line cannot be read as manifests.

    Attributes:
        source: The file as the user named it; ``-`` is standard input.
        problem: What is wrong with it, as the end of a sentence.
        line: Where, counted from 1; None when no one line is to blame.
        column: In that line, counted from 1; None when it is not known.
    """

    exit_code = 2

    def __init__(self, source: str, problem: str, *, line: int | None = None, column: int | None = None) -> None:
        super().__init__(source, problem, line, column)
        self.source = source
        self.problem = problem
        self.line = line
        self.column = column

    @override
    def __str__(self) -> str:
        line = "" if self.line is None else f", line {self.line}"
        column = "" if self.line is None or self.column is None else f", column {self.column}"
        return f"{self.source}{line}{column}: {self.problem}"


class SettingsError(DeploytoolError):
    """``deploytool.yaml`` makes no sense.

    Attributes:
        source: The file.
        problems: Everything that is wrong, each a clause that names line and key.
    """

    exit_code = 2

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        super().__init__(source, problems)
        self.source = source
        self.problems = tuple(problems)

    @override
    def __str__(self) -> str:
        if len(self.problems) == 1:
            return f"{self.source}: {self.problems[0]}"
        return "\n".join((f"{self.source}: {len(self.problems)} problems", *(f"  {one}" for one in self.problems)))
