"""An adapter: patches, a head and a manifest; in memory, as files, and attached to its base."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..base.base import Base
from ..discovery import patch_class
from ..display import html_table, metric_rows, size
from ..errors import AdapterError
from ..io import tensors as tensorfile
from ..io.atomic import json_bytes, sha256
from ..io.untrusted import MOST_JSON
from ..patches.patch import Patch
from ..patches.replace import Replace
from ..tasks import Task
from .manifest import FILE_METADATA, FORMAT_VERSION, MANIFEST, PEFT_CONFIG, TENSORS, parse_manifest
from .peft_config import FEATURES, KEY_PREFIX, peft_config
from .stored import StoredAdapter, read_files


@dataclass(eq=False, repr=False)
class Adapter:
    """What one task adds to the base. `tensors` are named as in the file: PEFT's prefix, then the task model's name.

    Methods raise `AdapterError` where a file is damaged, or the base is another one.

    >>> adapter = ak.Registry("registry.json").load("reviews")
    >>> {name: tuple(tensor.shape) for name, tensor in adapter.tensors.items()}
    {'base_model.model.probe.score.bias': (2,), 'base_model.model.probe.score.weight': (2, 1536)}
    >>> with adapter.attached(base) as model:
    ...     type(model).__name__
    'ProbeModel'
    """

    manifest: dict[str, Any]
    tensors: dict[str, Tensor]

    @classmethod
    def make(
        cls, base: Base, model: Any, patches: Mapping[str, Patch], head: Mapping[str, Tensor], about: Mapping[str, Any]
    ) -> Adapter:
        """Make an adapter of patches by module name and head tensors by name in the task `model`.

        Raises `AdapterError` where a tensor is empty, as those of DeepSpeed's ZeRO-3 are until they are gathered.
        """
        # PEFT has no probes, and loads the patches of an adapter that has one on the base alone
        prefix = "" if patches and "probe" in about else base.prefix(model)
        tensors = {f"{KEY_PREFIX}{name}": _copied(tensor) for name, tensor in head.items()}
        tensors |= _tensors(prefix, patches)
        if empty := [name for name, tensor in tensors.items() if not tensor.numel()]:  # in pieces, on other devices
            raise AdapterError(f"'{empty[0]}' holds no number; an adapter would lack what was learned there")
        manifest = {
            "format_version": FORMAT_VERSION,
            "base": {**base.manifest_entry(patches), "prefix": prefix},
            **about,
            "patches": _stated(patches),
            "head": sorted(head),
            **({"added_tokens": base.added_tokens} if base.added_tokens else {}),
            **({"tied": tied} if head and (tied := base.tied_names(model)) else {}),
        }
        return cls(manifest, tensors)

    def patched(self, patches: Mapping[str, Patch]) -> Adapter:
        """Return the adapter with other patches by module name, and the same head."""
        manifest = {**self.manifest, "patches": _stated(patches)}
        manifest.pop("files", None)
        head = {name: self.tensors[name] for name in (f"{KEY_PREFIX}{name}" for name in manifest["head"])}
        return Adapter(manifest, head | _tensors(manifest["base"]["prefix"], patches))

    def decoded(self, base: Base) -> Adapter:
        """Return the adapter with tensors as they are used in the place of encoded ones."""
        if not any(
            self._kind(kind).encoded for kind in {stated["kind"] for stated in self.manifest["patches"].values()}
        ):
            return self
        patches = self.patches(self.on(base))
        return self.patched({m: Replace(p.replaced) if isinstance(p, Replace) else p for m, p in patches.items()})

    def __repr__(self) -> str:
        return f"<Adapter {', '.join(f'{name} {value}' for name, value in self._facts().items())}>"

    def _repr_html_(self) -> str:
        metrics = [
            [f"{split} {name}", value] for split, name, value, _ in metric_rows(self.manifest.get("metrics", {}))
        ]
        return html_table("Adapter", (), [*self._facts().items(), *metrics])

    def _facts(self) -> dict[str, str]:
        """Return a summary for people; a manifest in memory may still lack some fields."""
        numbers = sum(t.numel() for t in self.tensors.values())
        held = size(sum(t.numel() * t.element_size() for t in self.tensors.values()))
        named = {key: self.manifest.get(key, {}).get("name", "?") for key in ("task", "strategy", "base")}
        return {**named, "tensors": f"{len(self.tensors)} ({numbers:,} numbers, {held})"}

    @property
    def task(self) -> Task:
        """The task that the adapter does, with its labels."""
        return StoredAdapter(self.manifest).task

    def files(self) -> dict[str, bytes]:
        """Return the adapter as files by name; the manifest holds the digests of the others.

        Raises `AdapterError` where it couldn't be read again.
        """
        files = {TENSORS: b"".join(tensorfile.chunks(self.tensors, FILE_METADATA))}
        task_type = FEATURES if "probe" in self.manifest else self.task.peft_task_type
        config = peft_config(self.manifest, self.tensors, task_type)
        if config is not None:
            files[PEFT_CONFIG] = self._config_bytes(config)
        digests = {name: {"sha256": sha256(data), "bytes": len(data)} for name, data in files.items()}
        manifest = json_bytes({**self.manifest, "files": digests})
        if len(manifest) > MOST_JSON:
            raise AdapterError(f"the adapter's manifest has {len(manifest)} bytes; at most {MOST_JSON} are read again")
        try:
            parse_manifest(manifest)
        except ValueError as error:
            raise AdapterError(f"the adapter can't be stored: {error}") from error
        return {MANIFEST: manifest, **files}

    def _config_bytes(self, config: Mapping[str, Any]) -> bytes:
        """Return PEFT's config; of an adapter that was saved before it named the base's Hub id, in the same bytes."""
        before = json_bytes({**config, "base_model_name_or_path": self.manifest["base"]["name"]})
        stored = self.manifest.get("files", {}).get(PEFT_CONFIG, {}).get("sha256")
        return before if stored == sha256(before) else json_bytes(config)

    @classmethod
    def load(cls, folder: str | Path, *, version: str | None = None) -> Adapter:
        """Read an adapter from its folder: every file is read once, hashed, and parsed from the same bytes.

        Raises `AdapterError` where one is missing, damaged, not as in the manifest, or the manifest is not that of
        `version`.
        """
        folder = Path(folder)
        manifest, contents = read_files(folder, version)
        try:
            adapter = cls(manifest, tensorfile.tensors(contents[TENSORS]))
        except ValueError as error:
            raise AdapterError(f"{folder / TENSORS}: not a safetensors file: {error}") from error
        adapter._check_tensors(folder)
        return adapter

    def _stated(self) -> list[tuple[str, str | None]]:
        """Return the tensors that the manifest names, and the kind of patch that each belongs to, None for the head."""
        prefix, patches = self.manifest["base"]["prefix"], self.manifest["patches"]
        stated: list[tuple[str, str | None]] = [(f"{KEY_PREFIX}{name}", None) for name in self.manifest["head"]]
        for module, patch in patches.items():
            stated += [(_key(prefix, module, name), patch["kind"]) for name in patch["tensors"]]
        return stated

    def _check_tensors(self, folder: Path) -> None:
        """Raise `AdapterError` where a tensor isn't named or one that is named isn't there, or one is no number."""
        stated, present = self._stated(), set(self.tensors)
        kinds, kind_class = dict(stated), functools.cache(self._kind)
        if len(kinds) < len(stated):
            raise AdapterError(f"{folder / MANIFEST} gives {len(stated) - len(kinds)} tensors to more than one module")
        for problem, names in (("lacks", set(kinds) - present), ("has too many", present - set(kinds))):
            if names:
                raise AdapterError(f"{folder / TENSORS} {problem}: {len(names)} tensors, first {min(names)}")
        for name, tensor in self.tensors.items():
            kind = kinds[name]
            if tensor.is_floating_point():
                right = tensorfile.is_finite(tensor)
            else:  # codes of numbers, which only some kinds of patches have
                right = kind is not None and kind_class(kind).encoded
            if not right:
                raise AdapterError(f"{folder / TENSORS}: '{name}' holds what is no finite number")

    def _kind(self, kind: str) -> type[Patch]:
        """Return a kind of patch, or raise `AdapterError` with the package that the adapter was trained with."""
        try:
            return patch_class(kind)
        except AdapterError as error:
            strategy = self.manifest["strategy"]
            whose = " ".join(str(strategy[key]) for key in ("distribution", "version") if key in strategy)
            trained = f"'{strategy['name']}'" + (f" of {whose}" if whose else "")
            raise AdapterError(f"{error}; the adapter was trained with strategy {trained}") from error

    def patches(self, base: Base) -> dict[str, Patch]:
        """Return the patches by module of `base`, their shapes checked against it."""
        prefix, kind_class = self.manifest["base"]["prefix"], functools.cache(self._kind)
        patches = {}
        for module, stated in self.manifest["patches"].items():
            try:
                patched = base.model.get_submodule(module)
            except AttributeError:
                raise AdapterError(
                    f"the adapter changes a module '{module}', which base '{base.name}' doesn't have"
                ) from None
            tensors = {name: self.tensors[_key(prefix, module, name)] for name in stated["tensors"]}
            try:
                patches[module] = kind_class(stated["kind"]).load(tensors, stated["options"], patched)
            except AdapterError as error:
                raise AdapterError(f"{module}: {error}") from error
        return patches

    def check_base(self, base: Base) -> None:
        """Raise `AdapterError` where `base` isn't the one that the adapter was trained on."""
        if differ := base.differences(self.manifest["base"]):
            recorded = self.manifest["base"]
            trained_on = f"'{recorded['name']}' ({recorded['model_type']}, {recorded['fingerprint'][:12]})"
            this = f"'{base.name}' ({base.model.config.model_type}, {base.fingerprint[:12]})"
            raise AdapterError(
                f"the adapter was trained on base {trained_on}, and this is base {this}; what differs: "
                f"{'; '.join(differ)}; --allow-base-mismatch (allow_base_mismatch=True) uses it where shapes fit"
            )

    def moved_to(self, base: Base) -> Adapter:
        """Return the adapter as one of `base`, whichever it was trained on.

        In its manifest, `base` then describes this base, and `base.mismatch` the other one: name, fingerprint and the
        differences in words. Shapes are checked when it is attached.
        """
        recorded = self.manifest["base"]
        differ = base.differences(recorded)
        if not differ:
            return self
        mismatch = {"trained_on": {key: recorded[key] for key in ("name", "fingerprint")}, "differs": differ}
        moved = {**base.manifest_entry(self.manifest["patches"]), "prefix": recorded["prefix"], "mismatch": mismatch}
        return Adapter({**self.manifest, "base": moved}, self.tensors)

    @property
    def mismatch(self) -> str | None:
        """What an adapter that was moved to a base was trained on, and how that differs, or None."""
        if (mismatch := self.manifest["base"].get("mismatch")) is None:
            return None
        name, fingerprint = (mismatch["trained_on"][key] for key in ("name", "fingerprint"))
        differs = "; ".join(mismatch["differs"])
        return f"was trained on another base, '{name}' ({fingerprint[:12]}); what differs: {differs}"

    def check_labels(self) -> None:
        """Raise `AdapterError` where there are more labels than numbers, before a head of that size is allocated."""
        labels, numbers = self.task.config().get("num_labels", 0), sum(t.numel() for t in self.tensors.values())
        if labels > numbers:
            raise AdapterError(f"the adapter has {labels} labels, but only {numbers} numbers in all")

    def on(self, base: Base) -> Base:
        """Return `base` as the adapter has it: with the tokens that it adds, over the same tensors.

        Raises `AdapterError` where the base's tokenizer gives them other ids.
        """
        stated = self.manifest.get("added_tokens", {})
        if base.added_tokens == stated:
            return base
        wider = (base.parent or base).with_tokens(list(stated))
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
        self.check_labels()
        base = self.on(base)
        with base.locked(), contextlib.ExitStack() as undo:
            patches = self.patches(base)
            task = self.task
            model = self._model(base, task)
            self._load_head(base, model)
            for module, patch in patches.items():
                undo.callback(patch.attach(base.model.get_submodule(module)))
            yield model

    def _model(self, base: Base, task: Task) -> Any:
        if (form := self.manifest.get("probe")) is not None:
            from ..probe.model import Form, ProbeModel

            return ProbeModel(base, task, Form.of(form))
        with torch.random.fork_rng(devices=[]):
            return task.model(base, untied=self.manifest.get("untied", False))

    def _load_head(self, base: Base, model: Any) -> None:
        parameters = dict(model.named_parameters())
        expected, stored = set(base.head_names(model)), set(self.manifest["head"])
        missing = expected - stored - (set() if self.task.new_head else base.from_checkpoint(model))
        if missing or stored - expected:
            raise AdapterError(f"the head of a {type(model).__name__} is {sorted(expected)}, not {sorted(stored)}")
        for name in stored:
            tensor = self.tensors[f"{KEY_PREFIX}{name}"]
            if tensor.shape != parameters[name].shape:
                raise AdapterError(
                    f"'{name}' is {tuple(tensor.shape)}, but the head's is {tuple(parameters[name].shape)}"
                )
            parameters[name].data.copy_(tensor)


def _key(prefix: str, module: str, name: str) -> str:
    return f"{KEY_PREFIX}{prefix}{module}.{name}" if module else f"{KEY_PREFIX}{prefix}{name}"


def _tensors(prefix: str, patches: Mapping[str, Patch]) -> dict[str, Tensor]:
    return {_key(prefix, m, name): _copied(tensor) for m, p in patches.items() for name, tensor in p.tensors().items()}


def _stated(patches: Mapping[str, Patch]) -> dict[str, Any]:
    return {
        m: {"kind": p.kind, "options": dict(p.options()), "tensors": sorted(p.tensors())} for m, p in patches.items()
    }


def _copied(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone().contiguous()
