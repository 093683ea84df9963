"""The number of torch's threads for a request that is alone is the quickest one, by the times of such batches."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from adapterkit import Registry
from adapterkit.serving.engine import Engine
from adapterkit.serving.intra_op import IntraOpThreads
from adapterkit.serving.limits import Limits
from adapterkit.serving.metrics import Metrics
from adapterkit.serving.models import Models
from adapterkit.serving.queue import Queue


def chosen(threads: IntraOpThreads, seconds: Callable[[int], float], batches: int, tokens: int = 20) -> list[int]:
    """Return the numbers of threads of some batches, which take as long as a function of the number says."""
    numbers = []
    for _ in range(batches):
        numbers.append(threads.choose(tokens))
        threads.record(tokens, numbers[-1], seconds(numbers[-1]))
    return numbers


@pytest.mark.parametrize(("most", "tried"), [(1, [1]), (2, [1, 2]), (4, [1, 2, 4]), (12, [1, 2, 4, 8, 12])])
def test_each_number_is_timed_three_times_first(most: int, tried: list[int]) -> None:
    assert chosen(IntraOpThreads(most), lambda n: 1.0, 3 * len(tried)) == tried * 3


@pytest.mark.parametrize("quickest", [1, 2, 4])
def test_the_quickest_is_taken_and_the_others_are_timed_from_time_to_time(quickest: int) -> None:
    numbers = chosen(IntraOpThreads(4), lambda n: 1.0 if n == quickest else 2.0, 209)[9:]
    assert numbers.count(quickest) == 200 - 200 // 32
    assert set(numbers) == {1, 2, 4}


def test_a_single_slow_batch_changes_nothing() -> None:
    threads = IntraOpThreads(2)
    chosen(threads, lambda n: 1 / n, 12)
    chosen(threads, lambda n: 100.0, 1)
    assert chosen(threads, lambda n: 1 / n, 8) == [2] * 8


def test_neighbours_that_become_busy_are_noticed_and_that_they_stopped_too() -> None:
    threads = IntraOpThreads(2)
    assert chosen(threads, lambda n: 1 / n, 16)[6:] == [2] * 10
    assert chosen(threads, lambda n: 10.0 if n == 2 else 1.0, 10) == [2] * 3 + [1] * 7
    assert chosen(threads, lambda n: 1 / n, 200)[-20:].count(2) >= 19


def test_batches_of_other_sizes_have_their_own_times() -> None:
    threads = IntraOpThreads(2)
    chosen(threads, lambda n: float(n), 10, tokens=10)
    chosen(threads, lambda n: 1 / n, 10, tokens=1000)
    assert (threads.choose(10), threads.choose(1000)) == (1, 2)


@pytest.mark.parametrize(
    ("active", "most", "taken"),
    [(1, 4, {1, 2, 4}), (2, 4, {1}), (0, 1, {1})],
    ids=["alone", "beside another request", "generation"],
)
def test_a_batch_takes_several_threads_where_it_is_alone(
    active: int, most: int, taken: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers: list[int] = []
    queue = Queue("batches", Limits(), Metrics(), lambda: active, intra_op_threads=most, use_threads=numbers.append)
    batches = iter([[SimpleNamespace(tokens=10, rows=[1])] for _ in range(9)])
    monkeypatch.setattr(queue, "_next", lambda: next(batches, []))
    monkeypatch.setattr(queue, "_answers", lambda batch: [[] for _ in batch])
    queue._loop = SimpleNamespace(call_soon_threadsafe=lambda *args: None)  # type: ignore[assignment]
    queue._work()
    assert set(numbers) == taken


def test_generation_takes_one_thread_beside_batches_that_take_several(stocked: Registry) -> None:
    engine = Engine(Models(stocked), Limits(intra_op_threads=4), Metrics())
    assert (engine.batches._intra_op_threads, engine.generation._intra_op_threads) == (4, 1)
    before = torch.get_num_threads()
    try:
        for queue in (engine.batches, engine.generation):
            for count in (2, 1):
                queue._use_threads(count)
                assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(before)
