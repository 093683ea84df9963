"""Put single faults into the core and run the tests of each place: `make mutants`, or `python -m tests.mutants --help`.

The faults are those of mutmut's operators. mutmut's own runner expects the package in the folder that it is imported
from; here `adapters/` is imported as `adapterkit`, so each fault is written into a copy of the package that comes first
on the path. Texts for people (strings with a space) are left alone.
"""

from __future__ import annotations

import argparse
import difflib
import functools
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PLACES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "adapter": (("adapters/adapter/*.py",), ("test_adapter", "test_compatibility", "test_hostile", "test_cards")),
    "patches": (("adapters/patches/*.py",), ("test_adapter", "test_encodings", "test_family", "test_merge")),
    "pool": (("adapters/pool/*.py",), ("test_pool", "test_predict")),
    "store": (("adapters/store/*.py",), ("test_registry", "test_upkeep", "test_hub")),
    "checkpoints": (
        ("adapters/training/checkpoints.py", "adapters/training/training_state.py"),
        ("test_checkpoints",),
    ),
    "alignment": (
        ("adapters/tasks/token_classification.py", "adapters/tasks/question_answering.py"),
        ("test_alignment", "test_data", "test_tasks"),
    ),
    "metrics": (("adapters/metrics/*.py",), ("test_metrics",)),
    "probe": (("adapters/probe/*.py",), ("test_probe",)),
}
"""By place: its files, and the tests that are expected to notice a fault in them."""


@dataclass(frozen=True)
class Mutant:
    """A source file with one fault."""

    place: str
    path: str
    source: str
    mutated: str

    @property
    def line(self) -> int:
        """The first line that differs, from 1."""
        pairs = zip(self.source.splitlines(), self.mutated.splitlines(), strict=False)
        return next((i for i, (a, b) in enumerate(pairs, start=1) if a != b), 0)

    @property
    def diff(self) -> str:
        """The lines that differ, as a unified diff without its head."""
        lines = difflib.unified_diff(self.source.splitlines(), self.mutated.splitlines(), n=0, lineterm="")
        return "\n".join(line for line in lines if line[:3] not in ("---", "+++") and line[:2] != "@@")


def mutations_of(path: Path) -> list[Callable[[], str]]:
    """Return, for each fault that mutmut's operators make in a file, a function that returns the mutated source."""
    import libcst
    from mutmut.mutation.file_mutation import create_mutations

    module, mutations, *_ = create_mutations(str(path), path.read_text())
    nodes = [mutation.original_node for mutation in mutations]
    texts = [isinstance(node, libcst.BaseString) and " " in module.code_for_node(node) for node in nodes]
    return [
        functools.partial(_mutated, module, mutation)
        for mutation, text in zip(mutations, texts, strict=True)
        if not text
    ]


def _mutated(module: Any, mutation: Any) -> str:
    code: str = module.deep_replace(mutation.original_node, mutation.mutated_node).code
    return code


def sample(count: int, seed: int, places: Sequence[str]) -> list[Mutant]:
    """Return `count` mutants, as many of each place, drawn with a seed."""
    rng = random.Random(seed)
    queues = {}
    for place in places:
        files = sorted(path for pattern in PLACES[place][0] for path in ROOT.glob(pattern))
        mutations = [(path, mutate) for path in files for mutate in mutations_of(path)]
        queues[place] = rng.sample(mutations, len(mutations))
    chosen: list[Mutant] = []
    while len(chosen) < count and any(queues.values()):
        for place, queue in queues.items():
            if queue and len(chosen) < count:
                path, mutate = queue.pop()
                chosen.append(Mutant(place, str(path.relative_to(ROOT)), path.read_text(), mutate()))
    return chosen


def copied(to: Path) -> None:
    """Lay the package out as it is imported."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "adapters", to / "adapterkit", ignore=ignored)
    for name in ("plugins", "cli"):
        shutil.copytree(ROOT / name, to / "adapterkit" / name, ignore=ignored)


def survives(mutant: Mutant, package: Path, limit: float) -> tuple[bool, str]:
    """Run the tests of a mutant's place on it; return whether they pass, and the first test that failed."""
    file = package / "adapterkit" / mutant.path.removeprefix("adapters/")
    tests = [str(ROOT / "tests" / f"{name}.py") for name in PLACES[mutant.place][1]]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", *tests]
    env = {**os.environ, "PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"}
    file.write_text(mutant.mutated)
    try:
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return False, f"no end after {limit:.0f} s"
    finally:
        file.write_text(mutant.source)
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return done.returncode == 0, failed[0][:150] if failed else f"exit code {done.returncode}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--places", default=",".join(PLACES), help="of " + ", ".join(PLACES))
    parser.add_argument("--limit", type=float, default=900, help="seconds for the tests of one mutant")
    args = parser.parse_args()
    chosen = sample(args.count, args.seed, args.places.split(","))
    counts: dict[str, list[int]] = {}
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        copied(Path(folder))
        for number, mutant in enumerate(chosen, start=1):
            began = time.monotonic()
            alive, why = survives(mutant, Path(folder), args.limit)
            killed = counts.setdefault(mutant.place, [0, 0])
            killed[alive] += 1
            survivors += [mutant] if alive else []
            state = "SURVIVED" if alive else "killed"
            print(
                f"{number:4} {state:8} {time.monotonic() - began:5.0f} s  {mutant.path}:{mutant.line}  {why}",
                flush=True,
            )
            if alive:
                print(mutant.diff, flush=True)
    print(f"\n{'place':12} {'killed':>6} {'survived':>8}")
    for place, (killed_count, alive_count) in counts.items():
        print(f"{place:12} {killed_count:6} {alive_count:8}")
    total = len(chosen) - len(survivors)
    print(f"seed {args.seed}: {total} of {len(chosen)} mutants killed, {total / max(1, len(chosen)):.1%}")


if __name__ == "__main__":
    main()
