"""The probe of few texts: what it reads, its penalty, and its weights next to scikit-learn's."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from adapterkit import Base, Plan, Registry, run
from adapterkit.base.pooling import pooled
from adapterkit.probe import few_texts
from adapterkit.probe.model import Form, layers_of
from tests.helpers.adapters import classes


@pytest.mark.parametrize(
    ("depth", "layers"),
    [(0, (0,)), (1, (1,)), (2, (1, 2)), (3, (2, 3)), (6, (3, 4, 5, 6)), (12, (5, 7, 10, 12)), (32, (11, 18, 25, 32))],
)
def test_the_upper_two_thirds_are_read(depth: int, layers: tuple[int, ...]) -> None:
    assert few_texts.form(depth) == Form(layers, "mean")


def test_it_is_for_few_texts_with_a_vector_each() -> None:
    task, most = classes(3), few_texts.MOST_TEXTS
    assert few_texts.applies(task, most)
    assert not few_texts.applies(task, most + 1)
    for other in (SimpleNamespace(probe_unit="text", has_choices=True), SimpleNamespace(probe_unit="token")):
        assert not few_texts.applies(other, 8)  # type: ignore[arg-type]


def test_weights_are_those_of_scikit_learns_logistic_regression(
    small_csv: Path, tiny_base: Base, registry: Registry
) -> None:
    files = {"train_file": str(small_csv), "validation_file": str(small_csv)}
    report = run(Plan.resolve({"strategy": "head-only", "name": "a", **files}), registry, base=tiny_base)
    form = Form.of(report.adapter.manifest["probe"])
    assert form == few_texts.form(3)
    rows = [line.rsplit(",", 1) for line in small_csv.read_text().splitlines()[1:]]
    batch = tiny_base.tokenizer([text for text, _ in rows], padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = layers_of(tiny_base.model, batch, frozenset(form.layers))
    x = pooled(form.read(hidden).float(), batch["attention_mask"], "mean").double().numpy()
    z = (x - x.mean(0)) / x.std(0)
    z /= np.sqrt((z**2).sum(1).mean())
    # two outputs, w and -w, have the penalty of one of 2 w with twice the C
    reference = LogisticRegression(C=2 * 1.5, tol=1e-10, max_iter=10_000).fit(z, [label for _, label in rows])
    head = {name.rpartition(".")[2]: t.double().numpy() for name, t in report.adapter.tensors.items()}
    logits = x @ head["weight"].T + head["bias"]
    wanted = reference.decision_function(z)
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], wanted, atol=1e-2 * np.abs(wanted).max())
