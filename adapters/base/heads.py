"""Build a transformers task model around a base that is already in memory: only the head is allocated."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..errors import TaskError

_FILLS = frozenset({Tensor.uniform_, Tensor.normal_, Tensor.fill_, Tensor.zero_}) | frozenset(
    {nn.init.uniform_, nn.init.normal_, nn.init.constant_, nn.init.kaiming_uniform_}
)


def build_task_model(
    base: Any,
    auto_class: str,
    config: Mapping[str, Any],
    *,
    name: str,
    newly_initialized: Collection[str],
    stored: Mapping[str, Tensor],
    untied: bool,
    trust_remote_code: bool,
) -> Any:
    """Return a transformers model of `auto_class` whose base is `base`, shared, under a head of its own.

    `config` overrides the base's config. `newly_initialized` names the base's children that belong to the head because
    the checkpoint has no tensors for them, `stored` holds the checkpoint's head tensors, and `name` is the base's, for
    errors. With `untied`, output embeddings get a weight of their own. Raises `TaskError` where transformers has no
    such head for this architecture, or the head can't share the base.
    """
    model = _meta_model(base, auto_class, config, name, trust_remote_code)
    _share_base(model, base, newly_initialized, name)
    _materialize(model, base.dtype, base.device)
    model.tie_weights()  # materializing a head separates what is tied within it
    _untie(model, stored, always=untied)
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for key in matching_names(model, stored):
        tensors[key].data.copy_(stored[key])
    return model


def matching_names(model: nn.Module, stored: Mapping[str, Tensor]) -> set[str]:
    """Return the names of the tensors of `model` that `stored` has in the same shape."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name for name, t in stored.items() if name in tensors and tensors[name].shape == t.shape}


def _meta_model(base: Any, auto_class: str, config: Mapping[str, Any], name: str, trust_remote_code: bool) -> Any:
    settings = copy.deepcopy(base.config)
    for key, value in config.items():
        setattr(settings, key, value)
    try:
        with Unfilled(), torch.device("meta"):  # nothing of the base is allocated twice
            return getattr(transformers, auto_class).from_config(settings, trust_remote_code=trust_remote_code)
    except ValueError as error:
        kind = base.config.model_type
        raise TaskError(f"transformers has no {auto_class} for '{kind}' models such as '{name}'") from error


class Unfilled(TorchFunctionMode):
    """Leave tensors on the meta device without values, which they don't have, and without importing sympy.

    Half of the time of a task model goes to filling them. torch computes the results of meta tensors in Python, and the
    first that is filled, or made by arange or empty_like, imports sympy: a quarter of the imports of a first answer.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        try:
            return self._unfilled(func, args, kwargs or {})
        except NotImplementedError:  # a command imports torch's Python kernels of the meta device where they are used
            torch._meta_registrations.activate_meta  # noqa: B018
            return func(*args, **kwargs or {})

    def _unfilled(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        if func in _FILLS and (tensor := args[0] if args else kwargs["tensor"]).is_meta:
            return tensor
        if not kwargs.keys() <= {"dtype", "device"}:  # what follows is as models call it
            return func(*args, **kwargs)
        dtype, device = kwargs.get("dtype"), kwargs.get("device")
        if func is torch.arange and str(device) == "meta" and all(type(n) is int for n in args):
            return torch.empty(len(range(*args)), dtype=dtype or torch.int64, device=device)
        if func is torch.empty_like and args[0].is_meta:
            return torch.empty(args[0].shape, dtype=dtype or args[0].dtype, device=device or args[0].device)
        try:
            return func(*args, **kwargs)
        except (
            NotImplementedError
        ):  # a command may import torch's Python kernels of the meta device where they are used
            torch._meta_registrations.activate_meta  # noqa: B018
            return func(*args, **kwargs)


def _share_base(model: Any, base: Any, newly_initialized: Collection[str], name: str) -> None:
    """Put the base's modules into a task model. Raises `TaskError` where the model ties their weights differently."""
    before = dict(base.named_parameters(remove_duplicate=False))
    _graft(model.base_model, base, without=newly_initialized)
    model.tie_weights()
    if any(before[key] is not p for key, p in base.named_parameters(remove_duplicate=False)):
        raise TaskError(f"a {type(model).__name__} ties the weights of '{name}' differently, and can't share it")


def _graft(target: nn.Module, source: nn.Module, *, without: Collection[str]) -> None:
    """Replace children, parameters and buffers of `target` by those of the same name in `source`."""
    for name, child in source.named_children():
        if name in target._modules and target._modules[name] is not None and name not in without:
            target._modules[name] = child
    for name, parameter in source.named_parameters(recurse=False):
        if name in target._parameters:
            target._parameters[name] = parameter
    for name, buffer in source.named_buffers(recurse=False):
        if name in target._buffers:
            target._buffers[name] = buffer


def _materialize(model: Any, dtype: torch.dtype, device: torch.device) -> None:
    """Allocate every parameter that is still on the meta device, and initialise it as transformers does."""
    for path, module in model.named_modules():
        for key, buffer in module._buffers.items():
            if buffer is not None and buffer.is_meta:
                if key in module._non_persistent_buffers_set:
                    raise TaskError(f"the head's '{path}.{key}' is computed when it is built, and can't be shared")
                zeros = torch.zeros(buffer.shape, dtype=buffer.dtype, device=device)
                module._buffers[key] = zeros  # or what the checkpoint holds
        parameters = {key: p for key, p in module._parameters.items() if p is not None}
        if parameters and all(p.is_meta for p in parameters.values()):
            with Unfilled():
                module.to_empty(device=device, recurse=False).to(dtype)
            model._init_weights(module)
        else:  # a bias beside a weight tied to the base's: initialising the module would overwrite the base
            for key, p in parameters.items():
                if p.is_meta:
                    module._parameters[key] = nn.Parameter(torch.zeros(p.shape, dtype=dtype, device=device))


def _untie(model: Any, stored: Mapping[str, Tensor], *, always: bool) -> None:
    """Give output embeddings a weight of their own, on request or where the checkpoint has another one (T5 1.1)."""
    output = model.get_output_embeddings()
    if output is None or getattr(output, "weight", None) is None:
        return
    name = next(f"{path}.weight" for path, module in model.named_modules() if module is output)
    weight = stored.get(name)
    differs = weight is not None and weight.shape == output.weight.shape and not torch.equal(weight, output.weight)
    if always or differs:
        output.weight = nn.Parameter(output.weight.detach().clone())
