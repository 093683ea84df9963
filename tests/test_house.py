"""The house keeps its order: floors, names, and what is not imported."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import adapterkit

ROOT = Path(__file__).parent.parent
FLOORS = [
    {
        "errors",
        "options",
        "settings",
        "modules",
        "patch",
        "inserted",
        "peft_layer",
        "strategy",
        "watch",
        "files",
        "readers",
    }
    | {"reading", "tensorfile", "manifest"}
    | {"peft_format", "peft_folder", "metrics", "vectors", "snapshot"}
    | {"batching", "rate", "gauges", "outlook", "feed", "given", "precision", "states", "remembered"}
    | {"processes", "planes", "encodings", "sharding", "signals", "checkpoints", "tracking", "fingerprint", "cards"}
    | {"index", "stored"},
    {"base", "added", "anatomy", "data", "kept", "strategies", "tasks", "incoming", "probe", "examples"} | {"records"},
    {"adapter", "registry", "fitting", "hub", "scaffold", "packages"},
    {"sharing", "upkeep", "differences"},
    {"trunk", "solving", "evaluation", "pool", "merge", "compress", "peft_check", "peft_import", "exporting"}
    | {"inventory"},
    {"underway"},
    {"position"},
    {"groups"},
    {"stepping"},
    {"looping"},
    {"training"},
    {"workflow", "answering"},
    {"planning", "search"},
    {"tuning"},
    {"testing"},
]
SIDEWAYS = {
    ("patch", "modules"),
    ("inserted", "patch"),
    ("peft_layer", "patch"),
    ("strategy", "modules"),
    ("strategy", "patch"),
    ("tasks", "data"),
    ("tasks", "base"),
    ("tasks", "strategies"),
    ("data", "kept"),
    ("signals", "processes"),
    ("checkpoints", "planes"),
    ("encodings", "patch"),
    ("encodings", "planes"),
    ("encodings", "tensorfile"),
    ("tracking", "processes"),
    ("states", "processes"),
    ("probe", "base"),
    ("probe", "anatomy"),
    ("stored", "index"),
    ("exporting", "merge"),
    ("base", "anatomy"),
    ("base", "added"),
    ("peft_import", "peft_check"),
    ("registry", "hub"),
}
ACROSS = {"errors", "options", "watch", "files", "adapter", "evaluation", "strategy", "settings"}
ACROSS |= {"reading", "tensorfile", "manifest"}


def imports(path: Path) -> set[str]:
    """Return the modules of the package that a file imports, wherever it does."""
    package = path.relative_to(ROOT / "adapters").parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            home = package[: len(package) - node.level + 1]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {".".join((*home, name)).partition(".")[0] for name in names}
    return found


def floor(module: str) -> int:
    return next(i for i, modules in enumerate(FLOORS) if module in modules)


@pytest.mark.parametrize("path", sorted((ROOT / "adapters").rglob("*.py")), ids=lambda p: p.name)
def test_a_file_imports_only_from_its_own_floor_and_below(path: Path) -> None:
    module = path.relative_to(ROOT / "adapters").parts[0].removesuffix(".py")
    if module in ("__init__", "demo"):
        return
    for other in imports(path) - {module}:
        assert floor(other) <= floor(module), f"{module} imports {other}"
        if floor(other) == floor(module):
            assert other in ACROSS or (module, other) in SIDEWAYS, f"{module} and {other} are on one floor"


def test_no_two_modules_import_each_other() -> None:
    graph: dict[str, set[str]] = {}
    for path in (ROOT / "adapters").rglob("*.py"):
        module = path.relative_to(ROOT / "adapters").parts[0].removesuffix(".py")
        if module not in ("__init__", "demo"):
            graph.setdefault(module, set()).update(imports(path) - {module})
    reached = {module: set(others) for module, others in graph.items()}
    for _ in graph:
        for others in reached.values():
            others.update(*(reached.get(other, ()) for other in tuple(others)))
    assert [module for module, others in reached.items() if module in others] == []


def test_the_core_knows_no_plugin_and_no_command_line() -> None:
    for path in (ROOT / "adapters").rglob("*.py"):
        text = path.read_text()
        assert "adapterkit.plugins" not in text, path
        assert "import click" not in text, path


RUNS = ("exec", "eval", "compile", "__import__", "import_module", "run_path", "run_module", "system", "popen", "Popen")
RUNS += ("Unpickler", "find_class", "loads", "unpack_archive", "extractall")
HARMLESS = ("re.compile", "json.loads", "torch.compile")
LOADERS = ("yaml", "torch", "pickle", "dill", "joblib", "marshal", "shelve")
ALLOWED = {  # modules of the package, which the package itself names
    ("adapters/__init__.py", "importlib.import_module(f'.{_HOMES[name]}', __name__)"),
    ("adapters/testing/__init__.py", "importlib.import_module(f'.{_HOMES[name]}', __name__)"),
    ("cli/main.py", "importlib.import_module(f'adapterkit.cli.{name}')"),
    # the contract starts a second process with the strategy of its caller, and pickles options, but loads none
    ("adapters/testing/worker.py", "importlib.import_module(module)"),
    ("adapters/testing/rules.py", "import pickle"),
}


def calls(path: Path) -> set[str]:
    """Return what a file does by which data could become code, as it is written; `model.eval()` is torch's."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom) and "pickle" in ast.unparse(node):
            found.add(ast.unparse(node))
        if isinstance(node, ast.Call) and (node.args or node.keywords or "extract" in ast.unparse(node.func)):
            whole = ast.unparse(node.func)
            of, last = whole.partition(".")[0], whole.rpartition(".")[2]
            loads = of in LOADERS and last in ("load", "load_all", "full_load", "unsafe_load")
            if whole not in HARMLESS and (loads or last in RUNS):
                found.add(ast.unparse(node))
    return found


