"""Discover the strategies, tasks, kinds of patches and modalities that are installed, through entry points.

Names are read from metadata; a plugin is imported when it is used. Whatever goes wrong in its import ends as an error
that names its distribution.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution, distributions, entry_points
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import AdapterError, AdapterkitError, BaseModelError, StrategyError, TaskError, raised, unknown
from .options import options
from .strategy import Strategy

if TYPE_CHECKING:
    from .patches.patch import Patch

T = TypeVar("T")
ADAPTERKIT = "adapterkit"
"""The distribution of the plugins that come with adapterkit."""
STRATEGIES = "adapterkit.strategies"
TASKS = "adapterkit.tasks"
PATCHES = "adapterkit.patches"
MODALITIES = "adapterkit.modalities"
KINDS = {STRATEGIES: "strategy", TASKS: "task", PATCHES: "kind of patch", MODALITIES: "modality"}
"""What the entry points of a group are."""
INTERFACES = (1,)
"""The supported versions of the interface between adapterkit and plugins."""
PLUGINS_VARIABLE = "ADAPTERKIT_PLUGINS"
"""The environment variable that enables plugins: distributions, names or name@distribution, separated by commas."""

_ERRORS: dict[str, type[AdapterkitError]] = {
    STRATEGIES: StrategyError,
    TASKS: TaskError,
    PATCHES: AdapterError,
    MODALITIES: BaseModelError,
}


@dataclass(frozen=True)
class Plugin:
    """An entry point that is installed; not imported yet."""

    name: str
    distribution: str
    version: str
    target: str
    entry_point: EntryPoint

    @property
    def label(self) -> str:
        """The plugin and its distribution, for errors: 'bitfit' of adapterkit-bitfit 1.0."""
        return f"'{self.name}' of {self.distribution} {self.version}"

    @property
    def kind(self) -> str:
        """strategy, task, patch or modality."""
        return KINDS[self.entry_point.group].rpartition(" ")[2]

    @property
    def full_name(self) -> str:
        """The name with the distribution, which is unambiguous: bitfit@adapterkit-bitfit."""
        return f"{self.name}@{self.distribution}"

    @property
    def enabled(self) -> bool:
        """Whether the plugin may be used: adapterkit's always, others unless the environment names which."""
        names = os.environ.get(PLUGINS_VARIABLE)
        if names is None or self.distribution == ADAPTERKIT:
            return True
        parts = [part.strip() for part in names.split(",")]
        return any(self.matches(part) or _same_distribution(part, self.distribution) for part in parts)

    def matches(self, name: str) -> bool:
        """Return whether `name` or name@distribution refers to this plugin."""
        bare, at, owner = name.partition("@")
        return bare == self.name and (not at or _same_distribution(owner, self.distribution))

    def error(self, text: str) -> AdapterkitError:
        """Return an error of the type of the plugin's group."""
        return _ERRORS.get(self.entry_point.group, StrategyError)(text)

    def load(self) -> Any:
        """Import the entry point's object. Raises an error that names the distribution, whatever the import raised.

        What the import prints goes to the standard error, since the standard output may be JSON.
        """
        try:
            with contextlib.redirect_stdout(sys.stderr):
                return self.entry_point.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin's module can raise anything, SystemExit included
            raise self.error(f"{self.label} can't be imported: {raised(error)}") from error

    def load_class(self, parent: type[T]) -> type[T]:
        """Import the plugin's class. Raises an error where it isn't a usable subclass of `parent`."""
        cls = self.load()
        if not (inspect.isclass(cls) and issubclass(cls, parent)):
            raise self.error(f"{self.label} is not a subclass of adapterkit.{parent.__name__}: {self.target}")
        if inspect.isabstract(cls):
            missing = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
            raise self.error(f"{self.label} lacks {missing}: {self.target}")
        if (interface := getattr(cls, "interface", 1)) not in INTERFACES:
            supported = ", ".join(map(str, INTERFACES))
            raise self.error(
                f"{self.label} is written for interface {interface}; this adapterkit supports interface {supported}"
            )
        return cls


def all_plugins(group: str = STRATEGIES) -> list[Plugin]:
    """Return every plugin of an entry-point group, sorted by name, enabled or not."""
    points, owners = list(_entry_points(group)), dict[int, tuple[str, str]]()
    for point in points:
        if id(point.dist) not in owners:  # its metadata is parsed anew by each access
            metadata = point.dist.metadata if point.dist else {"Name": "", "Version": ""}
            owners[id(point.dist)] = metadata["Name"] or "?", metadata["Version"] or "?"
    plugins = {Plugin(e.name, *owners[id(e.dist)], e.value, e) for e in points}
    return sorted(plugins, key=lambda plugin: (plugin.name, plugin.distribution))


def installed(group: str = STRATEGIES) -> list[Plugin]:
    """Return the enabled plugins of an entry-point group, sorted by name."""
    return [plugin for plugin in all_plugins(group) if plugin.enabled]


def _entry_points(group: str) -> Iterable[EntryPoint]:
    return _entry_points_of(group, tuple((path, _modified(path)) for path in sys.path))


