"""The stranger's package examples/adapterkit-image-classification: a task and a modality that aren't texts."""

from __future__ import annotations

import base64
import io
import json
import random
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
import torch
import transformers
from PIL import Image

from adapterkit import Base, Plan, Pool, Registry, predict, run
from adapterkit.errors import AdapterkitError, BaseModelError, PoolError
from adapterkit.training import trunk_cache
from tests.helpers import tolerance
from tests.helpers.cli import Adapt
from tests.helpers.files import ROOT
from tests.helpers.linked import linked
from tests.helpers.server import Running
from tests.helpers.watches import Notes

PACKAGE = ROOT / "examples" / "adapterkit-image-classification"
COLORS = {"red": (200, 60, 60), "green": (60, 200, 60), "blue": (60, 60, 200)}
SIZE: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
}
TASK = "image-classification"


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folders = [str(folder) for folder in linked(PACKAGE, tmp_path_factory.mktemp("linked"))]
    sys.path[:0] = folders
    yield
    sys.path[:] = [path for path in sys.path if path not in folders]
    for name in [name for name in sys.modules if name.startswith("adapterkit_images")]:
        del sys.modules[name]


def picture(color: tuple[int, int, int], seed: int) -> bytes:
    """Return a noisy PNG of a color, 20 x 24 pixels."""
    dice, data = random.Random(seed), io.BytesIO()
    noisy = [tuple(min(255, max(0, c + dice.randint(-60, 60))) for c in color) for _ in range(20 * 24)]
    Image.fromarray(np.array(noisy, np.uint8).reshape(24, 20, 3)).save(data, "PNG")
    return data.getvalue()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write train and test pictures in a folder for each label, and the training ones as a Parquet file of datasets."""
    folder, rows = tmp_path_factory.mktemp("pictures"), []
    for number, (split, count) in enumerate((("train", 12), ("test", 4))):
        for label, color in COLORS.items():
            (folder / "by_label" / split / label).mkdir(parents=True)
            for i in range(count):
                data = picture(color, 1000 * number + i)
                (folder / "by_label" / split / label / f"{i}.png").write_bytes(data)
                rows += [{"image": {"bytes": data, "path": f"{i}.png"}, "label": label}] if split == "train" else []
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    return folder


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function from a family to the folder of a tiny random base with its image processor."""
    configs = {
        "vit": transformers.ViTConfig(**SIZE, intermediate_size=32),
        "dinov2": transformers.Dinov2Config(**SIZE, mlp_ratio=2),
    }
    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            made[family] = tmp_path_factory.mktemp(family)
            torch.manual_seed(0)
            transformers.AutoModel.from_config(configs[family]).save_pretrained(made[family])
            size = {"height": 16, "width": 16}
            transformers.ViTImageProcessorPil(size=size).save_pretrained(made[family])
        return made[family]

    return folder


@pytest.fixture
def plan(pictures: Path) -> Callable[..., Plan]:
    def of(strategy: str, **options: Any) -> Plan:
        rows = {"train_file": str(pictures / "rows.parquet"), "validation_file": str(pictures / "rows.parquet")}
        values = {"task": TASK, "strategy": strategy, "name": strategy, "learning_rate": 1e-2, "seed": 1}
        return Plan.resolve({**values, **rows, "num_train_epochs": 2, "mixed_precision": "no", **options})

    return of


