"""Artifacts that would harm: nothing in them is imported, run, unpickled or unpacked, and nothing beside them opened.

Python's own audit events are listened to, while a hostile artifact is used in the way in which a good one was before.
What is new then was caused by the artifact. `open` is allowed in the artifact's own folders, in the base's and in the
cache of features, and of files that the good one opened, too; the packages' own lists of entry points are read for
every kind that isn't installed.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from adapterkit import Adapter, AdapterkitError, Base, Registry, predict, run
from adapterkit.adapter.manifest import MANIFEST, PEFT_CONFIG, TENSORS
from adapterkit.discovery import patch_class
from adapterkit.errors import TrainingError
from adapterkit.io.atomic import json_bytes, sha256
from adapterkit.tasks import TextClassification, task_class
from adapterkit.training import checkpoints
from adapterkit.training.checkpoints import ABOUT, STATE, committed
from tests.fuzz import repaired
from tests.helpers import random_adapters as made
from tests.helpers.audit import RUNS, heard
from tests.helpers.resumable import Dies, plan

TEXTS = ["lovely food", "a dull film"]
TASK = TextClassification(
    text_column_name=("text",),
    label_column_name="label",
    labels=("neg", "pos"),
    problem_type="single_label_classification",
)
LOADED_BESIDE = ("pytorch_model.bin", "adapter_model.bin", "training_args.bin", "optimizer.pt", "scheduler.pt")
LOADED_BESIDE += ("random_states_0.pkl", "model.pt", "custom_checkpoint_0.pkl")
CODE = "import pathlib\npathlib.Path({mark!r}).touch()\n"


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


def bombs(mark: Path) -> dict[str, bytes]:
    """Return what people put beside tensors: pickles, code, templates, archives."""
    torch_file = io.BytesIO()
    torch.save({"weight": Bomb(mark)}, torch_file)
    pickled, code = pickle.dumps(Bomb(mark)), CODE.format(mark=str(mark)).encode()
    found = {name: torch_file.getvalue() if i % 2 else pickled for i, name in enumerate(LOADED_BESIDE)}
    found |= dict.fromkeys(("__init__.py", "modeling_evil.py", "sitecustomize.py", "conftest.py", "evil.pth"), code)
    template = "{{ ''.__class__.__mro__[1].__subclasses__() }}{% include '/etc/passwd' %}"
    config = {"auto_map": {"AutoModel": "modeling_evil.Evil"}, "architectures": ["Evil"], "chat_template": template}
    found |= {name: json_bytes(config) for name in ("config.json", "tokenizer_config.json", "generation_config.json")}
    found |= {
        "chat_template.jinja": template.encode(),
        "entry_points.txt": b"[adapterkit.patches]\nx = modeling_evil:E",
    }
    return found


def archives(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return the files as a zip and as a tar archive."""
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        for name, data in files.items():
            archive.writestr(f"../../{name}", data)
    with tarfile.open(fileobj=tarred, mode="w") as archive:
        for name, data in files.items():
            told = tarfile.TarInfo(f"../../{name}")
            told.size = len(data)
            archive.addfile(told, io.BytesIO(data))
    return {"zip": zipped.getvalue(), "tar": tarred.getvalue()}


Event = tuple[str, str]


def caused(events: list[tuple[str, tuple[Any, ...]]], places: list[Path]) -> set[Event]:
    """Return the events by which code comes in or out: imports, code run, processes, and files opened elsewhere."""
    found = set()
    for event, args in events:
        if event in ("import", "exec", "compile"):
            code = args[0] if event != "compile" else args[1]
            found.add((event, str(getattr(code, "co_filename", code))))
        elif event.startswith((*RUNS, "marshal.", "pickle.", "ctypes.", "code.", "shutil.unpack")):
            found.add((event, str(args)[:200]))
        elif event == "open" and not isinstance(args[0], int):
            path = Path(os.path.abspath(os.fsdecode(args[0])))
            if not any(path.is_relative_to(place) for place in places):
                found.add((event, str(path)))
    return found


def test_what_would_harm_is_heard(tmp_path: Path) -> None:
    (tmp_path / "heard_module.py").write_text("")
    with heard() as events, pytest.MonkeyPatch.context() as monkeypatch:
        pickle.loads(pickle.dumps(Bomb(tmp_path / "harmed")))
        eval("1 + 1")
        monkeypatch.syspath_prepend(tmp_path)
        __import__("heard_module")
        Path("/etc/passwd").read_bytes()
    found = {event for event, _ in caused(events, [tmp_path])}
    assert {"pickle.find_class", "os.system", "compile", "exec", "import", "open"} <= found
    assert (tmp_path / "harmed").exists()


@pytest.fixture
def lora(tiny_base: Base) -> dict[str, bytes]:
    return made.adapter(tiny_base, TASK, "lora", r=2).files()


