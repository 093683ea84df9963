"""Adapters go to the Hub and come back byte for byte; what is damaged, or no Hub, is one line and registers nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from adapterkit import Adapter, Base, Pool, Registry, predict
from adapterkit.adapter.model_card import card
from adapterkit.errors import HubError
from adapterkit.io.atomic import sha256
from adapterkit.store.hub_client import masked
from adapterkit.store.version_files import entry_of
from adapterkit.tasks.text_classification import TextClassification
from tests.helpers import random_adapters as made
from tests.helpers.hub_server import Hub

TOKEN = "hf_" + "secret" * 5
TASK = TextClassification(labels=("neg", "pos")).with_columns(["text", "label"])

Said = tuple[int, str, str]
Command = Callable[..., Said]

DRIVER = """
import json, os, sys
from click.testing import CliRunner
from adapterkit.cli import main
for line in sys.stdin:
    given = json.loads(line)
    os.chdir(given["folder"])
    done = CliRunner().invoke(main, given["words"], prog_name="adapt")
    print(json.dumps([done.exit_code, done.stdout, done.stderr]), file=sys.__stdout__, flush=True)
"""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Hub]:
    with Hub().running() as server:
        yield server


@pytest.fixture(scope="module")
def server(elsewhere: Hub) -> Iterator[Hub]:
    """Run a Hub that keeps tensors as large files, on another host."""
    with Hub(lfs=True).running() as server:
        server.elsewhere = elsewhere.url.replace("127.0.0.1", "localhost")
        elsewhere.large = server.large
        yield server


@pytest.fixture(scope="module")
def driver(server: Hub) -> Iterator[Callable[[Path, list[str]], Said]]:
    """Run commands in one process of their own, whose Hub is the server: the Hub's library reads that at import."""
    env = {**os.environ, "HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": "0", "HF_TOKEN": TOKEN}
    env |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1,localhost"}
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER], env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def run(folder: Path, words: list[str]) -> Said:
        print(json.dumps({"folder": str(folder), "words": words}), file=stdin, flush=True)
        code, out, err = json.loads(stdout.readline())
        return code, out, err

    yield run
    stdin.close()
    assert process.wait() == 0
    stdout.close()


@pytest.fixture
def hub(driver: Callable[[Path, list[str]], Said], tmp_path: Path) -> Command:
    def run(*words: object) -> Said:
        code, out, err = driver(tmp_path, [str(word) for word in words])
        assert TOKEN not in out + err
        return code, out, err

    return run


@pytest.fixture
def refused(hub: Command, registry: Registry) -> Callable[..., str]:
    """Return a function that runs a command that fails, and returns the one line that it says."""

    def run(*words: object) -> str:
        before = registry.adapters()
        code, out, err = hub(*words)
        assert (code, out) == (2, ""), out
        assert err.startswith("Error: ")
        assert err.count("\n") == 1
        assert registry.adapters() == before
        assert [p for p in registry.store.glob("*/*") if p.parent.name not in before] == []
        return err

    return run


@pytest.fixture
def adapter(tiny_base: Base) -> Adapter:
    return made.adapter(tiny_base, TASK)


@pytest.fixture
def version(adapter: Adapter, registry: Registry) -> str:
    """Register an adapter `mine`, and return its version."""
    files = adapter.files()
    files |= {"README.md": card("mine", files["adapter.json"]), "run.yaml": b"train_file: /home/me/rows.csv\n"}
    return registry.add("mine", files, entry_of(adapter.manifest, 1))


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "entry.json"}


def other(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "other" / "registry.json")


