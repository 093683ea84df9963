"""Threads share a pool; pools open and close while others train and predict."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from adapterkit import AdapterkitError, Base, Pool, Registry, predict
from adapterkit.discovery import strategy_class
from adapterkit.errors import BaseModelError
from adapterkit.training.fit import fitted
from tests.helpers import random_adapters as made
from tests.helpers import tolerance
from tests.helpers.adapters import TEXTS, alone, classes
from tests.helpers.pooled import add, mix, same

# ---- threads


def hammer(pool: Pool, wanted: dict[str, np.ndarray], seconds: float, threads: int = 8) -> list[str]:
    """Have threads ask, load, unload and pin for some seconds; return what went wrong."""
    wrong: list[str] = []
    names = list(wanted)
    until = time.monotonic() + seconds
    asked = [0]

    def work(seed: int) -> None:
        dice = random.Random(seed)
        try:
            while time.monotonic() < until and not wrong:
                rows = [(dice.randrange(len(TEXTS)), dice.choice(names)) for _ in range(dice.randint(1, 12))]
                found = pool.outputs([TEXTS[text] for text, _ in rows], adapter_of_each=[name for _, name in rows])
                for (text, name), logits in zip(rows, found, strict=True):
                    if not tolerance.is_near(logits, wanted[name][text], tolerance.TINY):
                        wrong.append(f"{name}: {logits} for {wanted[name][text]}")
                match dice.randrange(4):
                    case 0:
                        pool.unload(dice.choice(names))
                    case 1:
                        pool.load(dice.choice(names))
                asked[0] += 1
        except Exception as error:
            wrong.append(repr(error))

    workers = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert asked[0] > threads
    return wrong


@pytest.mark.slow
def test_threads_share_a_pool(tiny_base: Base, registry: Registry) -> None:
    adapters = mix(tiny_base)
    for name, adapter in adapters.items():
        add(registry, name, adapter)
    wanted = {name: alone(tiny_base, adapter) for name, adapter in adapters.items()}
    largest = max(sum(t.nbytes for t in a.tensors.values()) for a in adapters.values())
    with Pool(tiny_base, registry=registry, max_bytes=int(1.3 * largest)) as pool:
        assert hammer(pool, wanted, seconds=8) == []
        assert pool.stats().evictions > 0
    assert tiny_base.changed_tensors() == []


def test_pools_open_and_close_while_others_train_and_predict(tiny_base: Base) -> None:
    """No pool opens on tensors that a training changes, and no training begins while a pool is open."""
    adapter = made.adapter(tiny_base, classes(), "lora")
    wanted, wrong, trained = alone(tiny_base, adapter), list[str](), [0]
    until, training = time.monotonic() + 4, threading.Event()

    def serve() -> None:
        with Pool(tiny_base, {"a": adapter}) as pool:
            for _ in range(2):
                if training.is_set():
                    wrong.append("a training runs while a pool is open")
                if not tolerance.is_near(pool.outputs(TEXTS, "a"), wanted, tolerance.TINY):
                    wrong.append("a pool answers from tensors that are being trained")

    def train() -> None:
        try:
            with tiny_base.locked(), fitted(tiny_base, strategy_class("full")()) as fit:
                training.set()
                with torch.no_grad():
                    for p in fit.trainable:
                        p.add_(1.0)
                time.sleep(0.01)
                trained[0] += 1
                training.clear()
        except AdapterkitError as error:
            if "an open pool answers from base" not in str(error):
                raise

    def attach() -> None:
        if not tolerance.is_near(alone(tiny_base, adapter), wanted, tolerance.TINY):
            wrong.append("an attached adapter runs on tensors that are being trained")

    def repeat(work: Callable[[], None]) -> None:
        try:
            while time.monotonic() < until and not wrong:
                work()
        except Exception as error:
            wrong.append(repr(error))

    workers = [threading.Thread(target=repeat, args=(work,)) for work in (serve, serve, serve, train, train, attach)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []
    assert tiny_base.serving == 0
    with tiny_base.locked(), fitted(tiny_base, strategy_class("full")()):  # the last pool gave the base back
        pass
    assert tiny_base.changed_tensors() == []


def test_a_pool_on_a_base_with_added_tokens_keeps_its_parent_from_training(tiny_base: Base) -> None:
    wider = tiny_base.with_tokens(["<meh>"])
    for one, other in ((wider, tiny_base), (tiny_base, wider)):
        with (
            Pool(one),
            pytest.raises(AdapterkitError, match="an open pool answers from base"),
            other.locked(),
            fitted(other, strategy_class("full")()),
        ):
            pass


# ---- what people try


def test_closing_waits_for_what_is_being_answered(tiny_base: Base) -> None:
    adapter = made.adapter(tiny_base, classes(), "lora")
    texts = [f"a fine film {i}" for i in range(400)]
    wanted = predict(tiny_base, adapter, texts)
    pool = Pool(tiny_base, {"a": adapter}, batch_size=4)
    found: list[Any] = []
    asking = threading.Thread(target=lambda: found.extend(pool.predict(texts, "a")))
    asking.start()
    while not pool._requests and asking.is_alive():
        pass
    pool.close()
    assert tiny_base.serving == 1 or not asking.is_alive()  # still read from: no training yet
    asking.join()
    assert tiny_base.serving == 0
    same(found, wanted)


def test_a_pool_that_is_dropped_without_close_blocks_no_training(tiny_base: Base) -> None:
    pool = Pool(tiny_base, {"a": made.adapter(tiny_base, classes())})
    pool.predict("a fine film")
    with pytest.raises(BaseModelError, match="an open pool answers from base"):
        tiny_base.check_trainable()
    del pool
    tiny_base.check_trainable()
    assert tiny_base.serving == 0
