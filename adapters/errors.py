"""The errors that adapterkit raises.

AdapterkitError            the parent of all; the command line prints it in one line and exits with 2
├── OptionError            a flag, field or config key: unknown, of the wrong type, out of range
├── StrategyError          a strategy: not installed, not loadable, or not fitting the base
├── PluginError            a plugin's package: can't be generated, installed or uninstalled
├── TaskError              a task: unknown, or not fitting the columns or the base
├── DataError              a file or a row of data, named by file and line
├── BaseModelError         a base: not found, not safetensors, incomplete
├── AdapterError           an adapter: damaged, on another base, of an unknown kind
├── RegistryError          registry.json or the store
├── FileError              a file or folder that can't be written; raised as one of the others by what writes them
├── HubError               the Hub: not reached, no such repository, or not what an adapter there should be
├── ClusterError           a Ray cluster: not reached, of another version, or without room for a worker
├── PoolError              a pool: an unknown adapter, or one that exceeds its memory
└── TrainingError          a run that failed: NaN, no weight changed, or stopped by a signal

TruncationWarning is the category of Python's warnings on texts that were cut.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator

MOST_CHARACTERS = 3000
MOST = 40
"""The most names that an error lists."""
_BELOW = {"adapterkit", "torch", "transformers", "peft", "accelerate", "safetensors", "numpy", "importlib"}
"""Packages that a plugin calls: a line of theirs is not the cause of its error."""


_MOVES = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that control a terminal: cursor movement, escape sequences, reversed text."""


def printable(text: str) -> str:
    """Return a text that is safe to print in one line: control characters are escaped."""
    return _MOVES.sub(lambda match: ascii(match[0])[1:-1], text)


class AdapterkitError(Exception):
    """An error with a message of one line: the value, what was expected, and what exists.

    `suggestion` holds the options that would complete the command, such as ("--label-column", "stars").

    >>> try:
    ...     ak.load("revews")
    ... except ak.AdapterkitError as error:
    ...     print(error)
    registry.json: no adapter named 'revews'; did you mean 'reviews'? registered: reviews
    """

    suggestion: tuple[str, ...] = ()

    def __init__(self, *args: object, suggestion: Iterable[str] = ()) -> None:
        super().__init__(*args)
        self.suggestion = tuple(suggestion)

    def __str__(self) -> str:
        text = super().__str__()  # it may quote a file with control characters
        return printable(text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + "...")


class OptionError(AdapterkitError):
    """A flag, field or config key is unknown, of the wrong type or out of range."""


class StrategyError(AdapterkitError):
    """A strategy is not installed, can't be loaded, or doesn't fit the base."""


class PluginError(AdapterkitError):
    """A plugin's package can't be generated, installed or uninstalled."""


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


class ClusterError(AdapterkitError):
    """A Ray cluster can't be reached, has another version, or can't run a worker."""


class PoolError(AdapterkitError):
    """A pool doesn't have an adapter, or can't hold it."""


class PoolMemoryError(PoolError):
    """An adapter has more bytes than a pool may hold."""


class TrainingError(AdapterkitError):
    """A run saw a loss that is not finite, or changed no weight."""


class TruncationWarning(UserWarning):
    """Texts are longer than the task reads, and were cut."""


def warn(text: str) -> None:
    """Issue a `TruncationWarning` at the line that called adapterkit."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] == "adapterkit":
        frame, level = frame.f_back, level + 1
    warnings.warn(text, TruncationWarning, stacklevel=level)


@contextlib.contextmanager
def file_errors_as(kind: type[AdapterkitError]) -> Iterator[None]:
    """Raise the `FileError` of a block as an error of `kind` with the same text."""
    try:
        yield
    except FileError as error:
        raise kind(*error.args) from error


def raised(error: BaseException) -> str:
    """Describe an error of a plugin in a line, with the line of the plugin's file: KeyError: 'x' (mine.py:33)."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    location, step = "", error.__traceback__
    while step is not None:
        frame = step.tb_frame
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] not in _BELOW:
            location = f" ({os.path.basename(frame.f_code.co_filename)}:{step.tb_lineno})"
        step = step.tb_next
    return f"{text}{location}"


@contextlib.contextmanager
def named(who: str) -> Iterator[None]:
    """Raise `StrategyError`, with the plugin's name, for an error of a plugin that isn't ours, SystemExit included."""
    try:
        yield
    except (AdapterkitError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise StrategyError(f"{who} failed: {raised(error)}") from error


def install(extra: str) -> str:
    """Return the command that installs an extra; the distribution without torch has another name."""
    import importlib.util

    name = "adapterkit" if importlib.util.find_spec("torch") else "adapterkit-runtime"
    return f"pip install '{name}[{extra}]'"


def unknown(kind: str, name: str, valid: Iterable[str], *, known_as: str = "known") -> str:
    """Return the message for an unknown name: the nearest valid one, and the list, introduced by `known_as`.

    The nearest is spelled alike, or the only one that has the name in it.

    >>> unknown("strategy", "lorra", ["full", "lora"], known_as="installed")
    "no strategy named 'lorra'; did you mean 'lora'? installed: full, lora"
    """
    names = sorted(valid)
    longer = [valid for valid in names if name and name.lower() in valid.lower()]
    near = difflib.get_close_matches(name, names, n=1) or (longer if len(longer) == 1 else [])
    hint = f" did you mean '{near[0]}'?" if near else ""
    more = f", and {len(names) - MOST} more" if len(names) > MOST else ""
    return f"no {kind} named '{name}';{hint} {known_as}: {', '.join(names[:MOST]) or 'none'}{more}"
