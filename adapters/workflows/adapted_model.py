"""An adapter on its base: answers, and metrics on labelled rows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..display import best_metric, html_table, metric_rows
from ..evaluation.evaluate import Evaluation, evaluate, predict
from ..watch import Watch
from .usable_rows import evaluable

if TYPE_CHECKING:
    from datasets import Dataset

    from ..adapter.adapter import Adapter
    from ..base.base import Base


@dataclass(frozen=True, eq=False, repr=False)
class AdaptedModel:
    """An adapter and the base that it was trained on; the base may be shared with others.

    Methods raise `DataError` for a row that lacks a column of the task.

    >>> model = ak.load("reviews")
    >>> model.predict("lovely food")["label"]
    'positive'
    >>> model.evaluate("reviews.csv").metrics.n
    64
    """

    name: str
    version: str | None  # None for an adapter that was read from a folder
    adapter: Adapter
    base: Base

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """The metrics of the adapter's run by split."""
        return dict(self.adapter.manifest.get("metrics", {}))

    def predict(
        self, rows: Any, *, batch_size: int = 64, skip_bad_rows: bool = False, watch: Watch | None = None
    ) -> Any:
        """Return an answer for each row, such as {"label": "positive", "score": 0.98}; for a single one, its answer.

        `rows` is a text, a dict of columns, or a list, pandas DataFrame or `datasets.Dataset` of them. The fields of a
        text with several (a pair; question and context) are separated by tabs. A row that can't be read raises
        `DataError` or, with `skip_bad_rows`, has {"error": reason} in the place of its answer.
        """
        return predict(self.base, self.adapter, rows, batch_size=batch_size, skip_bad_rows=skip_bad_rows, watch=watch)

    def evaluate(self, rows: Any, *, batch_size: int = 64, watch: Watch | None = None) -> Evaluation:
        """Return the adapter's metrics on labelled rows: a file, or rows in memory as `run(train=...)` takes them."""
        data, name = self._labelled(rows)
        remarks: list[str] = []
        data = evaluable(data, name, self.adapter.task, skip=False, notes=remarks)
        for remark in remarks:
            (watch or Watch()).note("remark", remark)
        return evaluate(self.base, self.adapter, data, batch_size=batch_size, watch=watch)

    def _labelled(self, rows: Any) -> tuple[Dataset, str]:
        from ..data.rows import MEMORY, memory_dataset
        from ..data.splits import read

        task = self.adapter.task
        if isinstance(rows, str | os.PathLike):
            return read(os.fspath(rows), columns=task.columns_read, task=task.name, parses=task.parses), os.fspath(rows)
        return memory_dataset(rows, "rows", columns=task.columns_read, parses=task.parses), f"{MEMORY}rows"

    def __repr__(self) -> str:
        known_as = f"{self.name}@{self.version}" if self.version else self.name
        return f"<AdaptedModel {known_as} on {self.base.name}: {best_metric(self.metrics, self.adapter.task.best)}>"

    def _repr_html_(self) -> str:
        return html_table(repr(self)[1:-1], ["split", "metric", "value", "rows"], metric_rows(self.metrics))
