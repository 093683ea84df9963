"""Text generation: a causal language model continues plain texts, prompts or chats."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from ..data.splits import LINE
from ..errors import DataError, TaskError
from .columns import check_filled, choose, each, first_of, holds_texts, stream, visible
from .language_modeling import IGNORED, generated, packed, pad_id, padded, token_losses, with_ends
from .task import Rows, Task

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor

    from ..base.base import Base
    from ..metrics import Metrics

PROMPTS = ("prompt", "instruction", "input", "question")
COMPLETIONS = ("completion", "response", "output", "answer")


@dataclass(frozen=True, kw_only=True)
class TextGeneration(Task):
    """Continue a text; of prompts and chats, only the answers are learned."""

    name: ClassVar[str] = "text-generation"
    auto_class: ClassVar[str] = "AutoModelForCausalLM"
    best: ClassVar[str] = "loss"
    lower_is_better: ClassVar[bool] = True
    new_head: ClassVar[bool] = False
    generates: ClassVar[bool] = True
    peft_task_type: ClassVar[str | None] = "CAUSAL_LM"
    usual_columns: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "text_column_name": ("text",),
        "prompt_column_name": ("prompt",),
        "completion_column_name": ("completion",),
    }

    max_seq_length: Annotated[int, "tokens of a block, or of a prompt and its answer", "--block-size"] = 256
    text_column_name: Annotated[tuple[str, ...], "column of plain texts, or of chat messages", "--text-column"] = ()
    prompt_column_name: Annotated[str | None, "column of prompts", "--prompt-column"] = None
    completion_column_name: Annotated[str | None, "column of the completion of a prompt", "--completion-column"] = None
    max_new_tokens: Annotated[int, "tokens to generate"] = 64
    num_beams: Annotated[int, "beams of the search; 1 is greedy decoding"] = 1

    @classmethod
    def fits(cls, first: Mapping[str, Any]) -> bool:
        names = list(first)
        prompted = first_of(PROMPTS, names) and first_of(COMPLETIONS, names)
        return "messages" in names or names == ["text"] or bool(prompted and "context" not in names)

    @classmethod
    def default_columns(cls) -> tuple[str, ...]:
        return ("text",)

    def with_columns(self, names: Sequence[str]) -> Self:
        names = visible(names)
        prompt = self.prompt_column_name or (None if self.text_column_name else first_of(PROMPTS, names))
        if prompt and (self.completion_column_name or first_of(COMPLETIONS, names)):
            flag = "--completion-column-name"
            completion = choose("the completion", flag, self.completion_column_name, names, COMPLETIONS)
            choose("the prompt", "--prompt-column-name", prompt, names, ())
            return replace(self, prompt_column_name=prompt, completion_column_name=completion)
        selected = next(iter(self.text_column_name), None)
        text = choose("the text", "--text-column-name", selected, names, ("messages", "text", "content", "story"))
        return replace(self, text_column_name=(text,))

    @property
    def _text(self) -> str:
        return self.text_column_name[0]

    def describe_columns(self) -> str:
        return f"{self.prompt_column_name} -> {self.completion_column_name}" if self.prompt_column_name else self._text

    def check(self, data: Dataset, file: str) -> None:
        if self.prompt_column_name:
            check_filled(data, file, self.prompt_column_name, str(self.completion_column_name))
            return
        check_filled(data, file, self._text)
        for line, value in each(data, LINE, self._text):
            if not isinstance(value, str):
                problem = _chat_problem(value)
                if problem:
                    raise DataError(f"{file}:{line}: {self._text}: {problem}")

    def accepts(self, column: str, value: Any) -> str | None:
        if self.prompt_column_name:
            return super().accepts(column, value)
        chat = isinstance(value, list) and all(holds_texts(message, "role", "content") for message in value)
        return None if isinstance(value, str) or chat else "a text or a list of messages"

    def check_base(self, base: Base) -> None:
        if base.model.config.is_encoder_decoder:
            raise TaskError(f"'{base.name}' is an encoder-decoder; use --task text2text-generation")
        if not base.is_causal:
            raise TaskError(f"'{base.name}' isn't causal, so it can't generate; use --task fill-mask")

    def tokenize(self, rows: Rows, tokenizer: Any, *, labelled: bool) -> dict[str, Any]:
        """Return blocks of packed texts, or a feature per row whose labels are -100 except on the answer."""
        if self.prompt_column_name:
            prompts, completions = rows[self.prompt_column_name], rows[str(self.completion_column_name)]
            pairs = zip(_starts(tokenizer, prompts), completions, strict=True)
            ends = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
            chats = [[(ids, False), ([*_plain(tokenizer, f" {text}"), *ends], True)] for ids, text in pairs]
        elif rows[self._text] and not isinstance(rows[self._text][0], str):
            chats = [_chat_parts(tokenizer, messages) for messages in rows[self._text]]
        else:
            blocks = packed(with_ends(tokenizer, rows[self._text]), self.max_seq_length)
            return {"input_ids": blocks, "labels": blocks}
        features: dict[str, Any] = {"input_ids": [], "labels": []}
        for parts in chats:
            ids = [token for part, _ in parts for token in part]
            labels = [token if learned else IGNORED for part, learned in parts for token in part]
            features["input_ids"].append(ids[-self.max_seq_length :])  # the answer is at the end
            features["labels"].append(labels[-self.max_seq_length :])
        return features

    def lengths(self, rows: Rows, tokenizer: Any, *, labelled: bool) -> dict[str, list[int]]:
        packs = not self.prompt_column_name and all(isinstance(text, str) for text in rows[self._text])
        return {} if packs or not labelled else super().lengths(rows, tokenizer, labelled=True)

    def collate(self, tokenizer: Any, model: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        def batch(features: list[dict[str, Any]]) -> dict[str, Any]:
            fill = {"input_ids": pad_id(tokenizer), "labels": IGNORED, "attention_mask": 0}
            masked = [{**f, "attention_mask": [1] * len(f["input_ids"])} for f in features]
            return padded(masked, fill, left="labels" not in features[0])

        return batch

    def loss(self, model: Any, batch: Mapping[str, Tensor], *, label_smoothing: float = 0.0) -> Tensor:
        if not label_smoothing:
            return super().loss(model, batch)
        import torch

        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
        labels = batch["labels"][:, 1:]
        return torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, label_smoothing=label_smoothing
        )

    def loss_weight(self, batch: Mapping[str, Tensor]) -> float:
        return super().loss_weight({"labels": batch["labels"][:, 1:]})

    def outputs(self, model: Any, batch: Mapping[str, Tensor]) -> list[Any]:
        """Return for each feature the summed negative log-likelihood of its labels, and how many there are."""
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        return token_losses(logits[:, :-1], batch["labels"][:, 1:])

    def metrics(self, predictions: Sequence[Any], data: Dataset) -> Metrics:
        from ..metrics import perplexity

        return perplexity([loss for loss, _ in predictions], [count for _, count in predictions])

    def prompts(self, rows: Rows, tokenizer: Any) -> dict[str, Any]:
        if self.prompt_column_name:
            return {"input_ids": _starts(tokenizer, rows[self.prompt_column_name])}
        values = rows[self._text]
        if values and not isinstance(values[0], str):
            prompts = [m[:-1] if m[-1]["role"] == "assistant" else m for m in values]
            return {
                "input_ids": [[t for part, _ in _chat_parts(tokenizer, m, prompt=True) for t in part] for m in prompts]
            }
        return {"input_ids": _starts(tokenizer, values)}

    @property
    def generation(self) -> dict[str, Any]:
        return {"max_new_tokens": self.max_new_tokens, "num_beams": self.num_beams, "do_sample": False}

    def generate(self, model: Any, batch: Mapping[str, Tensor], tokenizer: Any, **options: Any) -> list[str]:
        return generated(model, batch, tokenizer, **{**self.generation, **options})

    def references(self, data: Dataset) -> list[str] | None:
        if self.prompt_column_name:
            return [str(text) for text in stream(data[str(self.completion_column_name)])]
        values = data[self._text]
        chats = len(values) > 0 and not isinstance(values[0], str)
        return [str(messages[-1]["content"]) for messages in stream(values)] if chats else None

    def rows(self, texts: Sequence[str]) -> Rows:
        return {self.prompt_column_name or self._text: list(texts)}


def _plain(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def _starts(tokenizer: Any, texts: Sequence[Any]) -> list[list[int]]:
    """Return prompts as token ids: begun as the tokenizer begins a text, or by its beginning token, and not ended."""
    begin = tokenizer.bos_token_id
    rows = [_plain(tokenizer, str(text)) for text in texts]
    return [row if begin is None else [begin, *row] for row in rows]


def _chat_parts(
    tokenizer: Any, messages: Sequence[Mapping[str, str]], *, prompt: bool = False
) -> list[tuple[list[int], bool]]:
    """Return a chat as token ids, part by part, with whether the part is the assistant's and so is learned.

    The tokenizer's chat template is used where it has one; else each message is a line that begins with its role.
    """
    parts: list[tuple[list[int], bool]] = []
    if getattr(tokenizer, "chat_template", None):
        before = ""
        for i, message in enumerate(messages):
            learned = message["role"] == "assistant"
            if learned:
                start = tokenizer.apply_chat_template(messages[:i], tokenize=False, add_generation_prompt=True)
                parts.append((_plain(tokenizer, start[len(before) :]), False))
                before = start
            text = tokenizer.apply_chat_template(messages[: i + 1], tokenize=False)
            parts.append((_plain(tokenizer, text[len(before) :]), learned))
            before = text
        if prompt:
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            parts.append((_plain(tokenizer, text[len(before) :]), False))
        return parts
    if tokenizer.bos_token_id is not None:
        parts.append(([tokenizer.bos_token_id], False))
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    for message in messages:
        learned = message["role"] == "assistant"
        parts.append((_plain(tokenizer, f"{message['role']}:"), False))
        parts.append(([*_plain(tokenizer, f" {message['content']}\n"), *(end if learned else [])], learned))
    if prompt:
        parts.append((_plain(tokenizer, "assistant:"), False))
    return parts


def _chat_problem(messages: Any) -> str:
    if not isinstance(messages, list) or not messages:
        return f"a text or a list of messages was expected, not {str(messages)[:40]}"
    for message in messages:
        if not isinstance(message, Mapping) or not message.get("role") or message.get("content") is None:
            return f'a message is {{"role": ..., "content": ...}}, not {str(message)[:40]}'
    if messages[-1]["role"] != "assistant":
        return f"the last message is the {messages[-1]['role']}'s, and the assistant's was expected"
    return ""
