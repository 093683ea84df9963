"""How the tokens of a base that was trained to embed texts become a vector, from the files of sentence-transformers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..io.untrusted import parse_json, read_file

_MODES = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token", "max": "pooling_mode_max_tokens"}


def sentence_pooling(path: str, revision: str | None) -> str | None:
    """Return mean, cls or max; None for a base that isn't of sentence-transformers, or that pools in another way.

    `path` is a folder or a Hub id, `revision` one of the Hub.
    """
    if os.path.isfile(path):
        return None
    modules = _json(path, "modules.json", revision)
    for module in modules if isinstance(modules, list) else []:
        if isinstance(module, dict) and str(module.get("type")).endswith(".Pooling"):
            config = _json(path, f"{module.get('path')}/config.json", revision)
            config = config if isinstance(config, dict) else {}
            modes = [mode for mode, key in _MODES.items() if config.get(key) is True]
            others = [k for k, v in config.items() if k.startswith("pooling_mode_") and v is True]
            return modes[0] if len(modes) == len(others) == 1 else None
    return None


def _json(path: str, name: str, revision: str | None) -> Any:
    """Return the value of a JSON file of a checkpoint, or None where there is none that can be read."""
    from transformers.utils import cached_file

    try:
        file = cached_file(path, name, revision=revision or "main", _raise_exceptions_for_missing_entries=False)
        return parse_json(read_file(Path(file).resolve())) if file else None
    except (OSError, ValueError):
        return None
