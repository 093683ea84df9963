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
    | {"peft_format", "peft_folder", "metrics", "vectors", "snapshot"}
    | {"batching", "rate", "gauges", "outlook", "feed", "given", "precision", "states", "remembered"}
    | {"processes", "planes", "sharding", "signals", "checkpoints", "tracking"},
    {"base", "added", "anatomy", "data", "kept", "strategies", "tasks", "incoming", "probe", "examples"},
    {"adapter", "registry", "fitting", "scaffold", "packages"},
    {"trunk", "solving", "evaluation", "pool", "merge", "peft_check", "peft_import", "exporting", "inventory"},
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
    ("tracking", "processes"),
    ("states", "processes"),
    ("probe", "base"),
    ("probe", "anatomy"),
    ("exporting", "merge"),
    ("base", "anatomy"),
    ("base", "added"),
    ("peft_import", "peft_check"),
}
ACROSS = {"errors", "options", "watch", "files", "adapter", "evaluation", "strategy", "settings"}


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


def test_nothing_loads_a_pickle() -> None:
    for folder in ("adapters", "plugins", "cli"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [a.name for a in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
                # the contract pickles a strategy's options, to see that it can be done, and loads nothing
                assert "pickle" not in names or path.name == "rules.py", path
                if isinstance(node, ast.Attribute) and node.attr in ("load", "loads"):
                    wrong = ("torch.load", "pickle.load", "pickle.loads", "joblib.load")
                    assert ast.unparse(node) not in wrong, path


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
    heavy = {"torch", "transformers", "datasets", "optuna"}
    code += f"\nimport sys; found = {heavy} & set(sys.modules); assert not found, found"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
