"""Train the reference adapters that registry.json lists: small ones, on the demo's base and tasks.

    python examples/reference.py            # all of them
    python examples/reference.py demo-sentiment

`adapt predict demo-sentiment "a text"` then answers right after the installation, in this folder.
"""

from __future__ import annotations

import sys
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
    base, registry = ak.Base.load("minilm"), ROOT / "registry.json"
    for name in sys.argv[1:] or ADAPTERS:
        report = ak.run(name=name, epochs=5, base=base, registry=registry, watch=None, **ADAPTERS[name])
        print(f"{name}: {report.adapter_bytes:,} bytes, {report.metrics['test']}")


if __name__ == "__main__":
    main()
