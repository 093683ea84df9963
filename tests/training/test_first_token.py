"""A training of few texts starts with a first token that attends to all tokens alike, where weights can do that."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from adapterkit import Base, Plan, Registry, Report, run
from tests.helpers.sentence_models import as_sentence_model
from tests.helpers.watches import Notes

UNSEEN = ["the harbour lay quiet in the early morning", "send me the invoice again", "no", "why is it so slow today?"]


def uniformity(model: Any, batch: Mapping[str, Tensor], block: int) -> list[float]:
    """Return for each text the entropy of the first token's attention, as a part of its maximum."""
    model.set_attn_implementation("eager")
    with torch.no_grad():
        attention = model(**batch, output_attentions=True).attentions[block][:, :, 0]
    model.set_attn_implementation("sdpa")
    entropies = -(attention * attention.clamp(min=1e-12).log()).sum(-1).mean(1)
    return [float(e) / math.log(n) for e, n in zip(entropies, batch["attention_mask"].sum(1).tolist(), strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"use_dora": True}, {"strategy": "layerwise"}, {"strategy": "full"}])
def test_the_first_token_attends_alike_to_texts_it_was_not_fitted_to(
    options: dict[str, Any], minilm: Base, small_csv: Path, registry: Registry
) -> None:
    values = {"strategy": "lora", "train_file": str(small_csv), "name": "a", "lr": 1e-7, "num_train_epochs": 1}
    notes = Notes()
    report = run(Plan.resolve(values | options), registry, base=minilm, watch=notes)
    assert notes.heard["start"] == "the first token attends to all tokens alike in blocks 5, 6"
    batch = minilm.tokenizer(UNSEEN, return_tensors="pt", padding=True)
    before = [uniformity(minilm.model, batch, block) for block in (4, 5)]
    with report.adapter.attached(minilm):
        after = [uniformity(minilm.model, batch, block) for block in (4, 5)]
    for a, b in zip(after, before, strict=True):
        assert sum(a) / len(a) > 0.95 > sum(b) / len(b)
        assert all(x > y for x, y in zip(a, b, strict=True))


def trained(registry: Registry, base: Base, **values: Any) -> tuple[Report, dict[str, str]]:
    notes = Notes()
    report = run(Plan.resolve({"name": "a", "num_train_epochs": 1, **values}), registry, base=base, watch=notes)
    return report, notes.heard


@pytest.mark.parametrize(
    "options",
    [
        {"strategy": "lora", "head_init": "random"},
        {"strategy": "lora", "head": "probe"},
        {"strategy": "bitfit"},
    ],
)
def test_it_does_not_where_nothing_of_that_kind_is_trained_or_the_head_is_another(
    options: dict[str, Any], small_csv: Path, tmp_path: Path, tiny_folder: Callable[..., Path], registry: Registry
) -> None:
    base = Base.load(as_sentence_model(tmp_path / "base", of=tiny_folder()))
    assert "start" not in trained(registry, base, train_file=str(small_csv), **options)[1]


def test_it_does_not_on_a_base_that_embeds_no_texts(small_csv: Path, tiny_base: Base, registry: Registry) -> None:
    assert "start" not in trained(registry, tiny_base, train_file=str(small_csv), strategy="lora")[1]


def test_updates_of_other_maps_than_those_to_queries_leave_it(
    small_csv: Path, tmp_path: Path, tiny_folder: Callable[..., Path], registry: Registry
) -> None:
    base = Base.load(as_sentence_model(tmp_path / "base", of=tiny_folder()))
    values = {"train_file": str(small_csv), "strategy": "lora", "target_modules": "value"}
    assert "start" not in trained(registry, base, **values)[1]


@pytest.mark.parametrize("strategy", ["lora", "full"])
def test_the_base_is_as_it_was_afterwards(
    strategy: str, small_csv: Path, tmp_path: Path, tiny_folder: Callable[..., Path], registry: Registry
) -> None:
    base = Base.load(as_sentence_model(tmp_path / "base", of=tiny_folder()))
    before = {name: p.clone() for name, p in base.model.named_parameters()}
    implementation = base.model.config._attn_implementation
    assert "start" in trained(registry, base, train_file=str(small_csv), strategy=strategy)[1]
    assert base.model.config._attn_implementation == implementation
    assert not any(m._forward_hooks or "forward" in vars(m) for m in base.model.modules())
    assert all(torch.equal(p, before[name]) for name, p in base.model.named_parameters())
