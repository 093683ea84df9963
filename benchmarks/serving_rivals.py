"""What `benchmarks/serving.py` compares with: servers of merged models, as people write them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

FASTAPI = """
import sys, torch, transformers
from pathlib import Path
from fastapi import FastAPI
torch.set_num_threads(1)
folders = sorted(Path(sys.argv[1]).iterdir())
pipelines = {f.name: transformers.pipeline("text-classification", model=str(f), top_k=None) for f in folders}
app = FastAPI()
@app.post("/models/{name}")
def infer(name: str, body: dict):
    with torch.inference_mode():
        return pipelines[name]([body["inputs"]])
import uvicorn
uvicorn.run(app, port=int(sys.argv[2]), access_log=False, log_level="warning")
"""
GRAPHS = """
import json, os, sys, threading
from pathlib import Path
import numpy, uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.routing import Route
from tokenizers import Tokenizer
folder, port, runtime = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
tokenizer = Tokenizer.from_file(str(next(folder.rglob("tokenizer.json"))))
tokenizer.no_padding()
labels = {f.parent.name: json.loads(f.read_text())["id2label"] for f in folder.rglob("config.json")}
if runtime == "onnxruntime":
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    models = {n: onnxruntime.InferenceSession(str(folder / n / "model.onnx"), options) for n in labels}
    def run(name, inputs):
        return models[name].run(None, inputs)[0]
else:
    import openvino
    cores = os.cpu_count()
    settings = {"NUM_STREAMS": cores, "INFERENCE_NUM_THREADS": cores, "INFERENCE_PRECISION_HINT": "f32"}
    models = {n: openvino.Core().compile_model(str(folder / n / "model.onnx"), "CPU", settings) for n in labels}
    requests = threading.local()
    def run(name, inputs):
        own = vars(requests)
        if name not in own:
            own[name] = models[name].create_infer_request()
        return own[name].infer(inputs)[0]
def answer(name, text):
    ids = numpy.array([tokenizer.encode(text).ids])
    zeros, ones = numpy.zeros_like(ids), numpy.ones_like(ids)
    logits = run(name, {"input_ids": ids, "attention_mask": ones, "token_type_ids": zeros})[0]
    shares = numpy.exp(logits - logits.max())
    shares = shares / shares.sum()
    scores = [{"label": labels[name][str(i)], "score": float(p)} for i, p in enumerate(shares)]
    return [sorted(scores, key=lambda s: -s["score"])]
async def infer(request):
    text = (await request.json())["inputs"]
    return JSONResponse(await run_in_threadpool(answer, request.path_params["name"], text))
app = Starlette(routes=[Route("/models/{name}", infer, methods=["POST"])])
uvicorn.run(app, port=port, access_log=False, log_level="warning")
"""


def export(merged: Path) -> None:
    """Write model.onnx, in float32, into the folder of each merged model."""
    import torch
    import transformers

    shape = {0: torch.export.Dim("rows", min=1, max=64), 1: torch.export.Dim("tokens", min=2, max=512)}
    names = ("input_ids", "attention_mask", "token_type_ids")
    for folder in sorted(merged.iterdir()):
        model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
        inputs = {name: torch.ones(2, 8, dtype=torch.long) for name in names}
        torch.onnx.export(
            model,
            (),
            str(folder / "model.onnx"),
            kwargs=inputs,
            dynamo=True,
            dynamic_shapes=dict.fromkeys(names, shape),
            input_names=names,
            output_names=["logits"],
            external_data=False,
            verbose=False,
        )


def runtimes(packages: Path | None) -> list[str]:
    """Return which runtimes of ONNX files are installed; `packages` is a folder with OpenVINO."""
    have = [name for name in ("onnxruntime",) if importlib.util.find_spec(name)]
    return [*have, *(["openvino"] if packages is not None and (packages / "openvino").is_dir() else [])]
