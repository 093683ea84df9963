"""A plan of two epochs on two dozen rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adapterkit import Plan


def plan(small_csv: Path, base: Path | str, strategy: str, **more: Any) -> Plan:
    values = {"strategy": strategy, "base": str(base), "train_file": str(small_csv), "test_file": str(small_csv)}
    values |= {"head": "model"} if strategy in ("head-only", "few-shot") else {}
    values |= {"head_init": "random"}  # its start is never saved, of which nothing has moved
    return Plan.resolve({**values, "num_train_epochs": 2, "learning_rate": 1e-2, "name": "tiny", **more})
