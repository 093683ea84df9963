"""scikit-learn's own checks, and what its tools do with the classifier."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

import adapterkit as ak
from adapterkit import Base, Registry
from adapterkit.sklearn import AdapterClassifier
from tests.helpers.number_classifier import NumberClassifier

THREADS = int(os.environ["ADAPTERKIT_TEST_THREADS"])
QUICK: dict[str, Any] = {"strategy": "head-only", "epochs": 1, "mixed_precision": "no"}
IN_OTHER_BATCHES = (
    "float32 sums depend on the shape of a batch, and with several threads on a row's place in it: probabilities of a "
    "row differ by 3e-6 of their size, and scikit-learn allows 1e-7"
)
CANT = dict.fromkeys(
    ["check_methods_subset_invariance", *(["check_methods_sample_order_invariance"] if THREADS > 1 else [])],
    IN_OTHER_BATCHES,
)
"""The checks of scikit-learn that a classifier of texts can't pass, and why."""


@pytest.mark.slow
@parametrize_with_checks([NumberClassifier(**QUICK)], expected_failed_checks=lambda _: CANT)
def test_scikit_learns_checks(estimator: Any, check: Any, tiny_folder: Callable[..., Path]) -> None:
    check(estimator.set_params(base=str(tiny_folder())))


GOOD, BAD = ("lovely food", "a fine film", "great staff"), ("awful food", "a dull film", "rude staff")
TEXTS = [f"{text} {i}" for i in range(6) for text in (*GOOD, *BAD)]
LABELS = np.array(["pos", "pos", "pos", "neg", "neg", "neg"] * 6)


@pytest.fixture(scope="module")
def base(tiny_folder: Callable[..., Path]) -> Base:
    return Base.load(str(tiny_folder()))


@pytest.fixture(scope="module")
def fitted(base: Base) -> AdapterClassifier:
    return AdapterClassifier(base=base, **QUICK).fit(TEXTS, LABELS)


