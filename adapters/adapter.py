"""An adapter: patches, a head and a manifest; in memory, as files, and attached to its base."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from .base import Base
from .errors import AdapterError
from .files import json_bytes, sha256, version_of
from .options import build
from .patch import Patch
from .peft_format import KEY_PREFIX, peft_config
from .strategies import patch_class
from .tasks import Task, task_class

FORMAT_VERSION = 1
MANIFEST, TENSORS, PEFT_CONFIG = "adapter.json", "adapter_model.safetensors", "adapter_config.json"


@dataclass(eq=False)
class Adapter:
    """What one task adds to the base. `tensors` are named as in the file: PEFT's prefix, then the task model's name."""

    manifest: dict[str, Any]
    tensors: dict[str, Tensor]

    @classmethod
    def make(
        cls, base: Base, model: Any, patches: Mapping[str, Patch], head: Mapping[str, Tensor], about: Mapping[str, Any]
    ) -> Adapter:
        """Make an adapter of patches by module name and head tensors by name in the task `model`.

        Raises `AdapterError` where a tensor is empty, as those of DeepSpeed's ZeRO-3 are until they are gathered.
        """
        prefix = base.prefix(model)
        tensors = {f"{KEY_PREFIX}{name}": _own(tensor) for name, tensor in head.items()}
        for module, patch in patches.items():
            tensors.update({_key(prefix, module, name): _own(tensor) for name, tensor in patch.tensors().items()})
        if empty := [name for name, tensor in tensors.items() if not tensor.numel()]:  # in pieces, on other devices
            raise AdapterError(f"'{empty[0]}' holds no number; an adapter would lack what was learned there")
        manifest = {
            "format_version": FORMAT_VERSION,
            "base": {**base.known_by(patches), "prefix": prefix},
            **about,
            "patches": {
                module: {"kind": p.kind, "options": dict(p.options()), "tensors": sorted(p.tensors())}
                for module, p in patches.items()
            },
            "head": sorted(head),
            **({"added_tokens": base.added_tokens} if base.added_tokens else {}),
            **({"tied": tied} if head and (tied := base.tied_names(model)) else {}),
        }
        return cls(manifest, tensors)

    @property
    def task(self) -> Task:
        """The task that the adapter does, with its labels."""
        stored = self.manifest["task"]
        return build(task_class(stored["name"]), stored["options"], where=f"task '{stored['name']}'")

    def files(self) -> dict[str, bytes]:
        """Return the adapter as files by name; the manifest holds the digests of the others."""
        files = {TENSORS: safetensors.torch.save(self.tensors, {"format": "pt"})}
        config = peft_config(self.manifest, self.tensors, self.task.auto_class)
        if config is not None:
            files[PEFT_CONFIG] = json_bytes(config)
        digests = {name: {"sha256": sha256(data), "bytes": len(data)} for name, data in files.items()}
        return {MANIFEST: json_bytes({**self.manifest, "files": digests}), **files}

    @classmethod
    def load(cls, folder: str | Path, *, version: str | None = None) -> Adapter:
        """Read an adapter from its folder: every file whole, hashed, and parsed from the same bytes.

        Raises `AdapterError` where one is missing, damaged, not what the manifest says, or the manifest is not that of
        `version`.
        """
        folder = Path(folder)
        data = _read(folder / MANIFEST)
        if version is not None and version != version_of(data):
            raise AdapterError(
                f"{folder / MANIFEST} is damaged or was edited: it is version {version_of(data)}, expected {version}"
            )
        manifest = parse_manifest(folder / MANIFEST, data)
        contents = {}
        for name, stated in manifest["files"].items():
            if name not in (TENSORS, PEFT_CONFIG):
                raise AdapterError(f"{folder / MANIFEST}: a file named '{name}' is not part of an adapter")
            contents[name] = _read(folder / name)
            if len(contents[name]) != stated["bytes"] or sha256(contents[name]) != stated["sha256"]:
                raise AdapterError(
                    f"{folder / name} is damaged or was edited: {len(contents[name])} bytes of SHA-256 "
                    f"{sha256(contents[name])[:12]}…, expected {stated['bytes']} of {stated['sha256'][:12]}…"
                )
        try:
            tensors = safetensors.torch.load(contents[TENSORS])
        except (KeyError, SafetensorError) as error:
            raise AdapterError(f"{folder / TENSORS}: not a safetensors file: {error}") from error
        adapter = cls(manifest, tensors)
        adapter._check_names(folder)
        for name, tensor in tensors.items():
            if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
                raise AdapterError(f"{folder / TENSORS}: '{name}' holds what is no finite number")
        return adapter

    def _check_names(self, folder: Path) -> None:
        prefix = self.manifest["base"]["prefix"]
        expected = {f"{KEY_PREFIX}{name}" for name in self.manifest["head"]}
        for module, patch in self.manifest["patches"].items():
            expected |= {_key(prefix, module, name) for name in patch["tensors"]}
        for problem, names in (("lacks", expected - set(self.tensors)), ("has too many", set(self.tensors) - expected)):
            if names:
                raise AdapterError(f"{folder / TENSORS} {problem}: {len(names)} tensors, first {min(names)}")

    def patches(self, base: Base) -> dict[str, Patch]:
        """Return the patches by module of `base`, their shapes checked against it."""
        prefix = self.manifest["base"]["prefix"]
        made = {}
        for module, stated in self.manifest["patches"].items():
            try:
                own = base.model.get_submodule(module)
            except AttributeError:
                raise AdapterError(
                    f"the adapter changes a module '{module}', which base '{base.name}' doesn't have"
                ) from None
            tensors = {name: self.tensors[_key(prefix, module, name)] for name in stated["tensors"]}
            try:
                made[module] = patch_class(stated["kind"]).load(tensors, stated["options"], own)
            except AdapterError as error:
                raise AdapterError(f"{module}: {error}") from error
        return made

    def check_base(self, base: Base) -> None:
        """Raise `AdapterError` where `base` isn't the one that the adapter was trained on."""
        if differ := base.differences(self.manifest["base"]):
            own = self.manifest["base"]
            trained_on = f"'{own['name']}' ({own['model_type']}, {own['fingerprint'][:12]})"
            this = f"'{base.name}' ({base.model.config.model_type}, {base.fingerprint[:12]})"
            raise AdapterError(
                f"the adapter was trained on base {trained_on}, and this is base {this}; what differs: "
                f"{'; '.join(differ)}; --allow-base-mismatch (allow_base_mismatch=True) uses it where shapes fit"
            )

    def moved_to(self, base: Base) -> Adapter:
        """Return the adapter as one of `base`, whichever it was trained on; what differs is in its manifest.

        There, `base` tells of this one, and its `mismatch` of the other: name, fingerprint and what differs, in words.
        Whether shapes fit is seen where it is attached.
        """
        own = self.manifest["base"]
        differ = base.differences(own)
        if not differ:
            return self
        mismatch = {"trained_on": {key: own[key] for key in ("name", "fingerprint")}, "differs": differ}
        moved = {**base.known_by(self.manifest["patches"]), "prefix": own["prefix"], "mismatch": mismatch}
        return Adapter({**self.manifest, "base": moved}, self.tensors)

    @property
    def mismatch(self) -> str | None:
        """What an adapter that was moved to a base was trained on, and how that differs, or None."""
        if (found := self.manifest["base"].get("mismatch")) is None:
            return None
        name, known_by = (found["trained_on"][key] for key in ("name", "fingerprint"))
        return f"was trained on another base, '{name}' ({known_by[:12]}); what differs: {'; '.join(found['differs'])}"

    def on(self, base: Base) -> Base:
        """Return `base` as the adapter has it: with the tokens that it adds, over the same tensors.

        Raises `AdapterError` where the base's tokenizer gives them other ids.
        """
        stated = self.manifest.get("added_tokens", {})
        if base.added_tokens == stated:
            return base
        wider = (base.of or base).with_tokens(list(stated))
        if wider.added_tokens != stated:
            raise AdapterError(f"the tokenizer gives the added tokens the ids {wider.added_tokens}, not {stated}")
        return wider

    @contextlib.contextmanager
    def attached(self, base: Base, *, allow_base_mismatch: bool = False) -> Iterator[Any]:
        """Yield a transformers model of the task on the shared `base`; afterwards the base is itself again.

        Raises `AdapterError` where the adapter belongs to another base, unless that is allowed and shapes fit, or
        another adapter is attached.
        """
        if not allow_base_mismatch:
            self.check_base(base)
        base = self.on(base)
        with base.held(), contextlib.ExitStack() as undo:
            patches = self.patches(base)
            task = self.task
            model = self._model(base, task)
            self._load_head(base, model)
            for module, patch in patches.items():
                undo.callback(patch.attach(base.model.get_submodule(module)))
            yield model

    def _model(self, base: Base, task: Task) -> Any:
        if (form := self.manifest.get("probe")) is not None:
            from .probe import Form, ProbeModel

            return ProbeModel(base, task.auto_class, Form.of(form), **task.config())
        with torch.random.fork_rng(devices=[]):
            return base.task_model(task.auto_class, untied=self.manifest.get("untied", False), **task.config())

    def _load_head(self, base: Base, model: Any) -> None:
        own = dict(model.named_parameters())
        there, stored = set(base.head_names(model)), set(self.manifest["head"])
        missing = there - stored - (set() if self.task.new_head else base.from_checkpoint(model))
        if missing or stored - there:
            raise AdapterError(f"the head of a {type(model).__name__} is {sorted(there)}, not {sorted(stored)}")
        for name in stored:
            tensor = self.tensors[f"{KEY_PREFIX}{name}"]
            if tensor.shape != own[name].shape:
                raise AdapterError(f"'{name}' is {tuple(tensor.shape)}, but the head's is {tuple(own[name].shape)}")
            own[name].data.copy_(tensor)


