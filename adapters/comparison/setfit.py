"""SetFit as a baseline: a sentence encoder tuned on pairs of rows, under logistic regression (arXiv:2209.11055)."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import TrainingError
from .baselines import Baseline

if TYPE_CHECKING:
    import numpy as np

    from ..base.base import Base

NAME = "setfit"
MOST_ROWS = 1_000
"""Rows up to which it is trained: its time grows with the pairs, 40 of each row, and it is made for few rows."""
_ITERATIONS, _BATCH = 20, 16  # the paper's 20 pairs of each kind a row; the package's batch


def is_installed() -> bool:
    """Return whether the package setfit is installed."""
    return importlib.util.find_spec("setfit") is not None


def fit_setfit(base: Base, texts: Sequence[str], labels: Sequence[int], count: int, seed: int) -> Baseline:
    """Train SetFit on texts and the numbers of their labels, of which there are `count`, from the base's files.

    Its seconds include loading the encoder. Raises `TrainingError` for more than `MOST_ROWS` rows, or where the base
    can't be loaded by sentence-transformers.
    """
    if len(texts) > MOST_ROWS:
        raise TrainingError(f"{len(texts):,} rows are more than the {MOST_ROWS:,} that SetFit is run on here")
    began = time.perf_counter()
    model = _trained(base, texts, labels, seed)
    seconds = time.perf_counter() - began
    began = time.perf_counter()
    _logits(model, texts, count)
    rate = len(texts) / max(time.perf_counter() - began, 1e-9)

    def predict(rows: Sequence[str]) -> list[Any]:
        return list(_logits(model, rows, count))

    return Baseline(NAME, seconds, sum(p.numel() for p in model.model_body.parameters()), rate, predict)


def _trained(base: Base, texts: Sequence[str], labels: Sequence[int], seed: int) -> Any:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from setfit import SetFitModel, Trainer, TrainingArguments
    from sklearn.linear_model import LogisticRegression

    try:
        encoder = SentenceTransformer(str(base.path), device="cpu")
    except (OSError, ValueError) as error:
        raise TrainingError(f"sentence-transformers can't load the base '{base.name}': {error}") from error
    # from its parts: SetFitModel.from_pretrained would unpickle a head that lies in the base's folder
    model = SetFitModel(model_body=encoder, model_head=LogisticRegression(max_iter=1000, random_state=seed))
    with tempfile.TemporaryDirectory() as folder:
        options = TrainingArguments(
            output_dir=folder,
            batch_size=_BATCH,
            num_epochs=1,
            num_iterations=_ITERATIONS,
            seed=seed,
            save_strategy="no",
            report_to="none",
            show_progress_bar=False,
        )
        rows = Dataset.from_dict({"text": list(texts), "label": list(labels)})
        Trainer(model=model, args=options, train_dataset=rows).train()
    return model


def _logits(model: Any, texts: Sequence[str], count: int) -> np.ndarray:
    """Return the logarithms of the probabilities of all labels, (rows, labels); tiny for those without a row."""
    import numpy as np

    shares = np.asarray(model.predict_proba(list(texts), as_numpy=True, show_progress_bar=False), dtype=float)
    logits = np.full((len(shares), count), np.log(1e-7))
    logits[:, model.model_head.classes_] = np.log(np.clip(shares, 1e-7, 1.0))
    return logits
