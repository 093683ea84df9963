"""Find what is installed, ours and strangers' alike, through entry points: read as metadata, imported when used.

A plugin that is broken stays its own problem: nothing is imported to list names, and whatever a plugin's import does,
it ends as an error that names its distribution.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, distributions, entry_points
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import AdapterError, AdapterkitError, StrategyError, TaskError, raised, unknown
from .options import options
from .strategy import Strategy

if TYPE_CHECKING:
    from .patches.patch import Patch

T = TypeVar("T")
OWN = "adapterkit"
STRATEGIES = "adapterkit.strategies"
TASKS = "adapterkit.tasks"
PATCHES = "adapterkit.patches"
KINDS = {STRATEGIES: "strategy", TASKS: "task", PATCHES: "kind of patch"}
"""What an entry-point group holds."""
INTERFACES = (1,)
"""The versions of the interface between adapterkit and plugins that this adapterkit keeps."""
CHOOSING = "ADAPTERKIT_PLUGINS"
"""The environment variable that names the plugins to use: distributions, names or name@distribution, and commas."""

_ERRORS: dict[str, type[AdapterkitError]] = {STRATEGIES: StrategyError, TASKS: TaskError, PATCHES: AdapterError}


@dataclass(frozen=True)
class Found:
    """Something installed under an entry point, not yet imported."""

    name: str
    distribution: str
    version: str
    target: str
    entry_point: EntryPoint

    @property
    def who(self) -> str:
        """Whose it is, for errors: 'bitfit' of adapterkit-bitfit 1.0."""
        return f"'{self.name}' of {self.distribution} {self.version}"

    @property
    def kind(self) -> str:
        """What it is: strategy, task or patch."""
        return KINDS[self.entry_point.group].rpartition(" ")[2]

    @property
    def full_name(self) -> str:
        """The name that no other package's can be taken for."""
        return f"{self.name}@{self.distribution}"

    @property
    def chosen(self) -> bool:
        """Whether it is used: all is, unless the environment says what; adapterkit's own always is."""
        wanted = os.environ.get(CHOOSING)
        if wanted is None or self.distribution == OWN:
            return True
        return any(
            self.answers_to(part.strip()) or _same(part.strip(), self.distribution) for part in wanted.split(",")
        )

    def answers_to(self, name: str) -> bool:
        """Tell whether `name`, or name@distribution, means this."""
        bare, at, distribution = name.partition("@")
        return bare == self.name and (not at or _same(distribution, self.distribution))

    def error(self, text: str) -> AdapterkitError:
        """Return an error about this, of the kind that its group has."""
        return _ERRORS.get(self.entry_point.group, StrategyError)(text)

    def load(self) -> Any:
        """Import and return it, or raise an error that names its distribution, whatever its import did.

        What its import prints goes to the standard error: the standard output may be JSON.
        """
        try:
            with contextlib.redirect_stdout(sys.stderr):
                return self.entry_point.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a stranger's module can fail in any way, and can ask to exit
            raise self.error(f"{self.who} can't be imported: {raised(error)}") from error

    def load_class(self, parent: type[T]) -> type[T]:
        """Import and return its class, or raise an error that says what keeps it from being a `parent`."""
        cls = self.load()
        if not (inspect.isclass(cls) and issubclass(cls, parent)):
            raise self.error(f"{self.who} is not a subclass of adapterkit.{parent.__name__}: {self.target}")
        if inspect.isabstract(cls):
            raise self.error(
                f"{self.who} lacks {', '.join(sorted(getattr(cls, '__abstractmethods__', ())))}: {self.target}"
            )
        if (wanted := getattr(cls, "interface", 1)) not in INTERFACES:
            kept = ", ".join(map(str, INTERFACES))
            raise self.error(f"{self.who} is written for interface {wanted}; this adapterkit keeps interface {kept}")
        return cls


def everything(group: str = STRATEGIES) -> list[Found]:
    """Return all that is installed under an entry-point group, sorted by name, whether it is chosen or not."""
    found = [
        Found(e.name, (e.dist.name if e.dist else "") or "?", (e.dist.version if e.dist else "") or "?", e.value, e)
        for e in _entry_points(group)
    ]
    return sorted(set(found), key=lambda f: (f.name, f.distribution))