@pytest.mark.slow
@pytest.mark.parametrize("family", ["vit", "dinov2"])
def test_adapters_are_trained_saved_and_share_a_batch_in_a_pool(
    family: str, plan: Any, base_folder: Any, pictures: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = Base.load(base_folder(family))
    before = {name: p.clone() for name, p in base.model.named_parameters()}
    plans = [plan("lora", num_train_epochs=4), plan("head-only"), plan("layerwise", top=1), plan("full")]
    for one in plans:
        run(one, registry, base=base)
    assert registry.load("lora").manifest["metrics"]["validation"]["accuracy"] > 0.9
    assert "probe" in registry.load("head-only").manifest
    files = sorted(str(file) for file in (pictures / "by_label" / "test").glob("*/*.png"))
    rows = [*({"image": file} for file in files), {"image": Path(files[0]).read_bytes()}]  # the first one twice
    alone = {name: predict(base, registry.load(name), rows) for name in registry.adapters()}
    assert [answer["label"] for answer in alone["head-only"]][:-1] == [Path(file).parent.name for file in files]
    with Pool(registry, base=base) as pool:
        sizes: list[int] = []
        forward = type(pool._routed.model).forward

        def counted(self: Any, **inputs: Any) -> Any:
            sizes.append(len(inputs["pixel_values"]))
            return forward(self, **inputs)

        monkeypatch.setattr(type(pool._routed.model), "forward", counted)
        answers = pool.predict(rows, adapters=["lora", "head-only", "layerwise"])
        assert sizes == [len(files)]  # one pass for all adapters, of distinct images
        for name in ("lora", "head-only", "layerwise"):
            assert [a[name] for a in answers] == tolerance.near(alone[name], tolerance.of_base(base))
        assert pool.predict(rows, adapter="full") == tolerance.near(alone["full"], tolerance.of_base(base))
        with pytest.raises(PoolError, match=r"embed takes texts, and base '.*' reads pixel_values"):
            pool.embed(["a text"])
    assert all(torch.equal(p, before[name]) for name, p in base.model.named_parameters())


@pytest.mark.parametrize(
    ("family", "strategy", "options", "cached"),
    [
        ("dinov2", "head-only", {"head": "model"}, "the whole base run once over 72"),
        ("vit", "layerwise", {"top": 1}, "1 of 2 blocks run once over 72"),
    ],
)
def test_the_cached_trunk_has_the_outputs_of_the_computed_one(
    family: str, strategy: str, options: Any, cached: str, plan: Any, base_folder: Any, registry: Registry
) -> None:
    base, heard, losses = Base.load(base_folder(family)), [], []
    for cache in ("off", "on"):
        notes = Notes()
        report = run(plan(strategy, **options, cache_trunk=cache), registry, base=base, watch=notes)
        heard.append(notes.heard["trunk"])
        losses.append([epoch["train_loss"] for epoch in report.history if "train_loss" in epoch])
    assert "--cache-trunk off" in heard[0]
    assert cached in heard[1]
    tolerance.assert_near(losses[1], losses[0], 100 * tolerance.of_base(base))  # two epochs of steps


def test_cached_hidden_states_are_of_one_processor(
    plan: Any, base_folder: Any, tmp_path: Path, registry: Registry
) -> None:
    """Features are encoded images, which another processor turns into other pixels."""
    base = Base.load(base_folder("vit"))
    paths: list[Path] = []
    file = trunk_cache.CachedFeed._file

    def recorded(self: Any, mixed: str) -> Path:
        paths.append(file(self, mixed))
        return paths[-1]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(trunk_cache.CachedFeed, "_file", recorded)
        options = {"head": "model", "cache_trunk": "on", "keep_features": True}
        run(plan("head-only", **options), registry, base=base)
        one = set(paths)
        paths.clear()
        base.tokenizer.image_mean = [0.1, 0.1, 0.1]
        other = Base(base.name, base.path, None, base.model, base.tokenizer, base.digests, base.newly_initialized)
        run(plan("head-only", **options, name="other"), registry, base=other)
    assert one
    assert not one & set(paths)


def test_a_server_opens_no_file_that_a_request_names(
    plan: Any, base_folder: Any, pictures: Path, registry: Registry, tmp_path: Path
) -> None:
    run(plan("head-only"), registry, base=Base.load(base_folder("vit")))
    file = pictures / "by_label" / "test" / "red" / "0.png"
    (encoded := tmp_path / "abcd").write_bytes(file.read_bytes())  # a name that is base64, too
    data = base64.b64encode(file.read_bytes()).decode()
    with pytest.MonkeyPatch.context() as patched, Running(registry) as server:
        patched.chdir(tmp_path)
        for row in (data, f"data:image/png;base64,{data}", {"image": data}, {"image": {"bytes": data, "path": "x"}}):
            status, answer, _ = server.send("/models/head-only", {"inputs": row})
            assert (status, [answer, answer[0]][isinstance(answer[0], list)][0]["label"]) == (200, "red")
        for named in (str(file), file.as_uri(), {"image": str(file)}, {"image": {"path": str(file)}}, "/etc/passwd"):
            status, answer, _ = server.send("/models/head-only", {"inputs": named})
            assert (status, "no path is read" in answer["error"]) == (422, True)
            answers = server.send("/v1/annotate", {"text": named, "adapters": ["head-only"]})[1]["answers"]
            assert "no path is read" in answers["head-only"]["error"]
        status, answer, _ = server.send("/models/head-only", {"inputs": encoded.name})
        assert (status, "no image that can be read" in answer["error"]) == (422, True)


def test_commands_read_folders_and_name_what_is_wrong(
    adapt: Adapt, base_folder: Any, pictures: Path, tiny_folder: Any, tmp_path: Path
) -> None:
    base, folder = base_folder("vit"), pictures / "by_label"
    done = adapt(
        "run", "--task", TASK, "--dataset", folder, "--base", base, "--strategy", "head-only", "--name", "a", "--json"
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["metrics"]["test"]["accuracy"] == 1
    done = adapt("predict", "a", folder / "test" / "red" / "0.png", "--json")
    assert json.loads(done.stdout)[0]["label"] == "red"
    assert json.loads(adapt("eval", "a", "--test-file", folder / "test", "--json").stdout)["accuracy"] == 1
    text = tmp_path / "no.png"
    text.write_text("no image")
    for command, message in (
        (("predict", "a", text), "no image that can be read"),
        (("predict", "a", "missing.png"), "'missing.png' can't be read: No such file"),
        (("eval", "a", "--test-file", pictures / "rows.parquet"), "no column named 'file'"),
        (("run", "--base", base), "task text-classification needs a base that reads input_ids, but"),
        (("run", "--task", TASK, "--dataset", folder, "--base", tiny_folder()), "needs a base that reads pixel_values"),
    ):
        done = adapt(*command)
        assert done.exit_code in (1, 2), done.output
        assert message in done.output
        assert "Traceback" not in done.output


def test_without_the_package_the_base_is_refused_in_one_line(base_folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = base_folder("vit")
    monkeypatch.setenv("ADAPTERKIT_PLUGINS", "none")
    with pytest.raises(
        BaseModelError, match="reads pixel_values, and no installed package has a modality of that name"
    ):
        Base.load(folder)
    assert issubclass(BaseModelError, AdapterkitError)


MEDIA_IN_CHATS = {"adapters/tasks/conversations.py", "adapters/serving/decisions.py"}  # which refuse them


def test_no_line_of_the_core_knows_of_it() -> None:
    words = re.compile(r"image|pixel|\bvit\b|dino", re.IGNORECASE)
    files = [
        f for folder in ("adapters", "plugins", "cli") for f in (ROOT / folder).rglob("*.py*") if f.suffix != ".pyc"
    ]
    lines = {str(f.relative_to(ROOT)): [x for x in f.read_text().splitlines() if words.search(x)] for f in files}
    assert {file for file, named in lines.items() if named} <= MEDIA_IN_CHATS
