"""Write adapters for `adapterkit.runtime`: the base once as ONNX, each adapter as small tensors beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..adapter.adapter import Adapter
from ..adapter.peft_config import KEY_PREFIX
from ..base.base import Base
from ..base.tracing import replicate
from ..errors import AdapterError
from ..io.atomic import json_bytes, new_folder, sha256, write_file
from ..patches.low_rank import LowRank
from ..pool.task_heads import SharedProbe, TaskHead
from ..probe.model import Form
from ..runtime.manifest import BASE_GRAPH, FORMAT_VERSION, MANIFEST, MOST_MANIFEST, TOKENIZER, parse_manifest
from ..tasks import SentenceSimilarity, TextGeneration
from ..watch import Watch
from .merge import check_folder
from .onnx_decoder import DecoderGraph
from .onnx_graphs import BaseGraph, HeadGraph, one_registry, tensor_bytes, to_onnx

_ROLES = ("mask_token", "pad_token", "unk_token", "cls_token", "sep_token", "bos_token", "eos_token")


class _Exported:
    """One adapter as it is written: its updates, its head and the tensors of that."""

    def __init__(self, name: str, version: str, adapter: Adapter, base: Base) -> None:
        """Raise `AdapterError`, with the adapter's name, where an export has no such adapter."""
        try:
            self.name, self.version, self.task = name, version, adapter.task
            _check(adapter)
            adapter.check_base(base)
            adapter.check_labels()
            adapter = adapter.decoded(base)
            self.updates = _updates(adapter.patches(base))
            self.form = Form.of(adapter.manifest["probe"]) if "probe" in adapter.manifest else None
            self.untied = adapter.manifest.get("untied", False)
            self.head_tensors = {head: adapter.tensors[f"{KEY_PREFIX}{head}"] for head in adapter.manifest["head"]}
            if self.task.generates and (self.untied or self.head_tensors):
                raise AdapterError("--format onnx generates with the base's own head, and this adapter has another")
        except AdapterError as error:
            raise AdapterError(f"adapter '{name}': {error}") from error

    @property
    def head_key(self) -> str:
        """A key that is equal for adapters whose heads are one graph."""
        form = self.form.plain() if self.form else None
        return json.dumps([type(self.task).__qualname__, self.task.head_key, form, self.untied])

    def head(self, base: Base) -> TaskHead:
        """Return a new head of the adapter's shape."""
        if self.form is not None:
            from ..modules import blocks

            return SharedProbe(self.task, self.form, base, len(blocks(base.model)))
        with torch.random.fork_rng(devices=[]):
            head = TaskHead(self.task.model(base, untied=self.untied), base, includes_base=False)
        if head.includes_base:
            raise AdapterError(
                f"adapter '{self.name}': a {type(head.model).__name__} can't run apart from its base, as "
                "--format onnx needs"
            )
        return head

    def tensors(self, head: TaskHead | None) -> dict[str, Tensor]:
        """Return the tensors of the adapter's file, a head's complete: what isn't stored comes from the checkpoint.

        Raises `AdapterError` where one is missing or of another shape.
        """
        named = head.parameters if head is not None else {}
        parameters = {name: owner._parameters[key] for name, (owner, key) in named.items()}
        tensors: dict[str, Tensor] = {}
        for name, parameter in parameters.items():
            assert parameter is not None
            assert head is not None
            neutral = getattr(head.model, "neutral", ())
            if name not in self.head_tensors and name not in head.pretrained and name not in neutral:
                raise AdapterError(f"adapter '{self.name}' lacks '{name}' of its head")
            tensors[f"head.{name}"] = self.head_tensors.get(name, parameter)
            if tensors[f"head.{name}"].shape != parameter.shape:
                raise AdapterError(f"adapter '{self.name}': '{name}' doesn't fit a head of {tuple(parameter.shape)}")
        for module, update in self.updates.items():
            tensors[f"{module}.A"], tensors[f"{module}.B"] = update.A.mT, update.B.mT * update.scale
        return tensors


def _check(adapter: Adapter) -> None:
    beams = adapter.task.generation.get("num_beams", 1) if isinstance(adapter.task, TextGeneration) else 1
    if adapter.task.generates and (not isinstance(adapter.task, TextGeneration) or beams != 1):
        what = f"num_beams={beams}" if beams != 1 else adapter.task.name
        raise AdapterError(f"--format onnx has no {what}; it has greedy text-generation")
    if not adapter.task.auto_class and not isinstance(adapter.task, SentenceSimilarity):
        raise AdapterError(f"--format onnx has no head of task '{adapter.task.name}', which isn't one of transformers")
    if "added_tokens" in adapter.manifest:
        raise AdapterError("--format onnx has no added tokens")


def _updates(patches: Mapping[str, Any]) -> dict[str, LowRank]:
    for module, patch in patches.items():
        if not isinstance(patch, LowRank) or patch.bias is not None:
            kind = "low-rank with a bias" if isinstance(patch, LowRank) else patch.kind
            raise AdapterError(
                f"--format onnx has no {kind} patches ('{module}' has one); it takes LoRA, linear probes and heads; "
                "--format merged writes a model that transformers loads"
            )
    return dict(patches)


