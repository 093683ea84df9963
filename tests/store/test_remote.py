"""A registry behind a URL: in memory, and in a bucket of an S3 server on loopback whose answers fail."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adapterkit import Registry
from adapterkit.errors import OptionError, RegistryError
from adapterkit.io.atomic import version_of
from adapterkit.store import mirror, object_store
from adapterkit.store.journal import CHANGE
from adapterkit.store.maintenance import collect, doctor
from tests.faults import ENTRY, files
from tests.helpers.s3_server import inject, s3_server

S3 = all(importlib.util.find_spec(name) for name in ("s3fs", "moto"))
needs_s3 = pytest.mark.skipif(not S3, reason="s3fs and moto are not installed: make test-ray")
Adapt = Callable[..., Any]
Machine = Callable[[str], Registry]


def mirrored(url: str, folder: Path) -> Registry:
    """Return the registry at a URL as a machine sees it whose cache is a folder."""
    return Registry(folder / "registry.json", mirror.Mirror(object_store.ObjectStore(url), folder))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Return a function from a name to the registry as another machine sees it, with an empty cache."""
    import fsspec

    monkeypatch.setattr(mirror, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(object_store, "FIRST_DELAY", 0.01)
    url = f"memory://bucket-{tmp_path.name}/adapters"
    yield lambda name: Registry(
        tmp_path / name / "registry.json", mirror.Mirror(object_store.ObjectStore(url), tmp_path / name)
    )
    memory = fsspec.filesystem("memory")
    if memory.exists(f"/bucket-{tmp_path.name}"):
        memory.rm(f"/bucket-{tmp_path.name}", recursive=True)


def test_another_machine_has_what_was_published(machine: Machine) -> None:
    ours, theirs = machine("ours"), machine("theirs")
    assert theirs.adapters() == {}
    first = ours.add("a", files("1"), ENTRY)
    second = theirs.add("a", files("2"), ENTRY)
    assert ours.resolve("a") == ("a", second)
    assert list(ours.adapters()["a"]["versions"]) == [first, second]
    folder = ours.fetched("a", second)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "entry.json"} == files("2")
    ours.tag("a", "prod")
    assert theirs.resolve("a@prod") == ("a", second)
    assert theirs.rollback("a") == first
    ours.rename("a", "b")
    assert theirs.resolve("b@prod") == ("b", second)
    theirs.add("a", files("3"), ENTRY)
    theirs.remove("b")
    assert list(ours.adapters()) == ["a"]
    assert machine("third").rollback("b") == first
    assert sorted(ours.adapters()) == ["a", "b"]


def test_an_index_that_is_lost_is_rebuilt_from_the_store(machine: Machine) -> None:
    ours = machine("ours")
    for name in ("a", "b"):
        ours.add(name, files(name), ENTRY)
    ours.add("b", files("c"), ENTRY)
    ours.tag("b", "prod")
    before = ours.adapters()
    assert machine("fourth").rebuild() == (before, [])
    files_there = ours.mirror.store._files  # type: ignore[union-attr]
    files_there.rm(ours.mirror.store._path("registry.json"))  # type: ignore[union-attr]
    theirs = machine("theirs")
    assert theirs.adapters() == {}
    assert theirs.rebuild()[1] == []
    assert ours.adapters() == before


def test_damaged_files_are_not_used(machine: Machine) -> None:
    ours = machine("ours")
    version = ours.add("a", files("1"), ENTRY)
    store = ours.mirror.store  # type: ignore[union-attr]
    path = store._path(f"store/a/{version}/adapter_model.safetensors")
    store._files.pipe_file(path, files("2")["adapter_model.safetensors"])
    theirs = machine("theirs")
    with pytest.raises(RegistryError, match=r"adapter_model.safetensors is damaged: its digest is another"):
        theirs.fetched("a", version)
    store._files.rm(path)
    with pytest.raises(RegistryError, match=r"adapter_model.safetensors is missing"):
        theirs.fetched("a", version)
    assert not (theirs.store / "a" / version).exists()


def test_what_a_failed_change_wrote_is_not_published_later(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = machine("ours")
    first = ours.add("a", files("1"), ENTRY)
    with monkeypatch.context() as patched:
        patched.setattr(object_store.ObjectStore, "create", lambda *_: (_ for _ in ()).throw(RegistryError("down")))
        with pytest.raises(RegistryError, match="down"):
            ours.add("a", files("2"), ENTRY)
    assert ours.resolve("a") == ("a", first)
    third = ours.add("a", files("3"), ENTRY)
    assert list(ours.adapters()["a"]["versions"]) == [first, third]


def test_what_needs_a_folder_refuses_a_url(machine: Machine) -> None:
    for work in (doctor, collect):
        with pytest.raises(RegistryError, match="is a URL; this works on a folder"):
            work(machine("ours"))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://key:secret@bucket/a", "a registry's URL has no credentials and no query"),
        ("nowhere://bucket/a", "'nowhere://bucket/a': there is no store of the protocol nowhere://"),
        ("s3://", "'s3://' names no bucket; expected a URL such as s3://BUCKET/PREFIX"),
    ],
)
def test_a_url_that_cannot_be_used_is_one_line(url: str, message: str) -> None:
    with pytest.raises(OptionError, match=message) as raised:
        Registry.at(url).adapters()
    assert "secret" not in str(raised.value)


