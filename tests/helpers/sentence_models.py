"""A base with the files of sentence-transformers beside its weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

MEAN = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}


def as_sentence_model(folder: Path, pooling: Mapping[str, bool] = MEAN, *, of: Path | None = None) -> Path:
    """Write the files by which a folder is a model of sentence-transformers, and copy those of the base `of` there."""
    if of is not None:
        shutil.copytree(of, folder)
    module = {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}
    (folder / "modules.json").write_text(json.dumps([module]))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(dict(pooling)))
    return folder