def test_what_is_pushed_and_pulled_is_the_same_to_the_byte(
    hub: Command, server: Hub, elsewhere: Hub, version: str, registry: Registry, tiny_base: Base, tmp_path: Path
) -> None:
    code, out, _ = hub("push", "mine", "me/mine", "--private", "--message", "the first")
    repo = server.repos["me/mine"]
    commit = repo.commit("main")
    assert (code, out) == (
        0,
        f"pushed     mine to {server.url}/me/mine, commit {commit}; adapt pull me/mine fetches it\n",
    )
    assert repo.private
    assert repo.messages == ["the first"]
    mine = contents(registry.folder("mine", version))
    assert repo.branches["main"] == {name: data for name, data in mine.items() if name != "run.yaml"}
    there = other(tmp_path)
    code, out, err = hub("pull", "me/mine", "--registry", there.path, "--json")
    assert code == 0, err
    assert json.loads(out)["version"] == version
    assert contents(there.folder("mine", version)) == repo.branches["main"]
    entry = there.adapters()["mine"]["versions"][version]
    assert entry["hub"] == {"repo": "me/mine", "revision": commit}
    assert there.rebuild()[0]["mine"]["versions"][version] == entry
    assert predict(tiny_base, there.load("mine"), ["fine"]) == predict(tiny_base, registry.load("mine"), ["fine"])
    assert {token for _, path, token in server.asked if path.startswith("/me/mine/resolve")} == {f"Bearer {TOKEN}"}
    assert [token for _, path, token in elsewhere.asked if path.startswith("/large")] == [None]  # not the token's host


def test_a_branch_is_made_and_pulled_by_another_name(
    hub: Command, server: Hub, version: str, registry: Registry, tmp_path: Path
) -> None:
    assert hub("push", "mine", "me/branches", "--revision", "v2")[0] == 0
    assert server.repos["me/branches"].branches["main"] == {}
    code, out, _ = hub("pull", "me/branches", "--revision", "v2", "--name", "theirs")
    assert code == 0
    assert f"theirs@{version} from me/branches at {server.repos['me/branches'].commit('v2')}" in out
    assert "run.yaml" in contents(registry.folder("mine", version))  # what was there is as it was


def test_a_lazy_adapter_is_fetched_when_it_is_first_used(
    hub: Command, server: Hub, version: str, registry: Registry, small_csv: Path, tmp_path: Path
) -> None:
    hub("push", "mine", "me/lazy")
    there = other(tmp_path)
    assert hub("pull", "me/lazy", "--lazy", "--registry", there.path)[0] == 0
    assert contents(there.folder("lazy", version)).keys() == {"adapter.json"}
    assert there.rebuild()[0]["lazy"]["versions"][version]["hub"]["repo"] == "me/lazy"
    code, out, err = hub("predict", "lazy", "a fine film", "--registry", there.path, "--json")
    assert code == 0, err
    assert json.loads(out)[0]["label"] in TASK.labels
    assert contents(there.folder("lazy", version)).keys() == set(server.repos["me/lazy"].branches["main"])
    asked = len(server.asked)
    assert hub("predict", "lazy", "a fine film", "--registry", there.path)[0] == 0
    assert len(server.asked) == asked  # it is there now


def test_an_index_alone_brings_its_adapters_and_verifies_them(
    hub: Command, refused: Callable[..., str], server: Hub, version: str, registry: Registry, tmp_path: Path
) -> None:
    hub("push", "mine", "me/index")
    there = other(tmp_path)
    hub("pull", "me/index", "--registry", there.path)
    index = there.path.read_text()
    for content in (index, index.replace(version, "0" * 16)):
        fresh = Registry(tmp_path / f"fresh-{content == index}" / "registry.json")
        fresh.path.parent.mkdir()
        fresh.path.write_text(content)
        words = ("predict", "index", "a fine film", "--registry", fresh.path)
        if content == index:
            assert hub(*words)[0] == 0
            assert contents(fresh.folder("index", version)) == contents(there.folder("index", version))
        else:
            assert f"'me/index' holds version {version} at" in refused(*words)


def test_a_pool_fetches_what_it_is_asked_for(
    hub: Command, version: str, registry: Registry, tiny_base: Base, tmp_path: Path
) -> None:
    """Offline, as this process is: the pool's error is the fetch's."""
    hub("push", "mine", "me/pool")
    there = other(tmp_path)
    hub("pull", "me/pool", "--lazy", "--registry", there.path)
    with (
        Pool(tiny_base, registry=there) as pool,
        pytest.raises(HubError, match="HF_HUB_OFFLINE is set, so 'me/pool' on the Hub is out of reach; unset it"),
    ):
        pool.predict("fine", "pool")


