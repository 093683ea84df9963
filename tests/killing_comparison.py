"""Kill a comparison at random moments, start it again each time, and see that it ends with the table of one that ran.

    python -m tests.killing_comparison                       # a tiny base: ten kills
    python -m tests.killing_comparison --kills 30 --seed 2 --workers 2

With several workers, the one that started them is killed.

Studies are children forked from this process, which imports what a comparison imports. A study that ends before its
next kill is followed by a new one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["OMP_NUM_THREADS"] = "1"

STRATEGIES = ("head-only", "layerwise", "lora", "bitfit")
ROWS = 48


def write_rows(folder: Path) -> None:
    """Write labelled rows for training, validation and test."""
    rows = [
        {"text": f"{'lovely' if i % 2 else 'awful'} {'food ' * (1 + i % 5)}{i}", "label": "ab"[i % 2]}
        for i in range(ROWS)
    ]
    for split, some in (("train", rows), ("validation", rows[::3]), ("test", rows[1::3])):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))


def compare_once(folder: Path, name: str, base: Any, workers: int) -> None:
    """Compare strategies in the study `name` of a folder, with a search for each, and register all."""
    from adapterkit import Registry
    from adapterkit.cluster import Placement, open_executor
    from adapterkit.comparison import Options, compare

    values = {
        "base": base.name,
        "dataset": str(folder),
        "name": name,
        "num_train_epochs": 3,
        "max_seq_length": 16,
        "head": "model",
    }
    options = Options(strategies=STRATEGIES, trials=4, keep="all", command="")
    with open_executor(Placement(workers=workers)) as executor:
        compare(values, Registry(folder / name / "registry.json"), folder, options, base=base, executor=executor)


def ended(folder: Path, name: str, base: Any, workers: int, kill_after: float | None = None) -> bool:
    """Run a comparison in a child, kill it after so many seconds, and return whether it ended before."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            compare_once(folder, name, base, workers)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    if kill_after is not None:
        until = time.monotonic() + kill_after
        while time.monotonic() < until:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            time.sleep(0.005)
        else:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
    else:
        _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return False
    if status:
        raise SystemExit(f"the comparison failed: {folder / name}")
    return True


def killed_and_started_again(kills: int, seed: int, workers: int, folder: Path) -> int:
    """Kill comparisons so many times in all; return how many studies that took."""
    import torch

    from adapterkit import Base
    from adapterkit.testing import tiny
    from tests.helpers.results import without_times

    torch.set_num_threads(1)
    base = Base.load(str(tiny.make("bert", folder / "base")))
    write_rows(folder)
    assert ended(folder, "warm", base, workers)  # tokenizes and imports
    began = time.monotonic()
    assert ended(folder, "through", base, workers)
    seconds = time.monotonic() - began
    through = without_times(folder / "through" / "results.json")
    draw, studies, number = random.Random(seed), 0, 0
    while number < kills:
        studies += 1
        name, at = f"killed{studies}", []
        while number < kills and not ended(folder, name, base, workers, after := draw.uniform(0.05, 0.5) * seconds):
            number += 1
            at.append(f"{after:.1f}")
        assert ended(folder, name, base, workers)
        table = without_times(folder / name / "results.json")
        assert table == through, f"killed after {', '.join(at)} s"
        print(
            f"study {studies}: killed after {', '.join(at) or 'nothing'} s of {seconds:.1f}; the same table", flush=True
        )
    return studies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_DATASETS_CACHE"] = f"{folder}/cache"
        studies = killed_and_started_again(args.kills, args.seed, args.workers, Path(folder))
        print(f"{args.kills} kills over {studies} studies, each ended with the table of the one that was not disturbed")


if __name__ == "__main__":
    main()