def manifest_with(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, bytes], Path], dict[str, bytes]]:
    def hostile(files: dict[str, bytes], mark: Path) -> dict[str, bytes]:
        manifest = json.loads(files[MANIFEST])
        change(manifest)
        return {**files, MANIFEST: json_bytes(manifest)}

    return hostile


def first(manifest: dict[str, Any]) -> dict[str, Any]:
    patch: dict[str, Any] = next(iter(manifest["patches"].values()))
    return patch


def named(manifest: dict[str, Any]) -> None:
    evil = {"auto_map": {"AutoModel": "modeling_evil.Evil"}, "entry_points": {"x": "os:system"}, "module": "os"}
    manifest |= {**evil, "__class__": "os.system", "__reduce__": ["os.system", ["true"]], "py/object": "os.system"}
    manifest["strategy"] |= {**evil, "name": "os:system", "distribution": "modeling_evil"}


def peft_named(files: dict[str, bytes], mark: Path) -> dict[str, bytes]:
    config = json.loads(files[PEFT_CONFIG])
    config |= {
        "auto_mapping": {"parent_library": "modeling_evil", "base_model_class": "Evil"},
        "peft_type": "os:system",
    }
    return {**files, PEFT_CONFIG: json_bytes(config)}


HARMLESS: dict[str, Any] = {
    "pickles, code, templates and archives beside": lambda files, mark: {**bombs(mark), **archives(files), **files},
    "code named where nobody reads it": manifest_with(named),
    "code named in PEFT's file": peft_named,
}
REFUSED: dict[str, tuple[Any, str]] = {
    "a pickle as tensors": (lambda f, m: {**f, TENSORS: bombs(m)["pytorch_model.bin"]}, "not a safetensors file"),
    "torch.save as tensors": (lambda f, m: {**f, TENSORS: bombs(m)["adapter_model.bin"]}, "not a safetensors file"),
    "a zip as tensors": (lambda f, m: {**f, TENSORS: archives(f)["zip"]}, "not a safetensors file"),
    "a tar as tensors": (lambda f, m: {**f, TENSORS: archives(f)["tar"]}, "not a safetensors file"),
    "a pickle as manifest": (lambda f, m: {**f, MANIFEST: pickle.dumps(Bomb(m))}, "not an adapter's manifest"),
    "a kind of code": (
        manifest_with(lambda m: first(m).update(kind="os:system")),
        "no kind of patch named 'os:system'",
    ),
    "a task of code": (manifest_with(lambda m: m["task"].update(name="os:system")), "no task named 'os:system'"),
    "a class as option": (
        manifest_with(lambda m: m["task"]["options"].update(auto_class="os:system")),
        "no option named 'auto_class'",
    ),
    "a template": (
        manifest_with(lambda m: m["task"]["options"].update(chat_template="{{ ''.__class__ }}")),
        "no option named 'chat_template'",
    ),
    "a pickle named as a file": (
        manifest_with(lambda m: m["files"].update({"pytorch_model.bin": {"sha256": "0" * 64, "bytes": 1}})),
        "'pytorch_model.bin' is no file of an adapter",
    ),
    "a file elsewhere": (
        manifest_with(lambda m: m["files"].update({"../../../etc/passwd": {"sha256": "0" * 64, "bytes": 1}})),
        "'../../../etc/passwd' is no file of an adapter",
    ),
    "a module elsewhere": (
        manifest_with(lambda m: m["patches"].update({"../os": first(m)})),
        "'../os' is no module's name",
    ),
    "an attribute as module": (
        manifest_with(lambda m: m["patches"].update({"__class__": {**first(m), "tensors": []}})),
        "doesn't have",
    ),
    "code as probe": (
        manifest_with(lambda m: m.update(probe={"layers": "__import__('os')", "pooling": None})),
        "layers of a probe must be ascending numbers",
    ),
}


def put(files: dict[str, bytes], folder: Path) -> None:
    files = dict(files)
    repaired(files)
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)


