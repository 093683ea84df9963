"""Cross-validation of a probe of few texts: each score is by a probe fitted without the text, as by scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from datasets import Dataset
from sklearn.linear_model import LogisticRegression

from adapterkit.probe import cross_validation, few_texts
from adapterkit.probe.examples import Examples
from adapterkit.probe.model import Form, ProbeHead
from tests.helpers.probes import task_of


def examples(x: np.ndarray, y: np.ndarray) -> Examples:
    labels = {"labels": torch.from_numpy(y)}
    return Examples(torch.from_numpy(x.astype("float32")), np.ones(len(x), dtype=int), None, labels)


def head_of(labels: int, width: int) -> tuple[Any, ProbeHead]:
    import transformers

    task = task_of(labels=tuple("abcdefgh"[:labels]))
    config = transformers.BertConfig(num_labels=labels, problem_type=task.problem_type)
    return task, ProbeHead(task, Form((0,), "mean"), config, width=width)


def rows(count: int, **columns: Any) -> Dataset:
    return Dataset.from_dict({"input_ids": [[1]] * count, **columns})


def test_scores_and_weights_are_those_of_scikit_learn_fold_by_fold() -> None:
    draw = np.random.default_rng(0)
    for width in (7, 400):  # fewer features than texts, and more, which are rotated
        y = np.arange(60) % 3
        x = draw.normal(size=(60, width)) + 1.0 * np.eye(width)[y]
        task, head = head_of(3, width)
        e = examples(x, y)
        folds = cross_validation.folds_of(e, rows(60))
        assert folds is not None
        fitted = cross_validation.fit(task, head, e, folds)
        z = (x - x.mean(0)) / x.std(0)
        for parts, scores in zip(folds.parts, fitted.held_out, strict=True):
            for part in range(folds.count):
                inside = parts != part
                c = 1 / (few_texts.penalty(int(inside.sum()), width, 3) * inside.sum())
                reference = LogisticRegression(C=c, tol=1e-8, max_iter=10_000).fit(z[inside], y[inside])
                expected = reference.predict_proba(z[~inside])
                np.testing.assert_allclose(scores[~inside].softmax(-1).numpy(), expected, atol=0.02)
        reference = LogisticRegression(C=1 / (few_texts.penalty(60, width, 3) * 60), tol=1e-8, max_iter=10_000)
        expected = reference.fit(z, y).predict_proba(z)
        scores = e.x @ fitted.weight.T + fitted.bias
        np.testing.assert_allclose(scores.softmax(-1).numpy(), expected, atol=5e-3)


def test_labels_without_a_pattern_are_at_chance_though_the_fit_is_perfect() -> None:
    """An estimate that had seen the labels it is measured on would be above."""
    draw = np.random.default_rng(1)
    y = np.arange(200) % 2
    x = draw.normal(size=(200, 900))
    task, head = head_of(2, 900)
    e = examples(x, y)
    fitted = cross_validation.fit(task, head, e, cross_validation.folds_of(e, rows(200)))
    truth = torch.from_numpy(y)
    assert ((e.x @ fitted.weight.T + fitted.bias).argmax(-1) == truth).float().mean() == 1
    assert 0.35 < (fitted.held_out[0].argmax(-1) == truth).float().mean() < 0.65


def test_folds_are_stratified_and_repeated_where_there_are_few_texts() -> None:
    y = np.array([0] * 30 + [1] * 10)
    folds = cross_validation.folds_of(examples(np.zeros((40, 2)), y), rows(40))
    assert folds is not None
    assert folds.parts.shape == (5, 40)
    assert folds.count == 10
    for parts in folds.parts:
        assert (np.bincount(parts, minlength=10) == 4).all()
        assert (np.bincount(parts[y == 1], minlength=10) == 1).all()
    assert (folds.parts[0] != folds.parts[1]).any()


def test_windows_of_one_row_are_in_one_fold() -> None:
    of_row = np.repeat(np.arange(12), [1, 3] * 6)
    folds = cross_validation.folds_of(examples(np.zeros((24, 2)), of_row % 2), rows(24, row=of_row.tolist()))
    assert folds is not None
    for parts in folds.parts:
        assert all(len(set(parts[of_row == row])) == 1 for row in range(12))


def test_labels_of_one_row_each_cannot_be_cross_validated() -> None:
    assert cross_validation.folds_of(examples(np.zeros((12, 2)), np.arange(12)), rows(12)) is None
    assert cross_validation.folds_of(examples(np.zeros((2, 2)), np.arange(2)), rows(2)) is None
