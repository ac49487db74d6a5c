"""What can go wrong in the deploy tool, apart from findings.

::

    DeploytoolError
    └── ManifestError     a file that was named cannot be read as manifests
"""

from __future__ import annotations

from typing import ClassVar

from typing_extensions import override

__all__ = ("DeploytoolError", "ManifestError")


class DeploytoolError(Exception):
    """An error that a person can do something about; shown without a traceback.

    Attributes:
        exit_code: What the process ends with.
    """

    exit_code: ClassVar[int] = 1


class ManifestError(DeploytoolError):
    """A file that was named on the command line cannot be read as manifests.

    Attributes:
        source: The file as the user named it; ``-`` is standard input.
        problem: What is wrong with it, as the end of a sentence.
        line: Where, counted from 1; None when no one line is to blame.
    """

    exit_code = 2

    def __init__(self, source: str, problem: str, *, line: int | None = None) -> None:
        super().__init__(source, problem, line)
        self.source = source
        self.problem = problem
        self.line = line

    @override
    def __str__(self) -> str:
        where = self.source if self.line is None else f"{self.source}, line {self.line}"
        return f"{where}: {self.problem}"
