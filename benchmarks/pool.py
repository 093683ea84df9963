"""What asking one of many adapters costs, here and with PEFT, in one interleaved run.

The same LoRA adapters lie on disk once; the pool and PEFT both read those folders, and a registry has links to them
in its store. Each figure is the median of
several turns, the sides taking turns, with the quartiles beside it; a figure of PEFT that can't be had is the exception
that it raises.

    python benchmarks/pool.py --threads 2 --out pool.json --table pool.md
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import functools
import gc
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from adapterkit import Adapter, Base, Plan, Pool, Registry, run
from adapterkit.io.atomic import version_of

SENTENCES = [
    "The film takes its time, and by the end every slow minute has been worth it for the last scene alone.",
    "I ordered two of these for my parents and neither lasted until the end of the summer, sadly.",
    "Friendly staff, a clean room and a view of the river, though the lift was out of order all week.",
    "The update fixed the crash, but now the battery is empty by noon and the fan never stops.",
    "A warm, funny book about a family that never says what it means, with a dog that always does.",
    "Nobody answered my three letters, and the money came back only after my bank had asked for it.",
    "The soup was cold, the waiter was not, and we will come back for the garden and the bread.",
    "It does what the box says, quietly and without fuss, which is more than I can say of the last one.",
]


AS: dict[str, Any] = {}  # the device and dtype of all sides, where they aren't the CPU and fp32


def opened(base: Base | str, *args: Any, **options: Any) -> Pool:
    return Pool(base, *args, **options, **AS)


@functools.cache
def cast(base: Base) -> Any:
    """Return a base's model as all sides have it."""
    return copy.deepcopy(base.model).to(**AS) if AS else base.model


def turns(sides: dict[str, Callable[[], Any]], count: int) -> dict[str, dict[str, float]]:
    """Time each side `count` times in turn; return median and quartiles in milliseconds."""
    for side in sides.values():
        side()
    times: dict[str, list[float]] = {name: [] for name in sides}
    gc.disable()
    try:
        for _ in range(count):
            for name, side in sides.items():
                began = time.perf_counter()
                side()
                times[name].append((time.perf_counter() - began) * 1e3)
    finally:
        gc.enable()
    return {name: spread(values) for name, values in times.items()}


def spread(values: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return {"median": middle, "low": low, "high": high}


def raised(function: Callable[[], Any]) -> str:
    """Return the exception that a function raises, in a line."""
    try:
        function()
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:110]}"
    return "raised nothing"


def trained(base: Base, folder: Path, strategy: str, **options: Any) -> Adapter:
    """Train an adapter on a few rows of the demo: what it says is no matter here, its shape is."""
    plan = Plan.resolve(
        {"strategy": strategy, "dataset": "demo:sentiment", "num_train_epochs": 1, "max_train_samples": 32}
        | {"max_eval_samples": 32, "name": "a"}
        | options
    )
    return run(plan, Registry(folder / "registry.json"), base=base).adapter


def variants(adapter: Adapter, count: int, folder: Path) -> list[Path]:
    """Save `count` adapters of the same shape, each of its own weights; return their folders."""
    folders = []
    for i in range(count):
        generator = torch.Generator().manual_seed(i)
        moved = {k: t + 0.02 * torch.randn(t.shape, generator=generator) for k, t in adapter.tensors.items()}
        folders.append(folder / f"a{i}")
        folders[-1].mkdir(parents=True)
        for name, data in Adapter(adapter.manifest, moved).files().items():
            (folders[-1] / name).write_bytes(data)
    return folders


def registered(folders: list[Path], where: Path) -> Registry:
    """Return a registry of adapters that lie elsewhere: links in its store, its index made from what is there."""
    for folder in folders:
        version = version_of((folder / "adapter.json").read_bytes())
        own = where / "store" / folder.name
        own.mkdir(parents=True)
        (own / version).symlink_to(folder, target_is_directory=True)
    registry = Registry(where / "registry.json")
    registry.rebuild()
    return registry


