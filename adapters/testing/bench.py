"""Where a strategy is put to the test: tiny bases, two dozen rows, and a training that is watched."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import datasets
import torch
from torch import Tensor, nn

from ..adapter.adapter import Adapter
from ..base.base import Base
from ..discovery import strategy_class
from ..errors import StrategyError
from ..options import plain
from ..patches.patch import Patch
from ..settings import TrainingOptions
from ..strategy import Strategy
from ..tasks import Task, task_class
from ..training.checkpoints import Checkpoints
from ..training.train import Trained, train
from ..watch import Watch
from . import tiny

FAMILIES = ("bert", "roberta", "gpt2", "llama", "t5")
TEXTS = ("lovely food", "awful film", "a great and friendly place to be in", "rude", "so happy", "i want it back now")
ROWS = [{"text": f"{TEXTS[i % 6]} {i}", "label": ("good", "bad")[i % 2]} for i in range(24)]
EPOCHS, BATCH = 3, 4
ROUNDING = 1e-5  # of the largest number: what computing in another order may cost in fp32


class Broken(AssertionError):
    """A rule doesn't hold; the message says by how much."""


class NotTried(Exception):
    """A rule can't be tried; the message says why."""


@dataclass
class Seen:
    """What a training showed: the base's tensors after `apply` and before `patches`, and what came of it."""

    start: dict[str, Tensor] = field(default_factory=dict)
    end: dict[str, Tensor] = field(default_factory=dict)  # empty where it didn't get so far
    returned: frozenset[str] = frozenset()  # the names of what `apply` returned
    changing: frozenset[str] = frozenset()  # and of what `state` did
    patches: dict[str, Patch] = field(default_factory=dict)
    said: Tensor | None = None  # by the trained base
    adapter: Adapter | None = None
    losses: list[float] = field(default_factory=list)
    error: Exception | None = None


class Bench:
    """One strategy, and tiny bases of each family to try it on; all that is written lies in `folder`."""

    def __init__(self, strategy: str | type[Strategy] | Strategy, folder: Path, **options: Any) -> None:
        kind = strategy_class(strategy) if isinstance(strategy, str) else strategy
        self.strategy: Strategy = kind(**options) if isinstance(kind, type) else kind
        self.folder = folder
        self.pairs: dict[str, dict[str, Any]] = {}  # by family: what two processes found
        self._seen: dict[str, Seen] = {}

    def path(self, family: str, *, still: bool = False) -> Path:
        """Return the folder of a tiny base, made once; a still one has no dropout."""
        where = self.folder / f"{family}{'-still' if still else ''}"
        if not where.exists():
            config = vars(tiny.CONFIGS[family]())
            quiet: dict[str, Any] = {
                key: 0.0 for key, value in config.items() if "drop" in key and isinstance(value, float)
            }
            tiny.make(family, where, **(quiet if still else {}))
        return where

    def base(self, family: str, *, still: bool = False) -> Base:
        """Return a tiny base, loaded anew."""
        return Base.load(str(self.path(family, still=still)))

    def seen(self, family: str) -> Seen:
        """Train once on a family, and return what was seen."""
        if family not in self._seen:
            self._seen[family] = seen = Seen()
            try:
                found = trained(self.base(family), observed(self.strategy, seen))
                seen.adapter, seen.losses = found.adapter, found.losses
            except Exception as error:  # whatever a plugin does, a rule tells
                seen.error = error
        return self._seen[family]


@functools.cache
def task() -> Task:
    """Return the task that strategies are tried on: two labels for a text."""
    rows = datasets.Dataset.from_list(ROWS)
    made: Task = task_class("text-classification")()
    return made.with_columns(rows.column_names).fit(rows)