@pytest.mark.parametrize("words", [("push", "mine", "me/mine"), ("pull", "me/mine")], ids=["push", "pull"])
def test_offline_is_one_line_that_says_so(words: tuple[str, ...], adapt: Callable[..., Result], version: str) -> None:
    done = adapt(*words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "Error: HF_HUB_OFFLINE is set, so 'me/mine' on the Hub is out of reach; unset it\n"


def put(server: Hub, repo: str, files: dict[str, bytes]) -> None:
    from tests.helpers.hub_server import Repo

    server.repos[repo] = Repo(branches={"main": files})


def edited(adapter: Adapter, change: Callable[[dict[str, Any]], Any]) -> dict[str, bytes]:
    """Return an adapter's files, its manifest changed."""
    files = adapter.files()
    manifest = json.loads(files["adapter.json"])
    change(manifest)
    return {**files, "adapter.json": json.dumps(manifest).encode()}


def test_a_tampered_file_is_refused(refused: Callable[..., str], server: Hub, adapter: Adapter) -> None:
    name = "adapter_model.safetensors"
    files = adapter.files()
    put(server, "me/bit", {**files, name: files[name][:-1] + bytes([files[name][-1] ^ 1])})
    put(server, "me/short", {**files, name: files[name][:-1]})
    put(server, "me/long", {**files, name: files[name] + b"\0"})
    for repo in ("me/bit", "me/short", "me/long"):
        server.large.update({sha256(d): d for d in server.repos[repo].branches["main"].values()})
    assert f"me/bit: {name} is damaged or was edited" in refused("pull", "me/bit")
    assert f"me/short: {name} is damaged or was edited" in refused("pull", "me/short")
    size = len(files[name])
    assert f"'me/long': {name} has {size + 1:,} bytes, and {size:,} at most" in refused("pull", "me/long")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda m: m["files"].update({"../evil.py": {"sha256": "", "bytes": 1}}),
            "'../evil.py' is no file of an adapter",
        ),
        (
            lambda m: m["files"]["adapter_model.safetensors"].update(bytes=10**15),
            "1,000,000,000,000,000 bytes by its manifest, for",
        ),
        (lambda m: m["files"]["adapter_model.safetensors"].update(bytes=-1), "bytes must be an integer >= 0, got -1"),
        (lambda m: m.update(files=3), "is not an adapter's manifest"),
        (lambda m: m.pop("metrics"), "metrics is missing"),
        (lambda m: m.update(metrics={"test": 3}), "metrics['test'] must be an object, got 3"),
    ],
)
def test_a_manifest_that_can_not_be_is_refused(
    change: Callable[[dict[str, Any]], Any],
    message: str,
    refused: Callable[..., str],
    server: Hub,
    adapter: Adapter,
    tmp_path: Path,
) -> None:
    server.lfs = False
    put(server, "me/odd", edited(adapter, change))
    try:
        assert message in refused("pull", "me/odd")
    finally:
        server.lfs = True
    assert not list(tmp_path.parent.rglob("evil.py"))


def test_what_else_lies_in_a_repository_is_not_looked_at(hub: Command, server: Hub, adapter: Adapter) -> None:
    server.lfs = False
    put(server, "me/full", {**adapter.files(), "../../evil.py": b"x", "pickle.bin": b"x", "entry.json": b"x"})
    try:
        assert hub("pull", "me/full")[0] == 0
    finally:
        server.lfs = True
    asked = [path.rpartition("/")[2] for _, path, _ in server.asked if "/me/full/" in path]
    assert sorted(asked) == ["adapter.json", "adapter_config.json", "adapter_model.safetensors"]


