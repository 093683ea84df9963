"""The trunk of a task's model: the frozen layers below the lowest one that trains, and the replay of their outputs."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..base.base import Base
from ..base.stub import BaseStub
from ..base.tokens import text_lengths
from ..base.tracing import Trace, record, trace
from .fit import Fitted

if TYPE_CHECKING:
    from datasets import Dataset

    from ..tasks import Task


class Trunk:
    """The frozen layers at the bottom of a task's model, by stack: an encoder-decoder has two stacks, others one.

    Either the lowest blocks, or, where no parameter of the base trains, the whole base (the stack ``""``). `run`
    computes their outputs for a batch; while `installed`, the model reads them from `replaying` instead of computing
    them.
    """

    def __init__(self, base: Base, model: Any, task: Task, traced: Trace, frozen: int) -> None:
        """Freeze the lowest `frozen` blocks; one more than the base has freezes the whole base.

        The head of an encoder-decoder may call encoder and decoder separately, so of those only blocks are frozen.
        """
        self.base, self.model, self.task, self.trace = base, model, task, traced
        count = len(traced.blocks)
        has_head = model.base_model is not model and type(model.base_model) is type(base.model)
        is_encoder_decoder = base.model.config.is_encoder_decoder
        self.is_whole_base = (
            frozen > count and has_head and not is_encoder_decoder and not base.newly_initialized - {"pooler"}
        )
        self.frozen_blocks = min(frozen, count)
        self.extent = "the whole base" if self.is_whole_base else f"{self.frozen_blocks} of {count} blocks"
        self.width = base.model.config.hidden_size
        self.decodes_labels = is_encoder_decoder and task.generates
        self.stacks = {"": []} if self.is_whole_base else _by_stack(traced.blocks[: self.frozen_blocks])
        self._modules = dict(base.model.named_modules())
        self._active: Mapping[str, Any] | None = None  # outputs to replay, as `run` returns them
        self._extras: dict[str, tuple[Any, ...]] = {}  # what the first block of a stack passes to the others
        self._passes_extras = False  # such as T5's position bias

    # ---- texts and tokens

    def counts(self, features: Dataset) -> dict[str, list[int]]:
        """Return, for each stack, the number of tokens of each text."""
        return {
            stack: text_lengths(features, "labels")
            if i and self.decodes_labels
            else self.base.modality.lengths(features)
            for i, stack in enumerate(self.stacks)
        }

    def masks(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return, for each stack, which tokens of a padded batch aren't padding, (texts, tokens)."""
        encoder = self.base.modality.mask(batch)
        decoder = batch["labels"] != -100 if self.decodes_labels else encoder
        return {stack: decoder if i else encoder for i, stack in enumerate(self.stacks)}

    # ---- running

    def run(self, batch: Mapping[str, Tensor]) -> dict[str, Any]:
        """Run a batch up to the top of the trunk; return each stack's hidden states, or the whole base's output."""
        if self.is_whole_base:
            tops, firsts = {"": self.model.base_model}, {}
        else:
            tops = {stack: self._modules[names[-1]] for stack, names in self.stacks.items()}
            firsts = {f"first of {stack}": self._modules[names[0]] for stack, names in self.stacks.items()}
        recorded, _ = record(
            # the class's forward: Accelerate wraps the instance's in the precision of training
            lambda: type(self.model).forward(self.model, **self.task.model_inputs(batch)),
            outputs={**tops, **firsts},
            last=list(tops)[-1],
        )
        self._passes_extras |= any(_has_extras(recorded.get(key)) for key in firsts)
        outputs = {stack: recorded[stack] for stack in tops if stack in recorded}
        if self.is_whole_base:
            return outputs
        return {stack: out[0] if isinstance(out, tuple) else out for stack, out in outputs.items()}

    def set_eval(self) -> None:
        """Put the modules of the trunk in eval mode, as they are when it is run."""
        for name, module in self.base.model.named_modules():
            if self.is_whole_base or self.trace.stage.get(name, self.frozen_blocks + 1) <= self.frozen_blocks:
                module.training = False

    # ---- replaying

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Have the model replay outputs of the trunk for the active batch; other batches are computed as usual."""
        if self.is_whole_base:
            with base_replaced(self.model, self.stub(self._base_output)):
                yield
            return
        try:
            for names in self.stacks.values():
                for name in names:
                    module = self._modules[name]
                    module.forward = functools.partial(self._block_output, name, names, type(module).forward, module)
            yield
        finally:
            for names in self.stacks.values():
                for name in names:
                    self._modules[name].__dict__.pop("forward", None)

    @contextlib.contextmanager
    def replaying(self, outputs: Mapping[str, Any]) -> Iterator[None]:
        """Make `outputs`, which has the form that `run` returns, those of the active batch."""
        self._active = outputs
        try:
            yield
        finally:
            self._active = None

    def stub(self, output: Callable[..., Any]) -> BaseStub:
        """Return a module in place of the base that returns `output(...)`; a pooler that is new still runs on it."""
        pooler = getattr(self.model.base_model, "pooler", None) if "pooler" in self.base.newly_initialized else None
        return BaseStub(self.base.model, output, pooler)

    def _base_output(self, *args: Any, **kwargs: Any) -> Any:
        return self.base.model(*args, **kwargs) if self._active is None else self._active[""]

    def _block_output(
        self, name: str, names: list[str], forward: Any, module: nn.Module, *args: Any, **kwargs: Any
    ) -> Any:
        """Return a block's input unchanged, and from the highest block of a stack the cached hidden states."""
        if self._active is None:
            return forward(module, *args, **kwargs)
        hidden = args[0] if args else next(iter(kwargs.values()))
        stack = name.rpartition(".")[0]
        if name == names[0] and self._passes_extras:
            with torch.no_grad():
                self._extras[stack] = forward(module, *args, **kwargs)[1:]
        if name == names[-1]:
            hidden = self._active[stack]
            if (part := getattr(self.model, "part", None)) is not None:
                hidden = hidden[part[0], : part[1]]
        if name in self.trace.returns_tuple:
            return (hidden, *self._extras.get(stack, (None,)))
        return hidden


