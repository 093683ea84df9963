"""Kill runs again and again, go on with them, and see that they end byte for byte like runs that nobody disturbed.

    python -m tests.killing                        # a tiny base: after every step, one to three times, all strategies
    python -m tests.killing --every 7 --most 1     # a cut of it
    python -m tests.killing --moments 20           # the demo base: kill -9 at random moments, by one process and by two

A tiny base's runs are children forked from this process, which imports what the first of them imported: seconds each.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["OMP_NUM_THREADS"] = "1"

STRATEGIES: dict[str, dict[str, Any]] = {
    "lora": {"lora_dropout": 0.1},
    "full": {},
    "layerwise": {"top": 1},
    "head-only": {"head": "model"},
    "settling": {"strategy": "layerwise", "top": 3, "freezing": "auto"},
    "thawing": {"strategy": "layerwise", "top": 3, "unfreezing": "gradual"},
    "dora": {"strategy": "lora", "use_dora": True},
    "bottleneck": {},
}
EPOCHS, ROWS, BATCH = 3, 64, 8
STEPS = EPOCHS * ROWS // BATCH


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of every adapter in a registry's store, but those that hold times."""
    files = [path for path in (folder / "store").rglob("*") if path.is_file() and path.name != "entry.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def check_registry(folder: Path) -> None:
    """Raise where registry.json is there and is none."""
    if (folder / "registry.json").exists():
        json.loads((folder / "registry.json").read_bytes())


# ---- a tiny base


def forked(plan: Any, folder: Path, base: Any, *, resume: bool, kill_at: int | None = None) -> bool:
    """Run a plan in a child; kill it as it has made so many steps. Return whether it ended by itself."""
    from adapterkit import Registry, Watch, run

    class Killer(Watch):
        steps = 0

        def advance(self, steps: int = 1, **values: float) -> None:
            if "loss" in values:
                self.steps += 1
                if self.steps == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        code = 1
        try:
            run(plan, Registry(folder / "registry.json"), base=base, resume=resume, watch=Killer())
            (folder / "modules.json").write_text(json.dumps(list(sys.modules)))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return False
    if status:
        raise SystemExit(f"a run failed: {plan.strategy_name}, {folder}")
    return True


def tiny_runs(names: Sequence[str], every: int, most: int, folder: Path) -> int:
    """Kill runs after each `every`th step, one to `most` times; return how often they were gone on with."""
    import torch

    from adapterkit import Base, Plan
    from adapterkit.testing import tiny

    torch.set_num_threads(1)
    base = Base.load(str(tiny.make("bert", folder / "base")))
    rows = [
        {"text": f"{'lovely' if i % 2 else 'awful'} {'food ' * (1 + i % 5)}{i}", "label": i % 2} for i in range(ROWS)
    ]
    for split, some in (("train", rows), ("validation", rows[::3])):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    resumes = 0
    for name in names:
        values = {
            "strategy": name,
            "dataset": str(folder),
            "name": "killed",
            "num_train_epochs": EPOCHS,
            "per_device_train_batch_size": BATCH,
            "max_seq_length": 16,
            "mixed_precision": "no",
            "learning_rate": 3e-3,
            "save_steps": 1,
            **STRATEGIES[name],
        }
        whole = folder / name / "whole"
        whole.mkdir(parents=True)
        assert forked(Plan.resolve(values), whole, base, resume=False)
        for module in json.loads((whole / "modules.json").read_text()):
            with contextlib.suppress(ImportError):  # such as __mp_main__
                importlib.import_module(module)
        wanted = contents(whole)
        assert wanted
        for step in range(1, STEPS + 1, every):
            for times in range(1, most + 1):
                case = folder / name / f"{step}-{times}"
                case.mkdir()
                draw = random.Random(step * 10 + times)
                plan = Plan.resolve({**values, "save_steps": draw.choice((1, 1, 2, 3))})
                ended = forked(plan, case, base, resume=False, kill_at=step)
                assert not ended, "it ended before it was killed"
                for _ in range(times - 1):
                    resumes += 1
                    if forked(plan, case, base, resume=True, kill_at=draw.randint(1, 4)):
                        break
                    check_registry(case)
                else:
                    resumes += 1
                    assert forked(plan, case, base, resume=True)
                assert contents(case) == wanted, f"{name}, killed {times} times, first after step {step}"
                assert not (case / "runs").exists()
        print(f"{name}: killed after each {every}th of {STEPS} steps, 1 to {most} times; byte-identical", flush=True)
    return resumes


def at_once(count: int, folder: Path) -> None:
    """Train adapters in as many processes, have them registered in the same moment, and find them all."""
    from adapterkit import Base, Plan, Registry, run

    base = Base.load(str(folder / "base"))
    (case := folder / "at-once").mkdir()

    class Waiting(Registry):
        def add(self, name: str, *args: Any) -> str:
            (case / f"{name}.ready").touch()
            while not (case / "go").exists():
                time.sleep(0.0005)
            return super().add(name, *args)

    children = []
    for number in range(count):
        values = {"dataset": str(folder), "name": f"run{number}", "num_train_epochs": 1, "max_seq_length": 16}
        child = os.fork()
        if child == 0:
            code = 1
            try:
                run(Plan.resolve({**values, "seed": number}), Waiting(case / "registry.json"), base=base)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(child)
    while len(list(case.glob("*.ready"))) < count:
        time.sleep(0.01)
    (case / "go").touch()
    assert all(os.waitpid(child, 0)[1] == 0 for child in children)
    found = Registry(case / "registry.json").adapters()
    assert sorted(found) == [f"run{number}" for number in range(count)], sorted(found)
    print(f"{count} runs that end at once: all of them are registered", flush=True)


# ---- the demo base


def moments(count: int, processes: int, folder: Path) -> int:
    """Kill runs of the demo at random moments, all processes at once; return how many were killed while they ran."""
    rows = ["--dataset", "demo:sentiment", "--max-train-samples", "160", "--epochs", "2", "--max-length", "32"]
    run = ["run", *rows, "--name", "demo", "--save-steps", "1", "--mixed-precision", "no"]
    run += ["--num-processes", "2", "--batch-size", "8"] if processes == 2 else []
    command = [sys.executable, "-m", "adapterkit.cli", *run]
    env: Mapping[str, str] = {**os.environ, "OMP_NUM_THREADS": "1"}

    def made(case: Path, *more: str, after: float | None = None) -> float | None:
        """Return the seconds that a run took, or None where it was killed."""
        began = time.monotonic()
        process = subprocess.Popen(
            [*command, *more],
            cwd=case,
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            said = process.communicate(timeout=after)[1]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return None
        if process.returncode:
            raise SystemExit(f"a run failed: {said.decode()[-2000:]}")
        return time.monotonic() - began

    (whole := folder / f"whole{processes}").mkdir()
    took = made(whole)
    assert took is not None
    wanted, killed = contents(whole), 0
    draw = random.Random(processes)
    for number in range(count):
        (case := folder / f"{processes}-{number}").mkdir()
        # most of the moments lie where it trains and writes, which is at its end
        after = took * (draw.uniform(0.3, 1.05) if number % 2 else draw.uniform(0.7, 1.05))
        if made(case, after=after) is None:
            killed += 1
        check_registry(case)
        assert made(case, "--resume") is not None
        check_registry(case)
        assert contents(case) == wanted, f"killed after {after:.1f} s of {took:.1f}"
        print(f"{processes} processes, after {after:.1f} s of {took:.1f}: byte-identical", flush=True)
    return killed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--every", type=int, default=1, help="kill after each so manyth step")
    parser.add_argument("--most", type=int, default=3, help="kill a run at most so often")
    parser.add_argument("--at-once", type=int, default=8, help="so many runs end at once")
    parser.add_argument(
        "--moments", type=int, default=0, help="kill runs of the demo at so many random moments instead"
    )
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="by so many processes")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_DATASETS_CACHE"] = f"{folder}/cache"
        if args.moments:
            for processes in args.processes:
                killed = moments(args.moments, processes, Path(folder))
                print(f"{processes} processes: {killed} of {args.moments} killed before their end; all byte-identical")
        else:
            resumes = tiny_runs(args.strategies.split(","), args.every, args.most, Path(folder))
            at_once(args.at_once, Path(folder))
            print(f"{resumes} resumes, each run byte-identical to the one that nobody disturbed")


if __name__ == "__main__":
    main()