@pytest.mark.skipif(S3, reason="s3fs is installed")
def test_without_s3fs_the_line_names_the_command() -> None:
    with pytest.raises(OptionError, match=r"not installed: pip install 'adapterkit\[remote\]'"):
        Registry.at("s3://bucket/a").adapters()


# ---- in a bucket


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Start a server and set credentials as the environment has them; yield its address."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, f"very-secret-{name[-6:]}")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(mirror, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(object_store, "FIRST_DELAY", 0.02)
    with s3_server() as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        yield address


def s3(folder: Path) -> Registry:
    return mirrored("s3://adapters/team", folder)


@needs_s3
def test_a_bucket_that_fails_is_tried_again_within_limits(
    bucket: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours = s3(tmp_path / "ours")
    versions = [ours.add("a", files("0"), ENTRY)]
    for kind in ("500", "slow", "cut"):
        for match in ("registry.json", "store/a", ""):
            inject(bucket, kind, 3, match)
            versions.append(ours.add("a", files(f"{kind} {match}"), ENTRY))
    inject(bucket, "cut", 3)
    theirs = s3(tmp_path / "theirs")
    assert list(theirs.adapters()["a"]["versions"]) == versions
    for version in versions:
        inject(bucket, "cut", 2, "safetensors")
        assert version_of((theirs.fetched("a", version) / "adapter.json").read_bytes()) == version
    for kind, answer in (("500", "500 InternalError"), ("slow", "503 SlowDown")):
        for match in ("registry.json", "safetensors", CHANGE.pattern[:0]):
            inject(bucket, kind, 10**6, match)
            began = time.monotonic()
            with pytest.raises(RegistryError, match=f"the store answers {answer} after 6 attempts") as raised:
                ours.add("a", files(f"never {kind} {match}"), ENTRY)
            assert time.monotonic() - began < 20
            assert inject(bucket, kind, 0) < 40
            assert list(s3(tmp_path / f"{kind}{match}").adapters()["a"]["versions"]) == versions
            assert "secret" not in str(raised.value).lower()
    assert ours.add("a", files("last"), ENTRY) == s3(tmp_path / "fresh").resolve("a")[1]
    assert "secret" not in caplog.text.lower()


@needs_s3
def test_two_machines_that_publish_at_once_lose_nothing(bucket: str, tmp_path: Path) -> None:
    ours, theirs = s3(tmp_path / "ours"), s3(tmp_path / "theirs")
    first = ours.add("a", files("1"), ENTRY)
    with ours.changing() as index:
        records = ours._records("a", index)
        records.add_change({"tags": {"prod": first}})
        index.put("a", records.state(index["a"]))
        second = theirs.add("a", files("2"), ENTRY)  # between our reading of the index and our writing it
        theirs.add("b", files("3"), ENTRY)
    for registry in (ours, theirs):
        assert registry.resolve("a@prod") == ("a", first)
        assert registry.resolve("a") == ("a", second)
        assert list(registry.adapters()) == ["a", "b"]


@needs_s3
def test_a_run_that_could_not_publish_is_refused_before_it_trains(
    bucket: str, adapt: Adapt, tiny_folder: Callable[..., Path], small_csv: Path
) -> None:
    where = ("--registry", "s3://no-such/adapters")
    done = adapt("run", "--train-file", small_csv, "--base", tiny_folder(), "--epochs", 1, *where)
    assert done.exit_code == 2
    assert "there is no bucket 'no-such', of s3://no-such/adapters" in done.stderr
    assert "epoch" not in done.output


@needs_s3
def test_without_credentials_the_line_names_the_chain(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(RegistryError, match="no credentials; set those of the service, such as AWS_PROFILE"):
        s3(tmp_path).add("a", files("1"), ENTRY)


@needs_s3
def test_the_commands_take_a_url(bucket: str, adapt: Adapt, tiny_folder: Callable[..., Path], small_csv: Path) -> None:
    url = "s3://adapters/team"
    flags = ["--train-file", small_csv, "--base", tiny_folder(), "--epochs", 1, "--name", "a", "--registry", url]
    assert adapt("run", *flags).exit_code == 0
    assert adapt("list", "--registry", url).stdout.splitlines()[1].split()[0] == "a"
    done = adapt("predict", "a", "a fine film", "--json", "--registry", url)
    assert done.exit_code == 0, done.output
    assert "'s3://adapters/team' is damaged" not in adapt("verify", "a", "--registry", url).output
