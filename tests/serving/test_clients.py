"""Unmodified clients, each in a process of its own: huggingface_hub's, and openai's where OPENAI_PYTHON has it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.server import MASK, Running

HERE = Path(__file__).parent


def output(python: str, script: str, *args: str) -> str:
    """Return what a script prints; huggingface_hub refuses every address, loopback too, while HF_HUB_OFFLINE is set."""
    env = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    done = subprocess.run([python, str(HERE / script), *args], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_inference_client(server: Running) -> None:
    assert "all tasks answered" in output(sys.executable, "hf_client.py", server.url, MASK)


@pytest.mark.skipif(not os.environ.get("OPENAI_PYTHON"), reason="OPENAI_PYTHON names no interpreter that has openai")
def test_openai_client(server: Running) -> None:
    base = next(name for name in server.models.bases() if "bert" in name)
    assert "all routes answered" in output(os.environ["OPENAI_PYTHON"], "openai_client.py", server.url, base)
