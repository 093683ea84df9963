"""Install and uninstall the packages of plugins with this environment's pip."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Sequence

from ..discovery import ADAPTERKIT, KINDS, Plugin, all_plugins
from ..errors import PluginError, unknown


def plugins() -> list[Plugin]:
    """Return every plugin of each kind, enabled or not."""
    return [plugin for group in KINDS for plugin in all_plugins(group)]


def install(specs: Sequence[str]) -> list[Plugin]:
    """Install packages and return the plugins that they add.

    `specs` are pip's: NAME, NAME==VERSION, a folder, a wheel. Raises `PluginError` with pip's errors.
    """
    option = next((spec for spec in specs if spec.startswith("-")), None)
    if option is not None:
        raise PluginError(f"expected a package, got pip's option '{option}'; run pip itself for it")
    before = set(plugins())
    _pip("install", *specs)
    importlib.invalidate_caches()
    return [plugin for plugin in plugins() if plugin not in before]


def uninstall(name: str) -> tuple[str, list[Plugin]]:
    """Uninstall the package called `name`, or that of the plugin `name`; return its name and its plugins.

    Raises `PluginError` where no package or more than one matches, or pip fails.
    """
    removable = [plugin for plugin in plugins() if plugin.distribution != ADAPTERKIT]
    owners = sorted({p.distribution for p in removable if p.matches(name) or p.distribution == name})
    if len(owners) > 1:
        raise PluginError(f"plugin '{name}' is ambiguous, provided by {' and '.join(owners)}; give the package's name")
    if not owners:
        if any(plugin.matches(name) for plugin in plugins()):
            raise PluginError(f"'{name}' comes with adapterkit and can't be uninstalled without it")
        names = {p.distribution for p in removable} | {p.name for p in removable}
        raise PluginError(unknown("plugin", name, names, known_as="installed beside adapterkit's own"))
    removed = [plugin for plugin in removable if plugin.distribution == owners[0]]
    output = _pip("uninstall", "--yes", owners[0])
    importlib.invalidate_caches()
    if any(plugin in plugins() for plugin in removed):  # it belongs to another environment, which this one extends
        raise PluginError(f"pip did not uninstall {owners[0]}: {output[-1] if output else 'no message'}")
    return owners[0], removed


def _pip(*arguments: str) -> list[str]:
    """Run pip and return the lines of its standard error. Raises `PluginError` with its errors where it fails."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    if done.returncode:
        errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
        raise PluginError(f"pip {arguments[0]}: {'; '.join(errors[:3]) or (lines or ['failed'])[-1]}")
    return lines
