"""The Python API: runs by keywords, rows in memory, adapters loaded by name, and results as they are shown."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pytest
import torch
import yaml
from click.testing import Result

import adapterkit as ak
from adapterkit import Base, Plan, Registry, Watch
from adapterkit.data.rows import as_rows
from adapterkit.errors import AdapterkitError
from adapterkit.workflows import progress

GOOD, BAD = ("lovely food", "a fine film", "great staff"), ("awful food", "a dull film", "rude staff")
ROWS = [
    {"text": f"{text} {i}", "label": label}
    for i in range(4)
    for label, texts in (("pos", GOOD), ("neg", BAD))
    for text in texts
]
QUICK = {"strategy": "head-only", "epochs": 1, "mixed_precision": "no"}


@pytest.fixture(scope="module")
def run(tiny_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a short run on rows in memory."""
    base = Base.load(str(tiny_folder()))
    where = tmp_path_factory.mktemp("registry") / "registry.json"
    return ak.run(train=ROWS, base=base, registry=where, watch=None, name="reviews", **QUICK)


def same(a: ak.Report, b: ak.Report) -> bool:
    return a.adapter.tensors.keys() == b.adapter.tensors.keys() and all(
        torch.equal(t, b.adapter.tensors[name]) for name, t in a.adapter.tensors.items()
    )


def test_keywords_are_the_flags_with_their_aliases(tiny_base: Base, registry: Registry, small_csv: Path) -> None:
    words = {"strategy": "lora", "train_file": str(small_csv), "r": 2}
    short = ak.run(base=tiny_base, registry=registry, watch=None, epochs=2, lr=1e-3, batch_size=4, **words)
    names = {"num_train_epochs": 2, "learning_rate": 1e-3, "per_device_train_batch_size": 4}
    plan = Plan.resolve({**words, **names, "base": tiny_base.name})
    assert same(short, ak.run(plan, registry, base=tiny_base))
    assert short.name == "rows-lora"
    assert yaml.safe_load(Path(short.folder, "run.yaml").read_text())["num_train_epochs"] == 2


