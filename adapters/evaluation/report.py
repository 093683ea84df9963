"""Write an evaluation to files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.column_types import LINE
from ..io.atomic import json_bytes, write_file

if TYPE_CHECKING:
    from datasets import Dataset

    from .evaluate import Evaluation


def write_evaluation(output: Path, metrics: dict[str, Any], rows: Dataset, evaluation: Evaluation) -> None:
    """Write metrics.json, predictions.jsonl and, for classification, confusion_matrix.csv into a folder."""
    output.mkdir(parents=True, exist_ok=True)
    tables = evaluation.tables
    write_file(output / "metrics.json", json_bytes({**metrics, **tables}))
    if evaluation.answers:
        lines = [
            json.dumps({**row, "prediction": answer}, ensure_ascii=False, default=str)
            for row, answer in zip(rows.remove_columns([LINE]), evaluation.answers, strict=True)
        ]
        write_file(output / "predictions.jsonl", ("\n".join(lines) + "\n").encode())
    if "confusion_matrix" in tables:
        labels = tables["labels"]
        with (output / "confusion_matrix.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["true \\ predicted", *labels])
            table.writerows([label, *counts] for label, counts in zip(labels, tables["confusion_matrix"], strict=True))
