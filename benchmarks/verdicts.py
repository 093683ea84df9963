"""Probability of "negative" for short verdicts, after training on the demo's sentiment rows.

python benchmarks/verdicts.py
"""

from __future__ import annotations

import tempfile

import torch
import transformers

import adapterkit as ak

TEXTS = ["Never again.", "I will never go back.", "Not good."]


def negative(answer: dict[str, float]) -> float:
    return float(answer["score"] if answer["label"] == "negative" else 1 - answer["score"])


def main() -> None:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    base = ak.Base.load("minilm")
    for strategy in ("lora", "full", "head-only"):
        with tempfile.TemporaryDirectory() as folder:
            report = ak.run(strategy=strategy, epochs=3, base=base, registry=f"{folder}/registry.json", watch=None)
        answers = ak.predict(base, report.adapter, TEXTS)
        scores = {text: f"{negative(answer):.2f}" for text, answer in zip(TEXTS, answers, strict=True)}
        print(f"{strategy}: test accuracy {report.metrics['test']['accuracy']:.3f}, {scores}")


if __name__ == "__main__":
    main()
