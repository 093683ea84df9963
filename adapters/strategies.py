"""Find what is installed, ours and strangers' alike, through entry points: read as metadata, imported when used."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from .errors import AdapterError, OptionError, StrategyError, unknown
from .options import options
from .strategy import Strategy

if TYPE_CHECKING:
    from .patch import Patch

STRATEGIES = "adapterkit.strategies"
PATCHES = "adapterkit.patches"


@dataclass(frozen=True)
class Found:
    """Something installed under an entry point, not yet imported."""

    name: str
    distribution: str
    version: str
    target: str
    entry_point: EntryPoint

    def load(self) -> Any:
        """Import and return it, or raise `StrategyError` that names its distribution."""
        try:
            return self.entry_point.load()
        except Exception as error:  # a stranger's module can fail in any way
            who = f"'{self.name}' of {self.distribution} {self.version}"
            raise StrategyError(f"{who} can't be imported: {type(error).__name__}: {error}") from error


def installed(group: str = STRATEGIES) -> list[Found]:
    """Return what is installed under an entry-point group, sorted by name."""
    found = [
        Found(e.name, e.dist.name if e.dist else "?", e.dist.version if e.dist else "?", e.value, e)
        for e in entry_points(group=group)
    ]
    return sorted(set(found), key=lambda f: (f.name, f.distribution))


def find(name: str) -> Found:
    """Return the installed strategy of that name.

    Raises `StrategyError`, with those there are, where there is none, or more than one.
    """
    found = installed()
    named = [f for f in found if f.name == name]
    if not named:
        raise StrategyError(unknown("strategy", name, [f.name for f in found], known_as="installed"))
    if len(named) > 1:
        raise StrategyError(
            f"'{name}' is a strategy of {' and of '.join(f.distribution for f in named)}; uninstall one"
        )
    return named[0]


def strategy_class(name: str) -> type[Strategy]:
    """Return the class of an installed strategy, or raise `StrategyError` that says what is wrong with it."""
    found = find(name)
    cls = found.load()
    who = f"'{name}' of {found.distribution} {found.version}"
    if not (inspect.isclass(cls) and issubclass(cls, Strategy)):
        raise StrategyError(f"{who} is not a subclass of adapterkit.Strategy: {found.target}")
    if inspect.isabstract(cls):
        raise StrategyError(f"{who} lacks {', '.join(sorted(cls.__abstractmethods__))}: {found.target}")
    try:
        options(cls)
    except (OptionError, NameError) as error:
        raise StrategyError(f"{who}: {error}") from error
    return cls


@functools.cache  # what was found stays; what wasn't is looked for again
def patch_class(kind: str) -> type[Patch]:
    """Return the class of an installed kind of patch, or raise `AdapterError` with the kinds there are."""
    found = installed(PATCHES)
    named = [f for f in found if f.name == kind]
    if not named:
        kinds = [f.name for f in found]
        raise AdapterError(
            f"{unknown('kind of patch', kind, kinds, known_as='installed')}; its plugin is not installed"
        )
    cls: type[Patch] = named[0].load()
    return cls