class Peft:
    """PEFT with the same adapters on a model of its own."""

    def __init__(self, base: Base, folders: list[Path], labels: int = 2) -> None:
        from peft import PeftModel

        self.tokenizer = base.tokenizer
        model = transformers.AutoModelForSequenceClassification.from_pretrained(base.path, num_labels=labels)
        self.model = PeftModel.from_pretrained(model, folders[0], adapter_name="a0").eval().to(**AS)
        self.names = ["a0"]
        self.times: list[float] = []
        for folder in folders[1:]:
            self.load(folder)

    def load(self, folder: Path) -> None:
        began = time.perf_counter()
        self.model.load_adapter(folder, adapter_name=folder.name)
        if AS:
            self.model.to(**AS)
        self.times.append((time.perf_counter() - began) * 1e3)
        self.names.append(folder.name)

    def batch(self, texts: list[str]) -> Any:
        found = self.tokenizer(texts, padding=True, truncation=True, max_length=128, return_tensors="pt")
        return found.to(self.model.device)

    def mixed(self, texts: list[str], names: list[str]) -> None:
        with torch.inference_mode():
            self.model(**self.batch(texts), adapter_names=names)

    def loop(self, texts: list[str], names: list[str]) -> None:
        batch = self.batch(texts)
        with torch.inference_mode():
            for name in names:
                self.model.set_adapter(name)
                self.model(**batch)


def bare(base: Base, texts: list[str]) -> None:
    """Tokenise and run the base without any head: what all the passes below are counted in."""
    batch = base.tokenizer(texts, padding=True, truncation=True, max_length=128, return_tensors="pt")
    with torch.inference_mode():
        cast(base)(**batch.to(cast(base).device))[0].cpu()


def texts_of(count: int) -> list[str]:
    return [f"{SENTENCES[i % len(SENTENCES)]} {i}" for i in range(count)]


def exactness(base: Base, folder: Path) -> dict[str, float]:
    """Return the largest difference between a mixed batch of all strategies and each adapter run alone."""
    options = {"layerwise": {"top": 2}}
    adapters = {
        s: trained(base, folder / s, s, **options.get(s, {})) for s in ("lora", "head-only", "full", "layerwise")
    }
    return {**differences(base, adapters), "base tensors changed": float(len(base.altered()))}


