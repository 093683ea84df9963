"""What trackers are told of a run, read back from their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapterkit import Base, Plan, Registry, run
from adapterkit.errors import OptionError


@pytest.mark.parametrize("strategy", ["lora", "head-only"])
def test_tensorboard_is_told_of_a_run(strategy: str, tiny_base: Base, small_csv: Path, registry: Registry) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    values = {"train_file": str(small_csv), "strategy": strategy, "num_train_epochs": 3, "name": "told"}
    report = run(Plan.resolve({**values, "report_to": "tensorboard"}), registry, base=tiny_base)
    folder = registry.path.parent / "trackers" / "told"
    events = EventAccumulator(str(folder))
    events.Reload()
    tags = events.Tags()["scalars"]
    epochs = [event.value for event in events.Scalars("validation/accuracy")]
    assert epochs[-len(report.history) :] == pytest.approx([epoch["accuracy"] for epoch in report.history])
    assert len(epochs) == len(report.history) + (strategy == "lora")  # before training is epoch 0
    assert events.Scalars("adapter_bytes")[-1].value == report.adapter_bytes
    assert events.Scalars("trained_parameters")[-1].value == report.trained_parameters
    split = "validation" if strategy == "lora" else "cross-validation"
    final = events.Scalars(f"final/{split}/accuracy")[-1].value
    assert final == pytest.approx(report.metrics[split]["accuracy"])
    if strategy == "lora":
        assert {"train/loss", "train/learning_rate"} <= set(tags)
    told = (next(folder.rglob("hparams.yml"))).read_text()
    assert f"strategy: {strategy}" in told
    assert f"base_fingerprint: {tiny_base.fingerprint}" in told
    assert report.version == run(Plan.resolve(values), Registry(folder / "registry.json"), base=tiny_base).version


def test_a_tracker_that_is_not_there_is_said_before_anything_runs(
    tiny_base: Base, small_csv: Path, registry: Registry
) -> None:
    values = {"train_file": str(small_csv), "report_to": "tensorbord"}
    with pytest.raises(OptionError, match="no tracker named 'tensorbord'; did you mean 'tensorboard'"):
        run(Plan.resolve(values), registry, base=tiny_base)
    with pytest.raises(OptionError, match="--report-to aim: its package isn't installed; installed: "):
        run(Plan.resolve({**values, "report_to": "aim"}), registry, base=tiny_base)
    assert not registry.path.exists()
