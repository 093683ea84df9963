"""Read chats in the forms of other trainers, as lists of messages: Gemini's, pairs of turns, MOSS, preferences."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .source import BadRow, Row

Counts = Counter[tuple[str, str]]
_CONVERSATIONS = ("conversation", "conversations", "dialog", "dialogue")
_PAIRS = (("input", "output"), ("human", "assistant"), ("user", "assistant"), ("prompt", "response"))
"""The keys of a turn of Capybara, Firefly and others."""
_PROMPTS, _ANSWERS = ("instruction", "prompt", "query"), ("output", "response", "completion")
_MARKS = re.compile(r"^<\|\w+\|>:\s?|<eo\w>\s*$")
"""What MOSS writes around a message: <|Human|>: and <eoh>."""
_INNER = ("Inner Thoughts", "Commands", "Tool Responses")
_THOUGHTS = ("thought or command of MOSS not read", "thoughts or commands of MOSS not read")
_WORSE = ("output that wasn't preferred not read", "outputs that weren't preferred not read")


def _without(row: Row, *names: str) -> Row:
    return {key: value for key, value in row.items() if key not in names}


def _message(role: str, content: Any) -> Row:
    return {"role": role, "content": content}


# ---- Gemini


def is_gemini(row: Row) -> bool:
    """Return whether an object is a chat of Gemini or Vertex AI: contents with parts."""
    contents = row.get("contents")
    return isinstance(contents, list) and bool(contents) and all(map(_has_parts, contents))


def _has_parts(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("parts"), list)


def gemini_chat(row: Row, left_out: Counts, every: bool) -> Iterator[Row | BadRow]:
    """Yield the messages of a chat, with the system instruction before them."""
    system = next((row[key] for key in ("systemInstruction", "system_instruction") if _has_parts(row.get(key))), None)
    try:
        messages = [_of_parts(content) for content in row["contents"]]
        if system is not None:
            messages.insert(0, {**_of_parts(system), "role": "system"})
    except ValueError as error:
        yield BadRow(str(error))
        return
    yield {**_without(row, "contents", "systemInstruction", "system_instruction"), "messages": messages}


def _of_parts(content: Mapping[str, Any]) -> Row:
    """Return a message of text parts, function calls or responses; raises `ValueError` for other parts."""
    texts: list[str] = []
    calls: list[Row] = []
    role = str(content.get("role", "user"))
    for part in content["parts"]:
        part = part if isinstance(part, Mapping) else {}
        call, response = part.get("functionCall"), part.get("functionResponse")
        if isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif isinstance(call, Mapping):
            calls.append({"function": {"name": call.get("name"), "arguments": call.get("args", {})}})
        elif isinstance(response, Mapping):
            role = "tool"
            texts.append(json.dumps(response.get("response"), ensure_ascii=False))
        else:
            raise ValueError(f"a part of 'contents' is {', '.join(part) or 'no object'}, but a text was expected")
    return _message(role, "\n".join(texts)) | ({"tool_calls": calls} if calls else {})


# ---- turns


def has_turns(row: Row) -> bool:
    """Return whether a conversation is a list of turns with a message and its answer."""
    return any(_pair_of(row.get(name)) for name in _CONVERSATIONS)


def _pair_of(value: Any) -> tuple[str, str] | None:
    if not isinstance(value, list) or not value or not all(isinstance(turn, Mapping) for turn in value):
        return None
    return next((pair for pair in _PAIRS if all({*pair} <= {*turn} for turn in value)), None)


def turns_chat(row: Row, left_out: Counts, every: bool) -> Iterator[Row | BadRow]:
    """Yield the messages of such a conversation."""
    name = next(name for name in _CONVERSATIONS if _pair_of(row.get(name)))
    pair = _pair_of(row[name]) or _PAIRS[0]
    messages = [
        _message(role, turn[key]) for turn in row[name] for role, key in zip(("user", "assistant"), pair, strict=True)
    ]
    yield {**_without(row, name), "messages": messages}


def alternates(row: Row) -> bool:
    """Return whether a conversation is a list of texts, of the user and the assistant in turn, as in LIMA."""
    value = row.get("conversations")
    return isinstance(value, list) and len(value) > 1 and all(isinstance(text, str) for text in value)


def alternating_chat(row: Row, left_out: Counts, every: bool) -> Iterator[Row | BadRow]:
    """Yield the messages of such a conversation."""
    messages = [_message(("user", "assistant")[i % 2], text) for i, text in enumerate(row["conversations"])]
    yield {**_without(row, "conversations"), "messages": messages}


# ---- MOSS


def is_moss(row: Row) -> bool:
    """Return whether an object is a chat of MOSS: turns by name, with Human and MOSS."""
    chat = row.get("chat")
    return isinstance(chat, Mapping) and bool(chat) and all(map(_is_moss_turn, chat.values()))


def _is_moss_turn(turn: Any) -> bool:
    return isinstance(turn, Mapping) and all(isinstance(turn.get(name), str) for name in ("Human", "MOSS"))


def moss_chat(row: Row, left_out: Counts, every: bool) -> Iterator[Row | BadRow]:
    """Yield the messages of a chat, without the marks around them, its instruction as the system's."""
    system = row.get("meta_instruction")
    messages = [_message("system", system)] if isinstance(system, str) and system.strip() else []
    for turn in row["chat"].values():
        left_out[_THOUGHTS] += any("None" not in str(turn.get(name, "None")) for name in _INNER)
        messages += [_message("user", _unmarked(turn["Human"])), _message("assistant", _unmarked(turn["MOSS"]))]
    yield {**_without(row, "chat", "meta_instruction", "num_turns"), "messages": messages}


