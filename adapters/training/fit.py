"""Apply a strategy to a shared base, put a head on it, and restore the base."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..base.base import Base
from ..base.snapshot import Snapshot
from ..errors import StrategyError, named
from ..patches.patch import Patch
from ..patches.replace import Replace
from ..strategy import Strategy

if TYPE_CHECKING:
    from ..tasks import Task


@dataclass(frozen=True)
class Fitted:
    """A strategy applied to a base: the trained parameters, original values of the base's, and its original modules."""

    trainable: list[nn.Parameter]
    before: dict[str, Tensor]  # by name in the base
    modules: frozenset[int]  # by identity
    parameters: dict[str, nn.Parameter]  # of the unmodified base, by name

    def starts(self, parameters: list[nn.Parameter]) -> list[Tensor]:
        """Return the current values of parameters, copied where `before` has no copy."""
        copies = {id(self.parameters[name]): values for name, values in self.before.items()}
        return [copies[id(p)] if id(p) in copies else p.detach().clone() for p in parameters]


@contextlib.contextmanager
def fitted(base: Base, strategy: Strategy) -> Iterator[Fitted]:
    """Apply a strategy to a base, and restore the base at the end.

    Modules, hooks and storages are restored whatever the strategy did; values that it changed without returning their
    parameters are detected by digest and reloaded from the checkpoint.
    """
    base.check_trainable()
    who = type(strategy).__name__
    snapshot, parameters = Snapshot(base.model), dict(base.model.named_parameters())
    modules = frozenset(map(id, base.model.modules()))
    before: dict[str, Tensor] = {}
    try:
        trainable = _applied(base, strategy)
        chosen = {id(p) for p in trainable}
        before.update({name: p.detach().clone() for name, p in parameters.items() if id(p) in chosen})
        yield Fitted(trainable, before, modules, parameters)
        with named(f"{who}.remove"):
            strategy.remove(base.model)
        if left := snapshot.changed(base.model):
            raise StrategyError(f"{who}.remove left the base changed, first at {left[0].strip()}")
    finally:
        snapshot.restore()
        with torch.no_grad():
            for name, values in before.items():
                parameters[name].copy_(values)
        base.model.requires_grad_(False).eval()
        if base.changed_tensors():
            base.reload()


def _applied(base: Base, strategy: Strategy) -> list[nn.Parameter]:
    """Apply a strategy, and make exactly the parameters that it returns trainable.

    Raises `StrategyError` where one isn't of the base, or where it changed the base's values.
    """
    who = f"{type(strategy).__name__}.apply"
    original = dict(base.model.named_parameters())
    with named(who):
        trainable = list({id(p): p for p in strategy.apply(base.model)}.values())
    if base.added_tokens and not any(p is base.model.get_input_embeddings().added for p in trainable):
        trainable.append(base.model.get_input_embeddings().added)
    base_parameters = {id(p) for p in base.model.parameters()}
    for p in trainable:
        if not isinstance(p, nn.Parameter) or id(p) not in base_parameters:
            raise StrategyError(f"{who} must return parameters of the base, got an unrelated {type(p).__name__}")
    current = dict(base.model.named_parameters())
    altered = [name for name in base.changed_tensors() if name in original and current.get(name) is original[name]]
    if altered:
        raise StrategyError(f"{who} changed the values of '{altered[0]}'; a new adapter starts as the base itself")
    quantized = next(
        (name for name, p in current.items() if not p.is_floating_point() and any(p is o for o in trainable)), None
    )
    if quantized is not None:
        raise StrategyError(
            f"{type(strategy).__name__} trains '{quantized}', which is quantized to {base.quantization} and "
            "can't be trained; use lora or head-only, or load the base without --quantization"
        )
    base.model.requires_grad_(False)
    for p in trainable:
        p.requires_grad_(True)
    return trainable


def learned(base: Base, strategy: Strategy) -> dict[str, Patch]:
    """Return a strategy's patches by module name; raises `StrategyError` where it returns anything else."""
    who = f"{type(strategy).__name__}.patches"
    with named(who):
        patches = dict(strategy.patches(base.model))
    for module, patch in patches.items():
        if not (isinstance(module, str) and isinstance(patch, Patch)):
            raise StrategyError(f"{who} must map module names to patches, got {module!r}: {type(patch).__name__}")
    return patches


def task_model(
    base: Base, task: Task, trainable: list[nn.Parameter], base_parameters: int
) -> tuple[Any, dict[str, nn.Parameter], bool]:
    """Return the model of a task, the trained parameters of its head, and whether its output embeddings are untied.

    A new head is always trained. A pretrained head is trained by strategies that train the whole base, and by those
    that train nothing of it; where it is tied to the base's embeddings, a copy of these is trained.
    """
    model = task.model(base)
    names = head = set(base.head_names(model))
    trains_whole_base = base_parameters == len(list(base.model.parameters()))
    if not task.new_head and trainable and not trains_whole_base:
        names = names - base.from_checkpoint(model)
    untied = not names and not trainable
    if untied:
        model = task.model(base, untied=True)
        names = head = set(base.head_names(model))
    for name, p in model.named_parameters():
        if name in head:
            p.requires_grad_(name in names)
    return model, {name: p for name, p in model.named_parameters() if name in names}, untied


def with_added(base: Base, patches: Mapping[str, Patch]) -> dict[str, Patch]:
    """Return a strategy's patches and, where the base has added tokens, their embeddings.

    Raises `StrategyError` where the strategy patches the embeddings in another way than by replacing them.
    """
    if not base.added_tokens:
        return dict(patches)
    embedding = base.model.get_input_embeddings()
    name = next(name for name, module in base.model.named_modules() if module is embedding)
    patch = patches.get(name, Replace({}))
    if not isinstance(patch, Replace):
        raise StrategyError(f"'{name}' has a patch of kind '{patch.kind}'; with added tokens it must be 'replace'")
    return {**patches, name: Replace({**patch.replaced, "added": embedding.added})}


def moved(patch: Patch, module: str, before: Mapping[str, Tensor]) -> Patch:
    """Drop from a patch of replaced tensors those that equal the base's."""
    if not isinstance(patch, Replace):
        return patch
    original = {name: before.get(f"{module}.{name}" if module else name) for name in patch.replaced}
    return Replace({n: t for n, t in patch.replaced.items() if original[n] is None or not torch.equal(t, original[n])})  # type: ignore[arg-type]
