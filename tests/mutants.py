"""Put single faults into the core and run the tests of each place: `make mutants`, or `python -m tests.mutants --help`.

The faults are those of mutmut's operators. mutmut's own runner expects the package in the folder that it is imported
from; here `adapters/` is imported as `adapterkit`, so each fault is written into a copy of the package that comes first
on the path. Texts for people (strings with a space) are left alone.

Of a place's tests, a mutant meets those that run its line (measured once by coverage.py, in the tests' own process), or
its statement where the line isn't traced, or those that start processes where no test runs it in its own, the quickest
first, until one fails; outside of functions it meets all. Each mutant has a process forked from one that has imported
everything but the package. tests/mutants.md has the results.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import contextlib
import difflib
import functools
import importlib
import json
import os
import py_compile
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
ALIGNMENT = ("alignment", "answer_layouts", "lengths", "tag_schemes", "task_values", "word_split")
PLACES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "adapter": (("adapters/adapter/*.py",), ("adapter",)),
    "patches": (("adapters/patches/*.py",), ("patches", "plugins/test_built_in.py")),
    "pool": (("adapters/pool/*.py",), ("pool",)),
    "store": (("adapters/store/*.py",), ("store",)),
    "checkpoints": (
        ("adapters/training/checkpoints.py", "adapters/training/training_state.py"),
        ("training/test_checkpoints.py", "training/test_checkpoint_folder.py", "training/test_training_state.py"),
    ),
    "alignment": (
        ("adapters/tasks/token_classification.py", "adapters/tasks/question_answering.py"),
        tuple(f"tasks/test_{name}.py" for name in ALIGNMENT),
    ),
    "metrics": (("adapters/metrics/*.py",), ("metrics",)),
    "probe": (("adapters/probe/*.py",), ("probe",)),
}
"""By place: its files, and the files and folders of tests that are expected to notice a fault in them."""
THIRD_PARTY = ("torch", "transformers", "peft", "accelerate", "datasets", "scipy.optimize", "sklearn.metrics")
MEMORY = 24 << 30  # bytes of address space of a mutant, most of which its libraries reserve


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
    def statement(self) -> range:
        """The lines of the statement in a function that has the fault, a compound one's without its body; else none."""
        tree = ast.parse(self.source)
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        inside = [node for function in functions for body in function.body for node in ast.walk(body)]
        spans = [_own_lines(node) for node in inside if isinstance(node, ast.stmt)]
        return next((span for span in spans if self.line in span), range(0))

    @property
    def diff(self) -> str:
        """The lines that differ, as a unified diff without its head."""
        lines = difflib.unified_diff(self.source.splitlines(), self.mutated.splitlines(), n=0, lineterm="")
        return "\n".join(line for line in lines if line[:3] not in ("---", "+++") and line[:2] != "@@")


def _own_lines(node: ast.stmt) -> range:
    body = getattr(node, "body", None)
    return range(node.lineno, body[0].lineno if body else (node.end_lineno or node.lineno) + 1)


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


def again(path: Path) -> list[Mutant]:
    """Return the survivors in a file of results, put into the sources as they are now."""
    results = json.loads(path.read_text())["mutants"].values()
    return [mutant for result in results if result["survived"] and (mutant := _put_again(result)) is not None]


def _put_again(result: dict[str, Any]) -> Mutant | None:
    """Return a mutant of a former run, or None with a note where its line is no more."""
    source = (ROOT / result["path"]).read_text()
    parts = [[line[1:] for line in result["diff"].splitlines() if line[0] == sign] for sign in "-+"]
    before, after = ("\n".join(lines) + "\n" for lines in parts)
    places = [match.start() for match in re.finditer(f"^{re.escape(before)}", source, re.MULTILINE)]
    if not places:
        print(f"no more in {result['path']}:\n{before}", end="")
        return None
    at = min(places, key=lambda place: abs(source.count("\n", 0, place) + 1 - result["line"]))
    return Mutant(result["place"], result["path"], source, source[:at] + after + source[at + len(before) :])


