"""A linear probe written for sentence-transformers has the probe's scores, whichever layers it reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from adapterkit import Base, Pool
from adapterkit.convert.export import write_model
from adapterkit.errors import AdapterError
from adapterkit.tasks import task_class
from tests.helpers import random_adapters as made
from tests.helpers.adapters import TEXTS, classes
from tests.helpers.random_probes import probe
from tests.helpers.tolerance import TINY

FORMS = [((3,), "mean"), ((1,), "cls"), ((0, 1, 3), "mean"), ((2, 3), "max")]


@pytest.mark.parametrize("family", ["bert", "modernbert", "gpt2"])  # the latter two normalise the last block's output
def test_scores_are_equal(family: str, tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    base = Base.load(str(tiny_folder(family)))
    for i, (layers, pooling) in enumerate(FORMS):
        adapter = probe(base, classes(4), layers, pooling, seed=i)
        model = sentence_transformers.SentenceTransformer(
            str(write_model(base, adapter, tmp_path / str(i), form="sentence-transformers")), device="cpu"
        )
        with Pool(base, {"a": adapter}) as pool:
            np.testing.assert_allclose(model.encode(TEXTS), np.stack(pool.outputs(TEXTS, adapter="a")), atol=TINY)
        assert model[0].auto_model.config.id2label == dict(enumerate(adapter.task.labels))


def test_what_has_no_modules_is_refused_by_name(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    base, options = Base.load(str(tiny_folder("bert"))), {"label_column_name": "label", "labels": ("a", "b")}
    text = task_class("text-classification")
    windows = text(text_column_name=("text",), long_texts="windows", **options)
    tokens = task_class("token-classification")(text_column_name=("tokens",), label_column_name="tags", labels=("O",))
    for adapter, message in [
        (probe(base, classes(2), (1, 2), "cls"), "no probe of the first token of several layers"),
        (probe(base, text(text_column_name=("a", "b"), **options), (1,), "mean"), "no probe of pairs of texts"),
        (probe(base, windows, (1,), "mean"), "no probe of texts in windows; --format onnx has"),
        (probe(base, tokens, (1,), None), "linear probes of them, and this adapter is for token-classification"),
        (made.adapter(base, classes(2), "head-only"), "is for text-classification with a head of transformers"),
    ]:
        with pytest.raises(AdapterError, match=message):
            write_model(base, adapter, tmp_path / "to", form="sentence-transformers")
    assert not (tmp_path / "to").exists()
