"""How a base pools tokens, from the files that sentence-transformers saves beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapterkit import Base
from adapterkit.base.pooling import sentence_pooling
from tests.helpers.sentence_models import as_sentence_model

MODES = ("mean_tokens", "cls_token", "max_tokens", "mean_sqrt_len_tokens")


@pytest.mark.parametrize(
    ("on", "pooling"),
    [
        ({"mean_tokens"}, "mean"),
        ({"cls_token"}, "cls"),
        ({"max_tokens"}, "max"),
        ({"mean_sqrt_len_tokens"}, None),
        ({"mean_tokens", "max_tokens"}, None),  # concatenated
        (set(), None),
    ],
)
def test_the_one_mode_that_is_on_is_returned(on: set[str], pooling: str | None, tmp_path: Path) -> None:
    as_sentence_model(tmp_path, {f"pooling_mode_{mode}": mode in on for mode in MODES})
    assert sentence_pooling(str(tmp_path), None) == pooling


@pytest.mark.parametrize(
    ("modules", "config"),
    [
        ("[", "{}"),
        ("{}", "{}"),
        ("[1, null, {}]", "{}"),
        ('[{"type": "x.Pooling"}]', "{}"),
        ('[{"type": "x.Pooling", "path": "1_Pooling"}]', "[]"),
        ('[{"type": "x.Pooling", "path": "1_Pooling"}]', '{"pooling_mode_mean_tokens": "yes"}'),
        ('[{"type": "x.Dense", "path": "1_Pooling"}]', '{"pooling_mode_mean_tokens": true}'),
    ],
)
def test_files_of_another_form_have_none(modules: str, config: Any, tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text(modules)
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(config)
    assert sentence_pooling(str(tmp_path), None) is None


def test_of_the_bases_here_minilm_pools_by_the_mean(minilm: Base, tiny_base: Base, tmp_path: Path) -> None:
    assert minilm.sentence_pooling == "mean"
    assert tiny_base.sentence_pooling is None
    (tmp_path / "vectors.txt").write_text(json.dumps({}))
    assert sentence_pooling(str(tmp_path / "vectors.txt"), None) is None
