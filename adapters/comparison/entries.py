"""How to compare, and the candidates under way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ..errors import OptionError
from ..report.results import Candidate
from .trials import Trial

Keep = Literal["all", "best", "none"]


@dataclass(frozen=True)
class Options:
    """How to compare."""

    strategies: tuple[str, ...] = ()  # empty: all that are installed
    seeds: int = 1
    trials: int = 0  # of a search for each strategy, after its defaults
    seconds: float | None = None  # after which nothing is begun
    baselines: bool = False  # on embeddings and of SetFit, too
    keep: Keep = "best"  # which adapters are registered
    command: str = "adapt compare"  # that makes it again

    def __post_init__(self) -> None:
        for name, least in (("seeds", 1), ("trials", 0)):
            if getattr(self, name) < least:
                raise OptionError(f"--{name} must be >= {least}, got {getattr(self, name)}")


@dataclass
class Entry:
    """A candidate under way: its results, and what differences are measured with."""

    candidate: Candidate
    trials: list[Trial]
    draws: dict[str, list[float]]  # by split
    answers: list[Any] | None = None