def test_a_run_by_keywords_goes_to_the_registry_of_the_command_line(
    tiny_base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPT_REGISTRY", str(tmp_path / "mine.json"))
    ak.run(train=ROWS, base=tiny_base, watch=None, **QUICK)
    assert list(Registry(tmp_path / "mine.json").adapters()) == ["train-head-only"]
    assert ak.load("train-head-only", base=tiny_base).predict("fine")["label"] in ("pos", "neg")


FORMS: dict[str, Callable[[], Any]] = {
    "tuple of dicts": lambda: tuple(ROWS),
    "generator": lambda: (dict(row) for row in ROWS),
    "DataFrame": lambda: pd.DataFrame(ROWS, index=range(100, 124)),
    "categorical": lambda: pd.DataFrame(ROWS).astype({"label": "category"}),
    "Dataset": lambda: datasets.Dataset.from_list(ROWS),
    "ClassLabel": lambda: datasets.Dataset.from_list(ROWS).class_encode_column("label"),
    "IterableDataset": lambda: datasets.Dataset.from_list(ROWS).class_encode_column("label").to_iterable_dataset(),
    "Arrow": lambda: pa.Table.from_pylist(ROWS),
}


@pytest.mark.parametrize("form", FORMS)
def test_rows_in_memory_train_the_same_adapter_in_every_form(form: str, run: Any, tmp_path: Path) -> None:
    again = ak.run(
        train=FORMS[form](), base=run.base, registry=tmp_path / "r.json", watch=None, name="reviews", **QUICK
    )
    assert same(run, again)
    assert again.version == run.version  # the manifest holds the digest of the rows, which is the same


def test_a_file_and_the_same_rows_in_memory_train_the_same_adapter(run: Any, tmp_path: Path) -> None:
    pd.DataFrame(ROWS).to_csv(tmp_path / "rows.csv", index=False)
    of_file = ak.run(
        train_file=str(tmp_path / "rows.csv"), base=run.base, registry=tmp_path / "r.json", watch=None, **QUICK
    )
    assert same(run, of_file)


def test_validation_and_test_rows_in_memory_are_measured(run: Any, tmp_path: Path) -> None:
    sets = {"train": ROWS[6:], "validation": ROWS[:6], "test": pd.DataFrame(ROWS[:2] + ROWS[-2:])}
    report = ak.run(base=run.base, registry=tmp_path / "r.json", watch=None, **sets, **QUICK)
    assert {split: metrics["n"] for split, metrics in report.metrics.items()} == {"validation": 6, "test": 4}


def test_rows_in_memory_are_limited_and_bad_ones_skipped_as_those_of_files(run: Any, tmp_path: Path) -> None:
    rows = [*ROWS, {"text": "odd", "label": ["a"]}]
    more: dict[str, Any] = {"base": run.base, "registry": tmp_path / "r.json", "watch": None, **QUICK}
    with pytest.raises(ak.AdapterkitError, match=r"memory:train:25: label is"):
        ak.run(train=rows, **more)
    report = ak.run(train=rows, validation=ROWS, skip_bad_rows=True, max_train_samples=8, max_eval_samples=5, **more)
    assert report.adapter.manifest["data"]["splits"]["train"]["rows"] == 8
    assert report.metrics["validation"]["n"] == 5


def test_run_yaml_says_that_rows_were_in_memory_and_cant_repeat_them(
    run: Any, adapt: Callable[..., Result], tmp_path: Path
) -> None:
    run_file = Path(run.folder, "run.yaml")
    recorded = yaml.safe_load(run_file.read_text())["in_memory"]
    assert recorded["train"]["rows"] == 24
    assert len(recorded["train"]["sha256"]) == 64
    for words in (
        ["run", "--config", run_file],
        ["eval", "reviews", "--registry", Path(run.folder).parents[2] / "registry.json"],
    ):
        result = adapt(*words)
        assert result.exit_code == 2, result.output
        assert "were in memory (train 24 rows, SHA-256 " in result.stderr
    with pytest.raises(ak.AdapterkitError, match="--train-file"):
        ak.run(config=run_file)
    (tmp_path / "elsewhere").mkdir()
    again = ak.run(train=ROWS, config=run_file, base=run.base, registry=tmp_path / "elsewhere" / "r.json", watch=None)
    assert again.version == run.version
    pd.DataFrame(ROWS).to_csv(tmp_path / "rows.csv", index=False)
    result = adapt("run", "--config", run_file, "--train-file", "rows.csv")
    assert result.exit_code == 0, result.output
    assert yaml.safe_load(next(tmp_path.glob("store/*/*/run.yaml")).read_text()).get("in_memory") is None


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({"train": "rows.csv"}, "train must hold rows, got 'rows.csv'; for a file, give train_file='rows.csv'"),
        ({"train": Path("rows.csv")}, "for a file, give train_file='rows.csv'"),
        ({"train": ["a"]}, "memory:train:1: a dict of columns was expected, got str: 'a'"),
        ({"train": [{1: "a"}]}, "names of columns must be texts, got 1"),
        (
            {"train": {"text": ["a"]}},
            "train must be a datasets.Dataset, a pandas DataFrame or a list of dicts, got dict",
        ),
        ({"train": 3}, "got int"),
        ({"train": []}, "memory:train: no rows"),
        ({"test": ROWS}, "test rows without train rows; give train=, the rows to learn from"),
        ({"train": ROWS, "train_file": "a.csv"}, "train= (rows in memory) and train_file='a.csv': give one of them"),
        ({"epoch": 3}, "did you mean 'epochs'?"),
        ({"plan": "lora"}, "run takes options by keyword, as in strategy='lora', or a Plan; got 'lora'"),
        ({"plan": Plan.resolve({}), "epochs": 3}, "got both: a Plan and epochs="),
        ({"plan": Plan.resolve({}), "train": ROWS}, "got both: a Plan and train="),
        ({"plan": Plan.resolve({}), "base": "minilm"}, "base= takes a loaded one here, got 'minilm'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_run_cant_take_is_an_error_of_one_line(words: dict[str, Any], text: str, tmp_path: Path) -> None:
    with pytest.raises(ak.AdapterkitError) as caught:
        ak.run(registry=tmp_path / "r.json", watch=None, **words)
    assert text in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_option_of_a_base_beside_a_loaded_one_is_refused(tiny_base: Base) -> None:
    with pytest.raises(ak.AdapterkitError, match="revision='x' is an option for a base by name"):
        ak.run(base=tiny_base, revision="x")


def test_an_adapter_is_loaded_by_name_tag_version_and_folder_with_its_base(run: Any) -> None:
    where = Registry(Path(run.folder).parents[2] / "registry.json")
    where.tag("reviews", "prod")
    wanted = run.predict(["a fine film", "rude"])
    for name in ("reviews", "reviews@prod", f"reviews@{run.version}", Path(run.folder)):
        model = ak.load(name, registry=where.path)
        assert model.predict(["a fine film", "rude"]) == wanted
        assert model.metrics == run.metrics
    assert ak.load("reviews", registry=where, base=run.base).base is run.base
    with pytest.raises(ak.AdapterkitError, match="did you mean 'reviews'"):
        ak.load("review", registry=where)


def test_a_registry_opens_by_a_text(run: Any) -> None:
    where = str(Path(run.folder).parents[2] / "registry.json")
    assert Registry(where) == Registry(Path(where))  # type: ignore[arg-type]
    assert Registry(where).load("reviews").tensors.keys() == run.adapter.tensors.keys()  # type: ignore[arg-type]


def test_an_adapter_on_another_base_is_refused_or_moved(run: Any, tiny_folder: Callable[..., Path]) -> None:
    other = str(tiny_folder("bert", 1))
    with pytest.raises(ak.AdapterkitError, match="trained on base"):
        ak.load(Path(run.folder), base=other)
    moved = ak.load(Path(run.folder), base=other, allow_base_mismatch=True)
    assert moved.adapter.mismatch
    assert moved.predict("hello")["label"] in ("pos", "neg")


def test_labelled_rows_are_evaluated_from_memory_and_from_a_file(run: Any, tmp_path: Path) -> None:
    pd.DataFrame(ROWS).to_csv(tmp_path / "rows.csv", index=False)
    in_memory, of_file = run.model.evaluate(ROWS), run.model.evaluate(tmp_path / "rows.csv")
    assert in_memory.metrics == of_file.metrics
    right = sum(answer["label"] == row["label"] for answer, row in zip(run.predict(ROWS), ROWS, strict=True))
    assert in_memory.metrics.values["accuracy"] == right / 24
    with pytest.raises(ak.AdapterkitError, match="label"):
        run.model.evaluate([{"text": "a"}])


# ---- rows to answer


def test_a_text_alone_is_a_text(run: Any) -> None:
    answers = ak.predict(run.base, run.adapter, ["hello", "bye"])
    assert ak.predict(run.base, run.adapter, "hello") == ak.predict(run.base, run.adapter, ["hello"])[0]
    assert [answer.keys() for answer in answers] == [{"label", "score"}] * 2
    assert ak.predict(run.base, run.adapter, {"text": "hello"}) == ak.predict(run.base, run.adapter, "hello")
    assert ak.predict(run.base, run.adapter, []) == []


@pytest.mark.parametrize(
    "rows",
    [
        ["a", "b"],
        ("a", "b"),
        iter(["a", "b"]),
        pd.Series(["a", "b"]),
        pd.Series(["a", "b"]).to_numpy(),
        pd.DataFrame({"text": ["a", "b"]}),
        datasets.Dataset.from_dict({"text": ["a", "b"]}),
        [{"text": "a"}, {"text": "b"}],
    ],
    ids=["list", "tuple", "iterator", "Series", "array", "DataFrame", "Dataset", "dicts"],
)
def test_rows_are_taken_in_every_form(rows: Any, run: Any) -> None:
    answers = run.predict(rows)
    assert [a["label"] for a in answers] == [a["label"] for a in run.predict(["a", "b"])]


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (Path("a.csv"), "texts or rows were expected, got the path 'a.csv'"),
        (3, "a text, a dict, or a list or data frame of them was expected, got int"),
        (None, "got None"),
        (b"a", "got bytes"),
        ([("a", "b")], "row 1: a text or a dict was expected, got tuple"),
        (["a", {"text": "b"}], "not a text among rows"),
        (["a", None], "row 2: a text or a dict was expected, got None"),
    ],
)
def test_other_rows_are_an_error_of_one_line(rows: Any, text: str, run: Any) -> None:
    with pytest.raises(ak.AdapterkitError) as caught:
        run.predict(rows)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_data_frame_is_its_rows_without_the_index() -> None:
    frame = pd.DataFrame({"text": ["a", None], "n": [1, 2]}, index=["x", "y"])
    assert as_rows(frame) == ([{"text": "a", "n": 1}, {"text": None, "n": 2}], False)


