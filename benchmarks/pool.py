"""The cost of serving many adapters, here and with PEFT, in one interleaved run.

The same LoRA adapters are on disk once: the pool and PEFT both read those folders, and a registry links to them. Each
figure is the median of several turns, the sides taking turns, with the quartiles beside it; where PEFT can't do the
same, the exception it raises is recorded.

    python benchmarks/pool.py --threads 2 --out docs/figures/pool.json --update docs/explanation/pool-costs.md
    python benchmarks/pool.py --only heads,top --out docs/figures/pool.json     # measure these again, leave the rest
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from pool_report import finish
from pool_setup import AS, Peft, bare, larger, opened, raised, registered, spread, texts_of, trained, turns, variants

from adapterkit import Adapter, Base, Pool, Registry

MAPS = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
TOP = ",".join(f"{i}.{name}" for i in (9, 10, 11) for name in (*MAPS, "intermediate.dense", "output.dense"))


def exactness(base: Base, folder: Path) -> dict[str, float]:
    """Return the largest difference between a mixed batch of all strategies and each adapter run alone."""
    options = {"layerwise": {"top": 2}}
    adapters = {
        s: trained(base, folder / s, s, **options.get(s, {})) for s in ("lora", "head-only", "full", "layerwise")
    }
    return {**differences(base, adapters), "base tensors changed": float(len(base.changed_tensors()))}


def differences(base: Base, adapters: dict[str, Adapter]) -> dict[str, float]:
    """Return the largest difference of each adapter's logits in a mixed batch to those of the adapter alone."""
    from adapterkit.evaluation.evaluate import _prompts
    from adapterkit.evaluation.outputs import outputs

    texts = texts_of(8)
    expected = {}
    for name, adapter in adapters.items():
        with adapter.attached(base) as model:
            task = adapter.task
            expected[name] = outputs(task, model, _prompts(task, task.rows(texts), base), base, batch_size=1)
    with opened(base, adapters) as pool:
        mixed = pool.outputs([t for t in texts for _ in adapters], adapter_of_each=[*adapters] * len(texts))
    worst = dict.fromkeys(adapters, 0.0)
    for i, logits in enumerate(mixed):
        name = [*adapters][i % len(adapters)]
        worst[name] = max(worst[name], float(abs(logits - expected[name][i // len(adapters)]).max()))
    return worst


def lookups(base: Base, folders: list[Path], listed: Registry, count: int) -> dict[str, Any]:
    """Time what a request of a pool does first: it looks up the loaded adapter that the request names."""
    figures: dict[str, Any] = {}
    for many in (2, 64, len(folders)):
        names = [folder.name for folder in folders[:many]]
        with opened(base, folders[:many]) as plain, Pool.from_registry(listed.path, base=base, **AS) as of_registry:
            for title, spent in looked_up({"pool": plain, "pool of a registry": of_registry}, names, count).items():
                figures[f"{title}, {many} resident"] = spent
    return figures


def looked_up(pools: dict[str, Pool], names: list[str], count: int) -> dict[str, Any]:
    """Return the time in which each pool looks up another resident adapter."""
    dice = random.Random(0)
    for pool in pools.values():
        for name in names:
            pool.load(name)
    sides = {title: lambda pool=pool: pool._cache.get([dice.choice(names)]) for title, pool in pools.items()}
    return turns(sides, 20 * count)


def requests(base: Base, folders: list[Path], peft: Peft, count: int) -> dict[str, Any]:
    """Time requests of one text, from text to logits, with 64 adapters loaded on both sides."""
    text, dice = texts_of(1), random.Random(0)
    with opened(base, folders) as pool:
        for folder in folders:
            pool.load(folder.name)
        return turns(
            {
                "pool, the same adapter": lambda: pool.outputs(text, "a0"),
                "pool, another adapter": lambda: pool.outputs(text, dice.choice(peft.names)),
                "PEFT, the same adapter": lambda: peft.mixed(text, None),
                "PEFT, another adapter": lambda: peft.loop(text, [dice.choice(peft.names)]),
            },
            count,
        )


def loading(base: Base, folders: list[Path], listed: Registry, peft: Peft) -> dict[str, Any]:
    """A cold load: manifest, digests, shapes and all; the files are in the page cache on both sides."""
    with opened(base, [folders[-1]]) as pool:
        pool.load(folders[-1].name)  # the head's shape is made once
    with opened(base, folders) as plain, Pool.from_registry(listed.path, base=base, **AS) as of_registry:
        times: dict[str, list[float]] = {"pool": [], "pool of a registry": []}
        for folder in [folders[-1], *folders[:-1]]:
            for spent, pool in zip(times.values(), (plain, of_registry), strict=True):
                began = time.perf_counter()
                pool.load(folder.name)
                spent.append((time.perf_counter() - began) * 1e3)
    figures = {}
    for title, (_, *spent) in times.items():
        figures[f"{title}, the first 50"] = spread(spent[:50])
        figures[f"{title}, around the 500th"] = spread(spent[475:525] if len(spent) > 525 else spent[-50:])
    return figures | {
        "PEFT load_adapter, the first 8": spread(peft.times[:8]),
        "PEFT load_adapter, the last 8 of 64": spread(peft.times[-8:]),
    }


def mixing(base: Base, folders: list[Path], peft: Peft, count: int) -> dict[str, Any]:
    """A batch of 32 rows, each of another LoRA adapter."""
    texts, names = texts_of(32), [folder.name for folder in folders[:32]]
    with opened(base, folders[:32]) as pool:
        pool.predict(texts, adapter_of_each=names)
        return turns(
            {
                "bare base": lambda: bare(base, texts),
                "pool": lambda: pool.outputs(texts, adapter_of_each=names),
                "PEFT adapter_names": lambda: peft.mixed(texts, names),
                "PEFT one by one": lambda: [peft.loop([t], [n]) for t, n in zip(texts, names, strict=True)],
            },
            count,
        )


def heads(base: Base, folder: Path, count: int) -> dict[str, Any]:
    """Eight head-only adapters on the same 16 texts, against one pass of the base with eight heads written by hand."""
    folders, texts = variants(trained(base, folder, "head-only"), 8, folder / "many"), texts_of(16)
    linear = torch.nn.ModuleList(torch.nn.Linear(base.model.config.hidden_size, 2) for _ in folders).to(**AS)
    with opened(base, folders, batch_size=128) as pool:
        pool.annotate(texts)
        return turns(
            {
                "bare base": lambda: bare(base, texts),
                "pool": lambda: pool.outputs(
                    [t for t in texts for _ in folders], adapter_of_each=[f.name for f in folders] * 16
                ),
                "one pass and eight linear heads": lambda: bare(base, texts, linear),
            },
            count,
        )


def top_blocks(base: Base, folder: Path, count: int) -> dict[str, Any]:
    """Eight adapters of the top quarter of 12 blocks on the same 16 texts, the LoRA ones in the pool and in PEFT."""
    lora = variants(trained(base, folder / "lora", "lora", target_modules=TOP), 8, folder / "loras")
    blocks = variants(trained(base, folder / "top", "layerwise", top=3), 8, folder / "tops")
    texts, peft = texts_of(16), Peft(base, lora)
    rows, names = [t for t in texts for _ in lora], peft.names * len(texts)
    with opened(base, lora, batch_size=128) as of_lora, opened(base, blocks, batch_size=128) as of_blocks:
        return turns(
            {
                "bare base": lambda: bare(base, texts),
                "pool": lambda: of_blocks.outputs(rows, adapter_of_each=names),
                "pool, LoRA": lambda: of_lora.outputs(rows, adapter_of_each=names),
                "PEFT adapter_names": lambda: peft.mixed(rows, names),
                "PEFT set_adapter in a loop": lambda: peft.loop(texts, peft.names),
            },
            count,
        )


def working_set(base: Base, folders: list[Path], count: int) -> dict[str, Any]:
    """Requests by Zipf's law over 256 adapters, in batches of 32, with room for all and for a quarter of them."""
    folders = folders[:256]
    size = (folders[0] / "adapter_model.safetensors").stat().st_size
    names = [folder.name for folder in folders]
    weights = [1 / (rank + 1) for rank in range(len(names))]
    dice = random.Random(0)
    batches = [dice.choices(names, weights, k=32) for _ in range(40)]
    texts = texts_of(32)
    sides: dict[str, Callable[[], Any]] = {}
    with contextlib.ExitStack() as stack:
        pools = {
            "all resident": stack.enter_context(opened(base, folders)),
            "a quarter resident": stack.enter_context(opened(base, folders, max_bytes=size * len(folders) // 4)),
        }
        for name in names:
            pools["all resident"].load(name)
        for batch in batches:  # until the resident quarter is the most requested one
            pools["a quarter resident"].predict(texts, adapter_of_each=batch)
        for title, pool in pools.items():
            order = iter(batches * count)
            sides[title] = lambda pool=pool, order=order: pool.predict(texts, adapter_of_each=next(order))
        before = pools["a quarter resident"].stats()
        figures: dict[str, Any] = turns(sides, len(batches) * (count - 1))
        after = pools["a quarter resident"].stats()
    hits, misses = after.hits - before.hits, after.misses - before.misses
    return {**figures, "hit rate": hits / (hits + misses)}


def memory(base: Base, folders: list[Path]) -> dict[str, float]:
    """Bytes that a process grows by for each resident adapter, against the bytes of its tensors."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import pool; pool.grown(*sys.argv[2:])"
    scripts = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", code, scripts, base.name, str(folders[0].parent), str(len(folders))],
        check=True,
        capture_output=True,
        text=True,
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def grown(base_name: str, folder: str, count: str) -> None:
    """Load adapters in a process of their own and print what it grew by, as JSON."""
    folders = [Path(folder) / f"a{i}" for i in range(int(count))]
    with Pool(base_name, folders) as pool:
        for one in folders[:50]:
            pool.load(one.name)
        gc.collect()
        before, at = rss(), pool.stats().bytes
        for one in folders[50:]:
            pool.load(one.name)
        gc.collect()
        more, tensors = rss() - before, pool.stats().bytes - at
    each = len(folders) - 50
    print(
        json.dumps({"process": more / each, "tensors": tensors / each, "ratio": more / tensors, "adapters": int(count)})
    )


def rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def impossible(base: Base, folders: list[Path], folder: Path, peft: Peft) -> dict[str, dict[str, str]]:
    """Return the pool's result and PEFT's exception where PEFT can't do what the pool does."""
    from peft.utils.hotswap import hotswap_adapter

    three = trained(base, folder / "three", "lora", dataset="demo:topics")
    other = variants(three, 1, folder / "three-labels")[0]
    texts = texts_of(2)
    with opened(base, {"two": folders[0], "three": other}) as pool:
        labels = ", ".join(str(len(logits)) for logits in pool.outputs(texts, adapter_of_each=["two", "three"]))
    return {
        "a batch of two label counts": {
            "pool": f"rows of {labels} labels",
            "PEFT": raised(
                lambda: (peft.model.load_adapter(other, adapter_name="three"), peft.mixed(texts, ["a0", "three"]))
            ),
        },
        "a batch of two adapters with heads on RoBERTa": roberta(base, folder / "roberta"),
        "hot swap of an adapter with a head": {
            "pool": "",
            "PEFT": raised(lambda: hotswap_adapter(Peft(base, folders[:1]).model, str(folders[1]), adapter_name="a0")),
        },
    }


def roberta(base: Base, folder: Path) -> dict[str, str]:
    """Run two LoRA adapters with heads in one batch on a small RoBERTa, whose head is more than one linear map."""
    config = transformers.RobertaConfig(
        vocab_size=len(base.tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
    )
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)
    small = Base.load(str(folder))
    folders = variants(trained(small, folder / "lora", "lora"), 2, folder / "many")
    worst = max(differences(small, {one.name: Adapter.load(one) for one in folders}).values())
    peft = Peft(small, folders)
    return {
        "pool": f"within {worst:.1e} of each alone",
        "PEFT": raised(lambda: peft.mixed(texts_of(2), peft.names)),
    }


@dataclass
class Bench:
    """The adapters that several steps measure, made once."""

    base: Base
    folder: Path
    folders: list[Path]
    listed: Registry
    peft: Peft
    turns: int

    def step(self, name: str) -> Any:
        """Measure one step."""
        base, folder, folders, peft = self.base, self.folder / name, self.folders, self.peft
        steps: dict[str, Callable[[], Any]] = {
            "exact": lambda: exactness(base, folder),
            "lookup": lambda: lookups(base, folders, self.listed, 10 * self.turns),
            "request": lambda: requests(base, folders[:64], peft, 10 * self.turns),
            "load": lambda: loading(base, folders, self.listed, peft),
            "mixed": lambda: mixing(base, folders, peft, self.turns),
            "heads": lambda: heads(base, folder, self.turns),
            "top": lambda: top_blocks(larger(base, 12, folder / "big"), folder, self.turns),
            "zipf": lambda: working_set(base, folders, 3),
            "memory": lambda: memory(base, folders),
            "impossible": lambda: impossible(base, folders, folder, peft),
        }
        return steps[name]()


STEPS = ("exact", "lookup", "request", "load", "mixed", "heads", "top", "zipf", "memory", "impossible")


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the steps of --only; figures of the other steps stay as --out holds them."""
    machine = {"threads": args.threads, "torch": torch.__version__, "python": platform.python_version()}
    figures: dict[str, Any] = {"machine": {}}
    if args.out and args.out.exists():
        figures = json.loads(args.out.read_text())
    base = Base.load(args.base)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        folders = variants(trained(base, folder / "lora", "lora"), args.adapters, folder / "many")
        listed = registered(folders, folder / "listed")
        bench = Bench(base, folder, folders, listed, Peft(base, folders[:64]), args.turns)
        for name in args.only:
            figures[name], figures["machine"][name] = bench.step(name), machine
            print(f"# {name}: {json.dumps(figures[name])[:400]}", flush=True)
    if args.out:
        args.out.write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", default="minilm")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--device", help="of all sides; default: the CPU")
    parser.add_argument("--dtype", choices=("bf16",), help="of all sides; default: fp32")
    parser.add_argument("--adapters", type=int, default=1000, help="how many are resident at most")
    parser.add_argument("--only", type=lambda text: text.split(","), default=STEPS, help="steps, with commas")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--table", type=Path, help="write the table as Markdown")
    parser.add_argument("--chart", type=Path, help="draw the passes as PNG")
    parser.add_argument("--update", type=Path, nargs="*", default=[], help="pages to put the table into")
    parser.add_argument("--again", type=Path, help="make table and chart of figures that --out wrote")
    args = parser.parse_args()
    if args.again:
        finish(json.loads(args.again.read_text()), args)
        return
    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    if args.device or args.dtype:
        AS.update(device=args.device or "cpu", dtype=torch.bfloat16 if args.dtype else torch.float32)
    finish(measured(args), args)


if __name__ == "__main__":
    main()
