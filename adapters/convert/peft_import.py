"""Import an adapter from PEFT, after comparing its logits with PEFT's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from peft.utils.other import get_pattern_key
from torch import Tensor, nn

from ..adapter.adapter import Adapter
from ..adapter.peft_config import KEY_PREFIX
from ..base.base import Base
from ..base.checkpoint import known_as
from ..base.word_vectors import WordVectorsConfig
from ..discovery import patch_class
from ..errors import AdapterError
from ..modules import owners
from ..options import build, plain
from ..patches.patch import Patch
from ..tasks import TASKS, Task, task_class
from .peft_parity import check_equal
from .peft_reader import PeftFolder

_PARTS = ("lora_A.weight", "lora_B.weight", "lora_B.bias", "lora_magnitude_vector", "ia3_l")
_USUAL = {"SEQ_CLS": "text-classification"}
"""The tasks of types that several have: a ranking is a classifier of one output to PEFT, and has to be named."""
_BASE_BIAS = "base_layer.bias"  # of a module that has an update, where biases were trained, too


def task_of(folder: PeftFolder, task: str | None) -> type[Task]:
    """Return the task named `task`, or else the one that a PEFT folder names.

    Raises `AdapterError` where neither names one, `TaskError` for a task that there isn't.
    """
    if task is not None:
        return task_class(task)
    stated = folder.config.get("task_type")
    usual = [TASKS[_USUAL[stated]]] if stated in _USUAL else []
    kinds = usual or [cls for cls in TASKS.values() if stated and cls.peft_task_type == stated]
    if len(kinds) != 1:
        raise AdapterError(f"'{folder.source}' has task_type {stated}; name the task: --task {', '.join(TASKS)}")
    return kinds[0]


def base_of(folder: PeftFolder, base: str | None) -> Base:
    """Load the base named `base`, or else the one that a PEFT folder names.

    Raises `AdapterError` where neither names one.
    """
    name = base or folder.config.get("base_model_name_or_path")
    if not name:
        raise AdapterError(f"'{folder.source}' names no base; set --base")
    revision = None if base else folder.config.get("revision")
    return Base.load(name if revision else known_as(name), revision=revision)


def imported(folder: PeftFolder, base: Base, task: type[Task], options: Mapping[str, Any] | None = None) -> Adapter:
    """Return what a PEFT folder holds as an adapter of `base`, checked against PEFT's own logits.

    `options` are the task's, such as labels and columns. Raises `AdapterError` where something in it has no place
    here, or the logits differ.
    """
    if isinstance(base.model.config, WordVectorsConfig):
        raise AdapterError(f"base '{base.name}' is word vectors, and PEFT's adapters are for transformers")
    with base.locked():
        fitted = _task(folder, base, task, options or {})
        untied = _untied(folder, base, fitted)
        model = _model(base, fitted, untied)
        patches, head = _read_parts(folder, base, model)
        adapter = Adapter.make(base, model, patches, head, {**_about(folder, fitted), "untied": untied})
    adapter.manifest["parameters"] = sum(tensor.numel() for tensor in adapter.tensors.values())
    check_equal(folder, base, adapter)
    return adapter


def _model(base: Base, task: Task, untied: bool) -> Any:
    with torch.random.fork_rng(devices=[]):
        return task.model(base, untied=untied)


def _task(folder: PeftFolder, base: Base, task: type[Task], options: Mapping[str, Any]) -> Task:
    """Return the task with its columns, and with as many labels as the head has outputs."""
    built = build(task, options)
    named = [v for key, v in plain(built).items() if key.endswith("column_name") and v]
    columns = [name for value in named for name in ([value] if isinstance(value, str) else value)]
    fitted = built.with_columns([*columns, *task.default_columns()])
    try:
        names = folder.labels or base.model.config.id2label
        return fitted.matching_head(lambda: _outputs(folder, base, task.auto_class), names)
    except AdapterError as error:
        if str(error).startswith(f"'{folder.source}'"):
            raise
        raise AdapterError(f"'{folder.source}': {error}") from error


def _outputs(folder: PeftFolder, base: Base, auto_class: str) -> int:
    """Return the number of labels of a head: the size of the tensors that depend on it."""
    shapes = []
    for count in (2, 3):
        with torch.random.fork_rng(devices=[]):
            model = base.task_model(auto_class, num_labels=count)
        parameters = dict(model.named_parameters())
        shapes.append({name: parameters[name].shape for name in base.head_names(model)})
    by_labels = [name for name, shape in shapes[0].items() if shape != shapes[1][name]]
    counts = {len(folder.tensors[key]) for name in by_labels if (key := f"{KEY_PREFIX}{name}") in folder.tensors}
    if len(counts) != 1:
        raise AdapterError(
            f"'{folder.source}' holds no head for {auto_class}, which has {', '.join(sorted(shapes[0]))}; it was made "
            f"without modules_to_save={','.join(sorted({name.partition('.')[0] for name in shapes[0]}))}, or for "
            "another task: give --task"
        )
    return counts.pop()


def _untied(folder: PeftFolder, base: Base, task: Task) -> bool:
    """Return whether output embeddings that the base ties to its input embeddings have separate values here."""
    tied = base.tied_names(_model(base, task, False))
    return any(f"{KEY_PREFIX}{name}" in folder.tensors for name in tied)


def _read_parts(folder: PeftFolder, base: Base, model: Any) -> tuple[dict[str, Patch], dict[str, Tensor]]:
    """Return the patches by module of the base, and the head's tensors by name in `model`."""
    prefix, names = base.prefix(model), {id(p): n for n, p in reversed(list(model.named_parameters()))}
    heads = set(base.head_names(model))
    aliases = {n: names[id(p)] for n, p in model.named_parameters(remove_duplicate=False) if names[id(p)] in heads}
    updates: dict[str, dict[str, Tensor]] = {}
    replaced: dict[str, Tensor] = {}
    head: dict[str, Tensor] = {}
    for key, tensor in folder.tensors.items():
        name = key.removeprefix(KEY_PREFIX)
        part = next((p for p in (*_PARTS, _BASE_BIAS) if name.endswith(f".{p}")), None)
        if part is not None:
            updates.setdefault(name.removesuffix(f".{part}"), {})[part] = tensor
        elif name in aliases:
            head[aliases[name]] = tensor.to(base.model.dtype)
        else:
            replaced[name.removeprefix(prefix)] = tensor
    patches = _replaced(folder, base, replaced)
    for full, parts in updates.items():
        patches[full.removeprefix(prefix)] = _update(folder, base, full, full.removeprefix(prefix), parts)
    if not patches:
        raise AdapterError(f"'{folder.source}' changes nothing of base '{base.name}'")
    if lost := sorted(heads - set(head) - base.from_checkpoint(model)):
        raise AdapterError(
            f"'{folder.source}' lacks {len(lost)} tensors of the head of a {type(model).__name__}, first '{lost[0]}'; "
            f"it was made without modules_to_save={','.join(sorted({name.partition('.')[0] for name in lost}))}, and "
            "what it learned there is lost"
        )
    return patches, head


