"""Token ids as a base's input: adapterkit's own modality."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ..io.atomic import sha256
from .modality import Modality

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor, device

Text = tuple[tuple[int, ...], tuple[int, ...]]
"""The base's input for a text: token ids, and token type ids where the tokenizer gives some."""

_SAMPLE = 'Über 1,234.5 naïve CATS don\'t e-mail\t"x_y" (née 東京) — ok?! 👍\n  The  end.'
"""A text whose token ids are part of a tokenizer's digest: cases, accents, scripts, digits, marks and spaces."""


class Tokens(Modality):
    """Texts as token ids; the preprocessor is a tokenizer of transformers."""

    name: ClassVar[str] = "input_ids"
    columns: ClassVar[tuple[str, ...]] = ("input_ids", "attention_mask", "token_type_ids")
    preprocessor_text: ClassVar[str] = "the tokenizer (its tokens, or how it splits a text)"

    # ---- the tokenizer

    @classmethod
    def load(cls, path: str, **options: Any) -> Any:
        import transformers

        tokenizer = transformers.AutoTokenizer.from_pretrained(path, **options)
        tokenizer.padding_side = "right"  # labels and offsets are counted from the left; generation pads by itself
        if tokenizer.pad_token is None:  # padding is always masked, so any token will do
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        return tokenizer

    def digest(self) -> str:
        tokenizer = self.preprocessor
        backend = getattr(tokenizer, "backend_tokenizer", None)
        text = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
        return sha256(f"{type(tokenizer).__name__} {tokenizer.special_tokens_map} {text}".encode())

    def content_digest(self) -> str:
        """Return the SHA-256 of the tokenizer's tokens and of how it splits a text."""
        tokens = sorted(self.preprocessor.get_vocab().items(), key=lambda item: (item[1], item[0]))
        ids = self.preprocessor(_SAMPLE, truncation=False, padding=False)["input_ids"]
        return sha256(json.dumps([tokens, ids]).encode())

    def check(self, name: str, model: Any) -> None:
        """Raise `BaseModelError` where special or padding tokens have no row in the base's embeddings."""
        from .checkpoint import check_tokenizer

        check_tokenizer(name, model, self.preprocessor)

    def max_length(self, model: Any) -> int | None:
        limits = [self.preprocessor.model_max_length] if self.preprocessor.model_max_length < 1 << 30 else []
        limits += filter(None, [getattr(model.config, "max_position_embeddings", None)])
        for name, module in model.named_modules():
            if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
                limits.append(module.num_embeddings - module.padding_idx - 1)  # RoBERTa's positions start after it
        return min(limits, default=None)

    def head_settings(self) -> dict[str, Any]:
        """Return the padding token's id where the base's config has none."""
        if getattr(self.config, "pad_token_id", None) is not None:
            return {}
        return {"pad_token_id": self.preprocessor.pad_token_id}

    # ---- texts

    def items(self, feature: Mapping[str, Any]) -> tuple[Text, ...]:
        return texts_of(feature)

    def has_choices(self, feature: Mapping[str, Any]) -> bool:
        return has_choices(feature)

    def length(self, item: Text) -> int:
        return len(item[0])

    def shapes(self, features: Dataset) -> list[tuple[int, int]]:
        shapes = []
        for start in range(0, len(features), 10_000):
            for ids in features["input_ids"][start : start + 10_000]:
                several = ids and isinstance(ids[0], list)
                shapes.append((len(ids), max(map(len, ids))) if several else (1, len(ids)))
        return shapes

    def lengths(self, features: Dataset) -> list[int]:
        return text_lengths(features, "input_ids")

    def shortened(self, feature: Mapping[str, Any]) -> dict[str, Any]:
        """Return a feature with the first token of each of its texts alone."""
        columns = [key for key in self.columns if key in feature]
        several = isinstance(feature["input_ids"][0], list)
        return {**feature, **{k: [ids[:1] for ids in feature[k]] if several else feature[k][:1] for k in columns}}

    # ---- tensors

    def tensors(self, items: Sequence[Text], device: device) -> dict[str, Tensor]:
        import torch

        longest = max(1, *(len(ids) for ids, _ in items))

        def filled(rows: Iterable[Sequence[int]], value: int) -> Tensor:
            return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows], device=device)

        tensors = {"input_ids": filled((ids for ids, _ in items), self.preprocessor.pad_token_id or 0)}
        tensors["attention_mask"] = filled(([1] * len(ids) for ids, _ in items), 0)
        if any(types for _, types in items):
            tensors["token_type_ids"] = filled((types or [0] * len(ids) for ids, types in items), 0)
        return tensors

    def example(self, rows: int, device: device) -> dict[str, Tensor]:
        """Return rows of five tokens, the last of which has padding: without any, some models build no mask."""
        import torch

        ids = torch.arange(rows * 5, device=device).view(rows, 5) % 7 + 1
        mask = torch.ones_like(ids)
        mask[-1, 3:] = 0
        return {"input_ids": ids, "attention_mask": mask}

    def mask(self, inputs: Mapping[str, Tensor]) -> Tensor:
        return inputs["attention_mask"].flatten(0, -2).bool()

    def flat(self, inputs: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[int, ...]]:
        shape = inputs["input_ids"].shape
        flat = {k: v.flatten(0, -2) if getattr(v, "shape", None) == shape else v for k, v in inputs.items()}
        return flat, tuple(shape[:-1])


def texts_of(feature: Mapping[str, Any]) -> tuple[Text, ...]:
    """Return the base's input for a feature: one text, or one for each choice."""
    ids, types = feature["input_ids"], feature.get("token_type_ids")
    if has_choices(feature):
        kinds = types or [()] * len(ids)
        return tuple((tuple(i), tuple(t)) for i, t in zip(ids, kinds, strict=True))
    return ((tuple(ids), tuple(types or ())),)


def has_choices(feature: Mapping[str, Any]) -> bool:
    """Return whether a feature is a text for each of several choices."""
    return bool(feature["input_ids"]) and isinstance(feature["input_ids"][0], list)


def text_lengths(features: Dataset, column: str) -> list[int]:
    """Return the tokens of each text in a column; a feature of multiple choice has several texts."""
    lengths: list[int] = []
    for start in range(0, len(features), 10_000):
        for ids in features[column][start : start + 10_000]:
            lengths += map(len, ids) if ids and isinstance(ids[0], list) else [len(ids)]
    return lengths
