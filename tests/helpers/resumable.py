"""Runs that stop after some steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adapterkit import Plan, Watch


class Dies(Watch):
    """End a run after so many steps, as an error would; keep what is said."""

    def __init__(self, after: int | None = None) -> None:
        self.after, self.steps, self.said = after, 0, list[str]()

    def note(self, topic: str, text: str) -> None:
        self.said.append(f"{topic}: {text}")

    def advance(self, steps: int = 1, **values: float) -> None:
        self.steps += "loss" in values
        if self.steps == self.after:
            raise KeyboardInterrupt


def plan(rows: Path, **options: Any) -> Plan:
    values = {"train_file": str(rows), "num_train_epochs": 3, "per_device_train_batch_size": 4, "save_steps": 1}
    return Plan.resolve({**values, "name": "dies", "mixed_precision": "no", "head_init": "random", **options})
