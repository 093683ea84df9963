"""`python -m adapterkit.cli`, for launchers that take a module."""

from __future__ import annotations

from adapterkit.cli.main import main

main(prog_name="adapt")
