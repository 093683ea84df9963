"""Write conversations as token ids, by the tokenizer's chat template or without one, and mark what is learned."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..errors import DataError
from .conversations import Message, content_text

Part = tuple[list[int], bool]
"""Token ids, and whether they are the assistant's and so are learned."""


def plain_ids(tokenizer: Any, text: str) -> list[int]:
    """Return the token ids of a text without special tokens around it."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def chat_parts(
    tokenizer: Any, messages: Sequence[Message], tools: Sequence[Any] = (), *, first: int = 0, prompt: bool = False
) -> list[Part]:
    """Return a chat as token ids, part by part; the assistant's messages from number `first` on are learned.

    The tokenizer's chat template is used where it has one; else each message is a line that begins with its role. A
    `prompt` ends where the assistant's answer begins. Raises `DataError` where the template refuses the messages.
    """
    if getattr(tokenizer, "chat_template", None):
        return _by_template(tokenizer, messages, tools, first, prompt)
    if tools:
        messages = [_tools_message(tools), *messages]
        first += 1
    begin = tokenizer.bos_token_id
    parts: list[Part] = [] if begin is None else [([begin], False)]
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    for i, message in enumerate(messages):
        answer = message["role"] == "assistant"
        learned = answer and i >= first and message.get("weight") != 0
        parts.append((plain_ids(tokenizer, f"{message['role']}:"), False))
        parts.append(([*plain_ids(tokenizer, f" {content_text(message)}\n"), *(end if answer else [])], learned))
    if prompt:
        parts.append((plain_ids(tokenizer, "assistant:"), False))
    return parts


def is_unstable(tokenizer: Any, messages: Sequence[Message], tools: Sequence[Any] = ()) -> bool:
    """Return whether the chat template writes earlier messages otherwise once others follow them."""
    if not getattr(tokenizer, "chat_template", None):
        return False
    template = _Template(tokenizer, messages, tools)
    return template.steps(template.messages) is None


def _by_template(
    tokenizer: Any, messages: Sequence[Message], tools: Sequence[Any], first: int, prompt: bool
) -> list[Part]:
    template = _Template(tokenizer, messages, tools)
    first += len(template.messages) - len(messages)
    if prompt:
        return [(plain_ids(tokenizer, template.text(template.messages, prompt=True)), False)]
    steps = template.steps(template.messages)
    if steps is None:  # then only the last answer is certain to be written as it is generated
        *before, _ = template.messages
        start, text = template.text(before, prompt=True), template.text(template.messages)
        if not text.startswith(start):
            raise DataError("the tokenizer's chat template writes a prompt otherwise once its answer follows")
        return [(plain_ids(tokenizer, start), False), (plain_ids(tokenizer, text[len(start) :]), True)]
    learned = [
        m["role"] == "assistant" and i >= first and m.get("weight") != 0 for i, m in enumerate(template.messages)
    ]
    parts: list[Part] = []
    for (before_text, text), learns in zip(steps, learned, strict=True):
        parts += [(plain_ids(tokenizer, before_text), False)] if before_text else []
        parts.append((plain_ids(tokenizer, text), learns))
    return parts


class _Template:
    """A tokenizer's chat template over some messages; what it would leave out is put into their content as JSON."""

    def __init__(self, tokenizer: Any, messages: Sequence[Message], tools: Sequence[Any]) -> None:
        self.tokenizer, self.tools = tokenizer, list(tools)
        self.messages: list[Message] = [dict(message) for message in messages]
        calls = [message for message in self.messages if message.get("tool_calls")]
        if calls and any(
            call["function"]["name"] not in self.text(self.messages) for m in calls for call in m["tool_calls"]
        ):
            for message in calls:
                message["content"] = content_text(message)
                del message["tool_calls"]
        if self.tools and self.text(self.messages) == self._applied(self.messages, None):
            self.messages, self.tools = [_tools_message(self.tools), *self.messages], []

    def text(self, messages: Sequence[Message], *, prompt: bool = False) -> str:
        """Return messages as the template writes them; a `prompt` ends where the answer begins."""
        return self._applied(messages, self.tools or None, prompt)

    def steps(self, messages: Sequence[Message]) -> list[tuple[str, str]] | None:
        """Return for each message what is written before it and the message itself, or None where that isn't stable."""
        steps, written = [], ""
        for i, message in enumerate(messages):
            start = self.text(messages[:i], prompt=True) if message["role"] == "assistant" and i else written
            text = self.text(messages[: i + 1])
            if not (start.startswith(written) and text.startswith(start)):
                return None
            steps.append((start[len(written) :], text[len(start) :]))
            written = text
        return steps

    def _applied(self, messages: Sequence[Message], tools: list[Any] | None, prompt: bool = False) -> str:
        from jinja2.exceptions import TemplateError

        try:
            return str(
                self.tokenizer.apply_chat_template(
                    [{key: value for key, value in m.items() if key != "weight"} for m in messages],
                    tools=tools,
                    tokenize=False,
                    add_generation_prompt=prompt,
                )
            )
        except (TemplateError, TypeError, ValueError, KeyError) as error:
            roles = ", ".join(str(message["role"]) for message in messages)
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"the tokenizer's chat template refuses messages of {roles}: {reason}") from error


def _tools_message(tools: Sequence[Any]) -> Message:
    return {"role": "system", "content": "tools: " + json.dumps(list(tools), ensure_ascii=False)}
