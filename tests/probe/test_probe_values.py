"""The parts of a linear probe against arithmetic and scikit-learn: pooling, form, examples, screening, memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from adapterkit import Base
from adapterkit.base.pooling import pooled
from adapterkit.errors import AdapterError, PoolError
from adapterkit.modules import blocks
from adapterkit.probe import search
from adapterkit.probe.examples import Examples, concatenated
from adapterkit.probe.model import Form, ProbeModel, layers_of
from adapterkit.probe.solver import ScoredModel, fit, loss_of
from adapterkit.tasks import task_class
from tests.helpers import tolerance
from tests.helpers.probes import task_of

CLASSIFY = task_of(labels=("a", "b", "c"))


def test_a_text_is_the_mean_the_maximum_or_the_first_of_its_tokens() -> None:
    hidden = torch.tensor([[[1.0, -2], [3, -4], [99, 99]], [[5, 6], [7, 8], [9, 10]], [[1, 1], [2, 2], [3, 3]]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 0, 0]])
    assert pooled(hidden, mask, "mean").tolist() == [[2, -3], [7, 8], [0, 0]]
    assert pooled(hidden, mask, "max").tolist() == [[3, -2], [9, 10], [0, 0]]
    assert pooled(hidden, mask, "cls").tolist() == [[1, -2], [5, 6], [0, 0]]
    with pytest.raises(PoolError, match=r"'median'.* there are: cls, max, mean"):
        pooled(hidden, mask, "median")


def test_a_form_is_stored_as_json_and_reads_its_layers_side_by_side() -> None:
    form = Form((1, 3), "mean")
    assert form.plain() == {"layers": [1, 3], "pooling": "mean"}
    assert Form.of(form.plain()) == form
    assert (str(form), str(Form((2,), None))) == ("mean of layers 1, 3", "each token of layer 2")
    hidden = {k: torch.full((2, 4, 3), float(k)) for k in range(4)}
    assert torch.equal(form.read(hidden), torch.cat([hidden[1], hidden[3]], 2))
    assert Form((2,), None).read(hidden) is hidden[2]
    form.check(3)
    with pytest.raises(AdapterError, match="reads layer 3, but the base has 2 blocks"):
        form.check(2)


@pytest.mark.parametrize("layers", [(0,), (2,), (3,), (1, 3)])
def test_a_probe_is_a_linear_map_of_pooled_hidden_states(layers: tuple[int, ...], tiny_base: Base) -> None:
    torch.manual_seed(0)
    model = ProbeModel(tiny_base, CLASSIFY, Form(layers, "mean"))
    inputs = tiny_base.tokenizer(["a fine film", "so"], padding=True, return_tensors="pt")
    with torch.no_grad():
        states = tiny_base.model(**inputs, output_hidden_states=True).hidden_states
        mask = inputs["attention_mask"][..., None]
        vectors = torch.cat([(states[k] * mask).sum(1) / mask.sum(1) for k in layers], 1)
        expected = vectors @ model.probe.score.weight.T + model.probe.score.bias
        tolerance.assert_near(model(**inputs).logits, expected, tolerance.of_base(tiny_base))
    assert model.config.num_labels == 3
    assert tiny_base.model.config.num_labels != 3
    assert (model.base_model, model.device) == (tiny_base.model, tiny_base.model.device)


def test_a_probe_of_choices_has_a_score_for_each_of_a_row(tiny_base: Base) -> None:
    task = task_class("multiple-choice")(
        context_column_name="c", endings_column_name=("x", "y"), label_column_name="label"
    )
    torch.manual_seed(1)
    model = ProbeModel(tiny_base, task, Form((2,), "cls"))
    ids = torch.arange(5, 35).view(2, 3, 5)  # rows, choices, tokens
    mask = torch.ones_like(ids)
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask).logits
        hidden = layers_of(
            tiny_base.model, {"input_ids": ids.view(6, 5), "attention_mask": mask.view(6, 5)}, frozenset({2})
        )[2]
        expected = (hidden[:, 0] @ model.probe.score.weight.T + model.probe.score.bias).view(2, 3)
    tolerance.assert_near(logits, expected, tolerance.of_base(tiny_base))
    labels = torch.tensor([2, 0])
    loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    tolerance.assert_near(loss, torch.nn.functional.cross_entropy(expected, labels), tolerance.of_base(tiny_base))


def examples_of(count: int = 60, width: int = 5, seed: int = 0) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, width, generator=generator) * 3 + 1
    y = (x @ torch.randn(width, 3, generator=torch.Generator().manual_seed(9))).argmax(1)
    return Examples(x, np.ones(count, dtype=int), None, {"labels": y})


def test_tokens_without_a_label_are_left_out_and_layers_are_joined() -> None:
    labels = torch.tensor([[0, -100, 2, -100, 1]])
    examples = Examples(torch.arange(10.0).view(5, 2), np.array([2, 3]), None, {"labels": labels})
    labelled = examples.with_labels()
    assert labelled.x.tolist() == [[0, 1], [4, 5], [8, 9]]
    assert labelled.labels["labels"].tolist() == [[0, 2, 1]]
    assert (labelled.counts.tolist(), labelled.choices) == ([3], None)
    joined = concatenated([examples, examples])
    assert joined.x.tolist() == [[*row, *row] for row in examples.x.tolist()]
    assert joined.labels is examples.labels
    assert concatenated([examples]) is examples


def test_forms_are_compared_by_the_variance_that_the_best_ridge_regression_explains() -> None:
    train, validation = examples_of(), examples_of(40, seed=1)
    mean, scale = train.x.mean(0), train.x.std(0, unbiased=False)
    one_hot = [np.eye(3)[e.labels["labels"].numpy()] for e in (train, validation)]
    standardised = [((e.x - mean) / scale).double().numpy() for e in (train, validation)]
    level = one_hot[0].mean(0)
    expected = []
    for penalty in (1e-2, 1e-1, 1.0, 10.0, 100.0):
        ridge = Ridge(alpha=penalty * 60, fit_intercept=False).fit(standardised[0], one_hot[0] - level)
        guess = ridge.predict(standardised[1]) + level
        # as a share of the variance around the training rows' mean
        residual = ((one_hot[1] - guess) ** 2).sum(0) / ((one_hot[1] - level) ** 2).sum(0)
        expected.append(float((1 - residual).mean()))
    assert search._screened(CLASSIFY, train, validation) == pytest.approx(max(expected), rel=1e-4)
    assert max(expected) > 0.2


def test_the_memory_of_vectors_is_that_of_all_forms_or_of_the_finalists(tiny_base: Base) -> None:
    width, forms = tiny_base.model.config.hidden_size, len(blocks(tiny_base.model)) + 1
    assert search.most_cached(tiny_base, 10, by_token=True) == 10 * width * 4 * forms
    assert search.most_cached(tiny_base, 10, by_token=False) == 10 * width * 4 * forms * 3
    many = 1 << 24
    assert search.most_cached(tiny_base, many, by_token=True) == many * width * 4
    assert search.most_cached(tiny_base, many, by_token=False) == many * width * 4 * 6


def head_of(labels: int = 3) -> Any:
    import transformers

    from adapterkit.probe.model import ProbeHead

    config = transformers.BertConfig(num_labels=labels, problem_type="single_label_classification")
    return ProbeHead(CLASSIFY, Form((0,), "mean"), config, width=5)


def test_the_loss_of_scores_is_the_tasks_with_label_smoothing() -> None:
    examples, scores = examples_of(), torch.randn(60, 3)
    for smoothing in (0.0, 0.25):
        expected = torch.nn.functional.cross_entropy(scores, examples.labels["labels"], label_smoothing=smoothing)
        tolerance.assert_near(loss_of(CLASSIFY, head_of(), examples, scores, smoothing), expected, 1e-6)


def test_scores_of_tokens_are_padded_to_the_longest_text() -> None:
    questions = task_class("question-answering")(
        question_column_name="q", context_column_name="c", answer_column_name="a"
    )
    from adapterkit.probe.model import ProbeHead

    head = ProbeHead(questions, Form((0,), None), None, width=2)
    scores = torch.arange(10.0).view(5, 2)
    examples = Examples(torch.zeros(5, 2), np.array([2, 3]), None, {})
    output = ScoredModel(head, examples, scores)()
    assert output.start_logits.tolist() == [[0, 2, -1e4], [4, 6, 8]]
    assert output.end_logits.tolist() == [[1, 3, -1e4], [5, 7, 9]]


@pytest.mark.parametrize("lower_is_better", [False, True])
def test_of_all_penalties_the_one_that_is_best_on_the_validation_rows_is_taken(lower_is_better: bool) -> None:
    values = iter([0.3, 0.7, 0.5, 0.1])
    task: Any = SimpleNamespace(
        lower_is_better=lower_is_better, loss=CLASSIFY.loss, probe_outputs=CLASSIFY.probe_outputs
    )
    solved = fit(
        task, head_of(), examples_of(), examples_of(seed=1), lambda *_: next(values), penalties=(1.0, 0.1, 0.01, 1e-3)
    )
    assert (solved.penalty, solved.value) == ((1e-3, 0.1) if lower_is_better else (0.1, 0.7))
    assert (solved.weight.shape, solved.bias.shape) == ((3, 5), (3,))


def test_a_solution_is_for_features_as_they_are(tiny_base: Base) -> None:
    """Weights of standardised features, folded back, have the loss that the solver reports."""
    examples = examples_of()
    solved = fit(CLASSIFY, head_of(), examples, examples, lambda *_: 0.0, penalties=(1e-2,))
    scores = examples.x @ solved.weight.T + solved.bias
    standardised = solved.weight * examples.x.std(0, unbiased=False)
    expected = loss_of(CLASSIFY, head_of(), examples, scores, 0.0) + 1e-2 / 2 * (standardised**2).sum()
    assert solved.loss == pytest.approx(float(expected), rel=1e-5)