def find_trunk(base: Base, model: Any, task: Task, fit: Fitted) -> Trunk | str:
    """Return the trunk of a task's model on a base to which a strategy is applied, or the reason why it has none."""
    if not task.fixed_features:
        return f"{task.name} draws new inputs in every epoch"
    try:
        traced = trace(base.model, base.modality)
    except Exception as error:  # a third-party strategy's module may raise anything
        return f"a forward pass with this strategy fails: {type(error).__name__}: {error}"
    used = {id(p) for p in model.parameters()}
    trained = {id(p) for p in fit.trainable if p.requires_grad} & used
    if any(id(p) in trained and name in traced.read_outside for name, p in base.model.named_parameters()):
        return "a trained parameter is used in several places"
    lowest = min(_changed_stages(base, fit, traced, trained), default=len(traced.blocks) + 2)
    trunk = Trunk(base, model, task, traced, lowest - 1)
    if trunk.frozen_blocks < 1 and not trunk.is_whole_base:
        return "the lowest block, or a layer below it, trains"
    return trunk


def _changed_stages(base: Base, fit: Fitted, traced: Trace, trained: set[int]) -> Iterator[int]:
    """Yield the stage of each module that trains, that the strategy added, or whose forward it changed."""
    for name, module in base.model.named_modules():
        changed = id(module) not in fit.modules or "forward" in vars(module)
        changed = changed or bool(module._forward_hooks or module._forward_pre_hooks)
        trains = any(id(p) in trained for p in module._parameters.values())
        if trains or (changed and name in traced.stage):
            yield _stage(name, traced)


def _stage(name: str, traced: Trace) -> int:
    """Return the stage in which a module, or the closest parent that is called, is first called."""
    while name and name not in traced.stage:
        name = name.rpartition(".")[0]
    return traced.stage[name] if name else 0


@contextlib.contextmanager
def base_replaced(model: Any, module: nn.Module) -> Iterator[None]:
    """Put `module` in the place of a task model's base."""
    base = model.base_model
    setattr(model, model.base_model_prefix, module)
    try:
        yield
    finally:
        setattr(model, model.base_model_prefix, base)


def _by_stack(names: tuple[str, ...]) -> dict[str, list[str]]:
    stacks: dict[str, list[str]] = {}
    for name in names:
        stacks.setdefault(name.rpartition(".")[0], []).append(name)
    return stacks


def _has_extras(output: Any) -> bool:
    """Return whether a block returns tensors besides its hidden states."""
    return isinstance(output, tuple) and any(isinstance(value, Tensor) for value in output[1:])
