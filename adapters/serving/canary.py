"""Compare a candidate version with the current one on live requests, and decide by a paired test whether to promote it.

All answers come from the current version; the candidate reads the same rows in the same batch.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import OptionError, RegistryError, file_errors_as
from ..io.atomic import json_bytes, write_file
from ..io.schema import converted
from ..io.untrusted import parse_json, read_file
from ..store.registry import Registry, check_name

LEVEL = 0.05
"""The p-value from which a difference is not significant."""
_SPEC = re.compile(r"([^=@]+)=([^:@]+):(?:(\d+(?:\.\d+)?)%|(shadow))")
_MOST = 16 << 20
_RIGHT = ("both", "current", "candidate", "neither")


@dataclass(frozen=True)
class Canary:
    """A candidate of an adapter, a version or tag, and the share of requests that it reads too."""

    name: str
    version: str
    share: float

    @classmethod
    def parse(cls, text: str) -> Canary:
        """Read NAME=VERSION:10% or NAME=VERSION:shadow. Raises `OptionError`."""
        match = _SPEC.fullmatch(text.strip())
        if match is None:
            raise OptionError(f"--canary must be NAME=VERSION:10% or NAME=VERSION:shadow, got {text[:100]!r}")
        name, version, percent, _ = match.groups()
        share = float(percent) / 100 if percent else 1.0
        if not 0 < share <= 1:
            raise OptionError(f"--canary {text[:100]}: the share must be > 0% and <= 100%")
        return cls(check_name(name), version, share)


def exact_p(first: int, second: int) -> float:
    """Return the p-value of McNemar's exact test: two-sided, for rows that only one of two versions got right."""
    total, smaller = first + second, min(first, second)
    term = tail = 1
    for k in range(smaller):
        term = term * (total - k) // (k + 1)
        tail += term
    return min(1.0, 2 * tail / 2**total) if total else 1.0


@dataclass
class Comparison:
    """Counts of one candidate against one current version."""

    current: str
    candidate: str
    rows: int = 0
    agreed: int = 0
    failed: int = 0
    """Rows that the candidate couldn't answer."""
    drift: float = 0.0
    """The sum over `drift_rows` of the total variation distance between the scores of both."""
    drift_rows: int = 0
    correct: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_RIGHT, 0))
    """Labelled rows by which version was right."""

    @property
    def p_value(self) -> float:
        """The p-value of McNemar's exact test on the labelled rows."""
        return exact_p(self.correct["current"], self.correct["candidate"])

    def report(self) -> dict[str, Any]:
        """Return the counts with what follows from them, as JSON values."""
        labelled = sum(self.correct.values())
        right = {who: self.correct["both"] + self.correct[who] for who in ("current", "candidate")}
        return {
            **asdict(self),
            "agreement": self.agreed / self.rows if self.rows else None,
            "mean_drift": self.drift / self.drift_rows if self.drift_rows else None,
            "labelled": labelled,
            "accuracy": {who: count / labelled if labelled else None for who, count in right.items()},
            "p_value": self.p_value,
            "promote": self.objection() is None,
        }

    def objection(self) -> str | None:
        """Return why the candidate shouldn't be promoted, or None where it is significantly better."""
        better, worse = self.correct["candidate"], self.correct["current"]
        rows = sum(self.correct.values())
        counts = f"{rows} labelled rows: {better} that only the candidate gets right, {worse} only the current version"
        if better <= worse:
            return f"the candidate isn't better on {counts}"
        if self.p_value >= LEVEL:
            return f"the difference isn't significant on {counts} (p = {self.p_value:.3f}, needed < {LEVEL})"
        return None


class Canaries:
    """The canaries of a server, and their comparisons; a report is written after changes where there is a path."""

    def __init__(self, canaries: Sequence[Canary] = (), path: Path | None = None) -> None:
        """Compare `canaries`, going on with the counts of the report in `path` where the versions are the same."""
        self.by_name = {canary.name: canary for canary in canaries}
        self.path = path
        self.comparisons: dict[str, Comparison] = {}
        self.changed = False
        self._drawn = random.Random()
        if path is not None and canaries and path.exists():
            self.comparisons = read_report(path)

    def drawn(self, name: str) -> Canary | None:
        """Return the canary of an adapter if it is to read this row."""
        canary = self.by_name.get(name)
        return canary if canary is not None and self._drawn.random() < canary.share else None

    def comparison(self, current: str, candidate: str) -> Comparison:
        """Return the counts of a pair of references; they start at 0 for another pair than before."""
        name = current.partition("@")[0]
        existing = self.comparisons.get(name)
        if existing is None or (existing.current, existing.candidate) != (current, candidate):
            self.comparisons[name] = Comparison(current, candidate)
        return self.comparisons[name]

    def report(self) -> dict[str, Any]:
        """Return the report of each adapter."""
        return {name: comparison.report() for name, comparison in sorted(self.comparisons.items())}

    def save(self) -> None:
        """Write the report where it has changed. Raises `RegistryError` where that fails."""
        if self.path is not None and self.changed:
            self.changed = False
            with file_errors_as(RegistryError):
                write_file(self.path, json_bytes(self.report()))


def read_report(path: Path) -> dict[str, Comparison]:
    """Read a report. Raises `RegistryError` where it can't be read or isn't one."""
    try:
        content = parse_json(bytes(read_file(path, most=_MOST)))
        comparisons: dict[str, Comparison] = converted(content, dict[str, Comparison])
        for comparison in comparisons.values():
            comparison.correct = {who: comparison.correct.get(who, 0) for who in _RIGHT}
        return comparisons
    except OSError as error:
        raise RegistryError(f"can't read '{path}': {error.strerror or error}") from error
    except ValueError as error:
        raise RegistryError(f"'{path}' is no report of a canary: {error}") from error


def report_path(registry: Registry) -> Path:
    """Return where a server writes the report of its canaries by default."""
    return registry.path.with_name("canary.json")


def promote(registry: Registry, name: str, version: str | None, report: Path | None, *, force: bool) -> tuple[str, str]:
    """Make a candidate the current version; return the version before and the one after.

    Without `force`, the report must have the versions in question, and a candidate that is significantly better.
    Raises `RegistryError` or `OptionError`.
    """
    _, current = registry.resolve(name)
    path = report or report_path(registry)
    comparison = read_report(path).get(name) if path.exists() else None
    if version is not None:
        _, candidate = registry.resolve(f"{name}@{version}")
    elif comparison is not None:
        _, candidate = registry.resolve(comparison.candidate)
    else:
        raise OptionError(f"{path} has no canary of '{name}'; name the version: adapt promote {name} VERSION --force")
    if candidate == current:
        raise OptionError(f"{name}@{candidate} is the current version already")
    if not force:
        _check(path, comparison, f"{name}@{current}", f"{name}@{candidate}")
    registry.rollback(name, candidate)
    return current, candidate


def _check(path: Path, comparison: Comparison | None, current: str, candidate: str) -> None:
    if comparison is None:
        raise OptionError(f"{path} has no comparison of {candidate}; serve it with --canary, or give --force")
    if (comparison.current, comparison.candidate) != (current, candidate):
        compared = f"{comparison.candidate} with {comparison.current}"
        raise OptionError(f"{path} compares {compared}, not {candidate} with {current}; --force promotes all the same")
    if (objection := comparison.objection()) is not None:
        raise OptionError(f"{objection}; --force promotes all the same")
