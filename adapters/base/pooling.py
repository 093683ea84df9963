"""How the tokens of a base that was trained to embed texts become a vector, from the files of sentence-transformers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import PoolError, unknown
from ..io.untrusted import parse_json, read_file

if TYPE_CHECKING:
    from torch import Tensor

POOLINGS = ("cls", "mean", "max")
_MODES = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token", "max": "pooling_mode_max_tokens"}
_PLAIN = ("Transformer", "Pooling", "Normalize")


@dataclass(frozen=True)
class SentenceModules:
    """What modules.json of sentence-transformers lists."""

    pooling: str | None  # mean, cls or max; None for any other
    normalizes: bool  # whether vectors have length 1
    others: tuple[str, ...]  # the kinds of further modules, such as Dense


def sentence_modules(path: str, revision: str | None) -> SentenceModules | None:
    """Return the modules of a base, None for one that isn't of sentence-transformers.

    `path` is a folder or a Hub id, `revision` one of the Hub.
    """
    if os.path.isfile(path):
        return None
    modules = _json(path, "modules.json", revision)
    listed = [module for module in modules if isinstance(module, dict)] if isinstance(modules, list) else []
    if not listed:
        return None
    kinds = {str(module.get("type")).rpartition(".")[2]: module for module in listed}
    pooling = None
    if "Pooling" in kinds:
        config = _json(path, f"{kinds['Pooling'].get('path')}/config.json", revision)
        pooling = _mode(config if isinstance(config, dict) else {})
    return SentenceModules(pooling, "Normalize" in kinds, tuple(kind for kind in kinds if kind not in _PLAIN))


def sentence_pooling(path: str, revision: str | None) -> str | None:
    """Return mean, cls or max; None for a base that isn't of sentence-transformers, or that pools in another way.

    `path` is a folder or a Hub id, `revision` one of the Hub.
    """
    modules = sentence_modules(path, revision)
    return None if modules is None else modules.pooling


def _mode(config: dict[str, Any]) -> str | None:
    """Return the mode of a pooling's config, in the form of version 6 (one name) or of those before (flags)."""
    if isinstance(mode := config.get("pooling_mode"), str):
        return mode if mode in POOLINGS else None
    modes = [mode for mode, key in _MODES.items() if config.get(key) is True]
    others = [k for k, v in config.items() if k.startswith("pooling_mode_") and v is True]
    return modes[0] if len(modes) == len(others) == 1 else None


def pooled(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Pool (rows, tokens, features) to (rows, features): the mean, the maximum or the first of a text's tokens.

    Raises `PoolError` if `pooling` is not cls, mean or max.
    """
    here = mask.bool().unsqueeze(-1)
    if pooling == "mean":  # zeros for a text without tokens
        return hidden.masked_fill(~here, 0.0).sum(1) / here.sum(1).clamp(min=1)
    if pooling == "max":
        return hidden.masked_fill(~here, float("-inf")).amax(1).where(here.any(1), 0.0)
    if pooling == "cls":
        return hidden[:, 0].where(here.any(1), 0.0)
    raise PoolError(unknown("pooling", pooling, POOLINGS, known_as="there are"))


def _json(path: str, name: str, revision: str | None) -> Any:
    """Return the value of a JSON file of a checkpoint, or None where there is none that can be read."""
    from transformers.utils import cached_file

    try:
        file = cached_file(path, name, revision=revision or "main", _raise_exceptions_for_missing_entries=False)
        return parse_json(read_file(Path(file).resolve())) if file else None
    except (OSError, ValueError):
        return None
