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
from ..patches.patch import Patch
from ..patches.replace import Replace
from ..probe.model import Form
from .folding import Folded
from .routed_base import RoutedBase
from .rows import ModulePatch
from .task_heads import TaskHead


class LoadedAdapter:
    """One adapter: its patches by module of the base, the first stage that they change, and its head."""

    def __init__(self, name: str, adapter: Adapter, base: RoutedBase, version: str = "") -> None:
        """Prepare `adapter` for the modules of `base`.

        Raises `AdapterError` where it belongs to another base, or its tensors don't fit this one.
        """
        adapter.check_base(base.base)
        adapter.check_labels()
        adapter = base.decoded(adapter)
        base = base.for_adapter(adapter)
        self.name, self.version, self.task, self.base = name, version, adapter.task, base
        tensors = _contiguous(adapter.tensors, base)
        self.nbytes = sum(t.numel() * t.element_size() for t in tensors.values())
        patches = Adapter(adapter.manifest, tensors).patches(base.base)
        self._patches = {module: patch for module, patch in patches.items() if not isinstance(patch, Replace)}
        self._replaced = {
            f"{module}.{name}" if module else name: tensor
            for module, patch in patches.items()
            if isinstance(patch, Replace)
            for name, tensor in patch.replaced.items()
        }
        self._untied = adapter.manifest.get("untied", False)
        replaced = {id(base.parameters[name]): tensor for name, tensor in self._replaced.items()}
        changed = set(self._patches) | {
            base.module_names[id(m)] for key in replaced for m, _ in base.owners[key] if id(m) in base.module_names
        }
        self.changes_base = bool(changed)
        """Whether the base's outputs differ with this adapter."""
        stages = [base.trace.stage.get(name) for name in changed]
        self.first_stage = min((stage for stage in stages if stage is not None), default=base.trace.last_stage)
        """The first stage whose outputs differ from the base's."""
        mixing = {name for name in changed if name in base.trace.stage and name not in base.trace.rowwise}
        blocks = {name: block for name in mixing for block in base.trace.blocks if name.startswith(f"{block}.")}
        self.separate_blocks = frozenset(blocks.values()) | self._mostly_replaced()
        """The blocks that run for its rows apart: others' rows can't share them, or would gain nothing by it."""
        self.padded_blocks = self._blocks_by_row(patches, changed)
        """The blocks that can't run for its rows in a packed batch."""
        self.head = self._shared_head(adapter)
        self._head_tensors = self._loaded_head(adapter, tensors)
        self.cut_reported = False
        """Whether a warning was issued that texts are cut."""
        self.exclusive = self._is_exclusive(replaced, mixing, blocks)
        """Whether the base runs for this adapter's rows only, never in one batch with another adapter's."""
        head = {id(module._parameters[name]): tensor for (module, name), tensor in self._head_tensors.items()}
        self.patches: Mapping[nn.Module, ModulePatch] = base.prepare(
            {base.modules[name]: patch for name, patch in self._patches.items()}, replaced | head
        )
        self._model: Any = None
        self.tokens_alone = 0
        """The tokens of batches that it had to itself."""
        self.folded: Folded | None = None

    def _shared_head(self, adapter: Adapter) -> TaskHead:
        if (form := adapter.manifest.get("probe")) is None:
            return self.base.head(self.task, untied=self._untied, includes_base=self.task.generates)
        return self.base.probe(self.task, Form.of(form))

    def _blocks_by_row(self, patches: Mapping[str, Patch], changed: set[str]) -> frozenset[str]:
        """Return the blocks with a change that needs to know which tokens are a row's."""
        by_token = {
            name
            for name in changed
            if not self.base.modules[name]._modules
            and self.base.trace.batched_arguments.get(name, frozenset()) <= {(0,)}
            and (name not in patches or patches[name].by_token)
        }
        return frozenset(
            block
            for block in self.base.trace.blocks
            for name in changed - by_token
            if f"{name}.".startswith(f"{block}.")
        )

    def _mostly_replaced(self) -> set[str]:
        """Return the blocks of which more than half of the numbers are replaced."""
        replaced: Counter[str] = Counter()
        for name, tensor in self._replaced.items():
            block = next((b for b in self.base.trace.blocks if name.startswith(f"{b}.")), None)
            if block is not None:
                replaced[block] += tensor.numel()
        return {block for block, count in replaced.items() if 2 * count > self.base.block_sizes[block]}

    def _is_exclusive(self, replaced: Mapping[int, Tensor], mixing: set[str], blocks: Mapping[str, str]) -> bool:
        read_outside = {id(self.base.parameters[name]) for name in self.base.trace.read_outside}
        if read_outside & set(replaced) or any(name not in blocks for name in mixing):
            return True
        # a key-value cache is of all rows of a batch, so blocks can't run for some of them
        with_children = any(self.base.modules[name]._modules for name in self._patches)
        return self.head.includes_base and (bool(mixing) or with_children)

    def _loaded_head(self, adapter: Adapter, tensors: Mapping[str, Tensor]) -> dict[tuple[nn.Module, str], Tensor]:
        """Return the adapter's head tensors by the module and name of the parameter that each replaces."""
        stored, expected = set(adapter.manifest["head"]), set(self.head.parameters)
        missing = expected - stored - (set() if self.task.new_head else self.head.pretrained)
        if missing or stored - expected:
            kind = type(self.head.model).__name__
            raise AdapterError(f"the head of a {kind} is {sorted(expected)}, not {sorted(stored)}")
        head = {}
        for name in stored:
            module, parameter = self.head.parameters[name]
            tensor, original = tensors[f"{KEY_PREFIX}{name}"], module._parameters[parameter]
            assert original is not None
            if tensor.shape != original.shape:
                raise AdapterError(f"'{name}' is {tuple(tensor.shape)}, but the head's is {tuple(original.shape)}")
            head[module, parameter] = tensor
        return head

    def exclusive_model(self) -> Any:
        """Return the model of an exclusive adapter: the patched base, or the task model if the head includes it."""
        if self._model is None:
            model = self.base.patched_copy(self._patches, self._replaced)
            if self.head.includes_base:
                head = self.base.new_head(self.task, model, untied=self._untied, includes_base=True)
                names = {place: name for name, place in self.head.parameters.items()}
                for place, tensor in self._head_tensors.items():
                    module, parameter = head.parameters[names[place]]
                    module._parameters[parameter] = nn.Parameter(tensor, requires_grad=False)
                model = head.model
            self._model = model
        return self._model


def _contiguous(tensors: Mapping[str, Tensor], base: RoutedBase) -> dict[str, Tensor]:
    """Return tensors in the pool's dtype and on its device, in one allocation, each aligned to 64 bytes."""
    dtypes = {key: base.dtype if t.is_floating_point() else t.dtype for key, t in tensors.items()}
    sizes = {key: -(-t.numel() * dtypes[key].itemsize // 64) * 64 for key, t in tensors.items()}
    storage = torch.empty(sum(sizes.values()), dtype=torch.uint8, device=base.device)
    views, start = {}, 0
    for key, tensor in tensors.items():
        end = start + tensor.numel() * dtypes[key].itemsize
        views[key] = storage[start:end].view(dtypes[key]).view(tensor.shape).copy_(tensor)
        start += sizes[key]
    return views
