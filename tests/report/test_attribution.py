"""Input times gradient equals that of the model on embeddings."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest
import torch

from adapterkit import Base, Plan, Registry
from adapterkit.report.attribution import attributions
from adapterkit.workflows.run import run


@pytest.mark.parametrize(("strategy", "pair"), [("bitfit", False), ("head-only", False), ("bitfit", True)])
def test_words_have_the_gradient_of_the_answer(
    small_csv: Path, tiny_base: Base, registry: Registry, strategy: str, pair: bool
) -> None:
    if pair:
        lines = small_csv.read_text().splitlines()[1:]
        small_csv.write_text("\n".join(["premise,hypothesis,label", *(f"so,{line}" for line in lines)]))
    files = {"train_file": str(small_csv), "validation_file": str(small_csv)}
    plan = Plan.resolve({**files, "strategy": strategy, "num_train_epochs": 2, "learning_rate": 1e-2})
    adapter = run(plan, registry, base=tiny_base).adapter
    texts = ["lovely food", "and rude staff"] if pair else ["lovely food and rude staff"]
    columns = ["premise", "hypothesis"] if pair else ["text"]
    (words,) = attributions(tiny_base, adapter, datasets.Dataset.from_list([dict(zip(columns, texts, strict=True))]))
    assert [word for word, _ in words] == " \u23d0 ".join(texts).split()
    words = [(word, score) for word, score in words if word != "\u23d0"]
    assert max(abs(score) for _, score in words) == 1.0
    encoded = tiny_base.tokenizer(*texts, return_tensors="pt")
    columns_read = [name for name in ("input_ids", "attention_mask", "token_type_ids") if name in encoded]
    table = tiny_base.model.get_input_embeddings()
    with adapter.attached(tiny_base) as model:
        vectors = table(encoded["input_ids"]).detach()

        def logit(at: float, token: int) -> float:
            moved = vectors.clone()
            moved[0, token] *= 1 + at
            handle = table.register_forward_hook(lambda *args: moved)
            try:
                with torch.no_grad():
                    logits = model(**{k: encoded[k] for k in columns_read}).logits[0]
            finally:
                handle.remove()
            return float(logits[best])

        best = 0
        with torch.no_grad():
            best = int(model(**{k: encoded[k] for k in columns_read}).logits[0].argmax())
        step = 1e-2
        slopes = torch.zeros(len(words), dtype=torch.float64)
        for token, (text, word) in enumerate(zip(encoded.sequence_ids(), encoded.word_ids(), strict=True)):
            if word is not None:
                slopes[word + 2 * text] += (logit(step, token) - logit(-step, token)) / (2 * step)
    expected = slopes / slopes.abs().max()
    assert [score for _, score in words] == pytest.approx(expected.tolist(), abs=0.03)
