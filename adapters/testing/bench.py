"""The test bench of strategies: tiny bases, two dozen rows, and an observed training."""

from __future__ import annotations

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
ROUNDING = 1e-5  # of the largest value: the tolerance for fp32 sums in another order


class Broken(AssertionError):
    """A rule doesn't hold; the message has the difference."""


class NotTried(Exception):
    """A rule can't be tried; the message has the reason."""


@dataclass
class Seen:
    """An observed training: the base's tensors after `apply` and before `patches`, and the result."""

    start: dict[str, Tensor] = field(default_factory=dict)
    end: dict[str, Tensor] = field(default_factory=dict)  # empty where it failed before
    returned: frozenset[str] = frozenset()  # names of the parameters that `apply` returned
    changing: frozenset[str] = frozenset()  # names of the tensors that `state` returned
    patches: dict[str, Patch] = field(default_factory=dict)
    outputs: Tensor | None = None  # hidden states of the trained base
    adapter: Adapter | None = None
    losses: list[float] = field(default_factory=list)
    error: Exception | None = None


class Bench:
    """A strategy and tiny bases of each family; files are written to `folder`."""

    def __init__(self, strategy: str | type[Strategy] | Strategy, folder: Path, **options: Any) -> None:
        kind = strategy_class(strategy) if isinstance(strategy, str) else strategy
        self.strategy: Strategy = kind(**options) if isinstance(kind, type) else kind
        self.folder = folder
        self.pairs: dict[str, dict[str, Any]] = {}  # results of two processes, by family
        self._seen: dict[str, Seen] = {}

    def path(self, family: str, *, still: bool = False) -> Path:
        """Return the folder of a tiny base, generated once; a `still` one has no dropout."""
        path = self.folder / f"{family}{'-still' if still else ''}"
        if not path.exists():
            config = vars(tiny.CONFIGS[family]())
            quiet: dict[str, Any] = {
                key: 0.0 for key, value in config.items() if "drop" in key and isinstance(value, float)
            }
            tiny.make(family, path, **(quiet if still else {}))
        return path

    def base(self, family: str, *, still: bool = False) -> Base:
        """Return a tiny base, loaded anew."""
        return Base.load(str(self.path(family, still=still)))

    def seen(self, family: str) -> Seen:
        """Train on a family, once, and return the observations."""
        if family not in self._seen:
            self._seen[family] = seen = Seen()
            try:
                result = trained(self.base(family), observed(self.strategy, seen))
                seen.adapter, seen.losses = result.adapter, result.losses
            except Exception as error:  # a plugin can raise anything; the rule reports it
                seen.error = error
        return self._seen[family]


def task() -> Task:
    """Return the task of the bench: one of two labels for a text."""
    rows = datasets.Dataset.from_list(ROWS)
    classification: Task = task_class("text-classification")()
    return classification.with_columns(rows.column_names).fit(rows)


def trained(
    base: Base,
    strategy: Strategy,
    *,
    batch: int = BATCH,
    checkpoints: Checkpoints | None = None,
    resume: bool = False,
    watch: Watch | None = None,
) -> Trained:
    """Train a strategy for a few steps, as `adapt run` does."""
    rows = datasets.Dataset.from_list(ROWS)
    options = TrainingOptions(
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=batch,
        head="model",
        head_init="random",  # a start from a solved head could be saved, of which nothing has moved
        mixed_precision="no",
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
    """Return the same strategy, which also records its calls in `seen`."""
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
        seen.end, seen.outputs = tensors(base), hidden_states(base)
        with torch.no_grad():
            learned = kind.patches(self, base)
            seen.patches = {name: deepcopy(patch) for name, patch in learned.items()}  # the tensors are restored later
        return learned

    observing = type(kind.__name__, (kind,), {"apply": apply, "patches": patches, "__module__": kind.__module__})
    values = {f.name: getattr(strategy, f.name) for f in fields(strategy)}
    again: Strategy = observing(**values)
    return again


def hidden_states(base: Base | nn.Module) -> Tensor:
    """Return the last hidden states of two short texts, one of them padded: (2, 8, hidden_size)."""
    model = base.model if isinstance(base, Base) else base
    device = next(model.parameters()).device
    ids = torch.arange(5, 21, device=device).reshape(2, 8)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}  # type: ignore[union-attr]
    training = {m: m.training for m in model.modules()}
    model.eval()
    with torch.no_grad():
        states: Tensor = model(input_ids=ids, attention_mask=mask, **more).last_hidden_state.clone()
    for module, was in training.items():
        module.training = was
    return states


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
    return difference if difference == difference else float("inf")  # a NaN counts as an infinite difference


def near(actual: Tensor, wanted: Tensor, most: float, what: str) -> str:
    """Describe the difference of two tensors; raise `Broken` where it exceeds `most` of the largest value."""
    off = apart(actual, wanted)
    if off > most:
        bound = f"{most:g} at most" if most else "and must be equal to the bit"
        raise Broken(f"{what} differ by {off:.2g} of the largest, {bound}")
    return f"{what} within {off:.1g}" if off else f"{what} equal to the bit"


def reached(bench: Bench, family: str) -> Seen:
    """Return the observations of a training that reached its patches, or raise its error."""
    seen = bench.seen(family)
    if not seen.end or (seen.error is not None and not seen.patches):
        raise seen.error or Broken("a training ended before `patches` was called")
    return seen


def adapter_of(bench: Bench, family: str) -> Adapter:
    """Return the adapter of a training, or raise the reason for its absence."""
    seen = bench.seen(family)
    if seen.adapter is None:
        if isinstance(seen.error, StrategyError):
            raise seen.error
        raise Broken(f"no adapter was trained: {type(seen.error).__name__}: {seen.error}")
    return seen.adapter
