"""A probe of few rows: ridge regression against scikit-learn, and leave-one-out against leaving each row out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import log_loss

from adapterkit.base.base import Base
from adapterkit.probe import ridge
from adapterkit.probe.examples import Examples
from adapterkit.probe.model import Form, ProbeModel
from tests.helpers.adapters import classes
from tests.helpers.tolerance import assert_near


def rows(n: int = 12, width: int = 20, labels: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(n * width)
    x = torch.randn(n, width, generator=generator) * torch.logspace(-1, 1, width) + 3
    return x, torch.nn.functional.one_hot(torch.arange(n) % labels, labels).float()


def standardised(x: torch.Tensor) -> np.ndarray:
    rows = ((x - x.mean(0)) / x.std(0, unbiased=False)).double().numpy()
    scaled: np.ndarray = rows / np.sqrt((rows**2).sum(1).mean())
    return scaled


@pytest.mark.parametrize("shape", [(12, 20), (30, 5)])
def test_weights_are_scikit_learns_and_left_out_rows_are_as_if_refitted(shape: tuple[int, int]) -> None:
    x, targets = rows(*shape)
    fit = ridge.left_out(x, targets)
    z, y = standardised(x), targets.double().numpy()
    reference = Ridge(alpha=fit.penalty).fit(z, y)
    scores = (x @ fit.weight.T + fit.bias).numpy()
    assert_near(scores, reference.predict(z), 1e-5)
    for i in range(len(x)):  # with the intercept and the scale of all rows, as the closed form has it
        others = np.arange(len(x)) != i
        alone = Ridge(alpha=fit.penalty).fit(z[others], y[others])
        assert_near(fit.scores[i].numpy(), alone.predict(z[i : i + 1])[0], 1e-5)
    wanted = ((fit.scores.numpy() - y) ** 2).sum(1).mean()
    assert fit.error == pytest.approx(wanted, rel=1e-5)


def test_the_penalty_has_the_least_error_of_all() -> None:
    x, targets = rows(24, 40)
    fit = ridge.left_out(x, targets)
    z, y = standardised(x), targets.double().numpy()
    errors = []
    for penalty in ridge.PENALTIES:
        left = []
        for i in range(len(x)):
            others = np.arange(len(x)) != i
            left.append(Ridge(alpha=penalty).fit(z[others], y[others]).predict(z[i : i + 1])[0])
        errors.append(((np.array(left) - y) ** 2).sum(1).mean())
    assert fit.penalty == ridge.PENALTIES[int(np.argmin(errors))]


def test_probabilities_are_calibrated_on_left_out_rows(tiny_base: Base) -> None:
    task = classes(3)
    x, _ = rows(60, 32)
    labels = (x - x.mean(0))[:, -3:].argmax(1)  # so that there is something to learn
    targets = torch.nn.functional.one_hot(labels, 3).float()
    examples = Examples(x, np.ones(60, dtype=int), None, {"labels": labels})
    fit = ridge.left_out(x, targets)
    head = ProbeModel(tiny_base, task, Form((1,), "mean")).probe
    solved = ridge.calibrated(task, head, examples, fit, 0.0)
    scale = float((solved.weight / fit.weight).mean())
    assert scale > 0
    assert torch.allclose(solved.weight, fit.weight * scale, rtol=1e-4)
    scales = (scale / 1.3, scale, scale * 1.3)
    loss = [log_loss(labels, (fit.scores.double() * s).softmax(1).numpy()) for s in scales]
    assert loss[1] == pytest.approx(solved.loss, rel=1e-4)
    assert loss[1] <= min(loss)


@pytest.mark.parametrize(
    ("depth", "layers"),
    [
        (6, [(1, 2, 3, 4, 5, 6), (3, 4, 5, 6)]),
        (12, [(1, 3, 5, 8, 10, 12), (5, 8, 10, 12)]),
        (3, [(1, 2, 3), (2, 3)]),
        (1, [(1,)]),
    ],
)
def test_at_most_six_layers_are_read(depth: int, layers: list[tuple[int, ...]]) -> None:
    assert [form.layers for form in ridge.forms(depth)] == layers
    assert {form.pooling for form in ridge.forms(depth)} == {"mean"}
    assert ridge.forms(0) == [Form((0,), "mean"), Form((0,), "max")]


class Rows:
    """Features of which only the shapes matter."""

    def __init__(self, count: int, choices: int = 1) -> None:
        self.shapes = [(choices, 5)] * count

    def __len__(self) -> int:
        return len(self.shapes)


def test_it_is_for_few_texts_of_equal_weight() -> None:
    task: Any = classes(3)
    most: Any = Rows(ridge.MOST_ROWS)
    assert ridge.applies(task, most)
    assert not ridge.applies(task, Rows(ridge.MOST_ROWS + 1))  # type: ignore[arg-type]
    assert not ridge.applies(task, most, rows=ridge.MOST_ROWS + 1)
    assert not ridge.applies(task, Rows(8, choices=4))  # type: ignore[arg-type]
    weighted: Any = SimpleNamespace(probe_unit="text", label_weights=("1", "2"))
    assert not ridge.applies(weighted, most)
    assert not ridge.applies(SimpleNamespace(probe_unit="token"), most)  # type: ignore[arg-type]