def trained(
    base: Base,
    strategy: Strategy,
    *,
    batch: int = BATCH,
    checkpoints: Checkpoints | None = None,
    resume: bool = False,
    watch: Watch | None = None,
) -> Trained:
    """Train a strategy for a few steps as `adapt run` would."""
    rows = datasets.Dataset.from_list(ROWS)
    options = TrainingOptions(
        num_train_epochs=EPOCHS, per_device_train_batch_size=batch, head="model", mixed_precision="no"
    )
    kind = type(strategy)
    about = {
        "strategy": {
            "name": kind.__name__,
            "distribution": kind.__module__.partition(".")[0],
            "version": "?",
            "options": plain(strategy),
        },
        "metrics": {},
    }
    sets = {"train": rows, "validation": rows.select(range(8))}
    return train(
        base,
        task(),
        strategy,
        sets,
        options,
        about=about,
        checkpoints=checkpoints,
        resume=resume,
        watch=watch,
    )


def observed(strategy: Strategy, seen: Seen) -> Strategy:
    """Return the same strategy, which also notes what it sees of the base."""
    kind = type(strategy)

    def apply(self: Strategy, base: nn.Module) -> Sequence[nn.Parameter]:
        learning = list(kind.apply(self, base))
        ids = set(map(id, learning))
        seen.start = tensors(base)
        seen.returned = frozenset(name for name, t in _named(base) if id(t) in ids)  # a tied one by each of its names
        return learning

    def patches(self: Strategy, base: nn.Module) -> Mapping[str, Patch]:
        changing = {id(t) for t in kind.state(self, base).values()}
        seen.changing = frozenset(name for name, t in _named(base) if id(t) in changing)
        seen.end, seen.said = tensors(base), said(base)
        with torch.no_grad():
            found = kind.patches(self, base)
            seen.patches = {name: deepcopy(patch) for name, patch in found.items()}  # of tensors that are put back
        return found

    made = type(kind.__name__, (kind,), {"apply": apply, "patches": patches, "__module__": kind.__module__})
    values = {f.name: getattr(strategy, f.name) for f in fields(strategy)}
    again: Strategy = made(**values)
    return again


def said(base: Base | nn.Module) -> Tensor:
    """Return what a base says of two short texts, one of them padded: (2, 8, hidden_size)."""
    model = base.model if isinstance(base, Base) else base
    device = next(model.parameters()).device
    ids = torch.arange(5, 21, device=device).reshape(2, 8)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}  # type: ignore[union-attr]
    training = {m: m.training for m in model.modules()}
    model.eval()
    with torch.no_grad():
        found: Tensor = model(input_ids=ids, attention_mask=mask, **more).last_hidden_state.clone()
    for module, was in training.items():
        module.training = was
    return found


def tensors(base: nn.Module) -> dict[str, Tensor]:
    """Copy a base's parameters and buffers by name."""
    return {name: t.detach().clone() for name, t in _named(base)}


def _named(base: nn.Module) -> list[tuple[str, Tensor]]:
    return [*base.named_parameters(remove_duplicate=False), *base.named_buffers(remove_duplicate=False)]


def apart(a: Tensor, b: Tensor) -> float:
    """Return the largest difference between two tensors, as a share of the largest number in `b`."""
    if a.shape != b.shape:
        return float("inf")
    if torch.equal(a, b):
        return 0.0
    difference = float((a - b).abs().max()) / max(float(b.abs().max()), 1e-30)
    return difference if difference == difference else float("inf")  # a NaN is as far away as can be


def near(found: Tensor, wanted: Tensor, most: float, what: str) -> str:
    """Say how near two tensors are, or raise `Broken` where that is more than `most` of the largest number."""
    off = apart(found, wanted)
    if off > most:
        bound = f"{most:g} at most" if most else "and must be equal to the bit"
        raise Broken(f"{what} differ by {off:.2g} of the largest, {bound}")
    return f"{what} within {off:.1g}" if off else f"{what} equal to the bit"


def reached(bench: Bench, family: str) -> Seen:
    """Return what a training showed that came to its patches, or raise what kept it from them."""
    seen = bench.seen(family)
    if not seen.end or (seen.error is not None and not seen.patches):
        raise seen.error or Broken("a training ended without asking for patches")
    return seen


def adapter_of(bench: Bench, family: str) -> Adapter:
    """Return the adapter of a training, or raise why there is none."""
    seen = bench.seen(family)
    if seen.adapter is None:
        if isinstance(seen.error, StrategyError):
            raise seen.error
        raise Broken(f"no adapter was made: {type(seen.error).__name__}: {seen.error}")
    return seen.adapter
