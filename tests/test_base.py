"""A base comes from a folder, an installed package, or the Hub's cache, at the revision that is asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adapterkit import Base
from tests import tiny


def loaded(cache: Path, name: str, *revision: str) -> dict[str, Any]:
    """Load a base in a process of its own, offline, with `cache` as the Hub's cache."""
    code = f"""
import json, transformers
transformers.logging.disable_progress_bar()
from adapterkit import Base
from adapterkit.errors import BaseModelError
try:
    base = Base.load({name!r}, revision={(revision or (None,))[0]!r})
    print(json.dumps({{"fingerprint": base.fingerprint, "head": sorted(base.pretrained_head)}}))
except BaseModelError as error:
    print(json.dumps({{"error": str(error)}}))
"""
    env = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_a_base_in_the_hubs_cache_is_loaded_at_its_revision_with_its_head(tmp_path: Path) -> None:
    repository = tmp_path / "models--owner--tiny"
    commits = {"main": "1" * 40, "v2": "2" * 40}
    for seed, (name, commit) in enumerate(commits.items()):
        tiny.make("bert", repository / "snapshots" / commit, seed=seed, head="AutoModelForMaskedLM")
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / name).write_text(commit)
    here = {name: Base.load(str(repository / "snapshots" / commit)) for name, commit in commits.items()}
    assert here["main"].fingerprint != here["v2"].fingerprint
    assert here["v2"].pretrained_head
    for name in commits:
        found = loaded(tmp_path, "owner/tiny", name)
        assert found == {"fingerprint": here[name].fingerprint, "head": sorted(here[name].pretrained_head)}
    assert loaded(tmp_path, "owner/tiny")["fingerprint"] == here["main"].fingerprint
    missing = loaded(tmp_path, "owner/other")["error"]
    assert "no base named 'owner/other'" in missing
    assert "HF_HUB_OFFLINE is set" in missing
    assert "\n" not in missing
