"""An update whose head is a probe is a PEFT folder of feature extraction, with the head beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file

from adapterkit import Adapter, Base, Plan, Registry, predict, run
from adapterkit.adapter.manifest import PEFT_CONFIG, TENSORS
from adapterkit.base.pooling import pooled
from adapterkit.convert.export import write_peft
from adapterkit.errors import AdapterError
from tests.helpers import tolerance
from tests.helpers.adapters import TEXTS

OPTIONS: dict[str, dict[str, Any]] = {
    "lora": {"strategy": "lora"},
    "dora": {"strategy": "lora", "use_dora": True},
    "ia3": {"strategy": "ia3"},
}


def trained(file: Path, registry: Registry, base: Base, **options: Any) -> Adapter:
    values = {"train_file": str(file), "name": "a", "num_train_epochs": 1, "head": "probe", "lr": 0.003}
    return run(Plan.resolve({**values, **options}), registry, base=base).adapter


@pytest.mark.parametrize("kind", OPTIONS)
def test_its_head_on_what_peft_computes_gives_the_same_scores(
    kind: str, small_csv: Path, tiny_base: Base, registry: Registry, tmp_path: Path
) -> None:
    adapter = trained(small_csv, registry, tiny_base, **OPTIONS[kind])
    write_peft(adapter, tmp_path / "peft")
    config = json.loads((tmp_path / "peft" / PEFT_CONFIG).read_text())
    assert (config["task_type"], config["modules_to_save"]) == ("FEATURE_EXTRACTION", None)
    model = peft.AutoPeftModelForFeatureExtraction.from_pretrained(tmp_path / "peft").eval()
    head = load_file(tmp_path / "peft" / TENSORS)
    weight, bias = (head[f"base_model.model.probe.score.{name}"] for name in ("weight", "bias"))
    batch = tiny_base.tokenizer(TEXTS, return_tensors="pt", padding=True)
    with torch.no_grad():
        states = model(**batch, output_hidden_states=True).hidden_states
    means = [pooled(states[k], batch["attention_mask"], "mean") for k in adapter.manifest["probe"]["layers"]]
    scores = torch.nn.functional.linear(torch.cat(means, -1), weight, bias).softmax(-1)
    expected = predict(tiny_base, adapter, [{"text": text} for text in TEXTS])
    tolerance.assert_near(scores.max(-1).values, torch.tensor([a["score"] for a in expected]), tolerance.TINY_PAIR)


def test_a_stored_one_is_a_peft_folder_in_its_card_too(small_csv: Path, tiny_base: Base, registry: Registry) -> None:
    trained(small_csv, registry, tiny_base, strategy="lora")
    folder = registry.folder(*registry.resolve("a"))
    assert "library_name: peft" in (folder / "README.md").read_text()
    assert Adapter.load(folder).files()[PEFT_CONFIG] == (folder / PEFT_CONFIG).read_bytes()


def test_a_head_alone_is_none(small_csv: Path, tiny_base: Base, registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="its head is a probe"):
        write_peft(trained(small_csv, registry, tiny_base, strategy="head-only"), tmp_path / "peft")


def test_one_of_an_earlier_version_is_none_and_keeps_its_bytes(
    small_csv: Path, tiny_base: Base, registry: Registry
) -> None:
    adapter = trained(small_csv, registry, tiny_base, strategy="lora")
    renamed = {
        key if "probe." in key else key.replace("base_model.model.", "base_model.model.base."): value
        for key, value in adapter.tensors.items()
    }
    manifest = {**adapter.manifest, "base": {**adapter.manifest["base"], "prefix": "base."}}
    earlier = Adapter(manifest, renamed)
    assert PEFT_CONFIG not in earlier.files()
    texts = [{"text": text} for text in TEXTS]
    assert predict(tiny_base, earlier, texts) == predict(tiny_base, adapter, texts)