def _unmarked(text: str) -> str:
    return _MARKS.sub("", text.strip())


# ---- preferences and histories


def is_preference(row: Row) -> bool:
    """Return whether an object is one of OpenAI's preferences: an input, and an output that was preferred."""
    prompt = row.get("input")
    return (
        isinstance(prompt, Mapping) and isinstance(prompt.get("messages"), list) and _is_list(row, "preferred_output")
    )


def _is_list(row: Row, name: str) -> bool:
    return isinstance(row.get(name), list)


def preferred_chat(row: Row, left_out: Counts, every: bool) -> Iterator[Row | BadRow]:
    """Yield the messages of the input as the prompt, and the preferred output as its completion."""
    left_out[_WORSE] += bool(row.get("non_preferred_output"))
    tools = {"tools": row["input"]["tools"]} if row["input"].get("tools") else {}
    others = _without(row, "input", "preferred_output", "non_preferred_output")
    yield {**others, **tools, "prompt": row["input"]["messages"], "completion": row["preferred_output"]}


def has_history(row: Row) -> bool:
    """Return whether an instruction and its output have the turns before them, as LLaMA-Factory writes them."""
    history = row.get("history")
    names = _first(row, _PROMPTS), _first(row, _ANSWERS)
    return isinstance(history, list) and None not in names and all(map(_is_turn, history))


def _first(row: Row, names: Sequence[str]) -> str | None:
    return next((name for name in names if isinstance(row.get(name), str)), None)


def _is_turn(turn: Any) -> bool:
    return isinstance(turn, list) and len(turn) == 2 and all(isinstance(text, str) for text in turn)


def history_chat(row: Row, left_out: Counts, every: bool) -> Iterator[Row | BadRow]:
    """Yield the turns of the history and the instruction with its output as messages."""
    prompt, answer = (str(_first(row, names)) for names in (_PROMPTS, _ANSWERS))
    about = row.get("input") if prompt != "input" else None
    last = "\n".join(filter(None, (row[prompt], about if isinstance(about, str) else "")))
    turns = [*row["history"], [last, row[answer]]]
    messages = [_message(role, text) for turn in turns for role, text in zip(("user", "assistant"), turn, strict=True)]
    yield {**_without(row, "history", "input", prompt, answer), "messages": messages}
