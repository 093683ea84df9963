"""Fold an adapter into a plain model that needs no adapterkit."""

from __future__ import annotations

import contextlib
import copy
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor
from transformers.utils import cached_file

from ..adapter.adapter import Adapter
from ..base.added_tokens import as_plain
from ..base.base import Base
from ..base.word_vectors import WordVectorsConfig
from ..errors import AdapterError, FileError
from ..io.atomic import new_folder
from ..patches.patch import Patch
from ..patches.replace import Replace

GENERATION = "generation_config.json"
SENTENCEPIECE = "tokenizer.model"
"""The vocabulary as SentencePiece writes it, which other tools read and tokenizers don't write again."""


def check_head(adapter: Adapter, *, plain: bool = True) -> None:
    """Raise `AdapterError` for a head that a `plain` model can't have: a probe, or one of a class of its own."""
    if "probe" in adapter.manifest and plain:
        raise AdapterError(
            "the adapter's head is a probe, which transformers has no class for; train with --head model"
        )
    if plain and not adapter.task.auto_class:
        raise AdapterError(f"the head of task '{adapter.task.name}' is its own, and transformers has no class for it")


def merge(base: Base, adapter: Adapter, folder: str | os.PathLike[str]) -> Path:
    """Write the adapter's model as a plain transformers checkpoint into `folder`, with its tokenizer; return where.

    `getattr(transformers, adapter.task.auto_class).from_pretrained(folder)` then computes what the attached adapter
    does; replaced tensors are the adapter's to the bit, updates are rounded once to the base's dtype. The files are
    read again and compared before they are moved to `folder`. Raises `AdapterError` where `folder` isn't empty, a patch
    can't be folded, or the base isn't the adapter's or of no architecture of transformers.
    """
    place = check_folder(folder)
    check_head(adapter)
    check_whole(base, adapter)
    base = adapter.on(base)
    with base.locked():  # as the base is itself, before any patch is attached
        patches = adapter.patches(base)
        folded = _folded(base, patches)
    with _plain_words(place), adapter.attached(base) as model, new_folder(place) as beside:
        _check_untied(model, base, patches, folded)
        # not in T5's kind, whose output is scaled by this very setting; values that differ are told apart there, too
        apart = bool(adapter.manifest.get("untied", False)) and not model.config.is_encoder_decoder
        if apart:
            model.config.tie_word_embeddings = False
        state = as_plain(model, _state(model, folded, apart=apart))
        _write(base, model, state, beside)
        _check_written(base, adapter.task.auto_class, state, beside)
    return place


def merge_base(base: Base, adapter: Adapter, folder: Path) -> dict[str, Tensor]:
    """Write the adapter's base without its head as a plain checkpoint into `folder`; return the head's tensors.

    Raises `AdapterError` as `merge` does.
    """
    check_whole(base, adapter)
    base = adapter.on(base)
    with base.locked():
        patches = adapter.patches(base)
        folded = _folded(base, patches)
    with _plain_words(folder), adapter.attached(base) as model:
        _check_untied(model, base, patches, folded)
        head_module = model.probe if "probe" in adapter.manifest else model.head
        head = {name: p.detach().clone() for name, p in head_module.named_parameters()}
        _write(base, base.model, as_plain(base.model, _state(base.model, folded, apart=False)), folder)
    return head


def check_whole(base: Base, adapter: Adapter) -> None:
    """Raise `AdapterError` where a base can't be written as a plain model, or isn't the adapter's."""
    if base.quantization != "no":
        raise AdapterError(f"base '{base.name}' is held in {base.quantization}, and a plain model has whole numbers")
    if isinstance(base.model.config, WordVectorsConfig):
        raise AdapterError(f"base '{base.name}' is word vectors, which transformers can't load without adapterkit")
    adapter.check_base(base)


def check_folder(folder: str | os.PathLike[str]) -> Path:
    """Return the absolute path of a folder that is missing or empty.

    Raises `AdapterError` for any other.
    """
    place = Path(folder).resolve()
    if place == Path.cwd():
        raise AdapterError(f"'{folder}' is the folder you are in; give one that isn't there yet")
    try:
        names = sorted(file.name for file in place.iterdir())
    except FileNotFoundError:
        return place
    except OSError as error:
        raise AdapterError(f"'{folder}' can't be a folder for the model: {error.strerror}") from error
    if names:
        raise AdapterError(f"'{folder}' is there already and holds {', '.join(names[:6])}; give one that is empty")
    return place


