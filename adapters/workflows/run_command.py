"""The command line of a plan, complete, to copy and run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from .plan import Plan, run_options


def run_command(plan: Plan, changes: Mapping[str, Any] | None = None) -> str:
    """Return the command line of a plan with the options `changes`: what differs from the defaults.

    Of rows in memory, which no command names, it returns the changes alone: learning_rate=0.1, num_train_epochs=9.
    """
    changes = dict(changes or {})
    if plan.in_memory and changes:
        return ", ".join(f"{key}={value}" for key, value in changes.items())
    values, strategy = plan.values(), changes.get("strategy", plan.strategy_name)
    if strategy != plan.strategy_name:  # whose options another strategy doesn't have
        values = {key: value for key, value in values.items() if key not in {f.name for f in fields(plan.strategy)}}
    available = run_options(strategy, plan.task_name)
    words = ["adapt", "run", "--strategy", strategy]
    for key, value in {**values, **changes}.items():
        if key == "strategy" or (key in available and _plain(available[key].default) == value):
            continue
        flag = f"--{key.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-", 1))
        else:
            words += [flag, ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    return shlex.join(words)


def _plain(default: Any) -> Any:
    return list(default) if isinstance(default, tuple) else None if default is MISSING else default
