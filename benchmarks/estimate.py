"""What a training takes of memory and time, by arithmetic: checked against `adapt plan` on small bases, then for large.

For a base of N parameters in d bytes each, of which T learn (counting what a strategy puts in), steps of n tokens, b
blocks above the lowest that learns and P parameters of linear maps a token passes (Q of them above that lowest):

- for the run: N d, and for what learns 16 T (in fp32: gradient, AdamW's two moments, best values so far).
- for a step: activations of b blocks and n tokens, c (h + f) bytes each, with hidden and feed-forward sizes h, f.
- operations: 2 n P forward, 2 n Q backward for the activations, 2 n T' for the weights that learn (T' of linear maps);
  divided by what the machine does a second.

c and the operations a second are measured on one small base; the others show how far off the arithmetic is.

    python benchmarks/estimate.py --figures docs/figures/estimate.json && python benchmarks/figures.py
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pages
import torch
import transformers

from adapterkit import Base, Plan
from adapterkit.discovery import strategy_class
from adapterkit.modules import blocks
from adapterkit.workflows.estimate import measure

TOKENS, ROWS = 64, 16
SMALL = {
    "BERT, 4 blocks of 256": {"hidden_size": 256, "num_hidden_layers": 4, "intermediate_size": 1024},
    "BERT, 6 blocks of 384": {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536},
    "BERT, 8 blocks of 512": {"hidden_size": 512, "num_hidden_layers": 8, "intermediate_size": 2048},
}
FITTED = "BERT, 6 blocks of 384"
LLAMA = {"vocab_size": 128256, "num_key_value_heads": 8}
LARGE = {
    "0.1 B (BERT base)": ("bert", {}),
    "1 B (Llama 3.2)": (
        "llama",
        {**LLAMA, "hidden_size": 2048, "num_hidden_layers": 16, "intermediate_size": 8192, "num_attention_heads": 32},
    ),
    "8 B (Llama 3.1)": (
        "llama",
        {**LLAMA, "hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 14336, "num_attention_heads": 32},
    ),
    "70 B (Llama 3.1)": (
        "llama",
        {**LLAMA, "hidden_size": 8192, "num_hidden_layers": 80, "intermediate_size": 28672, "num_attention_heads": 64},
    ),
}
STRATEGIES: dict[str, dict[str, Any]] = {"head-only": {}, "layerwise": {}, "lora": {}, "full": {}}


@dataclass(frozen=True)
class Counts:
    """What the arithmetic knows of a strategy on a base."""

    parameters: int
    learning: int
    through: int  # parameters of linear maps that a token passes
    above: int  # of these, at or above the lowest thing that learns
    learning_maps: int
    blocks: int  # at or above the lowest thing that learns
    hidden: int
    inner: int

    def locked(self, each: int) -> float:
        """Bytes for the whole run, the base in `each` bytes a parameter."""
        return self.parameters * each + 16 * self.learning

    def work(self, tokens: float) -> float:
        """Operations of a step, where nothing is cached."""
        return 2 * tokens * (self.through + self.above + self.learning_maps)


def counted(base: torch.nn.Module, strategy: str) -> Counts:
    """Apply a strategy to a base, maybe without memory, and count."""
    chosen = strategy_class(strategy)(**STRATEGIES[strategy])
    base.requires_grad_(False)
    learning = {id(p) for p in chosen.apply(base)}
    config: Any = base.config
    names = list(blocks(base))
    lowest = next((i for i, n in enumerate(names) if _learns(base.get_submodule(n), learning)), len(names))
    maps = [(n, m) for n, m in base.named_modules() if isinstance(m, torch.nn.Linear)]

    def above(name: str) -> bool:
        return any(name.startswith(f"{block}.") for block in names[lowest:]) or not any(
            name.startswith(f"{block}.") for block in names
        )

    counts = Counts(
        parameters=sum(p.numel() for p in base.parameters()),
        learning=sum(p.numel() for p in base.parameters() if id(p) in learning),
        through=sum(m.weight.numel() for _, m in maps),
        above=sum(m.weight.numel() for n, m in maps if above(n)) if learning else 0,
        learning_maps=sum(m.weight.numel() for _, m in maps if id(m.weight) in learning),
        blocks=len(names) - lowest if learning else 0,
        hidden=config.hidden_size,
        inner=config.intermediate_size,
    )
    chosen.remove(base)
    return counts


def _learns(module: torch.nn.Module, learning: set[int]) -> bool:
    return any(id(p) in learning for p in module.parameters())


def measured(folder: Path, name: str, strategy: str) -> tuple[Counts, float, float]:
    """Return a small random base's counts, and the peak of memory and a step's seconds, as `plan` measures them."""
    path = folder / name
    if not path.exists():
        config = transformers.BertConfig(**SMALL[name], num_attention_heads=8, vocab_size=30522)
        transformers.BertModel(config).save_pretrained(path)
        transformers.AutoTokenizer.from_pretrained(Base.load("minilm").path).save_pretrained(path)
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": "word " * 2 * TOKENS, "label": i % 2}) + "\n" for i in range(8 * ROWS)))
    values = {"base": str(path), "strategy": strategy, "train_file": str(rows), "validation_file": str(rows)}
    values |= {"max_seq_length": TOKENS, "per_device_train_batch_size": ROWS, "head": "model", "cache_trunk": "off"}
    values |= {"head_init": "random", "mixed_precision": "bf16"}
    base = Base.load(str(path))
    counts = counted(base.model, strategy)
    estimate = measure(Plan.resolve(values), base=base)
    assert estimate.batches is not None
    return counts, float(estimate.memory), float(np.median([tried.seconds for tried in estimate.batches.tried]))


def apart(name: str, strategy: str) -> tuple[Counts, float, float]:
    """Measure in a process of its own, which has nothing left of others."""
    command = [sys.executable, __file__, "--one", name, strategy]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    counts, memory, seconds = json.loads(printed.splitlines()[-1])
    return Counts(**counts), memory, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--figures", type=Path, help="write the tables as JSON, for benchmarks/figures.py")
    parser.add_argument("--rate", type=float, default=400.0, help="T operations a second of a large GPU in training")
    parser.add_argument("--tokens", type=int, default=8192, help="of a step on a large base")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if args.one:
        with tempfile.TemporaryDirectory() as folder:
            counts, memory, seconds = measured(Path(folder), *args.one)
        print(json.dumps([asdict(counts), memory, seconds]))
        return
    measurements = {(n, s): apart(n, s) for n in SMALL for s in STRATEGIES}
    n = TOKENS * ROWS
    fitted = {s: measurements[FITTED, s] for s in STRATEGIES}
    rate = float(np.median([c.work(n) / seconds for c, _, seconds in fitted.values()]))
    # what memory grows by beyond what learns: a constant of the process, and activations
    left = np.array([memory - 16 * c.learning for c, memory, _ in fitted.values()])
    per = np.array([[1.0, n * c.blocks * (c.hidden + c.inner)] for c, _, _ in fitted.values()])
    (constant, each), *_ = np.linalg.lstsq(per, left, rcond=None)
    rows = []
    for (name, strategy), (c, memory, seconds) in measurements.items():
        guess = constant + 16 * c.learning + each * n * c.blocks * (c.hidden + c.inner)
        time = c.work(n) / rate
        cells = [name, strategy, f"{memory / 1e6:.0f}", f"{guess / 1e6:.0f}", f"{guess / memory:.2f}"]
        rows.append([*cells, f"{seconds:.3f}", f"{time:.3f}", f"{time / seconds:.2f}"])
    titles = "base | strategy | memory above the base, MB: measured | arithmetic | ratio | a step, s: measured"
    checked = {
        "titles": f"{titles} | arithmetic | ratio".split(" | "),
        "rows": rows,
        "note": f"Fitted on {FITTED}: {constant / 1e6:.0f} MB of a process, {each:.1f} bytes of activations a token, "
        f"block and unit of hidden and feed-forward size, {rate / 1e9:.0f} G operations a second; "
        f"the rows of the others are predictions. {ROWS} rows of {TOKENS} tokens, bf16 autocast, "
        f"{torch.get_num_threads()} threads.",
    }
    tables = {"checked": checked, "large": large(args, each)}
    print(*map(pages.rendered, tables.values()), sep="\n\n")
    if args.figures:
        args.figures.write_text(json.dumps(tables, indent=1) + "\n")


def large(args: argparse.Namespace, each: float) -> dict[str, Any]:
    """Return the table of the bases that don't fit here; `each` is the bytes of activations measured on a small one."""
    rows = []
    for name, (kind, settings) in LARGE.items():
        for strategy in STRATEGIES:
            config = transformers.AutoConfig.for_model(kind, **settings)
            with torch.device("meta"):
                base = transformers.AutoModel.from_config(config)
            c = counted(base, strategy)
            state, acts = 16 * c.learning, each * args.tokens * c.blocks * (c.hidden + c.inner)
            size = sum(p.numel() for p in base.parameters()) * 2
            seconds = c.work(1e6) / (args.rate * 1e12)
            cells = [name, strategy, f"{c.learning / c.parameters:.2%}", gb(4 * c.learning)]
            cells += map(gb, [size, state, acts, size + state + acts])
            rows.append([*cells, f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"])
    titles = "base | strategy | learns | adapter file | base in bf16 | what learns | activations | total"
    return {
        "titles": f"{titles} | a million tokens".split(" | "),
        "rows": rows,
        "note": f"Steps of {args.tokens:,} tokens, nothing cached or computed again, at {args.rate:.0f} T operations a "
        "second, which is about 40 % of the bf16 peak of an H100. Activations as measured on the CPU above.",
    }


def gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


if __name__ == "__main__":
    main()
