"""Write an evaluation to files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


def write_evaluation(output: Path, metrics: dict[str, Any], rows: Any, found: Any) -> None:
    """Write metrics.json, predictions.jsonl and, for classification, confusion_matrix.csv into a folder."""
    from ..data.splits import LINE
    from ..io.atomic import json_bytes, write_file

    output.mkdir(parents=True, exist_ok=True)
    write_file(output / "metrics.json", json_bytes({**metrics, **found.tables}))
    if found.answers:
        given = rows.remove_columns([LINE])
        lines = [
            json.dumps({**row, "prediction": answer}, ensure_ascii=False, default=str)
            for row, answer in zip(given, found.answers, strict=True)
        ]
        write_file(output / "predictions.jsonl", ("\n".join(lines) + "\n").encode())
    if "confusion_matrix" in found.tables:
        labels = found.tables["labels"]
        with (output / "confusion_matrix.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["true \\ predicted", *labels])
            table.writerows(
                [label, *counts] for label, counts in zip(labels, found.tables["confusion_matrix"], strict=True)
            )