@pytest.mark.parametrize(
    ("owner", "message"),
    [
        ("unknown", "no repository 'unknown/x' that you may see (401)"),
        ("forbidden", "your token doesn't allow this for 'forbidden/x' (403)"),
        ("missing", "no repository 'missing/x' (404): check the name"),
        ("busy", "'busy/x' was changed by another at the same time (409): try again"),
        ("limited", "the Hub can't answer for 'limited/x' now (429): try again later"),
        ("odd", "the Hub refuses 'odd/x' (418)"),
        ("html", "'html/x'"),
    ],
)
def test_what_the_hub_refuses_is_said_in_a_line_without_the_token(
    owner: str, message: str, refused: Callable[..., str], version: str
) -> None:
    """The server repeats the token in its answer."""
    assert message in refused("pull", f"{owner}/x")
    if owner not in ("busy", "limited"):  # there, a repository is taken to be there, or its library waits
        assert message in refused("push", "mine", f"{owner}/x")


@pytest.mark.parametrize(
    ("owner", "message"),
    [
        ("hangup", "or none of a Hub (RemoteProtocolError: peer closed connection"),
        ("dead", "or none of a Hub (ConnectError: [Errno 111] Connection refused)"),
        ("elsewhere", "redirects to localhost for adapter.json, which no digest verifies"),
        ("huge", "'huge/x': adapter.json has more than the 4,194,304 bytes that were expected"),
        ("nocommit", "answers for adapter.json without a commit, so it is no Hub"),
    ],
)
def test_what_is_no_hub_is_said_in_a_line(
    owner: str, message: str, refused: Callable[..., str], server: Hub, adapter: Adapter
) -> None:
    put(server, f"{owner}/x", adapter.files())
    assert message in refused("pull", f"{owner}/x")
    assert server.sent < 64 << 20  # of a gigabyte, what stood in buffers


def test_a_revision_or_a_manifest_that_is_not_there_is_said(
    refused: Callable[..., str], server: Hub, adapter: Adapter
) -> None:
    put(server, "me/empty", {"README.md": b""})
    assert "'me/empty' has no revision 'v9' (404)" in refused("pull", "me/empty", "--revision", "v9")
    assert "has no adapter.json at 'main' (404), so it holds no adapter" in refused("pull", "me/empty")
    assert "'a/b/c' is no repository's id; OWNER/NAME was expected" in refused("pull", "a/b/c", "--name", "x")


def test_a_damaged_version_is_not_pushed(
    refused: Callable[..., str], server: Hub, version: str, registry: Registry
) -> None:
    file = registry.folder("mine", version) / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert "is damaged or was edited" in refused("push", "mine", "me/damaged")
    assert "me/damaged" not in server.repos


def test_a_token_is_masked_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "not-like-one")
    text = f"GET with Bearer abc.def\nand {TOKEN}, and not-like-one in it"
    assert masked(text) == "GET with *** and ***, and *** in it"


WITHOUT_TORCH = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
from adapterkit.cli import main
main(["pull", "me/without", "--json"])
"""


@pytest.mark.slow
def test_pull_needs_no_torch_and_verifies_all_the_same(
    hub: Command, server: Hub, version: str, registry: Registry, tmp_path: Path
) -> None:
    assert hub("push", "mine", "me/without")[0] == 0
    env = {**os.environ, "HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": "0", "HF_TOKEN": TOKEN}
    env |= {"NO_PROXY": "127.0.0.1,localhost", "ADAPT_REGISTRY": str(other(tmp_path).path)}
    run = partial(subprocess.run, [sys.executable, "-c", WITHOUT_TORCH], env=env, capture_output=True, text=True)
    done = run(check=False)
    assert json.loads(done.stdout)["version"] == version, done.stderr
    assert set(contents(other(tmp_path).folder("without", version))) == set(
        contents(registry.folder("mine", version))
    ) - {"run.yaml"}
    server.large.update({digest: bytes(len(data)) for digest, data in server.large.items()})
    done = run(check=False)
    assert done.returncode == 2
    assert "is damaged or was edited" in done.stderr
