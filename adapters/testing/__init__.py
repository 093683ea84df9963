"""What a plugin's author tests a strategy with: the contract as tests, and tiny bases of several families.

A whole test file:

    from adapterkit.testing import contract

    TestBitFit = contract("bitfit")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bench import Bench
    from .rules import RULES, Outcome, Rule, cases, tried
    from .suite import contract

_HOMES = {"Bench": "bench", "Outcome": "rules", "RULES": "rules", "Rule": "rules", "cases": "rules", "tried": "rules"}
_HOMES |= {"contract": "suite"}

__all__ = ["RULES", "Bench", "Outcome", "Rule", "cases", "contract", "tried"]


def __getattr__(name: str) -> Any:  # so that `adapt plugins --help` needs neither torch nor pytest
    if name not in _HOMES:
        raise AttributeError(f"module 'adapterkit.testing' has no attribute '{name}'")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
