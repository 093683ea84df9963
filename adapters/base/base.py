"""The base: one pretrained transformer in memory, frozen, shared by every task."""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from ..errors import BaseModelError
from ..modules import blocks
from . import word_vectors
from .added_tokens import tokenizer_with, widen_base, widen_head
from .checkpoint import (
    check_config,
    checkpoint_states,
    find_base,
    hub_id,
    load_error,
    newly_initialized_children,
    quantization_arguments,
    read_tensors,
)
from .digest_cache import file_states
from .fingerprint import (
    differences,
    fingerprint,
    model_digests,
    settings_of,
    tensor_digests,
    tensor_hashes,
    tensors_of_modules,
)
from .heads import Unfilled, build_task_model, matching_names
from .modalities import modality_class
from .modality import Modality
from .pooling import SentenceModules, sentence_modules, sentence_pooling
from .tokens import Tokens
from .tracing import replicate
from .usage import Usage


@dataclass(eq=False, repr=False)
class Base:
    """A pretrained transformer without a task head, its preprocessor, and the checkpoint's head tensors.

    Every task model shares `model`'s tensors, which stay frozen outside a training. Methods raise `BaseModelError`
    where the checkpoint is missing, incomplete or in use, `TaskError` where it has no head for a task.

    >>> base = ak.Base.load("minilm")
    >>> base
    <Base minilm (bert, 6 blocks, 22.7 M parameters)>
    >>> base.model.config.hidden_size
    384
    """

    name: str  # as the user named it
    path: str  # for from_pretrained: a folder or a Hub id
    revision: str | None
    model: Any  # transformers.PreTrainedModel
    tokenizer: Any  # transformers.PreTrainedTokenizerBase, or the preprocessor of another modality
    digests: dict[str, str]  # SHA-256 of each tensor's values by name, as hex
    newly_initialized: frozenset[str] = frozenset()  # direct children for which the checkpoint has no tensors
    pretrained_head: dict[str, Tensor] = field(default_factory=dict)  # the checkpoint's tensors outside the base
    trust_remote_code: bool = False
    quantization: str = "no"  # or 4bit, 8bit
    added_tokens: dict[str, int] = field(default_factory=dict)  # ids of the tokens that an adapter adds
    parent: Base | None = None  # the base whose tensors these are, where tokens are added
    settings: dict[str, Any] = field(init=False)  # the part of the config that determines the base's outputs
    modality: Modality = field(init=False)  # what the base reads
    fingerprint: str = field(init=False)  # of settings and digests; identifies the base that an adapter belongs to
    tokenizer_digest: str = field(init=False)  # SHA-256 of the tokenizer, before any use changes its state
    _usage: Usage = field(init=False, repr=False, default_factory=Usage)
    _verified: dict[str, str] = field(init=False, default_factory=dict)  # hashes of values whose digest was right

    def __post_init__(self) -> None:
        self.settings = settings_of(self.model.config)
        self.fingerprint = fingerprint(self.settings, self.digests)
        self.modality = modality_class(self.model, self.name)(self.model.config, self.tokenizer)
        self.tokenizer_digest = self.modality.digest()

    def __repr__(self) -> str:
        return f"<Base {self.describe()}>"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the base's lock, as whoever trains on it or attaches an adapter to it must; other threads wait.

        Raises `BaseModelError` where this thread holds it already.
        """
        with self._usage.locked(self.name):
            yield

    @property
    def serving(self) -> int:
        """The number of open pools that answer from these tensors."""
        return self._usage.serving

    def acquire_serving(self, pool: object) -> None:
        """Register a pool that answers from these tensors, so that none of them is trained; waits for the lock.

        The pool counts until `release_serving`, or until nothing refers to it.
        """
        self._usage.acquire_serving(self.name, pool)

    def release_serving(self, pool: object) -> None:
        """Unregister a pool."""
        self._usage.release_serving(pool)

    def check_trainable(self) -> None:
        """Raise `BaseModelError` where an open pool answers from these tensors; none opens while the lock is held."""
        if self.serving:
            gc.collect()  # a pool that was dropped without close() may be in a reference cycle
        if self.serving:
            raise BaseModelError(f"an open pool answers from base '{self.name}'; close it, or train on another copy")

    def view(self, model: Any) -> Base:
        """Return this base with `model`, its modules over other tensors, and with a lock of its own."""
        view = copy.copy(self)
        view.model, view._usage, view._verified = model, Usage(), {}
        return view

    @property
    def hub_id(self) -> str | None:
        """The base's id on the Hub, or None where it comes from a folder or a file without one."""
        return hub_id(self.path, self.name)

    def manifest_entry(self, modules: Iterable[str]) -> dict[str, Any]:
        """Return the base's entry in the manifest of an adapter that changes these modules."""
        return {
            "name": self.name,
            **({"hub_id": self.hub_id} if self.hub_id else {}),
            "revision": self.revision,
            **({"quantization": self.quantization} if self.quantization != "no" else {}),
            "model_type": self.model.config.model_type,
            "fingerprint": self.fingerprint,
            "tokenizer": self.vocabulary_digest,
            "config": self.settings,
            "tensors": tensors_of_modules((self.parent or self).digests, modules),
        }

    def differences(self, entry: Mapping[str, Any]) -> list[str]:
        """Return in words how this base differs from the one in a manifest's entry; nothing where it is the same."""
        same = bool(entry["fingerprint"] == self.fingerprint)
        words = [] if same else differences(entry, self.settings, (self.parent or self).digests)
        if entry.get("tokenizer", self.vocabulary_digest) != self.vocabulary_digest:  # missing from older adapters
            words.append(self.modality.preprocessor_text)
        return words

    @functools.cached_property
    def vocabulary_digest(self) -> str:
        """The digest of the preprocessor in manifests, independent of how it was saved."""
        if self.parent is not None:
            return self.parent.vocabulary_digest
        return self.modality.content_digest()

    def changed_tensors(self) -> list[str]:
        """Return the names of the tensors whose values changed since the base was loaded."""
        hashes = tensor_hashes(self.model, without=self.newly_initialized)
        unverified = {name for name, value in hashes.items() if self._verified.get(name) != value}
        now = tensor_digests(self.model, only=unverified)
        changed = [
            name
            for name in {**self.digests, **hashes}
            if name not in hashes or (name in unverified and self.digests.get(name) != now[name])
        ]
        self._verified.update({name: hashes[name] for name in unverified.difference(changed)})
        return changed

    def reload(self) -> None:
        """Reload the tensors' values from the checkpoint."""
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
                if self.parent is None:
                    p.data = values[name].data.to(p.device)
                else:
                    p.data.copy_(values[name])  # in place, because the parent shares the storage

    @classmethod
    def load(
        cls,
        name: str | os.PathLike[str],
        *,
        revision: str | None = None,
        trust_remote_code: bool = False,
        quantization: str = "no",
    ) -> Base:
        """Load a base by folder, by the name of an installed one (`minilm`), by file of word vectors, or by Hub id.

        Reads safetensors only, and runs no code of the checkpoint unless `trust_remote_code`. HF_HUB_OFFLINE is
        honoured. `quantization` of 4bit (NF4: Dettmers et al. 2023, arXiv:2305.14314) or 8bit converts linear maps by
        bitsandbytes. Raises `BaseModelError` where there is no such base, or its files are incomplete or damaged.
        """
        if not isinstance(name, str | os.PathLike):
            raise BaseModelError(f"a base is a name, a folder or a Hub id, got {type(name).__name__} {name!r}")
        name = os.fspath(name)
        path = find_base(name)
        word_vectors.register()  # so that word vectors saved by save_pretrained load from their folder
        if os.path.isfile(path):
            states = file_states([path])
            if quantization != "no":
                raise BaseModelError(f"quantization={quantization} needs a transformer, but '{name}' is word vectors")
            model, tokenizer = word_vectors.load(path)
            model.requires_grad_(False)
            return cls(name, path, revision, model, tokenizer, model_digests(model, states, ()))
        check_config(name, path)
        common: dict[str, Any] = {"revision": revision or "main", "trust_remote_code": trust_remote_code}
        quantized = quantization_arguments(quantization)
        from_files_alone = not trust_remote_code and quantization == "no"  # only then can digests be cached by file
        states = checkpoint_states(path, common["revision"]) if from_files_alone else []
        try:
            with Unfilled():
                model, info = transformers.AutoModel.from_pretrained(
                    path, use_safetensors=True, output_loading_info=True, **quantized, **common
                )
            modality = modality_class(model, name)
            tokenizer = modality.load(path, **common)
        except BaseModelError:
            raise
        except Exception as error:  # for files with arbitrary content, transformers raises arbitrary exceptions
            raise BaseModelError(load_error(name, path, error)) from error
        modality(model.config, tokenizer).check(name, model)
        newly_initialized = newly_initialized_children(name, model, set(info["missing_keys"]))
        model.requires_grad_(False).eval()
        head = read_tensors(path, common["revision"], set(info["unexpected_keys"]))
        digests = model_digests(model, states, newly_initialized)
        return cls(
            name, path, revision, model, tokenizer, digests, newly_initialized, head, trust_remote_code, quantization
        )

    @classmethod
    def from_manifest(cls, entry: Mapping[str, Any], name: str) -> Base:
        """Load from `name` the base of a manifest's entry, at its revision and in its quantization."""
        return cls.load(name, revision=entry["revision"], quantization=entry.get("quantization", "no"))

    @functools.cached_property
    def is_causal(self) -> bool:
        """Whether a token's output is independent of later tokens, tested on two texts that differ in the last one."""
        if self.model.config.is_encoder_decoder or not isinstance(self.modality, Tokens):
            return False
        ids = torch.full((2, 4), self.tokenizer.pad_token_id or 0, device=self.model.device)
        ids[:, :3] = torch.arange(3, device=ids.device)
        ids[1, 3] = 2
        with torch.inference_mode():
            first, second = self.model(input_ids=ids, attention_mask=torch.ones_like(ids))[0][:, 0]
        return bool(torch.equal(first, second))

    @functools.cached_property
    def max_length(self) -> int | None:
        """The maximum number of tokens in a text, or None where the base sets no limit."""
        return self.modality.max_length(self.model)

    @functools.cached_property
    def sentence_pooling(self) -> str | None:
        """How sentence-transformers pools its tokens (mean, cls or max); None where it isn't such a model."""
        return sentence_pooling(self.path, self.revision)

    @functools.cached_property
    def sentence_modules(self) -> SentenceModules | None:
        """The modules that sentence-transformers reads for the base; None where it isn't such a model."""
        return sentence_modules(self.path, self.revision)

    @functools.cached_property
    def nbytes(self) -> int:
        """The size of the base's tensors in bytes."""
        return sum(p.numel() * p.element_size() for p in self.model.parameters())

    def with_tokens(self, tokens: Sequence[str]) -> Base:
        """Return this base with `tokens` added to its tokenizer and embeddings, over the same tensors and lock.

        This base doesn't change. Raises `BaseModelError` for a token that can't be added.
        """
        if not tokens:
            return self
        without = isinstance(self.model.config, word_vectors.WordVectorsConfig) or not isinstance(self.modality, Tokens)
        if self.quantization != "no" or without:
            raise BaseModelError(f"added_tokens={','.join(tokens)}: base '{self.name}' can't have added tokens")
        wider = copy.copy(self)
        wider.parent, wider.model, wider._verified = self, replicate(self.model, {}), {}
        wider.tokenizer, wider.added_tokens = tokenizer_with(self.tokenizer, tokens)
        widen_base(wider.model, len(self.tokenizer), wider._pieces)
        wider.digests = tensor_digests(wider.model, without=self.newly_initialized)
        wider.modality = type(self.modality)(wider.model.config, wider.tokenizer)
        wider.tokenizer_digest = wider.modality.digest()
        return wider

    @property
    def _pieces(self) -> list[list[int]]:
        """The parent's token ids of each added token."""
        assert self.parent is not None
        return [self.parent.tokenizer(token, add_special_tokens=False)["input_ids"] for token in self.added_tokens]

    def describe(self) -> str:
        """Return name, architecture and size in one line."""
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
        model = build_task_model(
            self.model,
            auto_class,
            self.with_padding(config),
            name=self.name,
            newly_initialized=self.newly_initialized,
            stored=self.pretrained_head,
            untied=untied,
            trust_remote_code=self.trust_remote_code,
        )
        if self.added_tokens:
            widen_head(model, self.model.get_input_embeddings(), self._pieces)
        return model.eval()

    def with_padding(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return settings of a task model, with the tokenizer's padding token where the base's config has none."""
        return {**self.modality.head_settings(), **config}

    def from_checkpoint(self, model: nn.Module) -> set[str]:
        """Return the names of the head's tensors that come with the base rather than from initialisation."""
        return matching_names(model, self.pretrained_head) | getattr(model, "neutral", frozenset())

    def head_names(self, model: nn.Module) -> list[str]:
        """Return the names of a task model's parameters that don't belong to the shared base."""
        shared = {id(p) for p in self.model.parameters()}
        return [name for name, p in model.named_parameters() if id(p) not in shared]

    def tied_names(self, model: Any) -> list[str]:
        """Return the names in a task model's head of parameters that are tied to the shared base."""
        prefix, parameters = self.prefix(model), dict(self.model.named_parameters(remove_duplicate=False))
        shared = {id(p) for p in parameters.values()}
        named = model.named_parameters(remove_duplicate=False)
        return sorted(name for name, p in named if id(p) in shared and name.removeprefix(prefix) not in parameters)

    @staticmethod
    def prefix(model: Any) -> str:
        """Return the prefix of the base's parameter names in a task model, such as `bert.`; may be empty."""
        return "" if model.base_model is model else f"{model.base_model_prefix}."
