"""A scikit-learn classifier of texts over `adapterkit.run`: cross-validation, grid search, pipelines and pickles."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted, column_or_1d

from .adapter.adapter import Adapter
from .base.base import Base
from .errors import OptionError
from .evaluation.evaluate import predictions
from .io.atomic import write_folder
from .store.registry import Registry
from .watch import Watch
from .workflows.adapted_model import AdaptedModel
from .workflows.python_api import BASE_OPTIONS, run

COLUMNS = ("text", "text_pair")
FIXED = ("task", "task_name", "text_column_name", "label_column_name", "labels", "problem_type")
"""Options that follow from X and y."""


class AdapterClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Classify texts, or pairs of texts, with an adapter.

    >>> texts = ["a lovely room", "the best soup", "so friendly", "a dirty room", "the worst soup", "so rude"]
    >>> labels = ["good", "good", "good", "bad", "bad", "bad"]
    >>> AdapterClassifier("head-only").fit(texts, labels).predict(["a lovely meal", "a dirty kitchen"])
    array(['good', 'bad'], dtype='<U4')

    X is a list, array or Series of texts, or two columns of them; y has a class for each, or is an indicator matrix of
    several. `options` are those of `adapterkit.run`, under each of their spellings, and are parameters of the
    estimator: `set_params(r=8)`, `GridSearchCV(..., {"r": [4, 8]})`. Options are checked by `fit`. A tenth of the rows
    is cut off to choose the best epoch by.

    `base` is a name, or a loaded `Base`, which clones then share. Nothing is registered unless `registry` is a path or
    a `Registry`; the adapter is then registered under `name`.

    Fitted attributes: `classes_`, `n_features_in_` (1, or 2 for pairs), `adapter_files_` (the adapter's files by name,
    as bytes) and `metrics_` (of the validation rows, by split).
    """

    def __init__(
        self,
        strategy: str = "lora",
        *,
        base: Base | str = "minilm",
        registry: Registry | str | os.PathLike[str] | None = None,
        name: str | None = None,
        watch: Watch | Literal["auto"] | None = None,
        **options: Any,
    ) -> None:
        self.strategy = strategy
        self.base = base
        self.registry = registry
        self.name = name
        self.watch = watch
        self._options = options

    # ---- parameters

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name, with the options that are set."""
        return {**super().get_params(deep), **self._options}

    def set_params(self, **params: Any) -> Self:
        """Set parameters and options by name; `fit` checks them."""
        named = set(self._get_param_names())
        for key, value in params.items():
            if key in named:
                setattr(self, key, value)
            else:
                self._options = {**self._options, key: value}
        return self

    def __sklearn_clone__(self) -> Self:
        """Return an unfitted estimator with copies of the parameters, and the same base."""
        params: dict[str, Any] = self.get_params(deep=False)
        for name, value in params.items():
            params[name] = value if isinstance(value, Base | Watch) else clone(value, safe=False)
        return type(self)(**params)

    def __sklearn_tags__(self) -> Any:
        """Describe the estimator to scikit-learn: X holds texts."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.one_d_array, tags.input_tags.two_d_array = True, True, False
        tags.classifier_tags.multi_label = True
        return tags

    # ---- pickling

    def __getstate__(self) -> dict[str, Any]:
        """Return the state as plain values: a base by its name, a registry by its path, an adapter as its files."""
        state = dict(super().__getstate__())
        state.pop("_model", None)
        if isinstance(self.base, Base):
            state["base"] = self.base.name
            state["_options"] = {**{key: getattr(self.base, key) for key in BASE_OPTIONS}, **self._options}
        if isinstance(self.registry, Registry):
            state["registry"] = str(self.registry.path)
        if isinstance(self.watch, Watch):
            state["watch"] = None
        return state

    # ---- fitting

    def fit(self, X: Any, y: Any) -> Self:
        """Train an adapter on texts and their classes; an error leaves the estimator as it was."""
        fitted = dict(self.__dict__)
        try:
            return self._fit(X, y)
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(fitted)
            raise

    def _fit(self, X: Any, y: Any) -> Self:
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        columns = self._texts(X, reset=True)
        y, problem = _target(y)
        check_consistent_length(columns[0], y)
        self.classes_, labels = _labels(y, problem)
        names = COLUMNS[: len(columns)]
        rows = [
            {**dict(zip(names, texts, strict=True)), "label": label}
            for *texts, label in zip(*columns, _row_labels(y, labels, problem, self.classes_), strict=True)
        ]
        if fixed := [key for key in self._options if key in FIXED]:
            raise OptionError(f"{fixed[0]}={self._options[fixed[0]]!r}: {fixed[0]} follows from X and y")
        with self._registry() as registry:
            report = run(
                train=rows,
                base=self.base,
                registry=registry,
                watch=self.watch,
                name=self.name,
                strategy=self.strategy,
                task="text-classification",
                text_column_name=names,
                label_column_name="label",
                labels=labels,
                problem_type=problem,
                **self._options,
            )
        self.adapter_files_, self.metrics_ = report.adapter.files(), report.metrics
        self._model = report.model
        return self

    @contextlib.contextmanager
    def _registry(self) -> Iterator[Registry | str | os.PathLike[str]]:
        if self.registry is not None:
            yield self.registry
            return
        with tempfile.TemporaryDirectory(prefix="adapterkit-") as folder:
            yield Path(folder, "registry.json")

    # ---- answers

    @property
    def adapter_(self) -> Adapter:
        """The fitted adapter."""
        return self._fitted().adapter

    def predict(self, X: Any) -> np.ndarray:
        """Return the class of each text: (n,); of several labels, an indicator matrix (n, classes)."""
        scores, several = self._scores(X)
        if several:
            threshold: float = self._fitted().adapter.task.threshold  # type: ignore[attr-defined]
            chosen: np.ndarray = (expit(scores) >= threshold).astype(int)
            return chosen
        predicted: np.ndarray = self.classes_[scores.argmax(axis=1)]
        return predicted

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class: (n, classes); of several labels, each by itself."""
        scores, several = self._scores(X)
        probabilities: np.ndarray = expit(scores) if several else softmax(scores, axis=1)
        return probabilities

    def _scores(self, X: Any) -> tuple[np.ndarray, bool]:
        """Return logits (n, classes), and whether a text may have several labels."""
        model, columns = self._fitted(), self._texts(X, reset=False)
        names = COLUMNS[: len(columns)]
        rows = [dict(zip(names, texts, strict=True)) for texts in zip(*columns, strict=True)]
        scores = np.stack(predictions(model.base, model.adapter, rows)).astype(np.float64)
        return scores, model.adapter.task.problem_type == MULTI  # type: ignore[attr-defined]

    def _texts(self, X: Any, *, reset: bool) -> list[list[str]]:
        """Return X as columns of texts; with `reset`, their number is that of the fit, else it has to be."""
        columns = _columns(X)
        if reset:
            self.n_features_in_ = len(columns)
        elif len(columns) != self.n_features_in_:
            raise ValueError(
                f"X has {len(columns)} features, but {type(self).__name__} is expecting {self.n_features_in_} features "
                "as input, which are columns of texts"
            )
        return columns

    def _fitted(self) -> AdaptedModel:
        """Return the adapter on its base; after unpickling, both are loaded here."""
        check_is_fitted(self, "adapter_files_")
        model: AdaptedModel | None = getattr(self, "_model", None)
        if model is None:
            with tempfile.TemporaryDirectory(prefix="adapterkit-") as folder:
                write_folder(Path(folder, "adapter"), self.adapter_files_)
                adapter = Adapter.load(Path(folder, "adapter"))
            stated = adapter.manifest["base"]
            base = self.base if isinstance(self.base, Base) else Base.from_manifest(stated, self.base)
            self._model = model = AdaptedModel(self.name or "classifier", None, adapter, base)
        return model


MULTI, SINGLE = "multi_label_classification", "single_label_classification"


def _columns(X: Any) -> list[list[str]]:
    """Return one or two columns of texts."""
    if isinstance(X, str | Mapping) or not (hasattr(X, "__len__") or hasattr(X, "__array__")):
        raise ValueError(f"X must be a list, array or Series of texts, or two columns of them, got {type(X).__name__}")
    if hasattr(X, "iloc") and hasattr(X, "columns"):
        columns = [list(X.iloc[:, i]) for i in range(X.shape[1])]
    else:
        cells = list(X)
        columns = [list(cells)] if len(cells) and isinstance(cells[0], str) else _transposed(cells)
    if not columns or not columns[0]:
        raise ValueError(f"Found array with 0 sample(s) (shape={np.shape(X)}) while a minimum of 1 is required")
    if len(columns) > len(COLUMNS):
        raise ValueError(f"X must have 1 or 2 columns of texts, got {len(columns)}")
    for column in columns:
        for i, text in enumerate(column):
            if not isinstance(text, str):
                raise ValueError(f"X must hold texts, got {type(text).__name__} in row {i}")
    return [list(map(str, column)) for column in columns]


def _transposed(cells: Sequence[Any]) -> list[list[Any]]:
    for i, cell in enumerate(cells):
        if not isinstance(cell, list | tuple | np.ndarray) or isinstance(cell, str) or np.ndim(cell) != 1:
            raise ValueError(f"X must hold texts or pairs of texts, got {type(cell).__name__} in row {i}")
        if len(cell) != len(cells[0]):
            raise ValueError(f"X must have the same number of texts in each row, got {len(cell)} in row {i}")
    return [list(column) for column in zip(*cells, strict=True)]


def _target(y: Any) -> tuple[np.ndarray, str]:
    """Return y as an array, and the kind of problem; raises `ValueError` as scikit-learn does for other targets."""
    if type_of_target(y, input_name="y", raise_unknown=True) == "multilabel-indicator":
        return np.asarray(check_array(y, accept_sparse=False)), MULTI
    y = column_or_1d(y, warn=True)
    check_array(y, ensure_2d=False, dtype=None, input_name="y")
    check_classification_targets(y)
    return y, SINGLE


def _labels(y: np.ndarray, problem: str) -> tuple[np.ndarray, list[str]]:
    """Return the classes, sorted, and the adapter's name for each: its text, or its number where texts won't do."""
    if problem == MULTI:
        return np.arange(y.shape[1]), list(map(str, range(y.shape[1])))
    classes = np.unique(y)
    if len(classes) < 2:
        raise ValueError(f"at least 2 classes are needed, got 1 class in y: {classes[0]!r}")
    names = list(map(str, classes))
    usable = len(set(names)) == len(names) and all(name and name == name.strip() for name in names)
    return classes, names if usable else list(map(str, range(len(names))))


def _row_labels(y: np.ndarray, labels: list[str], problem: str, classes: np.ndarray) -> list[Any]:
    if problem == MULTI:
        return [[label for label, chosen in zip(labels, row, strict=True) if chosen] for row in y]
    return [labels[code] for code in np.searchsorted(classes, y)]
