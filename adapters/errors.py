"""The errors that adapterkit raises on purpose, and how they name what was meant.

AdapterkitError            every one of these; the command line prints it in one line and exits with 2
├── OptionError            a flag, field or config key: unknown, of the wrong type, out of range
├── StrategyError          a strategy: not installed, not loadable, or not fitting the base
├── PluginError            a plugin's package: can't be made, installed or taken away
├── TaskError              a task: unknown, or not fitting the columns or the base
├── DataError              a file or a row of data; says file and line
├── BaseModelError         a base: not found, not safetensors, incomplete
├── AdapterError           an adapter: damaged, on another base, of an unknown kind
├── RegistryError          registry.json or the store
├── FileError              a file or folder that can't be written; raised as one of the others by what writes them
├── HubError               the Hub: not reached, no such repository, or not what an adapter there should be
├── PoolError              a pool: asked for what it doesn't have or can't hold
└── TrainingError          a run that went wrong: NaN, no weight changed, or stopped by a signal
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from collections.abc import Iterable, Iterator

MOST_CHARACTERS = 3000
MOST = 40
"""How many names an error lists."""
_BELOW = {"adapterkit", "torch", "transformers", "peft", "accelerate", "safetensors", "numpy", "importlib"}
"""Packages in which an error is raised, and not made, by a plugin."""


_MOVES = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that move a terminal's cursor, give it orders, or turn the order of what follows."""


def printable(text: str) -> str:
    """Return a text as it can be shown in one line, whoever wrote it: what would move the cursor is written out."""
    return _MOVES.sub(lambda found: ascii(found[0])[1:-1], text)


class AdapterkitError(Exception):
    """Say in one line what was given, what was expected and what there is.

    `suggestion` holds the options that would complete the command, such as ("--label-column", "stars").
    """

    suggestion: tuple[str, ...] = ()

    def __init__(self, *args: object, suggestion: Iterable[str] = ()) -> None:
        super().__init__(*args)
        self.suggestion = tuple(suggestion)

    def __str__(self) -> str:
        said = super().__str__()  # it may quote a stranger's file, whose characters could move the terminal's cursor
        said = said if len(said) <= MOST_CHARACTERS else said[:MOST_CHARACTERS] + "..."
        return printable(said)


class OptionError(AdapterkitError):
    """A flag, field or config key is unknown, of the wrong type or out of range."""


class StrategyError(AdapterkitError):
    """A strategy is not installed, can't be loaded, or doesn't fit the base."""


class PluginError(AdapterkitError):
    """A plugin's package can't be made, installed or taken away."""


class TaskError(AdapterkitError):
    """A task is unknown, or doesn't fit the columns or the base."""


class DataError(AdapterkitError):
    """A data file or one of its rows can't be used."""


class BaseModelError(AdapterkitError):
    """A base can't be found or loaded."""


class AdapterError(AdapterkitError):
    """An adapter is damaged, belongs to another base, or needs what isn't installed."""


class RegistryError(AdapterkitError):
    """registry.json or the store can't be read or written."""


class FileError(AdapterkitError):
    """A file or folder can't be written."""


class HubError(AdapterkitError):
    """The Hub can't be reached, refuses, or doesn't hold what was expected."""


class PoolError(AdapterkitError):
    """A pool is asked for what it doesn't have or can't hold."""


class TrainingError(AdapterkitError):
    """A run saw a loss that is not finite, or moved no weight."""


@contextlib.contextmanager
def file_errors_as(kind: type[AdapterkitError]) -> Iterator[None]:
    """Raise the `FileError` of a block as an error of `kind` with the same text."""
    try:
        yield
    except FileError as error:
        raise kind(*error.args) from error


def raised(error: BaseException) -> str:
    """Say in a line what a plugin raised, and by which line of its file: KeyError: 'x' (mine.py:33)."""
    said = " ".join(f"{type(error).__name__}: {error}".split())
    where, step = "", error.__traceback__
    while step is not None:
        frame = step.tb_frame
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] not in _BELOW:
            where = f" ({os.path.basename(frame.f_code.co_filename)}:{step.tb_lineno})"
        step = step.tb_next
    return f"{said}{where}"


@contextlib.contextmanager
def named(who: str) -> Iterator[None]:
    """Say whose error it is, where a plugin's is not one of ours; that it asks to exit is an error, too."""
    try:
        yield
    except (AdapterkitError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise StrategyError(f"{who} failed: {raised(error)}") from error


def unknown(kind: str, given: str, known: Iterable[str], *, known_as: str = "known") -> str:
    """Say that `given` is no `kind`, list what there is, and offer the nearest spelling.

    >>> unknown("strategy", "lorra", ["full", "lora"], known_as="installed")
    "no strategy named 'lorra'; did you mean 'lora'? installed: full, lora"
    """
    names = sorted(known)
    near = difflib.get_close_matches(given, names, n=1)
    hint = f" did you mean '{near[0]}'?" if near else ""
    more = f", and {len(names) - MOST} more" if len(names) > MOST else ""
    return f"no {kind} named '{given}';{hint} {known_as}: {', '.join(names[:MOST]) or 'none'}{more}"
