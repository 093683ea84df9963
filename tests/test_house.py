"""The house keeps its order: floors, names, and what is not imported."""

from __future__ import annotations

import ast
import functools
import graphlib
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import adapterkit

ROOT = Path(__file__).parent.parent
ORDER = [
    *["errors", "display", "options", "settings", "watch", "modules"],
    *["io", "execution", "cluster", "metrics", "patches"],
    *["strategy", "discovery"],
    *["base", "data", "tasks", "plugin_tools", "features", "probe"],
    *["adapter", "store", "evaluation", "training", "runtime", "pool", "convert", "workflows"],
    *["report", "comparison", "serving", "sklearn", "testing"],
]
"""The modules and folders of the package, bottom up: each imports only from those before it."""
FREE = ("__init__", "demo")


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path) -> set[str]:
    """Return the modules of the package that a file imports, wherever it does, TYPE_CHECKING included."""
    package = path.relative_to(ROOT / "adapters").parts[:-1]
    modules = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom) and node.level:
            home = package[: len(package) - node.level + 1]
            parent = ".".join((*home, *([node.module] if node.module else [])))
            for alias in node.names:
                deeper = f"{parent}.{alias.name}".lstrip(".")
                modules.add(deeper if exists(deeper) else parent)
    return modules


def exists(module: str) -> bool:
    path = ROOT / "adapters" / module.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").exists()


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT / "adapters").with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", sorted((ROOT / "adapters").rglob("*.py")), ids=module_of)
def test_a_file_imports_only_from_its_own_folder_and_those_below(path: Path) -> None:
    folder = module_of(path).partition(".")[0]
    if folder in FREE:
        return
    for other in {module.partition(".")[0] for module in imports(path)} - {folder}:
        assert ORDER.index(other) < ORDER.index(folder), f"{folder} imports {other}"


def test_no_two_files_import_each_other() -> None:
    files = [path for path in (ROOT / "adapters").rglob("*.py") if path.name != "__init__.py"]
    graph = {module_of(path): imports(path) for path in files}
    assert circle(graph) == []


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Return the nodes of a circle, or none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


SOURCES = [path for folder in ("adapters", "plugins", "cli", "tests") for path in sorted((ROOT / folder).rglob("*.py"))]


def sizes() -> tuple[dict[str, int], dict[str, int]]:
    """Return the lines of each file and of each function."""
    files, functions = {}, {}
    for path in SOURCES:
        name, text = path.relative_to(ROOT).as_posix(), path.read_text()
        files[name] = text.count("\n")
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                functions[f"{name}::{node.name}"] = (node.end_lineno or node.lineno) - node.lineno + 1
    return files, functions


def test_files_say_what_they_are_for_and_are_short(capsys: pytest.CaptureFixture[str]) -> None:
    for path in SOURCES:
        assert not path.read_text() or ast.get_docstring(parsed(path)), path
    files, functions = sizes()
    largest, longest = max(files, key=files.__getitem__), max(functions, key=functions.__getitem__)
    with capsys.disabled():
        print(f"\nlargest file: {largest}, {files[largest]} lines; longest function: {longest}, {functions[longest]}")
    assert files[largest] <= 400, largest
    strategies = {name: lines for name, lines in files.items() if name.startswith("plugins/")}
    assert max(strategies.values()) < 80, strategies


def test_tests_mirror_the_packages() -> None:
    """Each folder of tests has the name of the folder that it tests; helpers and fixtures belong to all of them."""
    packages = {path.name for path in (ROOT / "adapters").iterdir() if path.is_dir()} | {"cli", "plugins"}
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert folders <= packages, folders - packages


def test_no_test_imports_from_another() -> None:
    for path in (ROOT / "tests").rglob("*.py"):
        names = {n.module or "" for n in ast.walk(parsed(path)) if isinstance(n, ast.ImportFrom)}
        tests = {name for name in names if name.startswith("tests.") and name.rpartition(".")[2].startswith("test_")}
        assert not tests, (path, tests)


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
    ("cli/main.py", "importlib.import_module(f'adapterkit.cli.{name}')"),
    # the contract starts a second process with the strategy of its caller, and pickles options, but loads none
    ("adapters/testing/worker.py", "importlib.import_module(module)"),
    ("adapters/testing/rules.py", "import pickle"),
    # the safe loader, by libyaml where PyYAML has it
    ("adapters/data/readers/nlu.py", "yaml.load(text, Loader=getattr(yaml, 'CSafeLoader', yaml.SafeLoader))"),
}


def calls(path: Path) -> set[str]:
    """Return what a file does by which data could become code, as it is written; `model.eval()` is torch's."""
    found = set()
    for node in ast.walk(parsed(path)):
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


@pytest.mark.parametrize("stub", sorted((ROOT / "adapters").rglob("__init__.pyi")), ids=lambda p: p.parent.name)
def test_a_face_exports_names_that_exist_and_none_of_a_submodule(stub: Path) -> None:
    face = importlib.import_module(".".join(("adapterkit", *stub.parent.relative_to(ROOT / "adapters").parts)))
    submodules = {path.stem for path in stub.parent.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert not submodules & set(face.__all__)
    assert all(getattr(face, name) is not None for name in face.__all__)


@pytest.mark.parametrize(
    "code",
    [
        "import adapterkit",
        "from adapterkit.cli import main\nimport click\ntry: main(['--help'])\nexcept SystemExit: pass",
        "from adapterkit.cli import main\ntry: main(['strategies'])\nexcept SystemExit: pass",
        "from adapterkit.cli import main\ntry: main(['run', '--strategy', 'lora', '--help'])\nexcept SystemExit: pass",
        "from adapterkit.cli import main\ntry: main(['plan', '--strategy', 'lora', '--help'])\nexcept SystemExit: pass",
        "from adapterkit.cli import main\ntry: main(['tune', '--strategy', 'lora', '--help'])\nexcept SystemExit: pass",
        "from adapterkit.cli import main\ntry: main(['serve', '--help'])\nexcept SystemExit: pass",
    ],
    ids=["import", "help", "strategies", "run --help", "plan --help", "tune --help", "serve --help"],
)
def test_torch_is_not_imported_for(code: str) -> None:
    heavy = {"torch", "transformers", "datasets", "optuna", "huggingface_hub", "starlette", "uvicorn"}
    code += f"\nimport sys; found = {heavy} & set(sys.modules); assert not found, found"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
