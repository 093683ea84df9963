"""Fill-mask: a masked language model learns the words of a domain."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from ..errors import DataError, TaskError
from .beginnings import beginning
from .columns import TEXTS, check_filled, choose, visible
from .input_checks import check_inputs
from .language_modeling import IGNORED, packed, padded, token_losses
from .probabilities import softmax
from .task import Rows, Task
from .values import texts_of

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from torch import Tensor

    from ..base.base import Base
    from ..metrics import Metrics


@dataclass(frozen=True, kw_only=True)
class FillMask(Task):
    """Predict masked words of plain text, packed into blocks; 80 % are masked, 10 % another word, 10 % left (BERT)."""

    name: ClassVar[str] = "fill-mask"
    auto_class: ClassVar[str] = "AutoModelForMaskedLM"
    best: ClassVar[str] = "loss"
    lower_is_better: ClassVar[bool] = True
    new_head: ClassVar[bool] = False
    fixed_features: ClassVar[bool] = False
    usual_columns: ClassVar[Mapping[str, tuple[str, ...]]] = {"text_column_name": ("text",)}

    max_seq_length: Annotated[int, "tokens of a block", "--block-size", "--max-length"] = 128
    text_column_name: Annotated[tuple[str, ...], "column of plain texts", "--text-column"] = ()
    mlm_probability: Annotated[float, "share of the tokens that are masked"] = 0.15
    whole_word_mask: Annotated[bool, "choose whole words, not parts of them"] = False
    top_k: Annotated[int, "number of words in an answer"] = 5

    @classmethod
    def fits(cls, first: Mapping[str, Any]) -> bool:
        return False  # a file of plain text is inferred as text-generation

    def with_columns(self, names: Sequence[str]) -> Self:
        selected = next(iter(self.text_column_name), None)
        text = choose("the text", "--text-column-name", selected, visible(names), TEXTS)
        return replace(self, text_column_name=(text,))

    def describe_columns(self) -> str:
        return self.text_column_name[0]

    def check(self, data: Dataset, file: str) -> None:
        check_filled(data, file, self.text_column_name[0])
        check_inputs(self, data, file)

    def check_base(self, base: Base) -> None:
        if base.model.config.is_encoder_decoder:
            raise TaskError(f"fill-mask needs an encoder, and '{base.name}' is an encoder-decoder")
        if base.is_causal:
            raise TaskError(f"fill-mask needs bidirectional attention, and '{base.name}' is causal")
        if base.tokenizer.mask_token_id is None:
            raise TaskError(f"the tokenizer of '{base.name}' has no mask token, and fill-mask needs one")

    def tokenize(self, rows: Rows, tokenizer: Any, *, labelled: bool) -> dict[str, Any]:
        """Return blocks with, for each token, the number of its word (`words`), by which whole words are masked.

        Without `labelled`, the choice of masks is fixed, so that two evaluations have the same masks.
        """
        texts = texts_of(rows[self.text_column_name[0]])
        before, after = _ends(tokenizer)
        room = self.max_seq_length - len(before) - len(after)
        encoded = tokenizer(texts, add_special_tokens=False, verbose=False)
        ids = packed(encoded["input_ids"], room)
        words = packed([_numbered(encoded.word_ids(i)) for i in range(len(texts))], room)
        return {"input_ids": ids, "words": words, "fixed": [not labelled] * len(ids)}

    def lengths(self, rows: Rows, tokenizer: Any, *, labelled: bool) -> dict[str, list[int]]:
        return {} if labelled else super().lengths(rows, tokenizer, labelled=False)

    def collate(self, tokenizer: Any, model: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        def batch(features: list[dict[str, Any]]) -> dict[str, Any]:
            masked = [self._masked(f, tokenizer, model.config.vocab_size) for f in features]
            fill = {"input_ids": tokenizer.pad_token_id or 0, "attention_mask": 0, "labels": IGNORED}
            return padded(masked, fill)

        return batch

    def _masked(self, feature: Mapping[str, Any], tokenizer: Any, vocabulary: int) -> dict[str, Any]:
        import torch

        ids = list(feature["input_ids"])
        if "masks" in feature:  # masked by the user
            return {"input_ids": ids, "attention_mask": [1] * len(ids)}
        seed = sum(ids) if feature["fixed"] else feature.get("draw")
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        words = feature["words"] if self.whole_word_mask else list(range(len(ids)))
        units = {word: i for i, word in enumerate(dict.fromkeys(words))}
        chosen = torch.rand(len(units), generator=generator) < self.mlm_probability
        if not chosen.any():
            chosen[int(torch.randint(len(units), (1,), generator=generator))] = True
        dice = torch.rand(len(ids), generator=generator).tolist()
        others = torch.randint(vocabulary, (len(ids),), generator=generator).tolist()
        labels = [token if chosen[units[word]] else IGNORED for token, word in zip(ids, words, strict=True)]
        for i, label in enumerate(labels):
            if label != IGNORED and dice[i] < 0.9:
                ids[i] = tokenizer.mask_token_id if dice[i] < 0.8 else others[i]
        before, after = _ends(tokenizer)
        complete = [*before, *ids, *after]
        targets = [*[IGNORED] * len(before), *labels, *[IGNORED] * len(after)]
        return {"input_ids": complete, "attention_mask": [1] * len(complete), "labels": targets}

    @property
    def outputs_key(self) -> Hashable:
        return type(self), self.top_k

    def outputs(self, model: Any, batch: Mapping[str, Tensor]) -> list[Any]:
        """Return (summed negative log-likelihood, masked tokens) a feature, or the likeliest tokens at its masks."""
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        if "labels" in batch:
            return token_losses(logits, batch["labels"])
        shares, tokens = logits.float().softmax(-1).topk(min(self.top_k, logits.shape[-1]))
        return list(zip(shares.tolist(), tokens.tolist(), strict=True))

    def outputs_of(self, arrays: Mapping[str, np.ndarray]) -> list[Any]:
        import numpy as np

        logits = arrays["logits"]
        count = min(self.top_k, logits.shape[-1])
        tokens = np.argpartition(-logits, count - 1, axis=-1)[..., :count]
        tokens = np.take_along_axis(tokens, np.argsort(-np.take_along_axis(logits, tokens, -1), -1, kind="stable"), -1)
        shares = np.take_along_axis(softmax(logits), tokens, -1)
        return list(zip(shares.tolist(), tokens.tolist(), strict=True))

    def prompts(self, rows: Rows, tokenizer: Any) -> dict[str, Any]:
        """Return the texts as they are, with the places of their mask tokens in `masks`."""
        texts = texts_of(rows[self.text_column_name[0]])
        begin = [beginning(tokenizer, text, self.max_seq_length) for text in texts]
        ids = tokenizer(begin, truncation=True, max_length=self.max_seq_length)["input_ids"]
        masks = [[i for i, token in enumerate(row) if token == tokenizer.mask_token_id] for row in ids]
        for text, places in zip(texts, masks, strict=True):
            if not places:
                within = f" in its first {self.max_seq_length} tokens" if tokenizer.mask_token in text else ""
                raise DataError(f"'{text[:60]}' has no {tokenizer.mask_token}{within}, the word to predict")
        return {"input_ids": ids, "masks": masks}

    def predictions(self, outputs: Sequence[Any], features: Dataset, data: Dataset | None) -> list[Any]:
        if "masks" not in features.column_names:
            return list(outputs)
        rows = zip(outputs, features["masks"], strict=True)
        return [[list(zip(shares[i], tokens[i], strict=True)) for i in masks] for (shares, tokens), masks in rows]

    def answers(self, predictions: Sequence[Any], data: Dataset, tokenizer: Any) -> list[dict[str, Any]]:
        """Return for each text the likeliest words at its mask, or a list of such lists where it has several."""
        words = [
            [[{"word": tokenizer.decode([token]).strip(), "score": share} for share, token in mask] for mask in row]
            for row in predictions
        ]
        return [{"words": masks[0] if len(masks) == 1 else masks} for masks in words]

    def candidates(
        self, outputs: Sequence[Any], features: Any, data: Any, tokenizer: Any
    ) -> list[list[dict[str, Any]]]:
        """Return the likeliest words at a text's mask, or a list of such lists where it has several."""
        rows: list[list[Any]] = []
        for (shares, tokens), ids, places in zip(outputs, features["input_ids"], features["masks"], strict=True):
            masks = [
                [_filled(tokenizer, ids, i, token, share) for share, token in zip(shares[i], tokens[i], strict=True)]
                for i in places
            ]
            rows.append(masks[0] if len(masks) == 1 else masks)
        return rows

    def metrics(self, predictions: Sequence[Any], data: Dataset) -> Metrics:
        from ..metrics import perplexity

        return perplexity([loss for loss, _ in predictions], [count for _, count in predictions])

    def rows(self, texts: Sequence[str]) -> Rows:
        return {self.text_column_name[0]: list(texts)}


def _filled(tokenizer: Any, ids: Sequence[int], place: int, token: int, share: float) -> dict[str, Any]:
    sequence = tokenizer.decode([*ids[:place], token, *ids[place + 1 :]], skip_special_tokens=True)
    return {"score": share, "token": token, "token_str": tokenizer.decode([token]).strip(), "sequence": sequence}


def _ends(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the special tokens that a tokenizer puts before and after a text."""
    complete = tokenizer("a")["input_ids"]
    inner = tokenizer("a", add_special_tokens=False)["input_ids"]
    at = next(i for i in range(len(complete) - len(inner) + 1) if complete[i : i + len(inner)] == inner)
    return complete[:at], complete[at + len(inner) :]


def _numbered(words: Sequence[int | None]) -> list[int]:
    return [-1 if word is None else word for word in words]
