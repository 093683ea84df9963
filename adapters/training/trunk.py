"""The trunk: what lies below the lowest thing that learns. It is run once over the features, and then kept."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..base.base import Base
from ..base.stub import BaseStub
from ..base.tracing import Trace, trace
from ..evaluation.outputs import apart
from ..features.feed import Feed, rows
from .fit import Fitted

if TYPE_CHECKING:
    from datasets import Dataset

    from ..tasks import Task


class _Reached(Exception):
    """Everything that is to be kept of a pass has been seen."""


@dataclass
class _Now:
    """The batch under way: which texts of what is kept, and where their vectors belong in it."""

    kept: Any  # the Kept of trunk_cache.py that hands the states on
    texts: np.ndarray
    masks: dict[str, Tensor]


class Trunk:
    """The frozen lower part of a task's model.

    Either blocks from the lowest on, each exchanged for the hidden states that were kept of the highest of them; or,
    where nothing of the base learns, all of it.
    """

    def __init__(self, base: Base, model: Any, task: Task, traced: Trace, frozen: int) -> None:
        """Take the lowest `frozen` blocks of the base in a task's `model`; one more than there are is all of the base.

        An encoder-decoder's head may call encoder and decoder by themselves, so of those blocks alone are taken.
        """
        self.base, self.model, self.task, self.trace = base, model, task, traced
        count = len(traced.blocks)
        apart = model.base_model is not model and type(model.base_model) is type(base.model)
        decodes = base.model.config.is_encoder_decoder
        self.whole = frozen > count and apart and not decodes and not base.fresh - {"pooler"}
        self.frozen = min(frozen, count)
        self.depth = "the whole base" if self.whole else f"{self.frozen} of {count} blocks"
        self.width = base.model.config.hidden_size
        stacks: dict[str, list[str]] = {}
        for name in traced.blocks[: self.frozen]:
            stacks.setdefault(name.rpartition(".")[0], []).append(name)
        self.stacks = {"": []} if self.whole else stacks
        self.generates = decodes and task.generates
        self._modules = dict(base.model.named_modules())
        self._extras: dict[str, tuple[Any, ...]] = {}
        self._hands_on = False  # whether the first block of a stack makes something that the others are given
        self.now: _Now | None = None

    # ---- what is kept

    def counts(self, features: Dataset) -> dict[str, list[int]]:
        """Return for each stack how many vectors each text has."""
        found: dict[str, list[int]] = {}
        for i, stack in enumerate(self.stacks):
            column = "labels" if i and self.generates else "input_ids"
            counts: list[int] = []
            for start in range(0, len(features), 10_000):
                for ids in features[column][start : start + 10_000]:
                    counts += map(len, ids) if ids and isinstance(ids[0], list) else [len(ids)]
            found[stack] = counts
        return found

    def _watched(self, batch: Mapping[str, Tensor]) -> dict[str, Any]:
        """Run a batch up to the top of the trunk; return each stack's hidden states, or the base's output."""
        found: dict[str, Any] = {}
        handles = []

        def watch(key: str, module: nn.Module, last: bool) -> None:
            def seen(module: nn.Module, args: Any, output: Any) -> None:
                found[key] = output if self.whole else output[0] if isinstance(output, tuple) else output
                if last:
                    raise _Reached

            handles.append(module.register_forward_hook(seen))

        tops = {"": self.model.base_model} if self.whole else {s: self._modules[n[-1]] for s, n in self.stacks.items()}
        for key, module in tops.items():
            watch(key, module, key == list(tops)[-1])
        if not self.whole:
            self._note_what_is_handed_on(handles)
        try:
            type(self.model).forward(self.model, **batch)  # in the precision of here, not in that of Accelerate
        except _Reached:
            pass
        finally:
            for handle in handles:
                handle.remove()
        return found

    def _note_what_is_handed_on(self, handles: list[Any]) -> None:
        def noted(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, tuple) and any(isinstance(v, Tensor) for v in output[1:]):
                self._hands_on = True

        handles += [self._modules[names[0]].register_forward_hook(noted) for names in self.stacks.values()]

    def _level(self, feed: Feed, chosen: Sequence[int], said: Mapping[str, Any]) -> str:
        """Tell how much of what the base says the head reads: its pooled output, the first token, or all tokens."""
        if not self.whole or self.task.generates:
            return "all"
        few, output = rows(feed.features, chosen[:4]), said[""]
        texts = sum(choices for choices, _ in (feed.shapes[i] for i in chosen[:4]))
        whole = feed.collate(few)
        hidden, pooled = output[0][:texts, : whole["input_ids"].shape[-1]], output.get("pooler_output")
        others = {} if pooled is None else {"pooler_output": pooled[:texts]}
        wanted = self._said(type(output)(last_hidden_state=hidden, **others), whole)
        try:
            short = feed.collate([_first_token(row) for row in few])
        except ValueError:  # labels token by token
            return "all"
        first = hidden[:, :1]
        levels = {"pooled": (torch.full_like(first, float("nan")), others), "first": (first, {})}
        for level, (tokens, more) in levels.items():
            guess = self._said(type(output)(last_hidden_state=tokens, **more), short)
            if _same(wanted, guess):
                return level
        return "all"

    def _said(self, output: Any, batch: Mapping[str, Tensor]) -> list[Any] | None:
        """Return what the head makes of an output of the base, or None where it can't."""
        with _exchanged(self.model, BaseStub(self.base.model, lambda *a, **k: output, self._fresh_pooler)):
            try:
                return self.task.outputs(self.model, _on(batch, self.model.device))
            except (RuntimeError, IndexError, ValueError):
                return None

    @property
    def _fresh_pooler(self) -> Any:
        return getattr(self.model.base_model, "pooler", None) if "pooler" in self.base.fresh else None

    # ---- what is given

    @contextlib.contextmanager
    def exchanged(self) -> Iterator[None]:
        """Have the model take, of batches that are in use, what was kept of them; other batches run as ever."""
        if self.whole:
            with _exchanged(self.model, BaseStub(self.base.model, self._output, self._fresh_pooler)):
                yield
            return
        try:
            for names in self.stacks.values():
                for name in names:
                    module = self._modules[name]
                    module.forward = functools.partial(self._block, name, names, type(module).forward, module)
            yield
        finally:
            for names in self.stacks.values():
                for name in names:
                    self._modules[name].__dict__.pop("forward", None)

    def still(self) -> None:
        """Put what the trunk consists of in eval mode, as it was when it was run."""
        for name, module in self.base.model.named_modules():
            if self.whole or self.trace.stage.get(name, self.frozen + 1) <= self.frozen:
                module.training = False

    def _block(self, name: str, names: list[str], own: Any, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if self.now is None:
            return own(module, *args, **kwargs)
        hidden = args[0] if args else next(iter(kwargs.values()))
        stack = name.rpartition(".")[0]
        if name == names[0] and self._hands_on:
            with torch.no_grad():
                self._extras[stack] = own(module, *args, **kwargs)[1:]
        if name == names[-1]:
            hidden = self.now.kept.padded(self.now, stack, hidden)
        if name in self.trace.returns_tuple:
            return (hidden, *self._extras.get(stack, (None,)))
        return hidden

    def _output(self, *args: Any, **kwargs: Any) -> Any:
        return self.base.model(*args, **kwargs) if self.now is None else self.now.kept.output(self.now)

    def masks(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return for each stack where in a padded batch its texts' vectors belong, (texts, tokens)."""
        here = batch["attention_mask"].flatten(0, -2).bool()
        below = batch["labels"] != -100 if self.generates else here
        return {stack: below if i else here for i, stack in enumerate(self.stacks)}


def find(base: Base, model: Any, task: Task, fit: Fitted) -> Trunk | str:
    """Return the trunk of a task's model on a base that a strategy is fitted to, or why there is none."""
    if not task.steady:
        return f"{task.name} draws its inputs anew in every epoch"
    try:
        traced = trace(base.model)
    except Exception as error:  # whatever a stranger's module says to five tokens
        return f"the base can't be traced with this strategy: {type(error).__name__}: {error}"
    in_use = {id(p) for p in model.parameters()}
    learning = {id(p) for p in fit.learning if p.requires_grad} & in_use
    if any(id(p) in learning and name in traced.read_outside for name, p in base.model.named_parameters()):
        return "what learns is read in several places"
    stages = []
    for name, module in base.model.named_modules():
        new = id(module) not in fit.modules or "forward" in vars(module)
        new = new or bool(module._forward_hooks or module._forward_pre_hooks)
        learns = any(id(p) in learning for p in module._parameters.values())
        if learns or (new and name in traced.stage):
            stages.append(_stage(name, traced))
    trunk = Trunk(base, model, task, traced, min(stages, default=len(traced.blocks) + 2) - 1)
    if trunk.frozen < 1 and not trunk.whole:
        return "the lowest block, or what lies below it, learns"
    return trunk


def _stage(name: str, traced: Trace) -> int:
    """Return the stage in which a module, or what it lies in where nobody calls it, is first called."""
    while name and name not in traced.stage:
        name = name.rpartition(".")[0]
    return traced.stage[name] if name else 0


def _same(wanted: Any, guess: Any) -> bool:
    """Tell whether two nests of numbers are there, of one shape and the same."""
    if wanted is None or guess is None or np.shape(guess) != np.shape(wanted):
        return False
    return apart(guess, wanted) <= 1e-5 * max(1.0, _largest(wanted))


def _largest(value: Any) -> float:
    if isinstance(value, list | tuple):
        return max(map(_largest, value), default=0.0)
    return float(np.abs(np.asarray(value, dtype=float)).max(initial=0.0))


def _on(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    return {key: value.to(device) for key, value in batch.items()}


def _first_token(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a feature of which the first token of each text is left."""
    tokens = [key for key in ("input_ids", "attention_mask", "token_type_ids") if key in row]
    several = isinstance(row["input_ids"][0], list)
    return {**row, **{k: [ids[:1] for ids in row[k]] if several else row[k][:1] for k in tokens}}


@contextlib.contextmanager
def _exchanged(model: Any, given: nn.Module) -> Iterator[None]:
    """Have `given` stand where a task model's base was."""
    base = model.base_model
    setattr(model, model.base_model_prefix, given)
    try:
        yield
    finally:
        setattr(model, model.base_model_prefix, base)
