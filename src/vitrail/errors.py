"""What can go wrong, as one tree.

    VitrailError            anything vitrail says on purpose; the command line prints it without a traceback
    ├── UsageError          the request cannot be carried out as asked (exit code 2)
    │   ├── StudyError      a study file or setting is wrong; carries every problem found
    │   ├── DataError       the image folder cannot be used
    │   ├── OutputError     the output folder cannot be written
    │   ├── SplitError      no honest split exists, or one overlaps
    │   └── PackageError    a model package is missing, altered or of another format
    └── AuditStopped        `--strict` met error-level findings that the study does not accept (exit code 3)

A message names the thing, the rule, the value found and the next step.
"""

from __future__ import annotations

from dataclasses import dataclass


class VitrailError(Exception):
    """Base of all errors that vitrail raises on purpose."""

    exit_code = 1


class UsageError(VitrailError):
    """The request cannot be carried out as asked."""

    exit_code = 2


class DataError(UsageError):
    """The image folder cannot be used."""


class OutputError(UsageError):
    """The output folder cannot be written."""


class SplitError(UsageError):
    """No honest split exists for these images, or a split was built that overlaps."""


class PackageError(UsageError):
    """A model package is missing, altered or of another format."""


class AuditStopped(VitrailError):
    """Strict mode: error-level findings stand that the study does not accept."""

    exit_code = 3


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a study.

    Attributes:
        key: Dotted path of the setting, for example ``models[1].epochs``.
        message: The rule that is broken, with the allowed values.
        value: What was found, as text.
    """

    key: str
    message: str
    value: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message} Found: {self.value}."


class StudyError(UsageError):
    """A study is wrong. All problems are reported at once.

    Attributes:
        problems: Every problem found, in the order of the file.
    """

    def __init__(self, source: str, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(f"{source}: {count}\n{lines}")
