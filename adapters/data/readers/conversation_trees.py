"""Read trees of messages, as OpenAssistant publishes them: the path of the replies that were ranked best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from .source import BadRow, Row

_ROLES = {"prompter": "user", "assistant": "assistant"}
_OTHERS = (
    "reply that is not the best of its message not read",
    "replies that are not the best of their message not read",
)
_ALONE = ("tree without a reply of the assistant left out", "trees without a reply of the assistant left out")


def is_tree(row: Row) -> bool:
    """Return whether an object is a tree: a prompt with replies."""
    return isinstance(row.get("prompt"), Mapping) and isinstance(row["prompt"].get("replies"), list)


def best_path(row: Row, left_out: Counter[tuple[str, str]], every: bool) -> Iterator[Row | BadRow]:
    """Yield the conversation from the prompt along the reply of the best rank, up to the assistant's last message."""
    messages: list[dict[str, str]] = []
    node: Any = row["prompt"]
    while node is not None:
        text, role = node.get("text"), _ROLES.get(str(node.get("role")))
        if not isinstance(text, str) or role is None:
            yield BadRow("messages with a text and the role prompter or assistant were expected")
            return
        messages.append({"role": role, "content": text})
        replies = node.get("replies")
        if replies and not isinstance(replies, list):
            yield BadRow("a list was expected as replies")
            return
        replies = [r for r in replies if isinstance(r, Mapping) and not r.get("deleted")] if replies else []
        left_out[_OTHERS] += max(0, len(replies) - 1)
        node = min(replies, key=_rank, default=None)
    if messages[-1]["role"] != "assistant" and not every:
        messages.pop()
    if not messages:
        left_out[_ALONE] += 1
        return
    identity = {key: row[key] for key in ("message_tree_id",) if key in row}
    yield {**identity, "messages": messages}


def _rank(reply: Mapping[str, Any]) -> float:
    rank = reply.get("rank")
    return float(rank) if isinstance(rank, int | float) else float("inf")
