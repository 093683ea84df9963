"""Read conversations in the forms that data sets have: OpenAI's messages, ShareGPT's, TRL's prompts and answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .cells import from_cell

Message = dict[str, Any]
"""A message as chat templates take it: role, content and, where the assistant calls tools, tool_calls."""

ROLES = {
    **dict.fromkeys(("human", "user", "prompter"), "user"),
    **dict.fromkeys(("gpt", "chatgpt", "assistant", "model", "bot", "bing", "bard", "function_call"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "function", "observation", "function_response", "tool_response"), "tool"),
}
"""The role that each name of one means; others are left as they are."""
_ROLE, _CONTENT = ("role", "from"), ("content", "value", "text")
_PASSED_ON = ("name", "tool_call_id", "reasoning_content", "thinking")
_READ = {*_ROLE, *_CONTENT, "tool_calls", "tool_call_id", "function_call", "weight", "id", "type"}
_MEDIA = ("image", "images", "audio", "video", "videos")
_TEXT_PARTS = ("text", "input_text", "output_text")


def is_chat(value: Any) -> bool:
    """Return whether a value is meant as a list of messages, also as JSON or Python write one into a cell."""
    if isinstance(value, str):
        value = from_cell(value, _is_list_of_messages)
    return isinstance(value, list | tuple) and len(value) > 0 and all(isinstance(item, Mapping) for item in value)


def messages_of(value: Any) -> list[Message]:
    """Return the messages of a conversation. Raises `ValueError`, with what was expected, for anything else."""
    if isinstance(value, str):
        value = from_cell(value, _is_list_of_messages)
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"a text or a list of messages was expected, not {str(value)[:40]}")
    return [_message(item) for item in value]


def answered(messages: Sequence[Message]) -> list[Message]:
    """Return messages that end with the assistant's, or raise `ValueError`."""
    if messages[-1]["role"] != "assistant":
        raise ValueError(f"the last message is the {messages[-1]['role']}'s, and the assistant's was expected")
    return list(messages)


def prompt_of(messages: Sequence[Message]) -> list[Message]:
    """Return the messages before the answer to predict: all of them, or those before the assistant's last one."""
    return list(messages[:-1] if messages[-1]["role"] == "assistant" else messages)


def unread_keys(value: Any, template: str) -> set[str]:
    """Return the keys of messages that hold something and are neither read nor passed on to a chat template."""
    value = from_cell(value, _is_list_of_messages) if isinstance(value, str) else value
    keys = {key for item in value for key in item if item[key] not in (None, "", [], {})}
    return {key for key in keys - _READ if key not in _PASSED_ON or key not in template}


def content_text(message: Message) -> str:
    """Return a message as a text, with its tool calls as JSON, a line each."""
    calls = [json.dumps(call["function"], ensure_ascii=False) for call in message.get("tool_calls", ())]
    return "\n".join(filter(None, [message["content"], *calls]))


def tools_of(value: Any) -> list[Any]:
    """Return the tools that the assistant may call, from a list of their schemas or the JSON of one.

    Raises `ValueError` for anything else.
    """
    tools = _parsed(value) if isinstance(value, str) else value
    if not tools:
        return []
    if isinstance(tools, Mapping):
        tools = [tools]
    if not isinstance(tools, list | tuple) or not all(isinstance(tool, Mapping) for tool in tools):
        raise ValueError(f"is {str(value)[:60]}, but a list of tools was expected")
    return [_without_nulls(tool) for tool in tools]


def _message(item: Any) -> Message:
    if not isinstance(item, Mapping):
        raise ValueError(f'a message is {{"role": ..., "content": ...}}, not {str(item)[:40]}')
    stated = {key: value for key, value in item.items() if value is not None}
    role = next((stated[key] for key in _ROLE if key in stated), None)
    content = next((stated[key] for key in _CONTENT if key in stated), None)
    calls = _calls(stated)
    if not isinstance(role, str) or not role or (content is None and not calls):
        raise ValueError(f'a message is {{"role": ..., "content": ...}}, not {str(dict(stated))[:60]}')
    if media := [key for key in _MEDIA if stated.get(key)]:
        raise ValueError(f"a message has {media[0]}, but only texts can be read")
    message: Message = {"role": ROLES.get(role.lower(), role), "content": _content(content)}
    message |= {"tool_calls": calls} if calls else {}
    message |= {key: stated[key] for key in _PASSED_ON if isinstance(stated.get(key), str)}
    return message | ({"weight": stated["weight"]} if "weight" in stated else {})


def _content(value: Any) -> str:
    """Return content as a text: itself, or the texts of its parts, a line each."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    parts = value if isinstance(value, list | tuple) else [value]
    return "\n".join(map(_part, parts))


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    stated = {key: value for key, value in part.items() if value is not None} if isinstance(part, Mapping) else {}
    if stated.get("type", "text") in _TEXT_PARTS and isinstance(stated.get("text"), str):
        return str(stated["text"])
    kind = f"of type '{stated['type']}'" if "type" in stated else f"{str(part)[:40]}"
    raise ValueError(f"a part of a message's content is {kind}, but a text was expected")


def _calls(stated: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the tool calls of a message in OpenAI's form, their arguments as objects."""
    calls = stated.get("tool_calls") or []
    calls = (_parsed(calls) or []) if isinstance(calls, str) else calls
    if stated.get("function_call"):
        calls = [*calls, stated["function_call"]]
    if not isinstance(calls, list | tuple):
        raise ValueError(f"tool_calls is {str(calls)[:40]}, but a list was expected")
    return [_call(call) for call in calls]


def _call(call: Any) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise ValueError(f'a tool call is {{"function": {{"name": ..., "arguments": ...}}}}, not {str(call)[:60]}')
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        arguments = _parsed(arguments) if arguments.strip() else {}
    arguments = {} if arguments is None else _without_nulls(arguments)
    return {"type": "function", "function": {"name": function["name"], "arguments": arguments}}


def _parsed(text: str) -> Any:
    """Return what a text holds as JSON, or the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _is_list_of_messages(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) and {*v} & {*_ROLE} for v in value)


def _without_nulls(value: Any) -> Any:
    """Return an object without its nulls, with which a table fills up objects that have other keys."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list | tuple) else value
