"""The page of examples/browser answers as Python does, in a Chromium without a network, and without its server."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import shutil
from pathlib import Path

import pytest

from adapterkit.errors import TruncationWarning
from adapterkit.runtime import OnnxPool
from tests.helpers.adapters import TEXTS
from tests.helpers.browser import CHROMIUM
from tests.helpers.browser_page import BUILT, opened
from tests.runtime.conftest import Export

NAMES = ["classes-lora", "classes-rank-3", "classes-probe", "several-lora", "number-lora"]
LONG = " ".join(["Café, naïve ﬁsh 漢字 🙂\u200b", *TEXTS])

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
    pytest.mark.skipif(not (BUILT / "page.js").exists(), reason="needs the page: make browser"),
]


@pytest.fixture
def folder(export: Export, tmp_path: Path) -> Path:
    """Copy the export; the texts of one of its tasks are cut after 24 tokens."""
    copy = Path(shutil.copytree(export.folder, tmp_path / "onnx"))
    manifest = json.loads((copy / "export.json").read_text())
    manifest["adapters"]["classes-lora"]["task"]["options"]["max_seq_length"] = 24
    (copy / "export.json").write_text(json.dumps(manifest))
    return copy


@pytest.mark.slow
def test_answers_equal_pythons_and_need_no_server(folder: Path, tmp_path: Path) -> None:
    pool = OnnxPool(folder)
    long = len(pool.tokenizer(LONG)["input_ids"])
    assert long > 24
    with opened(folder, tmp_path) as page:
        assert page.open().startswith("classes-lora: ")
        for name in NAMES:
            page.answer(TEXTS[0], name)
        requests = list(page.browser.requests)
        loaded = {url.removeprefix(page.url) for url in requests}
        assert all(url.startswith(page.url) for url in requests)
        assert len(loaded) == len(requests)  # nothing is loaded twice
        page.stop_serving()
        for text, name in itertools.product((TEXTS[1], LONG), NAMES):
            cut = text == LONG and name == "classes-lora"
            with pytest.warns(TruncationWarning) if cut else contextlib.nullcontext():
                wanted = {c["label"]: c["score"] for c in pool.predict(text, name, all_scores=True)}
            assert page.answer(text, name) == pytest.approx(wanted, abs=1e-3)
            note = f" (the text has {long} tokens and was cut to 24)" if cut else ""
            assert re.fullmatch(rf"{name}: [^()]+{re.escape(note)}", page.text("#status"))
        files = [(folder.parent if name.startswith("onnx/") else BUILT) / name for name in loaded]
        counted = [file for file in files if file.suffix not in (".html", ".css", ".js")]
        assert page.facts["bytes"] == sum(file.stat().st_size for file in counted)
        assert page.facts["baseLoads"] == 1
        assert 0 < page.facts["first"] < 60_000
        assert page.browser.run("document.querySelector('[value=entities-lora]').disabled")
        assert page.text("[value=pair-lora]") == "pair-lora (pairs of texts: not on this page)"
        with pytest.raises(AssertionError, match=r"The text is empty\."):
            page.answer(" ", "classes-lora")
        assert page.browser.requests == requests
        assert page.browser.messages == []


def test_damaged_exports_are_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    manifest = json.loads((folder / "export.json").read_text())
    with opened(folder, tmp_path) as page:
        path = folder / manifest["adapters"]["classes-lora"]["tensors"]
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        assert page.open() == "adapters/classes-lora.safetensors is damaged or was edited"
        path.write_bytes(data + b"x")
        assert page.open() == f"adapters/classes-lora.safetensors has more than {len(data)} bytes"
        (folder / "export.json").write_text(json.dumps({**manifest, "format_version": 2}))
        assert page.open() == "export.json has format version 2, expected 1"
