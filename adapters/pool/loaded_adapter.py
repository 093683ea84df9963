"""An adapter in a pool: its tensors on the pool's device, ready to run beside others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..adapter.adapter import Adapter
from ..adapter.peft_config import KEY_PREFIX
from ..errors import AdapterError
from ..patches.replace import Replace
from ..probe.model import Form
from .routed_base import Served, Template
from .routing import Lowered


class Resident:
    """One adapter: what it does to which module of the base, from where on, and its head."""

    def __init__(self, name: str, adapter: Adapter, served: Served) -> None:
        adapter.check_base(served.base)
        adapter.check_labels()
        adapter = served.decoded(adapter)
        served = served.on(adapter)
        self.served = served
        """What it runs on: the pool's, or, where it adds tokens, modules of its own over the same tensors."""
        self.name = name
        self.task = adapter.task
        tensors = _together(adapter.tensors, served)
        self.nbytes = sum(t.numel() * t.element_size() for t in tensors.values())
        moved = Adapter(adapter.manifest, tensors)
        patches = moved.patches(served.base)
        traced = served.trace
        by_name = {
            f"{module}.{name}" if module else name: t
            for module, patch in patches.items()
            if isinstance(patch, Replace)
            for name, t in patch.replaced.items()
        }
        others = {module: patch for module, patch in patches.items() if not isinstance(patch, Replace)}
        own = served.parameters
        replaced = {id(own[name]): t for name, t in by_name.items()}

        touched = set(others)
        for key in replaced:
            touched |= {served.names[id(m)] for m, _ in served.owners[key] if id(m) in served.names}
        stages = [traced.stage.get(name) for name in touched]
        self.first = min((stage for stage in stages if stage is not None), default=traced.last_stage)
        self.changes_base = bool(touched)
        """Whether the base says something else with this adapter than without."""

        odd = {name for name in touched if name in traced.stage and name not in traced.rowwise}
        in_blocks = {name: block for name in odd for block in traced.blocks if name.startswith(f"{block}.")}
        self.by_group = frozenset(in_blocks.values()) | self._mostly_own(served, by_name)
        """The blocks in which rows of other adapters can't run beside this one's, or would gain nothing by it."""
        past = {id(own[name]) for name in traced.read_outside}
        alone = bool(past & set(replaced)) or any(name not in in_blocks for name in odd)
        untied = adapter.manifest.get("untied", False)
        form = adapter.manifest.get("probe")
        if form is not None and touched:
            raise AdapterError(f"a probe reads the base as it is, but the adapter changes '{min(touched)}'")
        self.template: Template = (
            served.template(self.task, untied=untied, whole=self.task.generates)
            if form is None
            else served.probe(self.task, Form.of(form))
        )
        heads = self._heads(adapter, tensors)
        if self.template.whole:  # where what is kept for the next token would be of all rows, and not of a group
            alone = alone or bool(odd) or any(served.modules[name]._modules for name in others)
        self.alone = alone
        """Whether the base runs for this adapter by itself, never in one batch with another's rows."""
        self.lowered: dict[nn.Module, Lowered] = served.lower(
            {served.modules[name]: patch for name, patch in others.items()},
            replaced | {id(module._parameters[name]): t for (module, name), t in heads.items()},
        )
        self._model: Any = None
        self._own = (others, by_name, heads, untied)

    @staticmethod
    def _mostly_own(served: Served, replaced: Mapping[str, Tensor]) -> set[str]:
        """Return the blocks of which most is replaced."""
        own: Counter[str] = Counter()
        for name, tensor in replaced.items():
            block = next((b for b in served.trace.blocks if name.startswith(f"{b}.")), None)
            if block is not None:
                own[block] += tensor.numel()
        return {block for block, count in own.items() if 2 * count > served.sizes[block]}

    def _heads(self, adapter: Adapter, tensors: dict[str, Tensor]) -> dict[tuple[nn.Module, str], Tensor]:
        template = self.template
        stored, there = set(adapter.manifest["head"]), set(template.heads)
        missing = there - stored - (set() if self.task.new_head else template.given)
        if missing or stored - there:
            raise AdapterError(
                f"the head of a {type(template.model).__name__} is {sorted(there)}, not {sorted(stored)}"
            )
        found = {}
        for name in stored:
            module, own = template.heads[name]
            tensor, wanted = tensors[f"{KEY_PREFIX}{name}"], module._parameters[own]
            assert wanted is not None
            if tensor.shape != wanted.shape:
                raise AdapterError(f"'{name}' is {tuple(tensor.shape)}, but the head's is {tuple(wanted.shape)}")
            found[module, own] = tensor
        return found

    def by_itself(self, served: Served) -> Any:
        """Return the model of an adapter that runs alone: the base, or the whole where its template is whole."""
        if self._model is None:
            others, replaced, heads, untied = self._own
            model = served.alone(others, replaced)
            if self.template.whole:
                made = served.template(self.task, untied=untied, whole=True, over=model)
                places = {place: name for name, place in self.template.heads.items()}
                for place, tensor in heads.items():
                    module, own = made.heads[places[place]]
                    module._parameters[own] = nn.Parameter(tensor, requires_grad=False)
                model = made.model
            self._model = model
        return self._model


def _together(tensors: Mapping[str, Tensor], served: Served) -> dict[str, Tensor]:
    """Return tensors in the pool's dtype and on its device, side by side in one piece of memory, each on 64 bytes."""
    dtypes = {key: served.dtype if t.is_floating_point() else t.dtype for key, t in tensors.items()}
    sizes = {key: -(-t.numel() * dtypes[key].itemsize // 64) * 64 for key, t in tensors.items()}
    whole = torch.empty(sum(sizes.values()), dtype=torch.uint8, device=served.device)
    placed, at = {}, 0
    for key, tensor in tensors.items():
        own = whole[at : at + tensor.numel() * dtypes[key].itemsize].view(dtypes[key]).view(tensor.shape)
        placed[key] = own.copy_(tensor)
        at += sizes[key]
    return placed