def differences(base: Base, adapters: dict[str, Adapter]) -> dict[str, float]:
    """Return the largest difference of each adapter's rows in a mixed batch to what it says alone, text by text."""
    from adapterkit.evaluation.evaluate import _prompts
    from adapterkit.evaluation.outputs import outputs

    texts = texts_of(8)
    wanted = {}
    for name, adapter in adapters.items():
        with adapter.attached(base) as model:
            task = adapter.task
            wanted[name] = outputs(task, model, _prompts(task, task.rows(texts), base), base, batch_size=1)
    with opened(base, adapters) as pool:
        found = pool.outputs([t for t in texts for _ in adapters], [*adapters] * len(texts))
    worst = dict.fromkeys(adapters, 0.0)
    for i, logits in enumerate(found):
        name = [*adapters][i % len(adapters)]
        worst[name] = max(worst[name], float(abs(logits - wanted[name][i // len(adapters)]).max()))
    return worst


def switching(base: Base, folders: list[Path], listed: Registry, peft: Peft, count: int) -> dict[str, Any]:
    """A warm switch: finding the adapter that a request names, and asking it rather than the one before."""
    found: dict[str, Any] = {}
    for many in (2, 64, len(folders)):
        names = [folder.name for folder in folders[:many]]
        with opened(base, folders[:many]) as plain, Pool.from_registry(listed.path, base=base, **AS) as of_registry:
            for title, spent in switched({"pool": plain, "pool of a registry": of_registry}, names, count).items():
                found[f"{title}, {many} resident"] = spent
            requests = requested(plain, names, count)
    found |= {f"pool, a whole request to {which}": spent for which, spent in requests.items()}
    for many in (2, len(peft.names)):
        found[f"PEFT set_adapter, {many} of {len(peft.names)} loaded"] = switched_by_peft(
            peft, peft.names[:many], count
        )
    return found


def switched(pools: dict[str, Pool], names: list[str], count: int) -> dict[str, Any]:
    """Return the time to find another resident adapter in each pool."""
    dice = random.Random(0)
    for pool in pools.values():
        for name in names:
            pool.load(name)
    sides = {title: lambda pool=pool: pool._acquire([dice.choice(names)]) for title, pool in pools.items()}
    return turns(sides, 20 * count)


def requested(pool: Pool, names: list[str], count: int) -> dict[str, Any]:
    """Return the time of a whole request to the adapter of the one before, and to any other."""
    text, dice = texts_of(1), random.Random(0)
    sides = {
        "the same adapter": lambda: pool.predict(text, names[0]),
        "another one": lambda: pool.predict(text, dice.choice(names)),
    }
    return turns(sides, 3 * count)


def switched_by_peft(peft: Peft, names: list[str], count: int) -> Any:
    dice = random.Random(0)
    return turns({"": lambda: peft.model.set_adapter(dice.choice(names))}, count)[""]


def loading(base: Base, folders: list[Path], listed: Registry, peft: Peft) -> dict[str, Any]:
    """A cold load: manifest, digests, shapes and all; the files are in the page cache on both sides."""
    with opened(base, [folders[-1]]) as pool:
        pool.load(folders[-1].name)  # the head's shape is made once
    with opened(base, folders) as plain, Pool.from_registry(listed.path, base=base, **AS) as of_registry:
        times: dict[str, list[float]] = {"pool": [], "pool of a registry": []}
        for folder in [folders[-1], *folders[:-1]]:
            for own, pool in zip(times.values(), (plain, of_registry), strict=True):
                began = time.perf_counter()
                pool.load(folder.name)
                own.append((time.perf_counter() - began) * 1e3)
    found = {}
    for title, (_, *own) in times.items():
        found[f"{title}, the first 50"] = spread(own[:50])
        found[f"{title}, around the 500th"] = spread(own[475:525] if len(own) > 525 else own[-50:])
    return found | {
        "PEFT load_adapter, the first 8": spread(peft.times[:8]),
        "PEFT load_adapter, the last 8 of 64": spread(peft.times[-8:]),
    }


def mixing(base: Base, folders: list[Path], peft: Peft, count: int) -> dict[str, Any]:
    """A batch of 32 rows, each of another LoRA adapter."""
    texts, names = texts_of(32), [folder.name for folder in folders[:32]]
    with opened(base, folders[:32]) as pool:
        pool.predict(texts, names)
        return turns(
            {
                "bare base": lambda: bare(base, texts),
                "pool": lambda: pool.outputs(texts, names),
                "PEFT adapter_names": lambda: peft.mixed(texts, names),
                "PEFT one by one": lambda: [peft.loop([t], [n]) for t, n in zip(texts, names, strict=True)],
            },
            count,
        )


def sharing(base: Base, adapter: Adapter, peft: Peft, folder: Path, count: int) -> dict[str, Any]:
    """Eight adapters asked about the same 16 texts."""
    folders = variants(adapter, 8, folder)
    texts = texts_of(16)
    names = peft.names[:8]
    with opened(base, folders, batch_size=128) as pool:
        pool.annotate(texts)
        return turns(
            {
                "bare base": lambda: bare(base, texts),
                "pool": lambda: pool.annotate(texts),
                "PEFT adapter_names": lambda: peft.mixed([t for t in texts for _ in names], names * len(texts)),
                "PEFT set_adapter in a loop": lambda: peft.loop(texts, names),
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
        for batch in batches:  # until the quarter is what is asked for most
            pools["a quarter resident"].predict(texts, batch)
        for title, pool in pools.items():
            order = iter(batches * count)
            sides[title] = lambda pool=pool, order=order: pool.predict(texts, next(order))
        before = pools["a quarter resident"].stats()
        found: dict[str, Any] = turns(sides, len(batches) * (count - 1))
        after = pools["a quarter resident"].stats()
    hits, misses = after.hits - before.hits, after.misses - before.misses
    return {**found, "hit rate": hits / (hits + misses)}


def memory(base: Base, folders: list[Path]) -> dict[str, float]:
    """Bytes that a process grows by for each resident adapter, against the bytes of its tensors."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import pool; pool.grown(*sys.argv[2:])"
    where = str(Path(__file__).parent)
    said = subprocess.run(
        [sys.executable, "-c", code, where, base.name, str(folders[0].parent), str(len(folders))],
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, float] = json.loads(said.stdout.splitlines()[-1])
    return found


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
    """What the pool says, and PEFT, where PEFT can't do what the pool does."""
    from peft.utils.hotswap import hotswap_adapter

    three = trained(base, folder / "three", "lora", dataset="demo:topics")
    other = variants(three, 1, folder / "three-labels")[0]
    texts = texts_of(2)
    with opened(base, {"two": folders[0], "three": other}) as pool:
        labels = ", ".join(str(len(logits)) for logits in pool.outputs(texts, ["two", "three"]))
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
    """Ask two LoRA adapters with heads in one batch, on a small RoBERTa, whose head is more than one linear map."""
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


def larger(base: Base, layers: int, folder: Path) -> Base:
    """Return a base of the same width with more blocks, of random weights: time is what counts."""
    config = transformers.AutoConfig.from_pretrained(base.path, num_hidden_layers=layers)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)
    return Base.load(str(folder))


def ms(value: dict[str, float]) -> str:
    return f"{value['median']:.3g} ({value['low']:.3g} to {value['high']:.3g})"


def table(found: dict[str, Any]) -> str:
    """Return what was found as a Markdown table, each figure beside what was asked for."""
    lines = ["| what | asked for | pool | PEFT |", "|---|---|---|---|"]

    def line(what: str, wanted: str, ours: str, theirs: str) -> None:
        lines.append(f"| {what} | {wanted} | {ours} | {theirs} |")

    worst = max(v for k, v in found["exact"].items() if k != "base tensors changed")
    line("largest difference to each adapter alone (logits)", "1e-5", f"{worst:.1e}", "")
    s = found["switch"]
    peft64 = next(v for k, v in s.items() if k.startswith("PEFT set_adapter, 64"))
    for key, value in s.items():
        if "resident" in key:
            line(f"warm switch, {key.removeprefix('pool, ')}, ms", "0.1", ms(value), "")
    pool64 = s["pool, 64 resident"]["median"]
    line(
        "warm switch, PEFT set_adapter with 64 loaded, ms", "100x", f"{peft64['median'] / pool64:.0f}x less", ms(peft64)
    )
    line(
        "a whole request of one text: another adapter, the same one, ms",
        "",
        f"{ms(s['pool, a whole request to another one'])}, {ms(s['pool, a whole request to the same adapter'])}",
        "",
    )
    c = found["load"]
    p64 = c["PEFT load_adapter, the last 8 of 64"]
    for kind, theirs in (("pool", ms(c["PEFT load_adapter, the first 8"])), ("pool of a registry", "")):
        first, late = c[f"{kind}, the first 50"], c[f"{kind}, around the 500th"]
        what = f"cold load, {kind}".removesuffix(", pool")
        line(f"{what}, first, ms", "3", ms(first), theirs)
        ratio = late["median"] / first["median"]
        line(f"{what}, the 500th, ms", "1.2x the first", f"{ms(late)}: {ratio:.2f}x", "")
    late = c["pool, around the 500th"]
    line("cold load with 64 loaded, ms", "30x less", f"{p64['median'] / late['median']:.0f}x less", ms(p64))
    for key, what, wanted in (
        ("mixed", "32 LoRA adapters in a batch of 32, passes of the bare base", "1.10"),
        ("heads", "8 head-only adapters on the same 16 texts, passes", "1.1"),
        ("top", "8 adapters on the top quarter of 12 blocks, same 16 texts, passes", "2.8"),
    ):
        one = found[key]["bare base"]["median"]
        theirs = "; ".join(f"{k[5:]} {v['median'] / one:.2f}" for k, v in found[key].items() if k.startswith("PEFT"))
        ours = found[key]["pool"]
        line(what, wanted, f"{ours['median'] / one:.2f} ({ours['low'] / one:.2f} to {ours['high'] / one:.2f})", theirs)
    z = found["zipf"]
    kept = z["all resident"]["median"] / z["a quarter resident"]["median"]
    line(f"working set of 4x the slots (hit rate {z['hit rate']:.2f}), throughput", "0.9", f"{kept:.2f}", "")
    m = found["memory"]
    line(f"bytes for each of {m['adapters']:.0f} resident adapters / of its tensors", "1.1", f"{m['ratio']:.2f}", "")
    for what, said in found["impossible"].items():
        line(what, "", said["pool"], f"`{said['PEFT']}`")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", default="minilm")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--device", help="of all sides; default: the CPU")
    parser.add_argument("--dtype", choices=("bf16",), help="of all sides; default: fp32")
    parser.add_argument("--adapters", type=int, default=1000, help="how many are resident at most")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--table", type=Path, help="write the table as Markdown")
    parser.add_argument("--chart", type=Path, help="draw the passes as PNG")
    parser.add_argument("--update", type=Path, nargs="*", default=[], help="pages to put table and summary into")
    parser.add_argument("--again", type=Path, help="make table and chart of figures that --out wrote")
    args = parser.parse_args()
    if args.again:
        finish(json.loads(args.again.read_text()), args)
        return
    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    base = Base.load(args.base)
    if args.device or args.dtype:
        AS.update(device=args.device or "cpu", dtype=torch.bfloat16 if args.dtype else torch.float32)
    found: dict[str, Any] = {
        "machine": {"threads": args.threads, "torch": torch.__version__, "python": platform.python_version()}
    }
    with tempfile.TemporaryDirectory() as where:
        folder = Path(where)
        lora = trained(base, folder / "lora", "lora")
        folders = variants(lora, args.adapters, folder / "many")
        listed = registered(folders, folder / "listed")
        peft = Peft(base, folders[:64])
        big = larger(base, 12, folder / "big")
        quarter = trained(big, folder / "top", "layerwise", top=3)
        own = Peft(big, variants(trained(big, folder / "big-lora", "lora"), 8, folder / "big-many"))
        steps: dict[str, Callable[[], Any]] = {
            "exact": lambda: exactness(base, folder / "exact"),
            "switch": lambda: switching(base, folders, listed, peft, 10 * args.turns),
            "load": lambda: loading(base, folders, listed, peft),
            "mixed": lambda: mixing(base, folders, peft, args.turns),
            "heads": lambda: sharing(
                base, trained(base, folder / "head", "head-only"), peft, folder / "heads", args.turns
            ),
            "top": lambda: sharing(big, quarter, own, folder / "tops", args.turns),
            "zipf": lambda: working_set(base, folders, 3),
            "memory": lambda: memory(base, folders),
            "impossible": lambda: impossible(base, folders, folder / "other", peft),
        }
        for name, step in steps.items():
            found[name] = step()
            print(f"# {name}: {json.dumps(found[name])[:400]}", flush=True)
    if args.out:
        args.out.write_text(json.dumps(found, indent=2) + "\n")
    finish(found, args)


def finish(found: dict[str, Any], args: argparse.Namespace) -> None:
    text = table(found)
    if args.table:
        args.table.write_text(text + "\n")
    if args.chart:
        chart(found, args.chart)
    for page in args.update:
        whole = page.read_text(encoding="utf-8")
        for mark, fresh in (("pool", text), ("pool-short", short(found))):
            begin, end = f"<!-- {mark}:begin -->\n", f"<!-- {mark}:end -->"
            if begin in whole:
                before, _, rest = whole.partition(begin)
                whole = before + begin + fresh + "\n" + end + rest.partition(end)[2]
        page.write_text(whole, encoding="utf-8")
    print(text)


def short(found: dict[str, Any]) -> str:
    """Say the figures that matter most in a few lines."""

    def passes(step: str, side: str) -> str:
        return f"{found[step][side]['median'] / found[step]['bare base']['median']:.2f}"

    load = found["load"]
    less = load["PEFT load_adapter, the last 8 of 64"]["median"] / load["pool, around the 500th"]["median"]
    mixed = f"32 LoRA adapters in a batch of 32 rows: {passes('mixed', 'pool')} passes of the bare base"
    heads = f"8 head-only adapters on the same texts: {passes('heads', 'pool')} passes"
    top = f"8 adapters of the top quarter of the blocks on the same texts: {passes('top', 'pool')} passes"
    peft = "adapter_names"
    return "\n".join(
        [
            f"- {mixed} (PEFT's mixed batch: {passes('mixed', f'PEFT {peft}')}).",
            f"- {heads} (8 LoRA adapters in PEFT's mixed batch: {passes('heads', f'PEFT {peft}')}).",
            f"- {top} (the same in PEFT: {passes('top', f'PEFT {peft}')}).",
            f"- Reading one more adapter with 64 loaded: {less:.0f} times quicker than PEFT's `load_adapter`.",
        ]
    )


def chart(found: dict[str, Any], path: Path) -> None:
    """Draw what each side takes, in passes of the bare base."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    titles = {
        "mixed": "32 LoRA adapters,\none row each",
        "heads": "8 heads on\nthe same texts",
        "top": "8 adapters of the\ntop quarter, same texts",
    }
    figure, axes = pyplot.subplots(1, 3, figsize=(9, 2.8))
    for axis, (key, title) in zip(axes, titles.items(), strict=True):
        one = found[key]["bare base"]["median"]
        sides = {k.replace("PEFT ", "PEFT\n"): v["median"] / one for k, v in found[key].items() if k != "bare base"}
        bars = axis.bar(list(sides), list(sides.values()), color=["#2a6f97", "#bcbcbc", "#8c8c8c"])
        axis.bar_label(bars, fmt="%.2f", fontsize=8)
        axis.axhline(1, color="black", linewidth=0.8, linestyle=":")
        axis.set_title(title, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("passes of the bare base", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
