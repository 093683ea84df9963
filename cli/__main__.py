"""`python -m adapterkit.cli`, for launchers that take a module."""

from __future__ import annotations

from adapterkit.cli.main import main
from adapterkit.execution import processes

try:
    main(prog_name="adapt")
except SystemExit as done:
    processes.leave(done)
