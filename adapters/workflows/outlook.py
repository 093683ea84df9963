"""The estimate of a run: what it would train, and its bytes, memory and time."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Part:
    """Parameters that learn: one tensor, or those of the same name and shape in several blocks."""

    name: str  # in the task's model; `layer.0-5` for blocks 0 to 5
    shape: tuple[int, ...]
    tensors: int

    @property
    def parameters(self) -> int:
        """The number of values."""
        return self.tensors * int(np.prod(self.shape))


@dataclass(frozen=True)
class TrunkPlan:
    """Whether activations of the trunk would be cached, for which blocks and in how many bytes; or why not."""

    cached: bool
    what: str  # which blocks, or the reason
    bytes: int = 0
    in_memory: bool = True


@dataclass(frozen=True)
class Tried:
    """A batch that was timed: its rows, the tokens of its longest row, and the seconds of a step."""

    rows: int
    tokens: int
    seconds: float


@dataclass(frozen=True)
class Batching:
    """The batches of an epoch."""

    steps: int
    rows: int  # features: windows, where long texts become several
    tokens: int
    padding: float  # share of padding among the tokens of padded batches
    tried: list[Tried]  # from the shortest to the longest


@dataclass(frozen=True)
class Seconds:
    """The estimated seconds of the parts of a run."""

    once: float  # before and after learning: fitting the strategy, checking the base and the adapter
    base: float  # running the trunk, or for a head that is solved the base, over all rows
    training: float  # an epoch's steps; for a probe, solving it
    validation: float  # after each epoch
    epochs: int

    @property
    def epoch(self) -> float:
        """An epoch's steps, and validation after them."""
        return self.training + self.validation

    @property
    def total(self) -> float:
        """All parts, without early stopping."""
        return self.once + self.base + self.epochs * self.epoch


@dataclass(frozen=True)
class Outlook:
    """The estimate of a run."""

    name: str
    task: str
    strategy: str
    parts: list[Part]
    trained_parameters: int
    model_parameters: int
    adapter_bytes: int
    base_bytes: int
    precision: str
    trunk: TrunkPlan
    batches: Batching | None  # None for a probe, which is solved and not trained in steps
    seconds: Seconds
    memory: int  # bytes above the loaded base at the worst moment
    on_gpu: bool  # where that memory is

    def plain(self) -> dict[str, Any]:
        """Return the outlook as JSON values."""
        values = asdict(self)
        values["trunk"] = {"kept": values["trunk"].pop("cached"), **values["trunk"]}  # the key that scripts read
        values["parts"] = [{**asdict(p), "shape": list(p.shape), "parameters": p.parameters} for p in self.parts]
        values["seconds"] |= {"epoch": self.seconds.epoch, "total": self.seconds.total}
        return values


def parts_of(parameters: Mapping[str, Tensor]) -> list[Part]:
    """Group parameters by name and shape, where names differ in numbers alone."""
    groups: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for name, p in parameters.items():
        groups.setdefault((re.sub(r"\b\d+\b", "*", name), tuple(p.shape)), []).append(name)
    return [Part(spanning(names), shape, len(names)) for (_, shape), names in groups.items()]


def spanning(names: Sequence[str]) -> str:
    """Return one name for several that differ in numbers alone.

    >>> spanning(["layer.0.weight", "layer.1.weight", "layer.4.weight"])
    'layer.0-1,4.weight'
    """
    columns = zip(*(name.split(".") for name in names), strict=True)
    return ".".join(_span({int(v) for v in c}) if c[0].isdigit() else c[0] for c in columns)


def _span(numbers: set[int]) -> str:
    starts = sorted(n for n in numbers if n - 1 not in numbers)
    ends = sorted(n for n in numbers if n + 1 not in numbers)
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))
