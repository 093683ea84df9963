"""The words that an answer rests on: input times gradient of the answer's logit (Shrikumar et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..adapter.adapter import Adapter
from ..base.base import Base
from .answers import BETWEEN_TEXTS, kind_of

if TYPE_CHECKING:
    from datasets import Dataset

_MOST = 15
"""The most errors whose words are scored, each by a pass forward and backward."""


def attributions(base: Base, adapter: Adapter, data: Dataset) -> list[list[tuple[str, float]]]:
    """Return each row's words with what they add to the logit of its answer, relative to the largest magnitude.

    Of several labels, the logit is that of the most probable one. Empty where gradients don't reach the words: for
    other tasks, and for tokenizers without offsets.
    """
    task, on = adapter.task, adapter.on(base)
    nothing: list[list[tuple[str, float]]] = [[] for _ in range(len(data))]
    if kind_of(task) not in ("label", "labels") or not getattr(on.tokenizer, "is_fast", False):
        return nothing
    result = []
    with adapter.attached(base) as model:
        collate = task.collate(on.tokenizer, model)
        for row in data:
            texts = [str(row[name]) for name in task.input_columns]
            features = task.tokenize({name: [value] for name, value in row.items()}, on.tokenizer, labelled=False)
            encoded = on.tokenizer(*texts, truncation=True, max_length=task.max_seq_length, return_offsets_mapping=True)
            if len(features["input_ids"]) != 1 or features["input_ids"][0] != encoded["input_ids"]:
                return nothing
            batch = {k: v.to(model.device) for k, v in collate([{k: v[0] for k, v in features.items()}]).items()}
            scores = _token_scores(model, on.model.get_input_embeddings(), batch)
            if scores is None:
                return nothing
            result.append(_words(texts, encoded, scores.tolist()))
    return result


def explain_errors(base: Base, adapter: Adapter, data: Dataset, answers: list[dict[str, Any]]) -> None:
    """Add words to the most confident wrong answers, JSON values of `Answer`, where gradients reach them."""
    wrong = [i for i, answer in enumerate(answers) if answer.get("right") is False]
    wrong = sorted(wrong, key=lambda i: -(answers[i].get("score") or 0.0))[:_MOST]
    if not wrong:
        return
    try:
        scored = attributions(base, adapter, data.select(wrong))
    except (
        RuntimeError,
        TypeError,
        ValueError,
    ):  # a third-party module without gradients is no error of the evaluation
        return
    for i, words in zip(wrong, scored, strict=True):
        answers[i]["words"] = words


def _token_scores(model: Any, embeddings: torch.nn.Module, batch: dict[str, Tensor]) -> Tensor | None:
    """Return input times gradient of each token, (tokens,); None where no gradient reaches the embeddings."""
    inputs: list[Tensor] = []

    def remember(module: Any, arguments: Any, output: Tensor) -> Tensor:
        inputs.append(output.detach().requires_grad_(True))
        return inputs[-1]

    handle = embeddings.register_forward_hook(remember)
    try:
        with torch.enable_grad():
            logits = model(**batch).logits[0].float()
            if len(inputs) != 1 or not logits.requires_grad:
                return None
            (gradient,) = torch.autograd.grad(logits[logits.argmax()], inputs, allow_unused=True)
    finally:
        handle.remove()
    return None if gradient is None else (gradient * inputs[0]).sum(-1)[0].detach().float().cpu()


def _words(texts: Sequence[str], encoded: Any, scores: list[float]) -> list[tuple[str, float]]:
    """Return words with the sums of their tokens' scores, the largest magnitude 1; a bar is between two texts."""
    words: dict[tuple[int, int], tuple[int, int, float]] = {}
    parts = zip(encoded.sequence_ids(), encoded.word_ids(), encoded["offset_mapping"], scores, strict=True)
    for text, word, (start, end), score in parts:
        if word is not None:
            first, _, total = words.get((text, word), (start, end, 0.0))
            words[text, word] = (first, end, total + score)
    largest = max((abs(score) for *_, score in words.values()), default=0.0) or 1.0
    result: list[tuple[str, float]] = []
    last = 0
    for (text, _), (start, end, score) in words.items():
        if text != last:
            result.append((BETWEEN_TEXTS, 0.0))
        result.append((texts[text][start:end].strip(), round(score / largest, 3)))
        last = text
    return result
