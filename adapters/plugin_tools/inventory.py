"""What is installed, whether it can be used, and what a strategy would train of a base."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..discovery import CHOOSING, OWN, PATCHES, STRATEGIES, TASKS, Found, checked_patch, checked_strategy
from ..errors import AdapterkitError
from ..tasks import TASKS as OWN_TASKS
from ..tasks import checked_task
from .install import plugins

if TYPE_CHECKING:
    pass

_CHECKS: dict[str, Callable[[Found], Any]] = {
    STRATEGIES: checked_strategy,
    TASKS: checked_task,
    PATCHES: checked_patch,
}


@dataclass(frozen=True)
class Loaded:
    """Something installed, and what came of importing it."""

    name: str
    distribution: str
    version: str
    kind: str
    target: str
    fault: str | None
    seconds: float  # that importing it took


def loaded() -> list[Loaded]:
    """Import everything that is installed, each by itself, and say what is wrong with it."""
    found, each = plugins(), []
    for one in found:
        began = time.perf_counter()
        fault = _fault(one, found)
        each.append(
            Loaded(one.name, one.distribution, one.version, one.kind, one.target, fault, time.perf_counter() - began)
        )
    return each


def _fault(one: Found, among: list[Found]) -> str | None:
    if not one.chosen:
        return f"left out by {CHOOSING}"
    group = one.entry_point.group
    try:
        _CHECKS[group](one)
    except AdapterkitError as error:
        return str(error).removeprefix(f"{one.who} ").removeprefix(f"{one.who}: ")
    twins = [f for f in among if f.entry_point.group == group and f.name == one.name and f.chosen]
    others = [f.distribution for f in twins if f.distribution != one.distribution]
    if group == TASKS and one.name in OWN_TASKS:
        others.append(OWN)
    if not others or (group != STRATEGIES and one.distribution == OWN):
        return None
    if group == STRATEGIES:
        return f"its name is in {' and in '.join(others)}, too; use it as {one.full_name}"
    return f"its name is in {' and in '.join(others)}, too; choose with {CHOOSING}"
