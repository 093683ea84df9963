"""The words that an answer rests on: input times gradient of the answer's logit (Shrikumar et al. 2016)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..adapter.adapter import Adapter
from ..base.base import Base
from .answers import kind_of

if TYPE_CHECKING:
    from datasets import Dataset

_MOST = 15
"""The most errors whose words are scored, each by a pass forward and backward."""


def attributions(base: Base, adapter: Adapter, data: Dataset) -> list[list[tuple[str, float]]]:
    """Return each row's words with what they add to the logit of its answer, relative to the largest magnitude.

    Empty where gradients don't reach the words: for tasks without one label a text, for pairs, and for tokenizers
    without offsets.
    """
    task, on = adapter.task, adapter.on(base)
    nothing: list[list[tuple[str, float]]] = [[] for _ in range(len(data))]
    if kind_of(task) != "label" or len(task.input_columns) != 1 or not getattr(on.tokenizer, "is_fast", False):
        return nothing
    result = []
    with adapter.attached(base) as model:
        collate = task.collate(on.tokenizer, model)
        for row in data:
            text = str(row[task.input_columns[0]])
            features = task.tokenize({name: [value] for name, value in row.items()}, on.tokenizer, labelled=False)
            encoded = on.tokenizer(text, truncation=True, max_length=task.max_seq_length, return_offsets_mapping=True)
            if len(features["input_ids"]) != 1 or features["input_ids"][0] != encoded["input_ids"]:
                return nothing
            batch = {k: v.to(model.device) for k, v in collate([{k: v[0] for k, v in features.items()}]).items()}
            scores = _token_scores(model, on.model.get_input_embeddings(), batch)
            if scores is None:
                return nothing
            result.append(_words(text, encoded, scores.tolist()))
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


def _words(text: str, encoded: Any, scores: list[float]) -> list[tuple[str, float]]:
    """Return words with the sums of their tokens' scores, the largest magnitude 1."""
    words: dict[int, tuple[int, int, float]] = {}
    for word, (start, end), score in zip(encoded.word_ids(), encoded["offset_mapping"], scores, strict=True):
        if word is not None:
            first, _, total = words.get(word, (start, end, 0.0))
            words[word] = (first, end, total + score)
    largest = max((abs(score) for *_, score in words.values()), default=0.0) or 1.0
    return [(text[start:end].strip(), round(score / largest, 3)) for start, end, score in words.values()]
