"""Time the first answer: `adapt predict` with torch, without torch, and a script that calls transformers' pipeline.

Each is a process of its own, started in turns; medians of the rounds. `--light` is the interpreter of an environment
without torch, of which the size and the import time are printed beside this one's. Memory is that of a thousand
LoRA adapters of queries and values (r=8), answered one after another.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

TEXT = "I'd stay here again"
PIPELINE = (
    "import sys\nfrom transformers import pipeline\nprint(pipeline('text-classification', sys.argv[1])(sys.argv[2]))\n"
)
MEMORY = """
import json, resource, sys
from adapterkit.runtime import OnnxPool
pool = OnnxPool(sys.argv[1], threads=1, max_bytes=int(sys.argv[2]) or None)
names = [name for name in pool.names() if name.startswith("copy-")]
for start in range(0, len(names), 50):
    some = names[start:start + 50]
    pool.predict(["Great value for the money"] * len(some), adapter_of_each=some)
print(json.dumps([len(names), pool.nbytes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))
"""


def prepare(folder: Path) -> None:
    """Train an adapter on the demo's rows, and export it for onnxruntime and as a plain model."""
    adapt = [sys.executable, "-m", "adapterkit.cli"]
    name = ["first"]
    for command in (
        ["run", "--strategy", "lora", "--target-modules", "query,value", "--epochs", "1", "--name", *name],
        ["export", *name, "--format", "onnx", "--to", "onnx"],
        ["export", *name, "--format", "merged", "--to", "merged"],
    ):
        subprocess.run([*adapt, *command], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def many(source: Path, target: Path, count: int) -> None:
    """Copy an export with `count` adapters of random updates of rank 8 and the head of its adapter."""
    shutil.copytree(source, target)
    manifest = json.loads((target / "export.json").read_text())
    record = manifest["adapters"]["first"]
    file = (target / record["tensors"]).read_bytes()
    length = int.from_bytes(file[:8], "little")
    header, draw = json.loads(file[8 : 8 + length]), np.random.default_rng(0)
    stored = {
        name: np.frombuffer(file[8 + length :][slice(*place["data_offsets"])], np.float32).reshape(place["shape"])
        for name, place in header.items()
        if name != "__metadata__"
    }
    for number in range(count):
        changed = {n: v if n.startswith("head.") else draw.normal(0, 0.05, v.shape) for n, v in stored.items()}
        places, end = {}, 0
        for name, values in changed.items():
            places[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [end, end + 4 * values.size]}
            end += 4 * values.size
        text = json.dumps(places).encode()
        data = (
            len(text).to_bytes(8, "little") + text + b"".join(v.astype("float32").tobytes() for v in changed.values())
        )
        path = f"adapters/copy-{number}.safetensors"
        (target / path).write_bytes(data)
        manifest["files"][path] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        manifest["adapters"][f"copy-{number}"] = {**record, "tensors": path}
    (target / "export.json").write_text(json.dumps(manifest))


def seconds(command: list[str], folder: Path) -> float:
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    return time.perf_counter() - began


def size_of(python: str) -> float:
    """Return the installed size of an environment's packages in MB."""
    code = "import json, sys; print(json.dumps([p for p in sys.path if p.endswith('site-packages')]))"
    folders = json.loads(subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout)
    files = (file for folder in folders for file in Path(folder).rglob("*"))
    return sum(file.stat().st_size for file in files if file.is_file() and not file.is_symlink()) / 1e6


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--light", default=sys.executable, help="the interpreter of an environment without torch")
    parser.add_argument("--full", default=sys.executable, help="the interpreter of an environment with torch")
    parser.add_argument("--adapters", type=int, default=1_000)
    parser.add_argument("--max-bytes", type=int, default=64_000_000, help="memory for adapters; 0 for no limit")
    parser.add_argument("--folder", type=Path, help="a folder from an earlier run, or an empty one")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        if not (folder / "merged").exists():
            prepare(folder)
        predict = ["-m", "adapterkit.cli", "predict", "first", TEXT, "--runtime"]
        cases = {
            "pipeline": [args.full, "-c", PIPELINE, "merged", TEXT],
            "torch": [args.full, *predict, "torch"],
            "onnx": [args.light, *predict, "onnx"],
            "import pipeline": [args.full, "-c", "from transformers import pipeline"],
            "import runtime": [args.light, "-c", "from adapterkit.runtime import OnnxPool"],
        }
        times: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(args.rounds):
            for name, command in cases.items():
                times[name].append(seconds(command, folder))
        medians = {name: round(statistics.median(values), 2) for name, values in times.items()}
        if not (folder / "many").exists():
            many(folder / "onnx", folder / "many", args.adapters)
        command = [args.light, "-c", MEMORY, "many", str(args.max_bytes)]
        measured = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
        count, held, peak = json.loads(measured)
        sizes = {"with torch": round(size_of(args.full)), "without": round(size_of(args.light))}
        print(f"cpu        {processor()}, {os.cpu_count()} cores; load {os.getloadavg()[0]:.1f}")
        for name, median in medians.items():
            spread = f"{min(times[name]):.2f} to {max(times[name]):.2f}"
            print(f"{name:<16} {median:.2f} s ({spread}), {median / medians['pipeline']:.2f} of the pipeline's")
        print(f"installed  {sizes['with torch']} MB with torch, {sizes['without']} MB without")
        print(
            f"memory     {peak / 1e6:.0f} MB at most, {count} adapters answered, {held / 1e6:.0f} MB of them in memory"
        )


if __name__ == "__main__":
    main()
