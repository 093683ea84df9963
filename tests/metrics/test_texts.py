"""Metrics of texts equal sacrebleu's and rouge_score's."""

from __future__ import annotations

import random

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from adapterkit import metrics
from adapterkit.metrics import bootstrap
from adapterkit.metrics.scripts import words
from tests.helpers.metric_rows import TEXTS, close


class Words:
    """A tokenizer for rouge_score: words of any script."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


@pytest.mark.parametrize("seed", range(30))
def test_texts_are_measured_as_by_sacrebleu_and_rouge_score(seed: int) -> None:
    rng = random.Random(seed)
    references = rng.choices(TEXTS, k=rng.randint(1, 30))
    predictions = [rng.choice([text, text[: len(text) // 2], rng.choice(TEXTS)]) for text in references]
    if seed % 2:
        references = [" ".join(rng.choices(TEXTS, k=4)) for _ in references]
        predictions = [" ".join(rng.sample(words := text.split(" "), len(words))) for text in references]
    found = metrics.text(predictions, references).values
    bleu = next((name for name in found if name.startswith("sacrebleu")), None)
    if bleu is not None:
        tokenizer = bleu.partition("_")[2] or "13a"
        assert close(found[bleu], sacrebleu.corpus_bleu(predictions, [references], tokenize=tokenizer).score)
    if "chrf" in found:
        assert close(found["chrf"], sacrebleu.corpus_chrf(predictions, [references]).score)
    english = all(text.isascii() for text in (*predictions, *references))
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=None if english else Words())
    rows = [scorer.score(reference, text) for text, reference in zip(predictions, references, strict=True)]
    for name in {"rouge1", "rouge2", "rougeL"} & set(found):
        assert close(found[name], 100 * float(np.mean([row[name].fmeasure for row in rows]))), name
    same = [text.strip() == reference.strip() for text, reference in zip(predictions, references, strict=True)]
    assert close(found["exact_match"], 100 * sum(same) / len(same))


def test_a_corpus_without_a_common_4_gram_is_smoothed_as_by_sacrebleu() -> None:
    found = metrics.text(["a b c d e"], ["a b c x e"]).values["sacrebleu"]
    assert close(found, sacrebleu.corpus_bleu(["a b c d e"], [["a b c x e"]]).score)
    assert found > 0


def test_the_resamples_of_texts_are_those_of_sacrebleu_on_rows_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)
    references = [" ".join(rng.choices(TEXTS, k=4)) for _ in range(12)]
    predictions = [text.replace("a", "e", rng.randint(0, 3)) for text in references]
    kept: dict[str, np.ndarray] = {}
    original = bootstrap.interval_of
    monkeypatch.setattr(bootstrap, "RESAMPLES", 25)
    monkeypatch.setattr(
        bootstrap, "interval_of", lambda value, draws: kept.update({str(value): draws}) or original(value, draws)
    )
    found = metrics.text(predictions, references).values
    for i, weights in enumerate(np.concatenate([*bootstrap._resamples(12)])):
        rows = np.repeat(np.arange(12), weights.astype(int))
        again = [predictions[row] for row in rows], [[references[row] for row in rows]]
        assert close(kept[str(found["sacrebleu"])][i], sacrebleu.corpus_bleu(*again).score)
        assert close(kept[str(found["chrf"])][i], sacrebleu.corpus_chrf(*again).score)
