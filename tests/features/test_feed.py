"""Batches of passes without gradients: every feature once, and no larger or sparser than a device computes fastest."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from adapterkit.features.feed import by_length, chunks

CPU, ACCELERATOR = torch.device("cpu"), torch.device("meta")
SHAPES = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 600)), max_size=120)


def padded(batch: list[int], shapes: list[tuple[int, int]]) -> int:
    return sum(shapes[i][0] for i in batch) * max(shapes[i][1] for i in batch)


@given(SHAPES, st.integers(1, 64), st.sampled_from([CPU, ACCELERATOR, None]))
def test_each_feature_is_in_one_batch_and_batches_are_bounded(
    shapes: list[tuple[int, int]], rows: int, device: torch.device | None
) -> None:
    order = by_length(shapes)
    batches = list(chunks(order, shapes, device, rows))
    assert [i for batch in batches for i in batch] == order
    threads = torch.get_num_threads()
    for batch in batches:
        assert len(batch) <= rows
        assert len({shapes[i][0] for i in batch}) == 1
        if len(batch) > 1 and device is not None:
            assert padded(batch, shapes) <= (min(8192, 512 * threads) if device == CPU else 8192)
        if device == CPU:
            assert padded(batch, shapes) - sum(count * length for count, length in map(shapes.__getitem__, batch)) <= (
                64 * threads
            )


def test_rows_alone_bound_a_batch_without_a_device() -> None:
    shapes = [(1, 3), (1, 5000), (1, 4), (1, 6000), (1, 7000)]
    assert list(chunks(by_length(shapes), shapes, None, 4)) == [[0, 2, 1, 3], [4]]


def test_a_batch_is_as_large_as_fits() -> None:
    threads = torch.get_num_threads()
    shapes = [(1, 64)] * (8 * threads + 1)
    assert list(map(len, chunks(range(len(shapes)), shapes, CPU))) == [8 * threads, 1]
    assert list(map(len, chunks(range(100), [(1, 64)] * 100, ACCELERATOR))) == [64, 36]
