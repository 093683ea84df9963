"""adapterkit: one shared base, a small adapter per task, and pluggable strategies to train them.

Names are imported when they are first used, so that `import adapterkit` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adapter import Adapter
    from .base import Base
    from .errors import AdapterkitError
    from .evaluation import evaluate, predict
    from .patch import Bias, LowRank, Patch, Replace, Scale, Update
    from .pool import Pool
    from .registry import Registry
    from .strategy import Strategy
    from .training import train
    from .watch import Watch
    from .workflow import Plan, Report, run

_HOMES = {
    "Adapter": "adapter",
    "AdapterkitError": "errors",
    "Base": "base",
    "Bias": "patch",
    "LowRank": "patch",
    "Patch": "patch",
    "Plan": "workflow",
    "Pool": "pool",
    "Registry": "registry",
    "Replace": "patch",
    "Report": "workflow",
    "Scale": "patch",
    "Strategy": "strategy",
    "Update": "patch",
    "Watch": "watch",
    "evaluate": "evaluation",
    "predict": "evaluation",
    "run": "workflow",
    "train": "training",
}

__all__ = [
    "Adapter",
    "AdapterkitError",
    "Base",
    "Bias",
    "LowRank",
    "Patch",
    "Plan",
    "Pool",
    "Registry",
    "Replace",
    "Report",
    "Scale",
    "Strategy",
    "Update",
    "Watch",
    "evaluate",
    "predict",
    "run",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'adapterkit' has no attribute '{name}'")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