def installed(group: str = STRATEGIES) -> list[Found]:
    """Return what is installed under an entry-point group and chosen, sorted by name."""
    return [found for found in everything(group) if found.chosen]


def _entry_points(group: str) -> Iterable[EntryPoint]:
    try:
        return entry_points(group=group)
    except Exception:  # some package's metadata can't be read: do without that one's
        return [e for d in distributions() for e in _readable(d) if e.group == group]


def _readable(distribution: Any) -> Iterable[EntryPoint]:
    try:
        found: Iterable[EntryPoint] = distribution.entry_points
        return found
    except Exception:
        return ()


def _same(a: str, b: str) -> bool:
    """Tell whether two spellings mean the same distribution."""
    return re.sub(r"[-_.]+", "-", a).lower() == re.sub(r"[-_.]+", "-", b).lower()


def find(name: str, group: str = STRATEGIES) -> Found:
    """Return what is installed under a name, or name@distribution, in an entry-point group.

    Raises `StrategyError`, `TaskError` or `AdapterError`, with what there is, where there is none or more than one.
    """
    there, kind = installed(group), KINDS[group]
    named = [found for found in there if found.answers_to(name)]
    if len(named) == 1:
        return named[0]
    if named:
        owners = " and of ".join(f"{found.distribution} {found.version}" for found in named)
        choice = " or ".join(found.full_name for found in named)
        raise named[0].error(f"'{name}' is a {kind} of {owners}; say which: {choice}")
    left_out = next((found for found in everything(group) if found.answers_to(name)), None)
    if left_out is not None:
        raise left_out.error(f"the {kind} {left_out.who} is left out by {CHOOSING}={os.environ[CHOOSING]}")
    names = {found.full_name if "@" in name else found.name for found in there}
    raise _ERRORS[group](unknown(kind, name, names, known_as="installed"))


def default() -> str:
    """Return the name of the strategy for runs that name none: adapterkit's LoRA, whoever else has one of that name."""
    return "lora" if sum(found.name == "lora" for found in installed()) == 1 else f"lora@{OWN}"


def strategy_class(name: str) -> type[Strategy]:
    """Return the class of an installed strategy, or raise `StrategyError` that says what is wrong with it."""
    return checked_strategy(find(name))


def checked_strategy(found: Found) -> type[Strategy]:
    """Import a strategy and return its class, or raise `StrategyError` that says what is wrong with it."""
    cls = found.load_class(Strategy)  # type: ignore[type-abstract]
    made = next(of for of in cls.__mro__ if "__dataclass_fields__" in vars(of))
    if made is Strategy or (made is not cls and inspect.get_annotations(cls)):  # else its options are a parent's
        raise StrategyError(f"{found.who} lacks @dataclass(frozen=True, kw_only=True): {found.target}")
    try:
        options(cls)
    except Exception as error:  # an annotation can be any expression
        raise StrategyError(f"{found.who}: {' '.join(str(error).split()) or type(error).__name__}") from error
    return cls


@functools.cache  # what was found stays; what wasn't is looked for again
def patch_class(kind: str) -> type[Patch]:
    """Return the class of an installed kind of patch, or raise `AdapterError` with the kinds there are.

    Adapterkit's own kinds are its own: adapters of every strategy are made of them.
    """
    own = next((found for found in installed(PATCHES) if found.name == kind and found.distribution == OWN), None)
    return checked_patch(own or find(kind, PATCHES))


def checked_patch(found: Found) -> type[Patch]:
    """Import a kind of patch and return its class, or raise `AdapterError` that says what is wrong with it."""
    from .patches.patch import Patch

    cls = found.load_class(Patch)  # type: ignore[type-abstract]
    if getattr(cls, "kind", None) != found.name:
        raise AdapterError(f"{found.who} is a patch of kind {getattr(cls, 'kind', None)!r}: {found.target}")
    return cls