def _replaced(folder: PeftFolder, base: Base, tensors: Mapping[str, Tensor]) -> dict[str, Patch]:
    """Return tensors that stand in the place of the base's own as patches; those that are the base's are left out."""
    parameters, places = dict(base.model.named_parameters(remove_duplicate=False)), owners(base.model)
    changed: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name not in parameters:
            raise AdapterError(
                f"'{folder.source}': '{name}' has no place in a {type(base.model).__name__} or its head; it is for "
                "another base or another task, or of a kind of adapter that can't be taken in"
            )
        if tensor.shape != parameters[name].shape:
            raise AdapterError(
                f"'{folder.source}': '{name}' is {tuple(tensor.shape)}, but that of base '{base.name}' "
                f"{tuple(parameters[name].shape)}"
            )
        values = tensor.to(parameters[name].dtype)
        if not torch.equal(values, parameters[name].cpu()):
            module, part = places[name]
            changed.setdefault(module, {})[part] = values
    replace = patch_class("replace")
    return {module: replace.load(parts, {}, base.model.get_submodule(module)) for module, parts in changed.items()}


def _update(folder: PeftFolder, base: Base, full: str, module: str, parts: dict[str, Tensor]) -> Patch:
    """Return what PEFT put beside a module, called `full` in the task's model, as a patch of it."""
    try:
        patched = base.model.get_submodule(module)
    except AttributeError:
        raise AdapterError(
            f"'{folder.source}' changes a module '{full}', which base '{base.name}' doesn't have; of a head, only what "
            "modules_to_save holds is imported"
        ) from None
    try:
        if "ia3_l" in parts:
            of = "inputs" if len(parts["ia3_l"]) == 1 else "outputs"
            return patch_class("scale").load(parts, {"of": of}, patched)
        options = {"scale": _scale(folder.config, full, parts)}
        if (bias := parts.pop(_BASE_BIAS, None)) is not None:
            parts |= _as_added(bias, patched, options["scale"], parts.get("lora_B.bias"))
        kind = "dora" if "lora_magnitude_vector" in parts else "low-rank"
        return patch_class(kind).load({name: t.contiguous() for name, t in parts.items()}, options, patched)
    except AdapterError as error:
        raise AdapterError(f"'{folder.source}': {module}: {error}") from error


def _scale(config: Mapping[str, Any], full: str, parts: Mapping[str, Tensor]) -> float:
    """Return what PEFT multiplies an update of this module by."""
    alphas, r = config.get("alpha_pattern") or {}, parts["lora_A.weight"].shape[0] if "lora_A.weight" in parts else 1
    alpha = alphas.get(get_pattern_key(alphas, full), config.get("lora_alpha", 8))
    return float(alpha / math.sqrt(r) if config.get("use_rslora") else alpha / r)


def _as_added(bias: Tensor, module: nn.Module, scale: float, added: Tensor | None) -> dict[str, Tensor]:
    """Return a module's own bias, trained, as the bias of its update: what it differs by from the base's."""
    original = module.get_parameter("bias").detach().cpu()
    if bias.shape != original.shape:
        raise AdapterError(f"its bias is {tuple(bias.shape)}, but the base's {tuple(original.shape)}")
    moved = (bias.double() - original.double()) / scale
    moved = moved if added is None else moved + added.double()
    return {"lora_B.bias": moved.to(original.dtype)} if bool(moved.any()) else {}


def _about(folder: PeftFolder, task: Task) -> dict[str, Any]:
    """Return the manifest, apart from patches and head."""
    recorded = ("r", "lora_alpha", "use_rslora", "use_dora")
    return {
        "task": {"name": task.name, "options": task.recorded()},
        "strategy": {
            "name": str(folder.config["peft_type"]).lower(),
            "distribution": "peft",
            "version": folder.version,
            "options": {key: folder.config[key] for key in recorded if folder.config.get(key)},
        },
        "training": {},
        "data": {"name": None, "splits": {}},
        "imported_from": {"source": folder.source, "sha256": folder.digest},
        "metrics": {"validation": {"n": 0, "intervals": {}}},  # none were measured
    }
