"""The base: one pretrained transformer in memory, frozen, shared by every task."""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from ..errors import BaseModelError, TaskError
from ..io.atomic import sha256
from ..modules import blocks
from . import added_tokens as added
from . import word_vectors
from .checkpoint import (
    HUB_IDS,
    _check_config,
    _check_tokenizer,
    _fresh_children,
    _quantized,
    _read_tensors,
    _seen,
    _why_not,
    find,
)
from .digest_cache import seen
from .fingerprint import differences, fingerprint, model_digests, settings_of, tensor_digests, touched
from .tracing import replicate

_SAMPLE = 'Über 1,234.5 naïve CATS don\'t e-mail\t"x_y" (née 東京) — ok?! 👍\n  The  end.'
"""What a tokenizer is known by, beside its tokens: cases, accents, scripts, digits, marks and spaces."""


@dataclass(eq=False)
class Base:
    """A pretrained transformer without a task head, its tokenizer, and what the checkpoint holds beside it."""

    name: str  # as the user gave it
    path: str  # as from_pretrained takes it: a folder or a Hub id
    revision: str | None
    model: Any  # transformers.PreTrainedModel
    tokenizer: Any  # transformers.PreTrainedTokenizerBase
    digests: dict[str, str]  # SHA-256 of each tensor's values by name, as hex
    fresh: frozenset[str] = frozenset()  # direct children that the checkpoint has no tensors for
    pretrained_head: dict[str, Tensor] = field(default_factory=dict)  # the checkpoint's tensors outside the base
    trust_remote_code: bool = False
    quantization: str = "no"  # or 4bit, 8bit
    added_tokens: dict[str, int] = field(default_factory=dict)  # that an adapter adds: their ids
    of: Base | None = None  # whose tensors these are, where tokens are added
    settings: dict[str, Any] = field(init=False)  # the config's, as far as they make the base what it is
    fingerprint: str = field(init=False)  # of settings and digests: what an adapter was trained on
    tokenizer_digest: str = field(init=False)  # SHA-256 of the tokenizer, before any use changes its state
    serving: int = field(init=False, default=0)  # how many open pools answer from these tensors
    _lock: threading.Lock = field(init=False, repr=False, default_factory=threading.Lock)
    _holder: int | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        self.settings = settings_of(self.model.config)
        self.fingerprint = fingerprint(self.settings, self.digests)
        self.tokenizer_digest = _tokenizer_digest(self.tokenizer)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Have the base to oneself: other threads wait.

        Raises `BaseModelError` where this thread has it already, in a training or with an adapter attached.
        """
        if self.of is not None:
            with self.of.held():
                yield
            return
        if self._holder == threading.get_ident():
            raise BaseModelError(
                f"base '{self.name}' is in use: an adapter is attached to it, or it is being trained on"
            )
        with self._lock:
            self._holder = threading.get_ident()
            try:
                yield
            finally:
                self._holder = None

    @property
    def hub_id(self) -> str | None:
        """The base's id on the Hub, or None where it comes from a folder or a file and none is known."""
        if self.path != self.name:
            return HUB_IDS.get(self.name)
        return None if os.path.exists(self.path) else self.name

    def known_by(self, modules: Iterable[str]) -> dict[str, Any]:
        """Return what the manifest of an adapter that changes these modules says of the base."""
        return {
            "name": self.name,
            **({"hub_id": self.hub_id} if self.hub_id else {}),
            "revision": self.revision,
            **({"quantization": self.quantization} if self.quantization != "no" else {}),
            "model_type": self.model.config.model_type,
            "fingerprint": self.fingerprint,
            "tokenizer": self.vocabulary_digest,
            "config": self.settings,
            "tensors": touched((self.of or self).digests, modules),
        }

    def differences(self, stated: Mapping[str, Any]) -> list[str]:
        """Return in words how this base differs from the one that a manifest states; nothing where it is that one."""
        same = bool(stated["fingerprint"] == self.fingerprint)
        found = [] if same else differences(stated, self.settings, (self.of or self).digests)
        if stated.get("tokenizer", self.vocabulary_digest) != self.vocabulary_digest:  # older adapters don't tell
            found.append("the tokenizer (its tokens, or what it makes of a text)")
        return found

    @functools.cached_property
    def vocabulary_digest(self) -> str:
        """SHA-256 of the tokenizer's tokens and of how it cuts a text, as hex: the same however it was saved."""
        if self.of is not None:
            return self.of.vocabulary_digest
        tokens = sorted(self.tokenizer.get_vocab().items(), key=lambda item: (item[1], item[0]))
        cut = self.tokenizer(_SAMPLE, truncation=False, padding=False)["input_ids"]
        return sha256(json.dumps([tokens, cut]).encode())

    def altered(self) -> list[str]:
        """Return the names of the tensors whose values are not those that were loaded."""
        now = tensor_digests(self.model, without=self.fresh)
        return [name for name in {**self.digests, **now} if self.digests.get(name) != now.get(name)]

    def reload(self) -> None:
        """Read the tensors' values again from where the base came from."""
        other = (
            type(self)
            .load(
                self.name,
                revision=self.revision,
                trust_remote_code=self.trust_remote_code,
                quantization=self.quantization,
            )
            .with_tokens(list(self.added_tokens))
        )
        values = dict(other.model.named_parameters())
        with torch.no_grad():
            for name, p in self.model.named_parameters():
                if self.of is None:
                    p.data = values[name].data.to(p.device)
                else:
                    p.data.copy_(values[name])  # in place, so that the base whose tensors these are has them, too

    @classmethod
    def load(
        cls,
        name: str,
        *,
        revision: str | None = None,
        trust_remote_code: bool = False,
        quantization: str = "no",
    ) -> Base:
        """Load a base by folder, by the name of an installed one (`minilm`), by file of word vectors, or by Hub id.

        Reads safetensors only, and runs no code of the checkpoint unless `trust_remote_code`. HF_HUB_OFFLINE is
        honoured. With a `quantization` of 4bit (NF4: Dettmers et al. 2023, arXiv:2305.14314) or 8bit, linear maps are
        held so by bitsandbytes. Raises `BaseModelError` where there is none, or it is not whole.
        """
        path = find(name)
        word_vectors.register()  # so that a folder that such a base was saved to is one too
        if os.path.isfile(path):
            before = seen([path])
            if quantization != "no":
                raise BaseModelError(f"quantization={quantization} is for transformers, and '{name}' is word vectors")
            model, tokenizer = word_vectors.load(path)
            model.requires_grad_(False)
            return cls(name, path, revision, model, tokenizer, model_digests(model, before, ()))
        _check_config(name, path)
        common: dict[str, Any] = {"revision": revision or "main", "trust_remote_code": trust_remote_code}
        held = _quantized(quantization)
        own_code = trust_remote_code or quantization != "no"  # what is loaded follows from more than the files
        before = [] if own_code else _seen(path, common["revision"])
        try:
            model, info = transformers.AutoModel.from_pretrained(
                path, use_safetensors=True, output_loading_info=True, **held, **common
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(path, **common)
        except Exception as error:  # of files that may hold anything, transformers raises anything
            raise BaseModelError(_why_not(name, path, error)) from error
        tokenizer.padding_side = "right"  # labels and offsets are counted from the left; generation pads by itself
        if tokenizer.pad_token is None:  # masked wherever it stands, so any will do
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        _check_tokenizer(name, model, tokenizer)
        fresh = _fresh_children(name, model, set(info["missing_keys"]))
        model.requires_grad_(False).eval()
        head = _read_tensors(path, common["revision"], set(info["unexpected_keys"]))
        digests = model_digests(model, before, fresh)
        return cls(name, path, revision, model, tokenizer, digests, fresh, head, trust_remote_code, quantization)

    @classmethod
    def again(cls, stored: Mapping[str, Any], name: str) -> Base:
        """Load from `name` the base that a manifest tells of, at its revision and in its quantization."""
        return cls.load(name, revision=stored["revision"], quantization=stored.get("quantization", "no"))

    @functools.cached_property
    def is_causal(self) -> bool:
        """Whether a token's output is independent of the tokens after it, as tried on two texts."""
        if self.model.config.is_encoder_decoder:
            return False
        ids = torch.full((2, 4), self.tokenizer.pad_token_id or 0, device=self.model.device)
        ids[:, :3] = torch.arange(3, device=ids.device)
        ids[1, 3] = 2
        with torch.inference_mode():
            first, second = self.model(input_ids=ids, attention_mask=torch.ones_like(ids))[0][:, 0]
        return bool(torch.equal(first, second))

    @functools.cached_property
    def max_length(self) -> int | None:
        """The most tokens that the base takes, or None where it sets no limit."""
        limits = [self.tokenizer.model_max_length] if self.tokenizer.model_max_length < 1 << 30 else []
        limits += filter(None, [getattr(self.model.config, "max_position_embeddings", None)])
        for name, module in self.model.named_modules():
            if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
                limits.append(module.num_embeddings - module.padding_idx - 1)  # RoBERTa counts from there
        return min(limits, default=None)

    @functools.cached_property
    def nbytes(self) -> int:
        """Bytes of the base's tensors."""
        return sum(p.numel() * p.element_size() for p in self.model.parameters())

    def with_tokens(self, tokens: Sequence[str]) -> Base:
        """Return this base with a tokenizer that knows `tokens`, too, and rows for them, over the same tensors.

        This one stays as it is. Raises `BaseModelError` for a token that can't be added.
        """
        if not tokens:
            return self
        if self.quantization != "no" or isinstance(self.model.config, word_vectors.WordVectorsConfig):
            raise BaseModelError(f"added_tokens={','.join(tokens)}: base '{self.name}' is one that can't have more")
        wider = copy.copy(self)
        wider.of, wider.model = self, replicate(self.model, {})
        wider.tokenizer, wider.added_tokens = added.tokenizer_with(self.tokenizer, tokens)
        added.widen_base(wider.model, len(self.tokenizer), wider._pieces)
        wider.digests = tensor_digests(wider.model, without=self.fresh)
        wider.tokenizer_digest = _tokenizer_digest(wider.tokenizer)
        return wider

    @property
    def _pieces(self) -> list[list[int]]:
        """What each added token is read as by the tokenizer that doesn't know it."""
        assert self.of is not None
        return [self.of.tokenizer(token, add_special_tokens=False)["input_ids"] for token in self.added_tokens]

    def __repr__(self) -> str:
        return f"<Base {self.describe()}>"

    def describe(self) -> str:
        """Say in a line what the base is."""
        count = sum(p.numel() for p in self.model.parameters())
        kind = self.model.config.model_type
        return f"{self.name} ({kind}, {len(blocks(self.model))} blocks, {count / 1e6:.1f} M parameters)"

    def task_model(self, auto_class: str, *, untied: bool = False, **config: Any) -> Any:
        """Return a transformers model of `auto_class` whose base is this one, shared, under a head of its own.

        The head is the checkpoint's where it has one of that name and shape, else initialised as transformers does,
        from torch's global generator. `config` overrides the base's config (`num_labels`, ...). With `untied`, output
        embeddings that are tied to the base's input embeddings become a copy of their own. Raises `TaskError` where
        transformers has no such head for this architecture.
        """
        settings = copy.deepcopy(self.model.config)
        if getattr(settings, "pad_token_id", None) is None:
            settings.pad_token_id = self.tokenizer.pad_token_id
        for key, value in config.items():
            setattr(settings, key, value)
        auto = getattr(transformers, auto_class)
        try:
            with torch.device("meta"):  # nothing of the base is allocated twice
                model = auto.from_config(settings, trust_remote_code=self.trust_remote_code)
        except ValueError as error:
            kind = self.model.config.model_type
            raise TaskError(f"transformers has no {auto_class} for '{kind}' models such as '{self.name}'") from error
        own = dict(self.model.named_parameters(remove_duplicate=False))
        _graft(model.base_model, self.model, without=self.fresh)
        model.tie_weights()
        if any(own[name] is not p for name, p in self.model.named_parameters(remove_duplicate=False)):
            raise TaskError(f"a {type(model).__name__} ties the weights of '{self.name}' otherwise, and can't share it")
        _materialise(model, self.model.dtype, self.model.device)
        model.tie_weights()  # what is tied within the head was made apart
        self._untie(model, always=untied)
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        for name in self.from_checkpoint(model):
            tensors[name].data.copy_(self.pretrained_head[name])
        if self.added_tokens:
            added.widen_head(model, self.model.get_input_embeddings(), self._pieces)
        return model.eval()

    def _untie(self, model: Any, *, always: bool) -> None:
        """Give output embeddings a weight of their own, if asked to or if the checkpoint has one (T5 1.1)."""
        output = model.get_output_embeddings()
        if output is None or getattr(output, "weight", None) is None:
            return
        name = next(f"{path}.weight" for path, module in model.named_modules() if module is output)
        stored = self.pretrained_head.get(name)
        apart = stored is not None and stored.shape == output.weight.shape and not torch.equal(stored, output.weight)
        if always or apart:
            output.weight = nn.Parameter(output.weight.detach().clone())

    def from_checkpoint(self, model: nn.Module) -> set[str]:
        """Return the names of the head's tensors that the checkpoint holds, and that so aren't new."""
        own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        return {name for name, t in self.pretrained_head.items() if name in own and own[name].shape == t.shape}

    def head_names(self, model: nn.Module) -> list[str]:
        """Return the names of the parameters of a task model that are not the shared base's."""
        shared = {id(p) for p in self.model.parameters()}
        return [name for name, p in model.named_parameters() if id(p) not in shared]

    def tied_names(self, model: Any) -> list[str]:
        """Return the names that parameters of the shared base have in the head of a task model."""
        prefix, own = self.prefix(model), dict(self.model.named_parameters(remove_duplicate=False))
        shared = {id(p) for p in own.values()}
        named = model.named_parameters(remove_duplicate=False)
        return sorted(name for name, p in named if id(p) in shared and name.removeprefix(prefix) not in own)

    @staticmethod
    def prefix(model: Any) -> str:
        """Return what a base parameter's name begins with in a task model: `bert.`, or nothing."""
        return "" if model.base_model is model else f"{model.base_model_prefix}."


def _graft(target: nn.Module, source: nn.Module, *, without: frozenset[str]) -> None:
    """Put the modules, parameters and buffers of `source` in the place of those of the same name in `target`."""
    for name, child in source.named_children():
        if name in target._modules and target._modules[name] is not None and name not in without:
            target._modules[name] = child
    for name, parameter in source.named_parameters(recurse=False):
        if name in target._parameters:
            target._parameters[name] = parameter
    for name, buffer in source.named_buffers(recurse=False):
        if name in target._buffers:
            target._buffers[name] = buffer


def _materialise(model: Any, dtype: torch.dtype, device: torch.device) -> None:
    """Give every parameter that is still on the meta device memory, and transformers' own initial values."""
    for name, module in model.named_modules():
        for key, buffer in module._buffers.items():
            if buffer is not None and buffer.is_meta:
                if key in module._non_persistent_buffers_set:
                    raise TaskError(f"the head's '{name}.{key}' is computed when it is made, and can't be shared")
                module._buffers[key] = torch.zeros_like(buffer, device=device)  # or what the checkpoint holds
        own = {key: p for key, p in module._parameters.items() if p is not None}
        if own and all(p.is_meta for p in own.values()):
            module.to_empty(device=device, recurse=False).to(dtype)
            model._init_weights(module)
        else:  # a bias beside a weight that is tied to the base's; the module must not be initialised as a whole
            for key in [key for key, p in own.items() if p.is_meta]:
                module._parameters[key] = nn.Parameter(torch.zeros_like(own[key], device=device, dtype=dtype))


def _tokenizer_digest(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    return sha256(f"{type(tokenizer).__name__} {tokenizer.special_tokens_map} {text}".encode())