def test_probabilities_are_those_of_the_answers(fitted: AdapterClassifier) -> None:
    probabilities = fitted.predict_proba(TEXTS)
    assert fitted.classes_.tolist() == ["neg", "pos"]
    assert probabilities.shape == (36, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    assert (fitted.predict(TEXTS) == fitted.classes_[probabilities.argmax(axis=1)]).all()
    answers = ak.predict(fitted._fitted().base, fitted.adapter_, TEXTS)
    assert fitted.predict(TEXTS).tolist() == [answer["label"] for answer in answers]
    np.testing.assert_allclose(probabilities.max(axis=1), [answer["score"] for answer in answers], rtol=1e-6)
    assert fitted.score(TEXTS, LABELS) == np.mean(fitted.predict(TEXTS) == LABELS)


@pytest.mark.parametrize(
    "classes", [[0, 1], [-1.0, 2.0], [False, True], ["b", "a"], [" a", "a"], ["", "x"], ["1", "01"]], ids=str
)
def test_classes_come_back_as_they_were_given(classes: list[Any], base: Base) -> None:
    y = np.array(classes)[(LABELS == "pos").astype(int)]
    model = AdapterClassifier(base=base, **QUICK).fit(TEXTS, y)
    assert model.classes_.tolist() == sorted(classes)
    assert model.classes_.dtype == model.predict(TEXTS).dtype == y.dtype
    assert model.score(TEXTS, y) > 0.9


FORMS: dict[str, Callable[[list[str]], Any]] = {
    "array": np.array,
    "object array": lambda texts: np.array(texts, dtype=object),
    "column": lambda texts: np.array(texts).reshape(-1, 1),
    "Series": pd.Series,
    "DataFrame": lambda texts: pd.DataFrame({"words": texts}, index=range(50, 86)),
    "tuple": tuple,
}


@pytest.mark.parametrize("form", FORMS)
def test_texts_are_taken_in_every_form(form: str, fitted: AdapterClassifier) -> None:
    again = clone(fitted).fit(FORMS[form](TEXTS), pd.Series(LABELS))
    assert again.adapter_files_.keys() == fitted.adapter_files_.keys()
    np.testing.assert_array_equal(again.predict_proba(FORMS[form](TEXTS)), fitted.predict_proba(TEXTS))


@pytest.mark.parametrize("form", [list, np.array, pd.DataFrame], ids=["list", "array", "DataFrame"])
def test_pairs_of_texts_are_two_columns(form: Callable[[Any], Any], base: Base) -> None:
    pairs = form([[text, "is it good?"] for text in TEXTS])
    model = AdapterClassifier(base=base, **QUICK).fit(pairs, LABELS)
    assert model.n_features_in_ == 2
    assert model.adapter_.task.text_column_name == ("text", "text_pair")
    assert model.score(pairs, LABELS) > 0.9
    with pytest.raises(ValueError, match="X has 1 features, but AdapterClassifier is expecting 2"):
        model.predict(TEXTS)


def test_several_labels_are_an_indicator_matrix(base: Base) -> None:
    y = np.stack([LABELS == "pos", ["food" in text for text in TEXTS], ["staff" in text for text in TEXTS]], axis=1)
    model = AdapterClassifier(base=base, **QUICK).fit(TEXTS, y.astype(int))
    assert model.predict(TEXTS).shape == model.predict_proba(TEXTS).shape == (36, 3)
    assert (model.predict(TEXTS) == (model.predict_proba(TEXTS) >= 0.5)).all()
    assert (model.predict(TEXTS) == y).mean() > 0.9
    assert model.classes_.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("X", "text"),
    [
        ("a text", "X must be a list, array or Series of texts"),
        (np.eye(36), "X must have 1 or 2 columns of texts, got 36"),
        (list(range(36)), "got int in row 0"),
        ([*TEXTS[:-1], None], "got NoneType in row 35"),
        ([*TEXTS[:-1], float("nan")], "got float in row 35"),
        ([], "Found array with 0 sample"),
        (TEXTS[:5], "inconsistent numbers of samples"),
        ([("a", "b"), ("a",)] * 18, "same number of texts in each row, got 1 in row 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_x_is_refused_in_one_line(X: Any, text: str, base: Base) -> None:
    with pytest.raises(ValueError, match=text):
        AdapterClassifier(base=base, **QUICK).fit(X, LABELS)


def test_an_estimator_that_is_not_fitted_says_so() -> None:
    with pytest.raises(NotFittedError):
        AdapterClassifier().predict(TEXTS)


# ---- parameters


def test_options_are_parameters() -> None:
    model = AdapterClassifier("lora", r=4, epochs=2)
    assert model.get_params() == {
        **{"strategy": "lora", "base": "minilm", "registry": None, "name": None, "watch": None},
        **{"r": 4, "epochs": 2},
    }
    model.set_params(r=8, lr=1e-3, strategy="lora@adapterkit")
    assert model.get_params()["r"] == 8
    assert model.get_params()["lr"] == 1e-3
    assert clone(model).get_params() == model.get_params()
    assert repr(AdapterClassifier("full", r=4)) == "AdapterClassifier(r=4, strategy='full')"
    again = clone(model)
    again.set_params(r=2)
    assert model.get_params()["r"] == 8


def test_a_base_is_shared_by_clones(base: Base) -> None:
    assert clone(AdapterClassifier(base=base)).base is base


@pytest.mark.parametrize(
    ("options", "text"),
    [({"rr": 4}, "did you mean 'r'"), ({"labels": ["a"]}, "labels follows from X and y"), ({"epochs": "x"}, "epochs")],
)
def test_wrong_options_are_an_error_of_the_fit(options: dict[str, Any], text: str, base: Base) -> None:
    with pytest.raises(ak.AdapterkitError, match=text):
        AdapterClassifier("lora", base=base).set_params(**options).fit(TEXTS, LABELS)


def test_a_fit_that_fails_changes_nothing(base: Base) -> None:
    model = AdapterClassifier("head-only", base=base, epochs=1).fit(TEXTS, LABELS)
    before = model.predict(TEXTS).tolist()
    with pytest.raises(ak.AdapterkitError):
        model.set_params(rr=4).fit([[text, text] for text in TEXTS], ["other"] * (len(TEXTS) - 1) + ["labels"])
    assert model.predict(TEXTS).tolist() == before


def test_nothing_is_registered_unless_a_registry_is_given(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADAPT_REGISTRY", str(tmp_path / "mine.json"))
    AdapterClassifier(base=base, **QUICK).fit(TEXTS, LABELS)
    assert not list(tmp_path.iterdir())
    AdapterClassifier(base=base, registry=tmp_path / "r.json", name="mood", **QUICK).fit(TEXTS, LABELS)
    assert list(Registry(tmp_path / "r.json").adapters()) == ["mood"]
    assert ak.load("mood", registry=tmp_path / "r.json", base=base).predict(TEXTS[0])["label"] == "pos"


# ---- scikit-learn's tools


def test_scores_are_cross_validated(base: Base) -> None:
    model = AdapterClassifier(base=base, **QUICK)
    scores = cross_val_score(model, TEXTS, LABELS, cv=2, error_score="raise")
    texts = np.array(TEXTS)
    for score, (train, test) in zip(scores, StratifiedKFold(2).split(TEXTS, LABELS), strict=True):
        assert score == clone(model).fit(texts[train], LABELS[train]).score(texts[test], LABELS[test]) > 0.5
    assert cross_val_score(model, TEXTS, LABELS, cv=2, scoring="roc_auc", error_score="raise").min() > 0.5


def test_a_grid_of_strategies_and_their_options_is_searched(base: Base) -> None:
    grid = [{"strategy": ["lora"], "r": [2, 4]}, {"strategy": ["head-only"]}]
    search = GridSearchCV(AdapterClassifier(base=base, epochs=1, mixed_precision="no"), grid, cv=2, error_score="raise")
    search.fit(TEXTS, LABELS)
    assert search.cv_results_["params"] == [
        {"r": 2, "strategy": "lora"},
        {"r": 4, "strategy": "lora"},
        {"strategy": "head-only"},
    ]
    assert search.best_params_ == search.cv_results_["params"][int(search.cv_results_["mean_test_score"].argmax())]
    trained_with = search.best_estimator_.adapter_.manifest["strategy"]
    assert trained_with["name"] == search.best_params_["strategy"]


def test_a_pipeline_cleans_texts_first(base: Base, fitted: AdapterClassifier) -> None:
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    pipeline = make_pipeline(lower, clone(fitted)).fit([text.upper() for text in TEXTS], LABELS)
    assert (pipeline.predict_proba(TEXTS) == fitted.predict_proba(TEXTS)).all()
    pipeline.set_params(adapterclassifier__epochs=2)
    assert pipeline[-1].get_params()["epochs"] == 2


def test_a_pickle_holds_plain_values_and_answers_the_same(fitted: AdapterClassifier) -> None:
    again = (pickled := _Recording(pickle.dumps(fitted))).load()
    assert pickled.names <= {
        "adapterkit.sklearn AdapterClassifier",
        "numpy dtype",
        "numpy ndarray",
        "numpy._core.multiarray _reconstruct",
        "numpy._core.numeric _frombuffer",
    }
    assert again.base == fitted.base.name
    np.testing.assert_array_equal(again.predict_proba(TEXTS), fitted.predict_proba(TEXTS))


class _Recording(pickle.Unpickler):
    """Load a pickle and note what it imports."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.names: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        self.names.add(f"{module} {name}")
        return super().find_class(module, name)


def test_a_damaged_pickle_of_an_adapter_is_an_error(fitted: AdapterClassifier) -> None:
    again = pickle.loads(pickle.dumps(fitted))
    name = next(name for name in again.adapter_files_ if name.endswith(".safetensors"))
    again.adapter_files_[name] = again.adapter_files_[name][:-1] + b"\x7f"
    with pytest.raises(ak.AdapterkitError, match="damaged"):
        again.predict(TEXTS)


@pytest.mark.slow
def test_sentiment_is_learned_on_a_real_base(minilm: Base) -> None:
    from adapterkit.data.splits import demo_files

    files = demo_files("sentiment")
    train, test = (pd.read_csv(files[split]) for split in ("train", "test"))
    text, label = train.columns[:2]
    model = AdapterClassifier("head-only", base=minilm).fit(train[text], train[label])
    assert model.score(test[text], test[label]) > 0.85
    assert set(model.classes_) == set(train[label])
