"""Text generation: a causal language model continues plain texts, prompts or chats."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from ..data.column_types import LINE
from ..errors import DataError, TaskError
from .chat_format import chat_parts, is_unstable, plain_ids
from .columns import asks_yes_or_no, check_filled, choose, each, first_of, optional_field, require, stream, visible
from .conversations import Message, answered, content_text, is_chat, messages_of, prompt_of, tools_of, unread_keys
from .input_checks import check_inputs
from .language_modeling import IGNORED, generated, packed, pad_id, padded, token_losses, with_ends
from .task import Rows, Task
from .values import is_empty, single_text_of, text_of, texts_of

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor

    from ..base.base import Base
    from ..metrics import Metrics

PROMPTS = ("prompt", "instruction", "input", "question", "inputs")
COMPLETIONS = ("completion", "response", "output", "answer", "targets")
INPUTS, SYSTEMS, TOOLS = ("input", "context"), ("system", "system_prompt"), ("tools", "functions")
CHATS = ("messages", "conversations", "conversation", "chat", "chat_rounds")
KTO = "label"
"""The column that is true or false where a completion is one to learn or to avoid."""

Chat = tuple[list[Message], list[Any], int]
"""Messages, the tools that they may call, and the number of the first message that is learned."""


@dataclass(frozen=True, kw_only=True)
class TextGeneration(Task):
    """Continue a text; of prompts and chats, only the answers are learned."""

    name: ClassVar[str] = "text-generation"
    auto_class: ClassVar[str] = "AutoModelForCausalLM"
    best: ClassVar[str] = "loss"
    lower_is_better: ClassVar[bool] = True
    new_head: ClassVar[bool] = False
    generates: ClassVar[bool] = True
    cuts_prompts: ClassVar[bool] = False
    peft_task_type: ClassVar[str | None] = "CAUSAL_LM"
    usual_columns: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "text_column_name": ("text",),
        "prompt_column_name": ("prompt",),
        "completion_column_name": ("completion",),
    }
    newer_options: ClassVar[frozenset[str]] = frozenset(
        {"input_column_name", "system_column_name", "tools_column_name"}
    )

    max_seq_length: Annotated[int, "tokens of a block, or of a prompt and its answer", "--block-size"] = 256
    text_column_name: Annotated[tuple[str, ...], "column of plain texts, or of chat messages", "--text-column"] = ()
    prompt_column_name: Annotated[str | None, "column of prompts", "--prompt-column"] = None
    input_column_name: Annotated[str | None, "column of what a prompt is about, read after it", "--input-column"] = None
    completion_column_name: Annotated[str | None, "column of the completion of a prompt", "--completion-column"] = None
    system_column_name: Annotated[str | None, "column of a system prompt, read before the prompt or chat"] = None
    tools_column_name: Annotated[str | None, "column of the tools that a chat may call"] = None
    max_new_tokens: Annotated[int, "tokens to generate"] = 64
    num_beams: Annotated[int, "beams of the search; 1 is greedy decoding"] = 1

    @classmethod
    def fits(cls, first: Mapping[str, Any]) -> bool:
        names = list(first)
        chat = "messages" in names or any(is_chat(first.get(name)) for name in CHATS)
        prompted = first_of(PROMPTS, names) and first_of(COMPLETIONS, names) and not asks_yes_or_no(first)
        return (
            chat
            or names == ["text"]
            or bool(prompted and ("context" not in names or {"instruction", "prompt"} & {*names}))
        )

    @classmethod
    def default_columns(cls) -> tuple[str, ...]:
        return ("text",)

    @property
    def optional_columns(self) -> frozenset[str]:
        columns = self.input_column_name, self.system_column_name, self.tools_column_name
        return frozenset(filter(None, columns))

    def with_columns(self, names: Sequence[str]) -> Self:
        names = visible(names)
        require(names, self.input_column_name, self.system_column_name, self.tools_column_name)
        prompt = self.prompt_column_name or (None if self.text_column_name else first_of(PROMPTS, names))
        system = self.system_column_name or first_of(SYSTEMS, names, without=[*self.text_column_name, str(prompt)])
        if prompt and (self.completion_column_name or first_of(COMPLETIONS, names)):
            flag = "--completion-column-name"
            completion = choose("the completion", flag, self.completion_column_name, names, COMPLETIONS)
            choose("the prompt", "--prompt-column-name", prompt, names, ())
            about = self.input_column_name or first_of(INPUTS, names, without=[prompt, completion])
            return replace(
                self,
                prompt_column_name=prompt,
                input_column_name=about,
                completion_column_name=completion,
                system_column_name=system,
            )
        selected = next(iter(self.text_column_name), None)
        text = choose("the text", "--text-column-name", selected, names, (*CHATS, "text", "content", "story"))
        if text.lower() not in CHATS:  # of plain texts, there is nothing before the text
            return replace(self, text_column_name=(text,))
        tools = self.tools_column_name or first_of(TOOLS, names)
        return replace(self, text_column_name=(text,), system_column_name=system, tools_column_name=tools)

    @property
    def _text(self) -> str:
        return self.prompt_column_name or self.text_column_name[0]

    def describe_columns(self) -> str:
        before = [self.system_column_name, self.tools_column_name, self._text, self.input_column_name]
        read = " + ".join(filter(None, before))
        return f"{read} -> {self.completion_column_name}" if self.prompt_column_name else read

    def parses(self, column: str, cell: str) -> bool:
        return is_chat(cell) or (column == self.tools_column_name and cell[:1] in ("[", "{"))

    def check(self, data: Dataset, file: str) -> None:
        check_inputs(self, data, file)
        if self.prompt_column_name:
            check_filled(data, file, str(self.completion_column_name))
        chats = None
        for i, (line, value) in enumerate(each(data, LINE, self._text)):
            chats = is_chat(value) if chats is None else chats
            if is_chat(value) != chats:
                kinds = "a text", "a list of messages"
                raise DataError(f"{file}:{line}: {self._text} is {kinds[not chats]}, but {kinds[chats]} was expected")
            try:
                self._check_answer(data, i, value, chats)
            except ValueError as error:
                raise DataError(f"{file}:{line}: {error}") from error
        if chats and not self.prompt_column_name and _unlearned(stream(data[self._text])) == len(data):
            raise DataError(f"{file}: all answers have weight 0, so there is nothing to learn")

    def _check_answer(self, data: Dataset, row: int, value: Any, chats: bool) -> None:
        """Raise `ValueError` where a row has no answer to learn."""
        if not self.prompt_column_name:
            if chats:
                try:
                    answered(messages_of(value))
                except ValueError as error:
                    raise ValueError(f"{self._text}: {error}") from error
            return
        name = str(self.completion_column_name)
        completion = data[name][row]
        if KTO in data.column_names and data[KTO][row] is False:
            raise ValueError(f"{KTO} is false, as of completions to avoid; --skip-bad-rows leaves such rows out")
        try:
            if not is_chat(completion):
                single_text_of(completion)
            elif chats:
                answered(messages_of(completion))
            else:
                raise ValueError(f"is a list of messages, but {self._text} is a text")
        except ValueError as error:
            raise ValueError(f"{name} {error}") from error

    def remarks(self, data: Dataset, file: str, tokenizer: Any) -> list[str]:
        values = list(stream(data[self._text])) if len(data) and is_chat(data[self._text][0]) else []
        template = str(getattr(tokenizer, "chat_template", None) or "")
        remarks = []
        if keys := sorted(set().union(*(unread_keys(value, template) for value in values))):
            remarks.append(f"{file}: not read in messages: {', '.join(keys)}")
        if (unlearned := _unlearned(values)) and not self.prompt_column_name:
            remarks.append(f"{file}: {unlearned:,} chats have only answers of weight 0: nothing is learned from them")
        unstable = sum(is_unstable(tokenizer, messages_of(value)) for value in values) if template else 0
        if unstable:
            remarks.append(
                f"{file}: of {unstable:,} chats only the last answer is learned, because the tokenizer's chat template "
                "writes messages otherwise once others follow"
            )
        return remarks

    def accepts(self, column: str, value: Any) -> str | None:
        if column and column == self.tools_column_name:
            tools_of(value)
            return None
        if column in (self.input_column_name, self.system_column_name) or not is_chat(value):
            wanted = "a text or a list of messages" if column == self._text else "a text"
            return None if isinstance(value, str) else wanted
        try:
            messages_of(value)
        except ValueError as error:
            wanted = "a text or a list of messages was expected"
            raise ValueError(f"is {str(value)[:60]}, but {wanted}: {error}") from error
        return None

    def may_be_empty(self, column: str) -> bool:
        return column in self.optional_columns

    def check_base(self, base: Base) -> None:
        if base.model.config.is_encoder_decoder:
            raise TaskError(f"'{base.name}' is an encoder-decoder; use --task text2text-generation")
        if not base.is_causal:
            raise TaskError(f"'{base.name}' isn't causal, so it can't generate; use --task fill-mask")

    def tokenize(self, rows: Rows, tokenizer: Any, *, labelled: bool) -> dict[str, Any]:
        """Return blocks of packed texts, or a feature per row whose labels are -100 except on the answer."""
        if (chats := self._chats(rows)) is not None:
            parts = [chat_parts(tokenizer, messages, tools, first=first) for messages, tools, first in chats]
        elif self.prompt_column_name:
            pairs = zip(_starts(tokenizer, self._prompts(rows)), rows[str(self.completion_column_name)], strict=True)
            ends = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
            parts = [[(ids, False), ([*plain_ids(tokenizer, f" {text_of(t)}"), *ends], True)] for ids, t in pairs]
        else:
            blocks = packed(with_ends(tokenizer, texts_of(rows[self._text])), self.max_seq_length)
            return {"input_ids": blocks, "labels": blocks}
        features: dict[str, Any] = {"input_ids": [], "labels": []}
        for chat in parts:
            ids = [token for part, _ in chat for token in part]
            labels = [token if learned else IGNORED for part, learned in chat for token in part]
            features["input_ids"].append(ids[-self.max_seq_length :])  # the answer is at the end
            features["labels"].append(labels[-self.max_seq_length :])
        return features

    def _optional(self, rows: Rows | Dataset, column: str | None) -> Iterable[Any]:
        """Return the values of a column that rows may lack."""
        names = getattr(rows, "column_names", rows)
        return stream(rows[column]) if column and column in names else itertools.repeat(None, len(rows[self._text]))

    def _prompts(self, rows: Rows) -> list[str]:
        """Return prompts that are texts: the system prompt, the prompt and what it is about, a line each."""
        columns = self._optional(rows, self.system_column_name), rows[self._text]
        parts = zip(*columns, self._optional(rows, self.input_column_name), strict=True)
        return ["\n".join(filter(str.strip, map(text_of, row))) for row in parts]

    def _chats(self, rows: Rows, *, prompts: bool = False) -> list[Chat] | None:
        """Return conversations, to learn from or as `prompts` without the answer; None where rows are plain texts.

        Of prompts with completions, only the completions are learned.
        """
        values = rows[self._text]
        if not len(values) or not is_chat(values[0]):
            return None
        completions = None if prompts else self.completion_column_name
        others = (self.system_column_name, self.input_column_name, self.tools_column_name, completions)
        chats = zip(values, *(self._optional(rows, name) for name in others), strict=True)
        try:
            return [self._chat(*row, prompts=prompts) for row in chats]
        except ValueError as error:
            raise DataError(f"{self._text}: {error}") from error

    def _chat(self, value: Any, system: Any, about: Any, tools: Any, completion: Any, *, prompts: bool) -> Chat:
        messages = messages_of(value)
        if not is_empty(system) and messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": text_of(system)})
        if not is_empty(about):
            messages.append({"role": "user", "content": text_of(about)})
        if prompts:
            return prompt_of(messages), tools_of(tools), 0
        if completion is None:
            return messages, tools_of(tools), 0
        answer = messages_of(completion) if is_chat(completion) else [_answer(text_of(completion))]
        return [*messages, *answer], tools_of(tools), len(messages)

    def lengths(self, rows: Rows, tokenizer: Any, *, labelled: bool) -> dict[str, list[int]]:
        packs = not self.prompt_column_name and not any(map(is_chat, rows[self._text][:1]))
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
        if (chats := self._chats(rows, prompts=True)) is None:
            return {"input_ids": _starts(tokenizer, self._prompts(rows))}
        parts = [chat_parts(tokenizer, messages, tools, prompt=True) for messages, tools, _ in chats]
        return {"input_ids": [[token for part, _ in chat for token in part] for chat in parts]}

    @property
    def generation(self) -> dict[str, Any]:
        return {"max_new_tokens": self.max_new_tokens, "num_beams": self.num_beams, "do_sample": False}

    def generate(self, model: Any, batch: Mapping[str, Tensor], tokenizer: Any, **options: Any) -> list[str]:
        return generated(model, batch, tokenizer, **{**self.generation, **options})

    def references(self, data: Dataset) -> list[str] | None:
        if self.prompt_column_name:
            completions = stream(data[str(self.completion_column_name)])
            return [content_text(messages_of(c)[0]) if is_chat(c) else text_of(c) for c in completions]
        values = data[self._text]
        chats = len(values) > 0 and is_chat(values[0])
        return [content_text(messages_of(value)[-1]) for value in stream(values)] if chats else None

    def rows(self, texts: Sequence[str]) -> Rows:
        if not self.input_column_name:
            return {self._text: list(texts)}
        return optional_field(texts, self._text, self.input_column_name)


def _answer(text: str) -> Message:
    return {"role": "assistant", "content": text}


def _starts(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return prompts as token ids: begun as the tokenizer begins a text, or by its beginning token, and not ended."""
    begin = tokenizer.bos_token_id
    rows = [plain_ids(tokenizer, text) for text in texts]
    return [row if begin is None else [begin, *row] for row in rows]


def _unlearned(chats: Iterable[Any]) -> int:
    """Return how many chats have no answer with another weight than 0."""
    weights = ([m.get("weight") for m in messages_of(chat) if m["role"] == "assistant"] for chat in chats)
    return sum(all(weight == 0 for weight in of_one) for of_one in weights)