@pytest.mark.parametrize("case", [*HARMLESS, *REFUSED])
def test_a_hostile_adapter_causes_nothing(
    case: str, lora: dict[str, bytes], tiny_base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "harmed"
    good, bad = tmp_path / "good", tmp_path / "bad"
    put(lora, good)
    hostile, message = (HARMLESS[case], "") if case in HARMLESS else REFUSED[case]
    put(hostile(lora, mark), bad)
    monkeypatch.chdir(bad)
    places = [tmp_path, Path(tiny_base.path).resolve()]
    wanted = predict(tiny_base, Adapter.load(good), TEXTS)
    with heard() as before:
        assert predict(tiny_base, Adapter.load(good), TEXTS) == wanted
        with pytest.raises(AdapterkitError, match="no kind of patch named"):
            patch_class("?")  # which reads what packages there are
        with pytest.raises(AdapterkitError, match="no task named"):
            task_class("?")
    with heard() as after:
        if message:
            with pytest.raises(AdapterkitError, match=message):
                predict(tiny_base, Adapter.load(bad), TEXTS)
        else:
            assert predict(tiny_base, Adapter.load(bad), TEXTS) == wanted
    assert ("open", str(bad / MANIFEST)) in {(e, str(args[0])) for e, args in after if e == "open"}
    assert not {event for event, _ in caused(before, places)} - {"exec", "compile", "open", "import"}
    assert caused(after, places) - caused(before, places) == set()
    assert not mark.exists()
    read = {Path(str(args[0])).name for event, args in after if event == "open" and str(args[0]).startswith(str(bad))}
    assert read <= {MANIFEST, TENSORS, PEFT_CONFIG}


# ---- checkpoints


def rewrite(path: Path, change: Callable[[dict[str, Any]], None], state: bytes | None = None) -> None:
    """Change a checkpoint and state the digests that it has then."""
    body = json.loads((path / ABOUT).read_bytes())["checkpoint"]
    if state is not None:
        (path / STATE).write_bytes(state)
        body["state"] = {"sha256": sha256(state), "bytes": len(state)}
    change(body)
    (path / ABOUT).write_bytes(json_bytes({"sha256": sha256(json_bytes(body)), "checkpoint": body}))


def unchanged(body: dict[str, Any]) -> None:
    pass


DAMAGED: dict[str, Callable[[Path, Path], None]] = {
    "a pickle": lambda path, mark: rewrite(path, unchanged, pickle.dumps(Bomb(mark))),
    "torch.save": lambda path, mark: rewrite(path, unchanged, bombs(mark)["adapter_model.bin"]),
    "an archive": lambda path, mark: rewrite(path, unchanged, archives(bombs(mark))["zip"]),
    "a file elsewhere": lambda path, mark: rewrite(path, lambda b: b["state"].update(bytes=["../../../etc/passwd"])),
    "another file": lambda path, mark: shutil.move(path / STATE, path / "x") and (path / STATE).symlink_to(path / "x"),
    "a best that isn't there": lambda path, mark: rewrite(path, lambda b: b["progress"].update(best=["os.system"])),
    "progress of code": lambda path, mark: rewrite(path, lambda b: b.update(progress="os.system")),
    "an identity of code": lambda path, mark: rewrite(path, lambda b: b.update(identity=["os.system"])),
}
UNFIT: dict[str, Callable[[dict[str, Any]], None]] = {
    "no random state": lambda body: body["progress"].pop("random"),
    "a position of code": lambda body: body["progress"]["position"].update(epoch="os.system"),
    "a position too many": lambda body: body["progress"]["position"].update(evil=1),
    "a position past the end": lambda body: body["progress"]["position"].update(epoch=99),
    "a rate of code": lambda body: body["progress"].update(learning_rate="__import__('os')"),
    "a scheduler of code": lambda body: body["progress"].update(scheduler="os.system"),
}


@pytest.mark.slow
def test_a_hostile_checkpoint_causes_nothing(
    tiny_folder: Callable[..., Path], small_csv: Path, tmp_path: Path, registry: Registry
) -> None:
    base = Base.load(str(tiny_folder()))
    options = plan(small_csv, base=base.path)
    with pytest.raises(KeyboardInterrupt):
        run(options, registry, base=base, watch=Dies(9))
    (folder,) = (tmp_path / "runs" / "dies").iterdir()
    shutil.copytree(folder, whole := tmp_path / "whole")
    mark = tmp_path / "harmed"
    places = [tmp_path, Path(base.path).resolve(), Path(os.environ["HF_DATASETS_CACHE"]).resolve()]

    def resumed(prepare: Callable[[Path], Any]) -> tuple[str, Dies, set[Event]]:
        """Go on with a run whose newest checkpoint was prepared; return what came of it, and what it caused."""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        prepare(committed(folder)[-1][2])
        watch = Dies()
        with heard() as events:
            try:
                result = run(options, registry, base=base, resume=True, watch=watch).version
            except TrainingError as error:
                result = str(error)
        return result, watch, caused(events, places)

    wanted, _, _ = resumed(lambda path: None)
    _, _, first_time = resumed(lambda path: rewrite(path, lambda body: body.pop("progress")))  # the one before is taken
    _, _, known = resumed(lambda path: None)
    known |= first_time
    assert not {event for event, _ in known} - {"exec", "compile", "open", "import"}

    def beside(path: Path) -> None:
        for name, data in bombs(mark).items():
            (path / name).write_bytes(data)

    result, watch, found = resumed(beside)
    assert (result, found - known) == (wanted, set())
    for case, harm in DAMAGED.items():
        result, watch, found = resumed(lambda path, harm=harm: harm(path, mark))
        assert any(" is damaged: " in line for line in watch.said), case
        assert (result, found - known) == (wanted, set()), case
    for case, change in UNFIT.items():
        result, watch, found = resumed(lambda path, change=change: rewrite(path, change))
        assert result.startswith("the checkpoint doesn't fit this run: "), (case, result)
        assert found - known == set(), case
    assert not mark.exists()
    assert checkpoints.processes_of(folder) == 1
