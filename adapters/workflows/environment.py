"""The environment of a bug report: versions, hardware, precision, plugins and folders, without a user's data."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from ..discovery import ADAPTERKIT, installed

VARIABLES = ("ADAPTERKIT_PLUGINS", "CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE", "OMP_NUM_THREADS", "PYTORCH_ALLOC_CONF")
"""The environment variables that are reported; others may hold secrets."""
_LIGHT = "adapterkit-runtime"
"""The distribution of the same files without what only training needs."""


def distribution_name() -> str:
    """Return the distribution that installed this package: adapterkit, or adapterkit-runtime."""
    try:
        version(ADAPTERKIT)
    except PackageNotFoundError:
        return _LIGHT
    return ADAPTERKIT


def environment() -> dict[str, dict[str, str]]:
    """Describe the environment in sections of name and value.

    Names of adapters, files and hosts are not part of it, and the home folder is written as ~.
    """
    return {
        "system": _system(),
        "hardware": _hardware(),
        "packages": _packages(),
        "plugins": {
            f"{one.kind} {one.name}": f"{one.distribution} {one.version}"
            for one in installed()
            if one.distribution != ADAPTERKIT
        },
        "folders": _folders(),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def _system() -> dict[str, str]:
    name = distribution_name()
    system = {name: version(name), "python": platform.python_version(), "platform": platform.platform()}
    with contextlib.suppress(PackageNotFoundError):
        if name == ADAPTERKIT and (light := version(_LIGHT)):
            text = f"{_LIGHT} {light} is installed, too, and has files of the same names; uninstall both, install one"
            system["remark"] = text
    return system


def _hardware() -> dict[str, str]:
    hardware = {"cpu": _cpu(), "cores": f"{os.cpu_count()}"}
    if importlib.util.find_spec("torch") is None:
        return {**hardware, "precision": "not known without torch"}
    import psutil  # type: ignore[import-untyped]
    import torch

    from ..execution.precision import precision

    hardware["memory"] = f"{psutil.virtual_memory().total / 1e9:.1f} GB"
    for i in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(i)
        hardware[f"gpu {i}"] = f"{device.name}, {device.total_memory / 1e9:.1f} GB"
    return {**hardware, "threads": f"{torch.get_num_threads()}", "precision": precision("auto").why}


def _cpu() -> str:
    """Return the name of the processor; /proc has the one that people know."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _packages() -> dict[str, str]:
    """Return the version of every package that adapterkit or one of its extras names; extras of developers apart."""
    lines = [line for line in requires(distribution_name()) or [] if not re.search(r"extra == .(dev|site)", line)]
    names = [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in lines]
    versions = {}
    for name in sorted(dict.fromkeys(names), key=str.lower):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def _folders() -> dict[str, str]:
    cache = (
        os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    )
    paths = {"python": sys.prefix, "adapterkit": Path(__file__).parent.parent, "hub cache": cache}
    return {name: _without_home(str(path)) for name, path in paths.items()}


def _without_home(path: str) -> str:
    home = str(Path.home())
    return f"~{path[len(home) :]}" if path == home or path.startswith(home + os.sep) else path
