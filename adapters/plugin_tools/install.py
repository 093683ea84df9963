"""Install and take away the packages of plugins, with the pip of this environment."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Sequence

from ..discovery import KINDS, OWN, Found, everything
from ..errors import PluginError, unknown


def plugins() -> list[Found]:
    """Return all that is installed, of each kind, whether it is chosen or not."""
    return [found for group in KINDS for found in everything(group)]


def install(specs: Sequence[str]) -> list[Found]:
    """Install packages as pip names them: NAME, NAME==VERSION, a folder, a wheel; return what they brought.

    Raises `PluginError` with what pip said.
    """
    odd = next((spec for spec in specs if spec.startswith("-")), None)
    if odd is not None:
        raise PluginError(f"'{odd}' is an option of pip, and a package was expected; use pip itself for it")
    before = set(plugins())
    _pip("install", *specs)
    importlib.invalidate_caches()
    return [found for found in plugins() if found not in before]


def uninstall(name: str) -> tuple[str, list[Found]]:
    """Take away the package of a plugin, by its own name or the plugin's; return it and what went with it.

    Raises `PluginError` where no package of a plugin is meant, or more than one, or pip says so.
    """
    there = [found for found in plugins() if found.distribution != OWN]
    owners = sorted({f.distribution for f in there if f.answers_to(name) or f.distribution == name})
    if len(owners) > 1:
        raise PluginError(f"'{name}' is in {' and in '.join(owners)}; say which of these packages to take away")
    if not owners:
        if any(found.answers_to(name) for found in plugins()):
            raise PluginError(f"'{name}' is adapterkit's own, and stays as long as adapterkit does")
        known = {f.distribution for f in there} | {f.name for f in there}
        raise PluginError(unknown("plugin", name, known, known_as="installed beside adapterkit's own"))
    gone = [found for found in there if found.distribution == owners[0]]
    said = _pip("uninstall", "--yes", owners[0])
    importlib.invalidate_caches()
    if any(found in plugins() for found in gone):  # another environment's, on which this one stands
        raise PluginError(f"pip left {owners[0]} where it is: {said[-1] if said else 'it says nothing'}")
    return owners[0], gone


def _pip(*arguments: str) -> list[str]:
    """Run pip and return the lines of its standard error, or raise `PluginError` with the errors among them."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    if done.returncode:
        errors = [line.removeprefix("ERROR:").strip() for line in said if line.startswith("ERROR:")]
        raise PluginError(f"pip {arguments[0]}: {'; '.join(errors[:3]) or (said or ['it failed'])[-1]}")
    return said
