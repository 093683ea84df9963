"""A base that has no head for a task is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from adapterkit import Base, Registry, run
from adapterkit.errors import TaskError
from adapterkit.testing import tiny
from tests.helpers.families import IMPOSSIBLE, WITHOUT
from tests.helpers.task_plans import plan


def test_the_table_names_every_family() -> None:
    assert set(WITHOUT) == set(tiny.CONFIGS)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "task"), IMPOSSIBLE)
def test_a_task_without_a_head_is_refused(
    family: str, task: str, rows_of: Callable[..., Path], tiny_folder: Callable[..., Path], registry: Registry
) -> None:
    base = Base.load(str(tiny_folder(family)))
    with pytest.raises(TaskError) as error:
        run(plan(task, rows_of(task), "lora"), registry, base=base)
    assert "\n" not in str(error.value)
    assert registry.adapters() == {}
