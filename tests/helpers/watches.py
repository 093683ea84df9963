"""Watches that record notes and bars."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from adapterkit import Watch


class Notes(Watch):
    """Remembers what it hears."""

    def __init__(self) -> None:
        self.heard: dict[str, str] = {}

    def note(self, topic: str, text: str) -> None:
        self.heard[topic] = text


class Heard(Watch):
    """Remembers remarks and bars."""

    def __init__(self) -> None:
        self.notes: dict[str, str] = {}
        self.bars: dict[str, int] = {}

    def note(self, topic: str, text: str) -> None:
        self.notes[topic] = text

    def bar(self, title: str, total: int) -> Any:
        self.bars[title] = total
        return super().bar(title, total)


class Listening(Watch):
    """Keep what a watch hears."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.bars: list[tuple[str, int]] = []
        self.done = 0

    def note(self, topic: str, text: str) -> None:
        self.notes.append(text)

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Watch]:
        self.bars.append((title, total))
        yield self

    def advance(self, steps: int = 1, **values: float) -> None:
        assert steps >= 0
        self.done += steps