def _key(prefix: str, module: str, name: str) -> str:
    return f"{KEY_PREFIX}{prefix}{module}.{name}" if module else f"{KEY_PREFIX}{prefix}{name}"


def _own(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone().contiguous()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise AdapterError(f"can't read '{path}': {error.strerror}") from error


def parse_manifest(path: Path, data: bytes) -> dict[str, Any]:
    """Return a manifest, its parts of the right types, or raise `AdapterError`."""
    try:
        manifest = json.loads(data)
        if manifest["format_version"] != FORMAT_VERSION:
            found = manifest["format_version"]
            raise AdapterError(f"{path} has format version {found}; this adapterkit reads {FORMAT_VERSION}")
        parts = {"base": dict, "task": dict, "strategy": dict, "patches": dict, "head": list, "files": dict}
        base, task = manifest["base"], manifest["task"]
        right = all(isinstance(manifest[key], kind) for key, kind in parts.items())
        right = right and all(isinstance(base[key], str) for key in ("name", "model_type", "fingerprint", "prefix"))
        right = right and all(isinstance(base.get(key, {}), dict) for key in ("config", "tensors"))
        right = right and isinstance(task["name"], str) and isinstance(task["options"], dict)
        right = right and isinstance(base["revision"], str | None) and all(isinstance(n, str) for n in manifest["head"])
        for patch in manifest["patches"].values():
            right = right and isinstance(patch["kind"], str) and isinstance(patch["options"], dict)
            right = right and all(isinstance(name, str) for name in patch["tensors"])
        for file in manifest["files"].values():
            right = right and isinstance(file["sha256"], str) and isinstance(file["bytes"], int)
        added = manifest.get("added_tokens", {})
        right = right and isinstance(added, dict) and all(type(number) is int for number in added.values())
        if not right or TENSORS not in manifest["files"]:
            raise TypeError("a part of it is of another type than it should be")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise AdapterError(f"{path} is not an adapter's manifest: {str(error) or type(error).__name__}") from error
    whole: dict[str, Any] = manifest
    return whole
