"""The ONNX graph of a causal language model: low-rank updates and the key-value cache are inputs of it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from ..base.base import Base
from ..base.tracing import replicate
from ..errors import AdapterError
from ..patches.patch import features
from ..tasks import Task
from .onnx_graphs import with_update

_WITHOUT_EFFECT = {"bos_token_id", "eos_token_id", "pad_token_id", "max_length", "max_new_tokens", "use_cache"}
_WITHOUT_EFFECT |= {"do_sample", "temperature", "top_k", "top_p", "transformers_version", "_from_model_config"}
_WITHOUT_EFFECT |= {"output_attentions", "output_hidden_states", "return_dict_in_generate", "decoder_start_token_id"}
"""Settings of generate that change nothing in greedy search for a number of new tokens."""
_CLOSE = 1e-4  # of the largest logit


class DecoderGraph(nn.Module):
    """A causal language model that returns the logits behind each row's last token, and the longer cache.

    Rows are padded at the end; the mask, (texts, past + tokens), hides padding, also of earlier passes.
    """

    mixing: frozenset[str] = frozenset()

    def __init__(self, base: Base, task: Task, modules: Sequence[str]) -> None:
        """Raise `AdapterError` where the model's cache isn't keys and values of all tokens, or its head is no map."""
        super().__init__()
        replica = base.view(replicate(base.model, {}))
        with torch.random.fork_rng(devices=[]):
            self.model: Any = task.model(replica, untied=False)
        self.eos_token_ids = end_tokens(self.model, base)
        self.vocabulary = base.model.get_input_embeddings().num_embeddings
        decoder = self.model.base_model
        self.shapes = {name: features(decoder.get_submodule(name)) for name in modules}
        self._factors: dict[str, tuple[Tensor, Tensor]] = {}
        self.layers, self.heads, self.size = _cache_shape(self.model)
        _check_head(self.model)
        for name in modules:
            module = decoder.get_submodule(name)
            module.forward = with_update(module, functools.partial(self._factors_of, name))

    def _factors_of(self, name: str) -> tuple[Tensor, Tensor]:
        return self._factors[name]

    @property
    def input_names(self) -> list[str]:
        """The graph's inputs in order."""
        factors = [f"{name}.{letter}" for name in self.shapes for letter in "AB"]
        cache = [f"past.{name}" for name in self._cache_names]
        tokens = ["input_ids", "attention_mask", "position_ids", "last"]
        return [*tokens, *cache, *(["adapter_of_row", *factors] if factors else [])]

    @property
    def output_names(self) -> list[str]:
        """The graph's outputs in order."""
        return ["logits", *(f"present.{name}" for name in self._cache_names)]

    @property
    def _cache_names(self) -> list[str]:
        return [f"{layer}.{kind}" for layer in range(self.layers) for kind in ("key", "value")]

    def inputs(self, texts: int, tokens: int, adapters: int, rank: int) -> dict[str, Tensor]:
        """Return random inputs of a size, by name; some sizes have no cache yet."""
        generator, past = torch.Generator().manual_seed(texts * tokens + rank), tokens % 5
        values = {"input_ids": torch.randint(0, self.vocabulary, (texts, tokens), generator=generator)}
        mask = torch.ones(texts, past + tokens, dtype=torch.int64)
        mask[-1, past + tokens - tokens // 3 :] = 0
        values["attention_mask"], values["last"] = mask, mask[:, past:].sum(1) - 1
        values["position_ids"] = (mask.cumsum(1) - 1)[:, past:]
        for name in self._cache_names:
            values[f"past.{name}"] = torch.randn(texts, self.heads, past, self.size, generator=generator)
        values["adapter_of_row"] = torch.arange(texts) % adapters
        for name, (inner, outer) in self.shapes.items():
            values[f"{name}.A"] = torch.randn(adapters, inner, rank, generator=generator) / inner**0.5
            values[f"{name}.B"] = torch.randn(adapters, rank, outer, generator=generator) / 10
        return {name: values[name] for name in self.input_names}

    def dynamic_shapes(self) -> dict[str, dict[int, Any]]:
        """Return the dimensions of inputs that vary, by name."""
        varies = torch.export.Dim.DYNAMIC
        kinds = {".A": {0: varies, 2: varies}, ".B": {0: varies, 1: varies}}
        rows: dict[str, dict[int, Any]] = {name: {0: varies} for name in ("last", "adapter_of_row")}
        cache = {f"past.{name}": {0: varies, 2: varies} for name in self._cache_names}
        shapes = {**rows, **cache}
        return {n: shapes.get(n) or kinds.get(n[-2:], {0: varies, 1: varies}) for n in self.input_names}

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return logits, (texts, vocabulary), and keys and values, (texts, heads, past + tokens, size), by layer."""
        values = dict(zip(self.input_names, inputs, strict=True))
        if "adapter_of_row" in values:
            rows = values["adapter_of_row"]
            self._factors = {n: (values[f"{n}.A"][rows], values[f"{n}.B"][rows]) for n in self.shapes}
        past = [values[f"past.{name}"] for name in self._cache_names]
        cache = transformers.DynamicCache(ddp_cache_data=list(zip(past[::2], past[1::2], strict=True)))
        tokens = {name: values[name] for name in ("input_ids", "attention_mask", "position_ids")}
        output = self.model.base_model(**tokens, past_key_values=cache, use_cache=True)
        last = values["last"].view(-1, 1, 1).expand(-1, 1, output.last_hidden_state.shape[-1])
        logits = self.model.get_output_embeddings()(output.last_hidden_state.gather(1, last).squeeze(1))
        present = [tensor for layer in output.past_key_values.layers for tensor in (layer.keys, layer.values)]
        return (logits, *present)


def end_tokens(model: Any, base: Base) -> list[int]:
    """Return the tokens that end a text; raises `AdapterError` where generate does more than a greedy search."""
    settings = model.generation_config.to_diff_dict()
    if further := sorted(set(settings) - _WITHOUT_EFFECT):
        setting = f"{further[0]}={settings[further[0]]}"
        raise AdapterError(f"--format onnx generates greedily, without {setting} of base '{base.name}'")
    ids = model.generation_config.eos_token_id
    ids = base.tokenizer.eos_token_id if ids is None else ids
    return list(ids) if isinstance(ids, list) else [ids] if ids is not None else []


def _cache_shape(model: Any) -> tuple[int, int, int]:
    """Return layers, heads and size of the cache's keys. Raises `AdapterError` where it is no plain cache."""
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        layers = getattr(model(input_ids=ids, use_cache=True).past_key_values, "layers", [])
    keys = [getattr(layer, "keys", None) for layer in layers if type(layer).__name__ == "DynamicLayer"]
    shapes = {tuple(key.shape) for key in keys if key is not None}
    if len(keys) != len(layers) or len(shapes) != 1 or (shape := shapes.pop())[2] != 3:
        kind = model.config.model_type
        raise AdapterError(f"--format onnx generates with a cache of all tokens in every layer, which '{kind}' lacks")
    return len(layers), shape[1], shape[3]


def _check_head(model: Any) -> None:
    """Raise `AdapterError` where logits are something else than a linear map of the decoder's output."""
    ids = torch.tensor([[1, 2, 3, 4]])
    with torch.no_grad():
        logits = model(input_ids=ids).logits
        mapped = model.get_output_embeddings()(model.base_model(input_ids=ids).last_hidden_state)
    if float((logits - mapped).abs().max()) > _CLOSE * max(1.0, float(logits.abs().max())):
        kind = model.config.model_type
        raise AdapterError(f"--format onnx has no generation of '{kind}', whose logits are no linear map of its output")