# ---- what is shown


def test_a_result_is_shown_in_a_line_and_in_html(run: Any) -> None:
    assert repr(run).startswith(f"<Report reviews@{run.version}: accuracy ")
    assert repr(run.model).startswith(f"<AdaptedModel reviews@{run.version} on ")
    for shown in (run, run.model):
        assert len(repr(shown)) < 250
        assert shown._repr_html_().count("<tr>") == 1 + len(run.metrics["cross-validation"]) - 2
    odd = ak.Report(**{**vars(run), "name": "<script>"})
    assert "<script>" not in odd._repr_html_()


def test_an_adapter_a_base_and_a_registry_are_shown_without_their_tensors(run: Any) -> None:
    where = Registry(Path(run.folder).parents[2] / "registry.json")
    for shown in (run.adapter, run.base, where):
        assert len(repr(shown)) < 250
    assert "head-only" in repr(run.adapter)
    assert "accuracy" in run.adapter._repr_html_()
    assert f"<td style='text-align:left'>{run.version}</td>" in where._repr_html_()
    assert repr(ak.Adapter({}, {})).startswith("<Adapter task ?")


def test_a_report_is_plain_without_what_holds_tensors(run: Any) -> None:
    plain = run.plain()
    assert not {"adapter", "base"} & plain.keys()
    assert plain["name"] == "reviews"


