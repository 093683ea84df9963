"""Input times gradient equals that of the model on embeddings."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest
import torch

from adapterkit import Base, Plan, Registry
from adapterkit.report.attribution import attributions
from adapterkit.workflows.run import run


@pytest.mark.parametrize(("strategy", "head"), [("bitfit", "auto"), ("head-only", "auto")])
def test_words_have_the_gradient_of_the_answer(
    small_csv: Path, tiny_base: Base, registry: Registry, strategy: str, head: str
) -> None:
    files = {"train_file": str(small_csv), "validation_file": str(small_csv)}
    plan = Plan.resolve({**files, "strategy": strategy, "head": head, "num_train_epochs": 2, "learning_rate": 1e-2})
    adapter = run(plan, registry, base=tiny_base).adapter
    text = "lovely food and rude staff"
    (words,) = attributions(tiny_base, adapter, datasets.Dataset.from_dict({"text": [text]}))
    assert [word for word, _ in words] == text.split()
    assert max(abs(score) for _, score in words) == 1.0
    encoded = tiny_base.tokenizer(text, return_tensors="pt")
    table = tiny_base.model.get_input_embeddings()
    with adapter.attached(tiny_base) as model:
        vectors = table(encoded["input_ids"]).detach()

        def logit(at: float, token: int) -> float:
            moved = vectors.clone()
            moved[0, token] *= 1 + at
            handle = table.register_forward_hook(lambda *args: moved)
            try:
                with torch.no_grad():
                    logits = model(**{k: encoded[k] for k in ("input_ids", "attention_mask")}).logits[0]
            finally:
                handle.remove()
            return float(logits[best])

        best = 0
        with torch.no_grad():
            best = int(model(**{k: encoded[k] for k in ("input_ids", "attention_mask")}).logits[0].argmax())
        step = 1e-2
        slopes = torch.zeros(len(words), dtype=torch.float64)
        for token, word in enumerate(encoded.word_ids()):
            if word is not None:
                slopes[word] += (logit(step, token) - logit(-step, token)) / (2 * step)
    expected = slopes / slopes.abs().max()
    assert [score for _, score in words] == pytest.approx(expected.tolist(), abs=0.03)