def _folded(base: Base, patches: Mapping[str, Patch]) -> dict[int, Tensor]:
    """Return the tensors with which the base alone computes what it computes patched, by their parameters' ids."""
    folded: dict[int, Tensor] = {}
    for path, patch in patches.items():
        module = base.model.get_submodule(path)
        tensors = patch.fold(module)
        if tensors is None:
            raise AdapterError(
                f"'{path}': a patch of kind '{patch.kind}' can't be folded into a {type(module).__name__}, "
                "so there is no plain model of this adapter"
            )
        parameters = dict(module.named_parameters(recurse=False))
        for name, tensor in tensors.items():
            if name not in parameters or parameters[name].shape != tensor.shape:
                raise AdapterError(
                    f"'{path}': a patch of kind '{patch.kind}' folds to '{name}' {tuple(tensor.shape)}; a "
                    f"{type(module).__name__} has {', '.join(f'{n} {tuple(p.shape)}' for n, p in parameters.items())}"
                )
            current = parameters[name]
            folded[id(current)] = tensor.to(device=current.device, dtype=current.dtype)
    return folded


def _check_untied(model: Any, base: Base, patches: Mapping[str, Patch], folded: Mapping[int, Tensor]) -> None:
    """Raise `AdapterError` where folding a patch of one module would change another, whose tensor is the same."""
    users = Counter(id(p) for module in model.modules() for p in module.parameters(recurse=False))
    for path, patch in patches.items():
        if isinstance(patch, Replace):  # what it replaces is replaced wherever it is tied
            continue
        for name, p in base.model.get_submodule(path).named_parameters(recurse=False):
            if id(p) in folded and users[id(p)] > 1:
                raise AdapterError(
                    f"'{path}': its {name} is tied to another module's, which folding a patch of kind '{patch.kind}' "
                    "would change, too, so there is no plain model of this adapter"
                )


def _state(model: Any, folded: Mapping[int, Tensor], *, apart: bool) -> dict[str, Tensor]:
    """Return the tensors of a task model by name, the folded ones folded; of tied names, each its own if `apart`."""
    state: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        value = folded.get(id(tensor), tensor).detach()
        state[name] = value.clone() if apart and id(tensor) in seen else value
        seen.add(id(tensor))
    return state


def _write(base: Base, model: Any, state: Mapping[str, Tensor], folder: Path) -> None:
    """Write config, tensors and tokenizer of a task model, and the base's own settings for generation."""
    model.save_pretrained(folder, state_dict=dict(state))
    for name in [SENTENCEPIECE, *([GENERATION] if model.can_generate() else [])]:
        source = cached_file(
            base.path, name, revision=base.revision or "main", _raise_exceptions_for_missing_entries=False
        )
        if source is not None:
            shutil.copyfile(source, folder / name)
    tokenizer = copy.deepcopy(base.tokenizer)
    if (backend := getattr(tokenizer, "backend_tokenizer", None)) is not None:  # as no use has left it
        backend.no_truncation()
        backend.no_padding()
    tokenizer.save_pretrained(folder)


def _check_written(base: Base, auto_class: str, state: Mapping[str, Tensor], folder: Path) -> None:
    """Raise `AdapterError` where transformers reads from `folder` another model than the one of `state`."""
    auto = getattr(transformers, auto_class)
    model = auto.from_pretrained(folder, use_safetensors=True, trust_remote_code=base.trust_remote_code)
    read = model.state_dict()
    differ = [name for name in {**state, **read} if name not in state or name not in read]
    differ += [name for name in state if name in read and not torch.equal(read[name], state[name].to("cpu"))]
    if differ:
        raise AdapterError(
            f"transformers doesn't read a {type(model).__name__} of '{base.name}' as it writes it: {len(differ)} "
            f"tensors differ, first '{differ[0]}'; nothing was written"
        )


@contextlib.contextmanager
def _plain_words(place: Path) -> Iterator[None]:
    try:
        yield
    except FileError as error:
        raise AdapterError(*error.args) from error
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise AdapterError(f"can't write '{place}': {' '.join(str(error).split())}") from error