def write_onnx(
    base: Base,
    adapters: Mapping[str, tuple[str, Adapter]],
    folder: str | os.PathLike[str],
    *,
    watch: Watch | None = None,
) -> Path:
    """Write adapters of one base, each with its version, into a new folder that `OnnxPool` opens; return its path.

    The graphs are compared with torch before they are written. Raises `AdapterError` where the folder isn't empty, the
    base isn't held in float32, or an adapter is none of low-rank updates, a linear probe or a head.
    """
    place, watch = check_folder(folder), watch or Watch()
    _check_base(base)
    exported = [_Exported(name, version, adapter, base) for name, (version, adapter) in adapters.items()]
    generating = [one.name for one in exported if one.task.generates]
    if generating and len(generating) < len(exported):
        raise AdapterError(f"adapters that generate need an export of their own: {', '.join(generating)}")
    base = base.view(replicate(base.model, {}))
    heads: dict[str, TaskHead] = {}
    for one in exported if not generating else []:
        heads.setdefault(one.head_key, one.head(base))
    names = {key: f"heads/{number}.onnx" for number, key in enumerate(heads)}
    modules = list(dict.fromkeys(module for one in exported for module in one.updates))
    graph = DecoderGraph(base, exported[0].task, modules) if generating else _base_graph(base, modules, exported)
    bar_of = watch.bar("exporting graphs", 1 + len(heads))
    with new_folder(place) as temporary, one_registry(), bar_of as bar:
        files: dict[str, Any] = {}

        def write(name: str, data: bytes) -> None:
            (temporary / name).parent.mkdir(exist_ok=True)
            write_file(temporary / name, data)
            files[name] = {"sha256": sha256(data), "bytes": len(data)}

        write(BASE_GRAPH, to_onnx(graph, BASE_GRAPH))
        bar.advance(1)
        tasks = {one.head_key: one.task for one in exported}
        for key, head in heads.items():
            assert isinstance(graph, BaseGraph)
            write(names[key], to_onnx(HeadGraph(head, tasks[key], graph), names[key]))
            bar.advance(1)
        write(TOKENIZER, base.tokenizer.backend_tokenizer.to_str().encode())
        for one in exported:
            write(f"adapters/{one.name}.safetensors", b"".join(tensor_bytes(one.tensors(heads.get(one.head_key)))))
        manifest = _manifest(base, graph, exported, names, files)
        write_file(temporary / MANIFEST, manifest)
    return place


def _base_graph(base: Base, modules: list[str], exported: list[_Exported]) -> BaseGraph:
    layers = sorted({layer for one in exported if one.form for layer in one.form.layers})
    return BaseGraph(base, modules, layers, token_types="token_type_ids" in base.tokenizer.model_input_names)


def _check_base(base: Base) -> None:
    if base.quantization != "no" or base.model.dtype != torch.float32:
        held = base.quantization if base.quantization != "no" else str(base.model.dtype).removeprefix("torch.")
        raise AdapterError(f"base '{base.name}' is held in {held}; --format onnx takes a base in float32")
    if base.model.config.is_encoder_decoder or not getattr(base.tokenizer, "is_fast", False):
        kind = "is an encoder-decoder" if base.model.config.is_encoder_decoder else "has no tokenizer.json"
        raise AdapterError(
            f"base '{base.name}' {kind}; --format onnx takes an encoder or decoder with a fast tokenizer"
        )


def _manifest(
    base: Base,
    graph: BaseGraph | DecoderGraph,
    exported: list[_Exported],
    heads: Mapping[str, str],
    files: Mapping[str, Any],
) -> bytes:
    tokenizer = base.tokenizer
    roles = {role: getattr(tokenizer, role, None) for role in _ROLES}
    data = json_bytes(
        {
            "format_version": FORMAT_VERSION,
            "base": {
                "name": base.name,
                "model_type": base.model.config.model_type,
                "fingerprint": base.fingerprint,
                "one_adapter_a_pass": bool(graph.mixing),
            },
            "tokenizer": {
                "model_max_length": min(int(tokenizer.model_max_length), 1 << 30),
                "truncation_side": tokenizer.truncation_side,
                "model_input_names": list(tokenizer.model_input_names),
                "special_tokens": {role: str(token) for role, token in roles.items() if token is not None},
                "clean_up": _cleans_up(tokenizer),
            },
            "modules": {name: list(shape) for name, shape in graph.shapes.items()},
            "adapters": {
                one.name: {
                    "version": one.version,
                    "task": {"name": one.task.name, "options": one.task.recorded()},
                    "head": heads.get(one.head_key, BASE_GRAPH),
                    "tensors": f"adapters/{one.name}.safetensors",
                    "modules": list(one.updates),
                }
                for one in exported
            },
            "files": dict(files),
            **({"generation": _generation(graph)} if isinstance(graph, DecoderGraph) else {}),
        }
    )
    if len(data) > MOST_MANIFEST:
        raise AdapterError(f"the export's manifest has {len(data)} bytes; at most {MOST_MANIFEST} are read again")
    parse_manifest(data)
    return data


def _generation(graph: DecoderGraph) -> dict[str, Any]:
    names = ("layers", "heads", "size", "eos_token_ids")
    return {name: getattr(graph, name) for name in names}


def _cleans_up(tokenizer: Any) -> bool:
    """Return whether transformers removes spaces before punctuation after decoding, which it doesn't with BPE."""
    corrupts = getattr(tokenizer, "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", False)
    is_bpe = type(tokenizer.backend_tokenizer.model).__name__ == "BPE"
    return bool(tokenizer.clean_up_tokenization_spaces) and (not is_bpe or bool(corrupts))
