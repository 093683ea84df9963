"""Which adapters answer each row of a request, and the values of each row: the same in a pool and in an export's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..data.rows import as_rows
from ..errors import PoolError
from ..tasks import Task
from ..tasks.columns import Columns

Names = tuple[str | None, Sequence[str] | None, Sequence[str] | None]
"""The arguments adapter, adapters and adapter_of_each of a request, of which at most one is set."""
Pairs = list[tuple[Any, str]]
"""Rows, each with the name of an adapter."""


def by_text(
    texts: Any, names: Names, available: Callable[[], list[str]], owner: str, values: Callable[[Pairs], list[Any]]
) -> Any:
    """Return a value for each text, a dict of them where each text has several adapters, and of one text its own.

    `values` returns one for each pair, and `available` the names of the adapters that `owner`, such as "the pool", has.
    """
    rows, single = as_rows(texts)
    by_row = adapters_by_row(len(rows), *names, available=available, owner=owner)
    each = iter(values([(row, name) for row, of_row in zip(rows, by_row, strict=True) for name in of_row]))
    several = names[1] is not None
    results = [{name: next(each) for name in of_row} if several else next(each) for of_row in by_row]
    return results[0] if single else results


def adapters_by_row(
    count: int,
    adapter: str | None,
    adapters: Sequence[str] | None,
    adapter_of_each: Sequence[str] | None,
    *,
    available: Callable[[], list[str]],
    owner: str,
) -> list[list[str]]:
    """Return the adapters of each row. Raises `PoolError` where they aren't named in exactly one way."""
    if sum(names is not None for names in (adapter, adapters, adapter_of_each)) > 1:
        raise PoolError("adapter, adapters and adapter_of_each exclude each other; pass one of them")
    if adapters is not None:
        if not (names := distinct(adapters)) or not all(isinstance(name, str) for name in names):
            raise PoolError(f"adapters must be one or more names, got {names}")
        return [names] * count
    if adapter_of_each is not None:
        listed = [adapter_of_each] if isinstance(adapter_of_each, str) else list(adapter_of_each)
        if len(listed) != count or not all(isinstance(name, str) for name in listed):
            raise PoolError(f"adapter_of_each must have a name for each of {count} texts, got {len(listed)}")
        return [[name] for name in listed]
    if adapter is None:
        usable = available()
        if len(usable) != 1:
            raise PoolError(f"which adapter? {owner} has {', '.join(usable) or 'none'}; pass adapter=")
        adapter = usable[0]
    if not isinstance(adapter, str):
        kind = type(adapter).__name__
        others = "adapters= answers each text with each of them, adapter_of_each= each text with its own"
        raise PoolError(f"adapter must be one name, got {kind}; {others}")
    return [[adapter]] * count


def distinct(names: Sequence[str]) -> list[str]:
    """Return names, or the one name, each once. Raises `PoolError` for anything else."""
    if isinstance(names, str):
        return [names]
    if not isinstance(names, Iterable):
        raise PoolError(f"names of adapters were expected, got {type(names).__name__} {names!r}")
    return list(dict.fromkeys(names))


def outputs_by_row(task: Task, features: Columns, rows: int, outputs: list[Any]) -> list[Any]:
    """Return the model's outputs for each row; a list of them where a row has several features."""
    if "row" not in features.column_names:
        return list(outputs)
    values: list[list[Any]] = [[] for _ in range(rows)]
    for row, value in zip(features["row"], outputs, strict=True):
        values[row].append(value)
    return [each[0] if not task.always_windows and len(each) == 1 else each for each in values]
