"""The package works from nothing but adapterkit: a tiny random ViT learns colors, and two adapters share a pool."""

import io
import random

import pytest
import transformers
from PIL import Image

from adapterkit import Base, Plan, Pool, Registry, run

COLORS = {"red": (200, 60, 60), "green": (60, 200, 60), "blue": (60, 60, 200)}


def picture(color, seed):
    dice, data = random.Random(seed), io.BytesIO()
    image = Image.new("RGB", (20, 24))
    image.putdata([tuple(c + dice.randint(-60, 55) for c in color) for _ in range(20 * 24)])
    image.save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def folder(tmp_path):
    for label, color in COLORS.items():
        (tmp_path / "train" / label).mkdir(parents=True)
        for i in range(12):
            (tmp_path / "train" / label / f"{i}.png").write_bytes(picture(color, i))
    return tmp_path


@pytest.fixture
def base(tmp_path):
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=16, patch_size=4
    )
    transformers.ViTModel(config).save_pretrained(tmp_path / "vit")
    transformers.ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(tmp_path / "vit")
    return Base.load(tmp_path / "vit")


def test_two_adapters_answer_in_one_pool(folder, base):
    registry = Registry(folder / "registry.json")
    for strategy in ("head-only", "lora"):
        options = {"train_file": str(folder / "train"), "num_train_epochs": 8, "learning_rate": 1e-2, "name": strategy}
        run(Plan.resolve({"task": "image-classification", "strategy": strategy, **options}), registry, base=base)
    with Pool(registry, base=base) as pool:
        answers = pool.predict(
            [{"file": picture(color, 99)} for color in COLORS.values()], adapters=["head-only", "lora"]
        )
    for name in ("head-only", "lora"):
        assert [answer[name]["label"] for answer in answers] == list(COLORS)
