"""Train the reference adapters that registry.json lists: small ones, on the demo's base and tasks.

    python examples/reference.py

`adapt predict demo-sentiment "a text"` then answers right after the installation, in this folder.
"""

from __future__ import annotations

from pathlib import Path

import adapterkit as ak

ROOT = Path(__file__).parent.parent
ADAPTERS = {
    "demo-sentiment": {"dataset": "demo:sentiment", "strategy": "lora", "target_modules": "query,value", "r": 2},
    "demo-topics": {"dataset": "demo:topics", "strategy": "head-only"},
    "demo-names": {"dataset": "demo:ner", "strategy": "head-only"},
    "demo-requests": {"dataset": "demo:requests", "strategy": "bitfit"},
}


def main() -> None:
    base, registry = ak.Base.load("minilm"), ak.Registry(ROOT / "registry.json")
    for name, options in ADAPTERS.items():
        report = ak.run(ak.Plan.resolve({"name": name, "num_train_epochs": 5, **options}), registry, base=base)
        print(f"{name}: {report.adapter_bytes:,} bytes, {report.metrics['test']}")


if __name__ == "__main__":
    main()
