"""What benchmarks/training.py measures: cases, the targets of each, and in which columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Figures = dict[str, Any]  # one measurement
COLUMNS = ("tutorial", "best", "defaults")
PROBE_DATA = "sentiment,snips,banking77,nli,long-reviews"
KEYS = ("case", "data", "side", "turn")  # of a measurement
READ = {"snips": {"text_column_name": "text", "label_column_name": "intent"}}  # where the columns don't say it


@dataclass(frozen=True)
class Case:
    """What is trained, how many times faster than each side ours is to be, and options that ours alone has."""

    strategy: str
    epochs: int
    targets: dict[str, float] = field(default_factory=dict)
    top: int | None = None
    ours: dict[str, Any] = field(default_factory=dict)


CASES = {
    "head-only-10": Case("head-only", 10, {"tutorial": 10}, ours={"head": "model"}),
    "probe": Case("head-only", 3, {"tutorial": 5}, ours={"head": "probe"}),  # is to be more accurate, too
    "layerwise-3": Case("layerwise", 3, {"tutorial": 1.5, "full": 2.5}, top=2),
    "layerwise-10": Case("layerwise", 10, {"tutorial": 2, "full": 3.5}, top=2),
    "lora-3": Case("lora", 3, {"tutorial": 1.25, "best": 1, "defaults": 2}),
    "full-3": Case("full", 3, {"tutorial": 1.1, "best": 1, "defaults": 1.7}),
}
MEMORY: dict[str, tuple[Case, float | None]] = {  # of ours alone: what peak is asked for, as a share of full's
    "full": (Case("full", 3), None),
    "lora": (Case("lora", 3), 0.6),
    "layerwise --top 1, cached": (Case("layerwise", 3, top=1, ours={"cache_trunk": "on"}), 0.4),
    "layerwise --top 2, cached": (Case("layerwise", 3, top=2, ours={"cache_trunk": "on"}), 0.4),
}
SCALING: dict[str, tuple[Case, int]] = {  # of ours alone: on how many rows at most
    "lora": (Case("lora", 1), 10_000),
    "head-only": (Case("head-only", 3, ours={"head": "model"}), 100_000),
    "probe": (Case("head-only", 3, ours={"head": "probe"}), 10_000),
}
PROCESSES = {"1 process": 1, "2 processes": 2}  # of ours alone: with a thread and a whole batch each
EFFICIENT = 0.85  # what share of twice the speed two are to have
FLAT = 1.1  # what time per example may grow by

Side = tuple[str, Case, int | None, int]  # who, what, on how many rows if not on --limit, and in how many processes
OTHERS = ("memory", "scaling", "processes")


def columns_of(names: list[str], options: dict[str, Any]) -> tuple[list[str], str]:
    """Return the columns of the texts and of the label."""
    if "text_column_name" in options:
        return [options["text_column_name"]], options["label_column_name"]
    texts: list[str] = [name for name in ("premise", "hypothesis", "text") if name in names]
    label: str = next(name for name in ("label", "category") if name in names)
    return texts, label