@dataclass(eq=False)
class Coverage:
    """Record which test runs which lines of the files, and how long each test takes: a plugin of pytest."""

    files: list[str]
    seconds: dict[str, float] = field(default_factory=dict)
    lines: dict[str, dict[int, list[str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        import coverage

        self._coverage = coverage.Coverage(data_file=None, include=self.files)
        self._coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._coverage.switch_context(item.nodeid)
        began = time.monotonic()
        result = yield
        self.seconds[item.nodeid] = time.monotonic() - began
        self._coverage.switch_context("")
        return result

    def pytest_unconfigure(self) -> None:
        self._coverage.stop()
        data = self._coverage.get_data()
        self.lines = {file: data.contexts_by_lineno(file) for file in data.measured_files()}


@dataclass(eq=False)
class Order:
    """Run the chosen tests, the quickest first; before them those that were not measured: a plugin of pytest."""

    seconds: dict[str, float]
    chosen: set[str]
    failed: str = ""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.nodeid in self.chosen or item.nodeid not in self.seconds]
        items.sort(key=lambda item: self.seconds.get(item.nodeid, 0.0))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = self.failed or report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.pytest_runtest_logreport(report)  # type: ignore[arg-type]


class Laboratory:
    """A copy of the package, and a process that has imported all else, from which each run of tests is forked."""

    def __init__(self, folder: Path) -> None:
        self.package, self._log, self._cache = folder / "package", folder / "log", folder / "cache"
        ignored = shutil.ignore_patterns("__pycache__")
        to = self.package / "adapterkit"
        shutil.copytree(ROOT / "adapters", to, ignore=ignored)
        for name in ("plugins", "cli"):
            shutil.copytree(ROOT / name, to / name, ignore=ignored)
        # compiled files that hold the digest of their source, so that a mutated file alone is compiled anew
        compileall.compile_dir(to, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
        os.environ["PYTHONPATH"] = str(self.package)
        os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
        os.environ |= {"HF_DATASETS_CACHE": f"{self._cache}/datasets", "HF_ASSETS_CACHE": f"{self._cache}/assets"}
        os.environ["TMPDIR"] = f"{self._cache}/tmp"
        sys.path.insert(0, str(self.package))
        self.preload(THIRD_PARTY)

    def preload(self, names: Sequence[str]) -> None:
        """Import what every run of tests would import again."""
        for name in names:
            with contextlib.suppress(Exception):
                importlib.import_module(name)

    def _tests(self, place: str, plugin: Any) -> dict[str, Any]:
        """Run a place's tests in this process."""
        sys.dont_write_bytecode, tempfile.tempdir = True, None
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        paths = [str(ROOT / "tests" / name) for name in PLACES[place][1]]
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not slow"]
        code = int(pytest.main([*options, *paths], plugins=[plugin]))
        outcome: dict[str, Any] = {"code": code}
        if isinstance(plugin, Coverage):
            ours = ("adapterkit", "tests", "conftest", "__main__")
            outcome |= {"seconds": plugin.seconds, "lines": plugin.lines}
            outcome["modules"] = [name for name in sys.modules if name.split(".")[0] not in ours]
        else:
            outcome["failed"] = plugin.failed
        return outcome

    def run(self, place: str, plugin: Callable[[], Any], limit: float) -> dict[str, Any]:
        """Run a place's tests in a process of its own; return its exit code and what the plugin found."""
        shutil.rmtree(self._cache, ignore_errors=True)
        Path(os.environ["TMPDIR"]).mkdir(parents=True)
        answer = self._log.with_suffix(".json")
        answer.unlink(missing_ok=True)
        pid = os.fork()
        if not pid:
            os.setsid()
            with self._log.open("w") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
                answer.write_text(json.dumps(self._tests(place, plugin())))
                os._exit(0)  # nothing of the parent's is cleaned up here
        try:
            return self._wait(pid, answer, limit)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    def _wait(self, pid: int, answer: Path, limit: float) -> dict[str, Any]:
        began = time.monotonic()
        while not os.waitpid(pid, os.WNOHANG)[0]:
            if time.monotonic() - began > limit:
                os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return {"code": -1, "failed": f"no end after {limit:.0f} s"}
            time.sleep(0.05)
        return json.loads(answer.read_text()) if answer.exists() else {"code": -2, "failed": "the process died"}

    def measure(self, place: str) -> dict[str, Any]:
        """Run a place's tests on the package without a fault; return the lines and seconds of each test."""
        adapterkit = self.package / "adapterkit"
        files = [str(adapterkit / pattern.removeprefix("adapters/")) for pattern in PLACES[place][0]]
        measured = self.run(place, lambda: Coverage(files), 3600)
        if measured["code"]:
            sys.exit(f"the tests of {place} fail without a fault:\n{self._log.read_text()[-3000:]}")
        measured["lines"] = {str(Path(f).relative_to(adapterkit)): lines for f, lines in measured["lines"].items()}
        return measured

    def survives(self, mutant: Mutant, measured: dict[str, Any]) -> tuple[bool, str]:
        """Run the tests that a mutant meets; return whether they pass, and the first test that failed."""
        name = mutant.path.removeprefix("adapters/")
        file = self.package / "adapterkit" / name
        lines, seconds = measured["lines"].get(name, {}), measured["seconds"]
        statement = mutant.statement
        traced = [set(lines.get(str(line), ())) - {""} for line in (mutant.line, *statement)]
        chosen = traced[0] or set().union(*traced) if statement else set(seconds)  # an import runs what is outside
        chosen = chosen or {test for test in seconds if _starts_processes(test)}
        if not chosen:
            return True, "no test runs it"
        file.write_text(mutant.mutated)
        try:
            plugin = functools.partial(Order, seconds, chosen)
            outcome = self.run(mutant.place, plugin, 60 + 5 * sum(seconds[test] for test in chosen))
        finally:
            file.write_text(mutant.source)
        return outcome["code"] == 0, outcome["failed"] or f"exit code {outcome['code']}"


def _starts_processes(test: str) -> bool:
    """Return whether the file of a test starts processes, in which lines are run that weren't measured."""
    return "subprocess" in (ROOT / test.partition("::")[0]).read_text()


@dataclass
class Results:
    """The results so far, in a JSON file that is written after each mutant."""

    path: Path
    head: dict[str, Any]
    measured: dict[str, Any] = field(default_factory=dict)
    mutants: dict[str, dict[str, Any]] = field(default_factory=dict)

    def resume(self) -> None:
        """Go on from the file, if it has the results of the same sample."""
        if self.path.exists():
            stored = json.loads(self.path.read_text())
            if stored["head"] != self.head:
                sys.exit(f"{self.path} has the results of {stored['head']}, not of {self.head}; pass another --results")
            self.measured, self.mutants = stored["measured"], stored["mutants"]

    def write(self) -> None:
        beside = self.path.with_suffix(".part")
        beside.write_text(json.dumps(vars(self), indent=0, default=str))
        beside.replace(self.path)

    def table(self) -> str:
        """Return the counts by place and in total."""
        rows = [f"{'place':12} {'killed':>6} {'survived':>8}"]
        for place in PLACES:
            states = [result["survived"] for result in self.mutants.values() if result["place"] == place]
            rows += [f"{place:12} {states.count(False):6} {states.count(True):8}"] if states else []
        killed = sum(not result["survived"] for result in self.mutants.values())
        total = len(self.mutants)
        rows.append(f"seed {self.head['seed']}: {killed} of {total} mutants killed, {killed / max(1, total):.1%}")
        return "\n".join(rows)


def run(chosen: Sequence[Mutant], results: Results, numbers: Sequence[int]) -> None:
    """Run each mutant that has no result yet, place by place, and print and write its result."""
    with tempfile.TemporaryDirectory() as folder:
        laboratory, place = Laboratory(Path(folder)), ""
        for number, mutant in sorted(enumerate(chosen, start=1), key=lambda pair: pair[1].place):
            if str(number) in results.mutants or (numbers and number not in numbers):
                continue
            if mutant.place not in results.measured:
                results.measured[mutant.place] = laboratory.measure(mutant.place)
                print(f"{mutant.place}: {len(results.measured[mutant.place]['seconds'])} tests", flush=True)
            measured = results.measured[mutant.place]
            if place != mutant.place:
                laboratory.preload(measured["modules"])
                place = mutant.place
            began = time.monotonic()
            alive, why = laboratory.survives(mutant, measured)
            took = time.monotonic() - began
            result = {"place": place, "path": mutant.path, "line": mutant.line, "diff": mutant.diff}
            results.mutants[str(number)] = {**result, "survived": alive, "why": why, "seconds": round(took, 1)}
            results.write()
            state = "SURVIVED" if alive else "killed"
            print(f"{number:4} {state:8} {took:5.0f} s  {mutant.path}:{mutant.line}  {why[-90:]}", flush=True)
            if alive:
                print(mutant.diff, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--places", default=",".join(PLACES), help="of " + ", ".join(PLACES))
    parser.add_argument("--only", default="", help="numbers of the sample's mutants, as 3,17")
    parser.add_argument("--again", type=Path, help="instead of a sample, the survivors in this file of results")
    parser.add_argument("--results", type=Path, help="JSON file of results; a run that was stopped goes on from it")
    args = parser.parse_args()
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    head = {"commit": commit.stdout.strip(), "seed": args.seed, "count": args.count, "places": args.places}
    head |= {"again": str(args.again)} if args.again else {}
    with tempfile.TemporaryDirectory() as folder:
        results = Results(args.results or Path(folder, "results.json"), head)
        results.resume()
        chosen = again(args.again) if args.again else sample(args.count, args.seed, args.places.split(","))
        run(chosen, results, [int(number) for number in args.only.split(",") if number])
    print(f"\n{results.table()}")


if __name__ == "__main__":
    main()