def test_no_data_becomes_code() -> None:
    for folder in ("adapters", "plugins", "cli"):
        for path in (ROOT / folder).rglob("*.py"):
            where = str(path.relative_to(ROOT))
            own = where == "adapters/testing/runs.py"  # which starts Python on a module of its own
            found = {call for call in calls(path) if not (own and call.startswith("subprocess.Popen("))}
            assert {(where, call) for call in found} <= ALLOWED, path


@pytest.mark.parametrize("code", ["exec(x)", "eval(x)", "__import__(x)", "os.system(x)", "import pickle"])
def test_what_makes_code_of_data_is_found(code: str, tmp_path: Path) -> None:
    more = ["yaml.load(x)", "yaml.full_load(x)", "pickle.loads(x)", "torch.load(x)", "archive.extractall()"]
    (tmp_path / "a.py").write_text("\n".join([code, *more, "model.eval()", "re.compile(x)", "yaml.safe_load(x)"]))
    assert calls(tmp_path / "a.py") == {code, *more}


def test_all_is_what_there_is() -> None:
    assert sorted(adapterkit.__all__) == adapterkit.__all__
    for name in adapterkit.__all__:
        assert getattr(adapterkit, name).__name__ == name


@pytest.mark.parametrize(
    "code",
    [
        "import adapterkit",
        "from adapterkit.cli import main\nimport click\ntry: main(['--help'])\nexcept SystemExit: pass",
        "from adapterkit.cli import main\ntry: main(['strategies'])\nexcept SystemExit: pass",
        "from adapterkit.cli import main\ntry: main(['run', '--strategy', 'lora', '--help'])\nexcept SystemExit: pass",
        "from adapterkit.cli import main\ntry: main(['plan', '--strategy', 'lora', '--help'])\nexcept SystemExit: pass",
        "from adapterkit.cli import main\ntry: main(['tune', '--strategy', 'lora', '--help'])\nexcept SystemExit: pass",
    ],
    ids=["import", "help", "strategies", "run --help", "plan --help", "tune --help"],
)
def test_torch_is_not_imported_for(code: str) -> None:
    heavy = {"torch", "transformers", "datasets", "optuna", "huggingface_hub"}
    code += f"\nimport sys; found = {heavy} & set(sys.modules); assert not found, found"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
