"""What a plugin's author tests a strategy with: the contract as tests, and tiny bases of several families.

A whole test file:

    from adapterkit.testing import contract

    TestBitFit = contract("bitfit")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .contract import contract
    from .rules import RULES, Bench, Broken, Rule

__all__ = ["RULES", "Bench", "Broken", "Rule", "contract"]


def __getattr__(name: str) -> Any:  # so that `adapt plugins --help` needs neither torch nor pytest
    if name not in __all__:
        raise AttributeError(f"module 'adapterkit.testing' has no attribute '{name}'")
    return getattr(importlib.import_module(".contract" if name == "contract" else ".rules", __name__), name)
