"""adapterkit: one shared base, a small adapter per task, and pluggable strategies to train them.

Names are imported when they are first used, so that `import adapterkit` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adapter.adapter import Adapter
    from .base.base import Base
    from .errors import AdapterkitError
    from .evaluation.evaluate import evaluate, predict
    from .patches.low_rank import LowRank
    from .patches.patch import Patch, Update
    from .patches.replace import Replace
    from .patches.scaling import Bias, Scale
    from .pool import Pool
    from .store.registry import Registry
    from .strategy import Strategy
    from .training.train import train
    from .watch import Watch
    from .workflows.plan import Plan
    from .workflows.run import Report, run

_HOMES = {
    "Adapter": "adapter.adapter",
    "AdapterkitError": "errors",
    "Base": "base.base",
    "Bias": "patches.scaling",
    "LowRank": "patches.low_rank",
    "Patch": "patches.patch",
    "Plan": "workflows.plan",
    "Pool": "pool.pool",
    "Registry": "store.registry",
    "Replace": "patches.replace",
    "Report": "workflows.run",
    "Scale": "patches.scaling",
    "Strategy": "strategy",
    "Update": "patches.patch",
    "Watch": "watch",
    "evaluate": "evaluation.evaluate",
    "predict": "evaluation.evaluate",
    "run": "workflows.run",
    "train": "training.train",
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