@functools.lru_cache(maxsize=16)
def _entry_points_of(group: str, folders: tuple[tuple[str, int], ...]) -> tuple[EntryPoint, ...]:
    """Return a group's entry points; `folders` are sys.path with times of modification, which an install changes."""
    try:
        return tuple(entry_points(group=group))
    except Exception:  # some distribution's metadata is unreadable: read the others one by one
        return tuple(e for d in distributions() for e in _readable(d) if e.group == group)


def _modified(path: str) -> int:
    try:
        return os.stat(path or ".").st_mtime_ns
    except OSError:
        return 0


def _readable(distribution: Any) -> Iterable[EntryPoint]:
    try:
        points: Iterable[EntryPoint] = distribution.entry_points
        return points
    except Exception:
        return ()


def _same_distribution(a: str, b: str) -> bool:
    """Return whether two spellings normalise to the same distribution name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", a).lower() == re.sub(r"[-_.]+", "-", b).lower()


def find_plugin(name: str, group: str = STRATEGIES) -> Plugin:
    """Return the enabled plugin called `name` or name@distribution.

    Raises the error of its group, such as `StrategyError`, with the installed names, for none or several.
    """
    plugins, kind = installed(group), KINDS[group]
    matches = [plugin for plugin in plugins if plugin.matches(name)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        owners = " and ".join(f"{plugin.distribution} {plugin.version}" for plugin in matches)
        choice = f"use {' or '.join(plugin.full_name for plugin in matches)}"
        if group in (PATCHES, MODALITIES):  # named by adapters and bases, not by people
            choice = f"choose one with {PLUGINS_VARIABLE}={matches[0].distribution}"
        raise matches[0].error(f"{kind} '{name}' is ambiguous, provided by {owners}; {choice}")
    disabled = next((plugin for plugin in all_plugins(group) if plugin.matches(name)), None)
    if disabled is not None:
        raise disabled.error(
            f"{kind} {disabled.label} is disabled by {PLUGINS_VARIABLE}={os.environ[PLUGINS_VARIABLE]}"
        )
    if group == STRATEGIES and not plugins:
        raise StrategyError(
            "no strategy is installed; adapterkit-runtime only answers, adapterkit trains: pip install adapterkit"
        )
    names = {plugin.full_name if "@" in name else plugin.name for plugin in plugins}
    raise _ERRORS[group](unknown(kind, name, names, known_as="installed"))


def unambiguous(plugins: Iterable[Plugin]) -> list[str]:
    """Return the names of plugins of one group, with the distribution where several have one name."""
    plugins = list(plugins)
    counts = Counter(plugin.name for plugin in plugins)
    return [plugin.full_name if counts[plugin.name] > 1 else plugin.name for plugin in plugins]


def default_strategy() -> str:
    """Return the strategy of runs that name none: adapterkit's LoRA, also where another package has a `lora`."""
    return "lora" if sum(plugin.name == "lora" for plugin in installed()) == 1 else f"lora@{ADAPTERKIT}"


def strategy_class(name: str) -> type[Strategy]:
    """Import an installed strategy's class by name. Raises `StrategyError`."""
    return load_strategy(find_plugin(name))


def load_strategy(plugin: Plugin) -> type[Strategy]:
    """Import a strategy's class. Raises `StrategyError` where it can't be imported or its options aren't valid."""
    cls = plugin.load_class(Strategy)  # type: ignore[type-abstract]
    owner = next(parent for parent in cls.__mro__ if "__dataclass_fields__" in vars(parent))
    if owner is Strategy or (owner is not cls and inspect.get_annotations(cls)):  # else its options are a parent's
        raise StrategyError(f"{plugin.label} lacks @dataclass(frozen=True, kw_only=True): {plugin.target}")
    try:
        options(cls)
    except Exception as error:  # an annotation can be any expression
        raise StrategyError(f"{plugin.label}: {' '.join(str(error).split()) or type(error).__name__}") from error
    return cls


def patch_class(kind: str) -> type[Patch]:
    """Import the class of a kind of patch. Raises `AdapterError`, with the installed kinds.

    A plugin can't replace one of adapterkit's kinds, which adapters of every strategy consist of.
    """
    return load_patch(_builtin_patch(kind) or find_plugin(kind, PATCHES))


def _builtin_patch(kind: str) -> Plugin | None:
    """Return adapterkit's own kind of patch; reading one distribution's metadata takes a tenth of the time of all."""
    try:
        builtin = distribution(ADAPTERKIT)
        points = [e for e in builtin.entry_points if e.group == PATCHES and e.name == kind]
    except (PackageNotFoundError, ValueError):  # run from a folder that isn't installed
        return None
    return Plugin(kind, ADAPTERKIT, builtin.version, points[0].value, points[0]) if points else None


def load_patch(plugin: Plugin) -> type[Patch]:
    """Import a kind of patch. Raises `AdapterError` where it can't be used."""
    from .patches.patch import Patch

    cls = plugin.load_class(Patch)  # type: ignore[type-abstract]
    if getattr(cls, "kind", None) != plugin.name:
        raise AdapterError(f"{plugin.label} is a patch of kind {getattr(cls, 'kind', None)!r}: {plugin.target}")
    return cls
