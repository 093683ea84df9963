"""The preprocessor of a base without its model: enough to count tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import BaseModelError
from ..settings import BaseOptions
from .checkpoint import find_base, load_error
from .modalities import modality_class
from .modality import Modality


@dataclass(frozen=True)
class BaseTokenizer:
    """A base's preprocessor, a digest of it, and how many tokens the base takes; None where it sets no limit."""

    name: str
    tokenizer: Any  # transformers.PreTrainedTokenizerBase, or the preprocessor of another modality
    modality: Modality
    tokenizer_digest: str
    max_length: int | None


def load_tokenizer(options: BaseOptions) -> BaseTokenizer:
    """Load the preprocessor of a transformer and its config. Raises `BaseModelError` where they can't be loaded."""
    import transformers

    path = find_base(options.base)
    common = {"revision": options.revision, "trust_remote_code": options.trust_remote_code}
    try:
        config = transformers.AutoConfig.from_pretrained(path, **common)
        reads = modality_class(transformers.MODEL_MAPPING.get(type(config), None), options.base)
        tokenizer = reads.load(path, **common)
    except BaseModelError:
        raise
    except Exception as error:  # for files with arbitrary content, transformers raises arbitrary exceptions
        raise BaseModelError(load_error(options.base, path, error)) from error
    if options.added_tokens:
        tokenizer.add_tokens(list(options.added_tokens))
    limit = getattr(tokenizer, "model_max_length", 1 << 30)
    limits = [limit] if limit < 1 << 30 else []
    limits += filter(None, [getattr(config, "max_position_embeddings", None)])
    modality = reads(config, tokenizer)
    return BaseTokenizer(options.base, tokenizer, modality, modality.digest(), min(limits, default=None))
