"""`python -m adapterkit.cli`, for launchers that take a module."""

from __future__ import annotations

from .main import main

main(prog_name="adapt")