class Terminal:
    """A standard error that is a terminal, and isn't."""

    def __init__(self, is_terminal: bool) -> None:
        self.is_terminal, self.text = is_terminal, ""

    def isatty(self) -> bool:
        return self.is_terminal

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


@pytest.mark.parametrize(("is_terminal", "kind"), [(True, progress.TerminalWatch), (False, Watch)])
def test_progress_shows_by_itself_on_a_terminal_alone(
    is_terminal: bool, kind: type[Watch], run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", stderr := Terminal(is_terminal))
    assert type(progress.auto_watch()) is kind
    options: Mapping[str, Any] = {"train": ROWS, "base": run.base, "registry": tmp_path / "r.json", **QUICK}
    ak.run(**options)
    assert ("head-only" in stderr.text) is is_terminal
    stderr.text = ""
    ak.run(watch=None, **options)
    ak.run(watch=Watch(), **options)
    assert stderr.text == ""


def test_progress_shows_in_a_notebook(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shell = type("Shell", (), {"kernel": object()})()
    module = type("IPython", (), {"get_ipython": staticmethod(lambda: shell), "version_info": (9, 0)})
    monkeypatch.setitem(__import__("sys").modules, "IPython", module)
    assert type(progress.auto_watch()) is progress.NotebookWatch


def test_a_notebooks_watch_draws_nested_bars(capsys: pytest.CaptureFixture[str]) -> None:
    watch = progress.NotebookWatch()
    with watch.bar("outer", 2) as outer:
        outer.advance(1, loss=0.5)
        with watch.bar("inner", 1) as inner:
            inner.advance()
        watch.note("data", "a remark")
        outer.advance()
    shown = capsys.readouterr()
    assert "loss 0.5" in shown.err
    assert "inner" in shown.err
    assert "data       a remark" in shown.out
    assert not watch.bars


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ak.load(5), "adapter must be a name, or a Path to a folder, got int 5"),  # type: ignore[arg-type]
        (lambda: ak.load("a", base=5), "base must be a name, a folder or a loaded Base, got int 5"),  # type: ignore[arg-type]
        (lambda: ak.load("a", registry=5), "a registry is the path of a registry.json, got int 5"),  # type: ignore[arg-type]
        (lambda: ak.run(strategy="lora", base=5), "base must be a name, a folder or a loaded Base, got int 5"),  # type: ignore[arg-type]
        (lambda: ak.run(strategy="lora", watch=5), "watch must be a Watch, 'auto' or None, got 5"),  # type: ignore[arg-type]
        (lambda: ak.run(config=5), "config must be a mapping or the path of a YAML file, got int 5"),  # type: ignore[arg-type]
        (lambda: Base.load(5), "a base is a name, a folder or a Hub id, got int 5"),  # type: ignore[arg-type]
    ],
)
def test_a_value_of_another_type_is_one_line(call: Callable[[], object], message: str, tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path), pytest.raises(AdapterkitError, match=re.escape(message)):
        call()
    assert list(tmp_path.iterdir()) == []


def test_a_base_is_a_path_too(tiny_folder: Callable[..., Path]) -> None:
    assert Base.load(tiny_folder()).path == str(tiny_folder())


def test_the_signature_names_what_a_run_takes() -> None:
    assert list(inspect.signature(ak.run).parameters)[:6] == ["plan", "registry", "base", "train", "validation", "test"]
