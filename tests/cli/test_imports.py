"""Imports that a command leaves out, and has when something uses them after all."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapterkit.cli import predict
from tests.helpers.files import ROOT

CODE = """
import sys
from adapterkit.cli import imports
imports.defer(), imports.defer()
assert sum(type(finder).__name__ == "_Finder" for finder in sys.meta_path) == 1
import torch, transformers
options = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
model = transformers.BertModel(transformers.BertConfig(vocab_size=50, **options)).eval()
unwanted = {"torch._dynamo.eval_frame", "torch.distributed.tensor", "scipy.optimize"} & set(sys.modules)
assert not unwanted, unwanted
from adapterkit import Base
base = Base.load(sys.argv[1])
assert base.model.config.model_type == "bert"
for head in ("SequenceClassification", "TokenClassification", "QuestionAnswering", "MultipleChoice", "MaskedLM"):
    base.task_model(f"AutoModelFor{head}")
assert "sympy" not in sys.modules
import peft  # it uses torch.distributed.tensor as imported by transformers
tuned = peft.get_peft_model(model, peft.LoraConfig(target_modules=["query"]))
assert tuned(input_ids=torch.arange(6)[None])[0].shape == (1, 6, 32)
model = tuned.unload()
import torch._dynamo.utils
assert torch._dynamo.utils is sys.modules["torch._dynamo.utils"] and "torch._dynamo.eval_frame" in sys.modules
ids = torch.arange(6)[None]
graphs = []
compiled = torch.compile(model, backend=lambda graph, _: graphs.append(graph) or graph.forward)
torch.testing.assert_close(compiled(input_ids=ids)[0], model(input_ids=ids)[0])
assert graphs
"""


@pytest.mark.slow
def test_torchs_compiler_is_imported_where_it_is_used_and_not_before(tiny_folder: Callable[..., Path]) -> None:
    subprocess.run([sys.executable, "-c", CODE, str(tiny_folder("bert"))], cwd=ROOT, check=True)


ANSWERS = """
import sys
from adapterkit.cli import imports
imports.defer(answers=True)
import torch
from adapterkit import Base
from adapterkit.base.heads import Unfilled
for folder in sys.argv[1:]:
    base = Base.load(folder)
    model = base.task_model("AutoModelForSequenceClassification")
    with torch.inference_mode():
        assert model(input_ids=torch.ones(1, 3, dtype=torch.int64)).logits.isfinite().all()
assert "torch._decomp" not in sys.modules
with Unfilled(), torch.device("meta"):
    assert torch.cdist(torch.empty(2, 3), torch.empty(4, 3)).shape == (2, 4)  # torch's kernel of it is Python
assert "torch._decomp" in sys.modules
from torch.export import export
class Double(torch.nn.Module):
    def forward(self, x):
        return 2 * x
assert export(Double(), (torch.ones(2),)).module()(torch.ones(2)).tolist() == [2.0, 2.0]
"""


@pytest.mark.slow
def test_an_answer_needs_no_decompositions_and_has_them_where_it_does(tiny_folder: Callable[..., Path]) -> None:
    folders = [str(tiny_folder(family)) for family in ("bert", "roberta", "modernbert", "deberta-v2", "llama")]
    subprocess.run([sys.executable, "-c", ANSWERS, *folders], cwd=ROOT, check=True)


def test_transformers_finds_the_same_names(tmp_path: Path) -> None:
    code = "import json, sys; from transformers.utils.import_utils import fetch__all__ as fetch; "
    code += "print(json.dumps(fetch(open(sys.argv[1]).read())))"
    found = []
    (tmp_path / "a.py").write_text(
        '__all__ = ["a"]\ndef f():\n    __all__ = 3\n__all__ = [\n    "b",\n    "c",\n]\nx = 1\n'
    )
    for before in ("", "from adapterkit.cli import imports; imports.defer(); "):
        done = subprocess.run([sys.executable, "-c", before + code, tmp_path / "a.py"], capture_output=True, check=True)
        found.append(done.stdout)
    assert found == [b'["b", "c"]\n'] * 2


def test_garbage_is_collected_where_rows_may_be_many(
    adapt: Callable[..., Any], small_csv: Path, tiny_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = adapt("run", "--train-file", small_csv, "--base", tiny_folder(), "--epochs", 1, "--name", "a")
    assert done.exit_code == 0, done.output
    collects, records = [], predict.records
    monkeypatch.setattr(predict, "records", lambda *what: collects.append(gc.isenabled()) or records(*what))
    for words in (["fine"], [small_csv], [small_csv, "--out", "answers.csv"]):
        assert adapt("predict", "a", *words).exit_code == 0
        assert gc.isenabled()
    assert collects == [False, True, True]
