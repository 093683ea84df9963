"""Comparisons of a tiny base on two dozen rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapterkit import Base, Registry
from adapterkit.comparison import Options, compare
from adapterkit.report import Results


@pytest.fixture
def compared(small_csv: Path, tmp_path: Path, registry: Registry, tiny_base: Base) -> Callable[..., Results]:
    """Return a function that compares strategies, which it takes with options, on two dozen rows."""

    def run(*strategies: str, values: dict[str, Any] | None = None, **options: Any) -> Results:
        more = {"validation_file": str(small_csv), "test_file": str(small_csv), "num_train_epochs": 2, **(values or {})}
        chosen = Options(strategies=strategies, **options)
        return compare({"train_file": str(small_csv), **more}, registry, tmp_path / "studies", chosen, base=tiny_base)

    return run


@pytest.fixture
def no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows a second, which take pools of 32 adapters, have a test of their own."""
    monkeypatch.setattr("adapterkit.comparison.measure.pool_rates", lambda *args: (1.0, 1.0))
