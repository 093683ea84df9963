"""Metrics of written texts, such as translations and summaries: overlap with a reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING

from .bootstrap import Metrics, check_pairs, measure, ratio
from .scripts import bleu_tokenizer, composed, splitter, words

if TYPE_CHECKING:
    import numpy as np

BLEU_ORDER = 4
CHRF_ORDER = 6
CHRF_BETA = 2


def text(predictions: Sequence[str], references: Sequence[str]) -> Metrics:
    """Measure texts: exact_match, sacrebleu, chrf, rouge1, rouge2 and rougeL, all from 0 to 100.

    Composed characters equal decomposed ones. exact_match ignores space around a text. sacrebleu is sacreBLEU's
    corpus BLEU with its 13a tokens, and sacrebleu_zh, sacrebleu_char, ... with the tokens of another script, by that
    of most references; chrf is its chrF2. Both are of the corpus, not means of rows. rouge is the mean F1 of the rows,
    without stems: for English as the rouge-score package has it, for other languages of words, or of characters where
    a script has no spaces. A metric of more words than any reference has is left out, with a note.
    """
    import numpy as np

    check_pairs(references, predictions)
    predictions, references = (list(map(composed, texts)) for texts in (predictions, references))
    pairs = list(zip(predictions, references, strict=True))
    split, tokenizer = splitter([*predictions, *references]), bleu_tokenizer(references)
    means = np.array([[p.strip() == r.strip(), *_rouge(split(p), split(r))] for p, r in pairs], dtype=float)
    means = means.reshape(-1, 4)
    bleu = np.array(_bleu_counts(pairs, tokenizer), dtype=float).reshape(-1, 10)
    chrf = np.array([_chrf_counts(*pair) for pair in pairs], dtype=float).reshape(-1, 3, CHRF_ORDER)
    bleu_name = "sacrebleu" if tokenizer == "13a" else f"sacrebleu_{tokenizer.replace('-', '_')}"
    longest = max((len(split(reference)) for reference in references), default=0)
    unseen = {name for name, needed in (("rouge1", 1), ("rouge2", 2), ("rougeL", 1)) if longest < needed}
    unseen |= {bleu_name} if bleu[:, 1].max(initial=0) < BLEU_ORDER else set()
    unseen |= {"chrf"} if not any(reference.strip() for reference in references) else set()

    def scores(weights: np.ndarray) -> dict[str, np.ndarray]:
        exact, rouge1, rouge2, rouge_l = 100 * (weights @ means).T / len(means)
        values = {
            "exact_match": exact,
            bleu_name: _bleu(weights @ bleu),
            "chrf": _chrf(np.tensordot(weights, chrf, 1)),
            "rouge1": rouge1,
            "rouge2": rouge2,
            "rougeL": rouge_l,
        }
        return {name: value for name, value in values.items() if name not in unseen}

    return measure(len(pairs), scores, notes=_notes(split, tokenizer, sorted(unseen)))


def _notes(split: Callable[[str], list[str]], tokenizer: str, unseen: Sequence[str]) -> list[str]:
    notes = []
    if tokenizer != "13a":
        notes.append(f"BLEU of these texts uses sacreBLEU's tokenizer {tokenizer}, after the script of the references")
    if split is words:
        notes.append("ROUGE of these texts counts words of any script, and characters of scripts without spaces")
    if unseen:
        notes.append(f"left out, because no reference has as many words as they need: {', '.join(unseen)}")
    return notes


def _bleu_counts(pairs: Sequence[tuple[str, str]], tokenizer: str) -> list[list[int]]:
    """Return for each row the tokens predicted and expected, the n-grams right, and the n-grams in all."""
    from sacrebleu.metrics.bleu import BLEU

    bleu = BLEU(
        tokenize=tokenizer, effective_order=True
    )  # else it warns that a sentence is no corpus; the counts are the same
    rows = [bleu.sentence_score(prediction, [reference]) for prediction, reference in pairs]
    return [[row.sys_len, row.ref_len, *row.counts, *row.totals] for row in rows]


def _bleu(counts: np.ndarray) -> np.ndarray:
    """Return BLEU from summed counts, (draws, 10)."""
    import numpy as np
    from sacrebleu.metrics.bleu import BLEU

    rows = counts.astype(int).tolist()
    return np.array([BLEU.compute_bleu(row[2:6], row[6:], row[0], row[1], smooth_method="exp").score for row in rows])


def _chrf_counts(prediction: str, reference: str) -> list[list[int]]:
    """Return the character n-grams predicted, expected and right, by order."""
    prediction, reference = "".join(prediction.split()), "".join(reference.split())
    orders = range(1, CHRF_ORDER + 1)
    predicted, expected = ([_ngrams(characters, n) for n in orders] for characters in (prediction, reference))
    return [
        # an order that the reference is too short for doesn't count against the prediction
        [f.total() if w else 0 for f, w in zip(predicted, expected, strict=True)],
        [w.total() for w in expected],
        [(f & w).total() for f, w in zip(predicted, expected, strict=True)],
    ]


def _chrf(counts: np.ndarray) -> np.ndarray:
    """Return chrF (Popović 2015) from summed counts, (draws, 3, orders)."""
    predicted, expected, right = counts[:, 0], counts[:, 1], counts[:, 2]
    orders = ((predicted > 0) & (expected > 0)).sum(-1)
    precision, recall = (ratio(ratio(right, total).sum(-1), orders) for total in (predicted, expected))
    return 100 * ratio((1 + CHRF_BETA**2) * precision * recall, CHRF_BETA**2 * precision + recall)


def _rouge(predicted: list[str], expected: list[str]) -> list[float]:
    """Return the F1 of words, of pairs of words, and of the longest common subsequence (Lin 2004)."""
    scores = []
    for n in (1, 2):
        f, w = _ngrams(tuple(predicted), n), _ngrams(tuple(expected), n)
        scores.append(2 * (f & w).total() / max(f.total() + w.total(), 1))
    return [*scores, 2 * _common(predicted, expected) / max(len(predicted) + len(expected), 1)]


def _ngrams(items: str | tuple[str, ...], n: int) -> Counter[Hashable]:
    return Counter(items[i : i + n] for i in range(len(items) - n + 1))


def _common(a: list[str], b: list[str]) -> int:
    """Return the length of the longest common subsequence, a row of its table at a time as bits (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for i, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << i
    full = row = (1 << len(a)) - 1
    for word in b:
        match = row & places.get(word, 0)
        row = (row + match | row - match) & full
    return (full ^ row).bit_count()
