"""The tokenizer of a base without its model: enough to count tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ..errors import BaseModelError
from ..io.atomic import sha256
from ..settings import BaseOptions
from .checkpoint import find_base, load_error


@dataclass(frozen=True)
class BaseTokenizer:
    """A base's tokenizer, a digest of it, and how many tokens the base takes."""

    name: str
    tokenizer: Any  # transformers.PreTrainedTokenizerBase
    tokenizer_digest: str
    max_length: int | None


def load_tokenizer(options: BaseOptions) -> BaseTokenizer:
    """Load the tokenizer of a transformer and its config. Raises `BaseModelError` where they can't be loaded."""
    import transformers

    path = find_base(options.base)
    common = {"revision": options.revision, "trust_remote_code": options.trust_remote_code}
    try:
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(path, **common)
        config = transformers.AutoConfig.from_pretrained(path, **common)
    except Exception as error:  # for files with arbitrary content, transformers raises arbitrary exceptions
        raise BaseModelError(load_error(options.base, path, error)) from error
    if options.added_tokens:
        tokenizer.add_tokens(list(options.added_tokens))
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    limits = [tokenizer.model_max_length] if tokenizer.model_max_length < 1 << 30 else []
    limits += filter(None, [getattr(config, "max_position_embeddings", None)])
    return BaseTokenizer(options.base, tokenizer, tokenizer_digest(tokenizer), min(limits, default=None))


def tokenizer_digest(tokenizer: Any) -> str:
    """Return the SHA-256 of a tokenizer as hex."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    return sha256(f"{type(tokenizer).__name__} {tokenizer.special_tokens_map} {text}".encode())
