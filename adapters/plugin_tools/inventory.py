"""Import every plugin and report which can be used, and why others can't."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..base.modalities import load_modality
from ..discovery import (
    ADAPTERKIT,
    MODALITIES,
    PATCHES,
    PLUGINS_VARIABLE,
    STRATEGIES,
    TASKS,
    Plugin,
    load_patch,
    load_strategy,
)
from ..errors import AdapterkitError
from ..tasks import TASKS as BUILTIN_TASKS
from ..tasks import load_task
from .install import plugins

_LOADERS: Mapping[str, Callable[[Plugin], Any]] = {
    STRATEGIES: load_strategy,
    TASKS: load_task,
    PATCHES: load_patch,
    MODALITIES: load_modality,
}


@dataclass(frozen=True)
class Loaded:
    """A plugin after an attempt to import it."""

    name: str
    distribution: str
    version: str
    kind: str
    target: str
    fault: str | None  # why it can't be used as it is
    seconds: float  # of the import


def loaded() -> list[Loaded]:
    """Import each plugin by itself, and report its fault, if any."""
    every, results = plugins(), []
    for plugin in every:
        began = time.perf_counter()
        fault, seconds = _fault(plugin, every), time.perf_counter() - began
        about = (plugin.name, plugin.distribution, plugin.version, plugin.kind, plugin.target)
        results.append(Loaded(*about, fault, seconds))
    return results


def _fault(plugin: Plugin, every: list[Plugin]) -> str | None:
    if not plugin.enabled:
        return f"disabled by {PLUGINS_VARIABLE}"
    group = plugin.entry_point.group
    try:
        _LOADERS[group](plugin)
    except AdapterkitError as error:
        return str(error).removeprefix(f"{plugin.label} ").removeprefix(f"{plugin.label}: ")
    twins = [p for p in every if p.entry_point.group == group and p.name == plugin.name and p.enabled]
    owners = [p.distribution for p in twins if p.distribution != plugin.distribution]
    if group == TASKS and plugin.name in BUILTIN_TASKS:
        owners.append(ADAPTERKIT)
    if not owners or (group != STRATEGIES and plugin.distribution == ADAPTERKIT):
        return None
    others = f"{' and '.join(owners)} provide{'s' * (len(owners) == 1)} the same name"
    return f"{others}; use {plugin.full_name}" if group == STRATEGIES else f"{others}; choose with {PLUGINS_VARIABLE}"
