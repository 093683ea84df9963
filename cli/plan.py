"""adapt plan: estimate a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from adapterkit.cli.common import TerminalWatch, common_options, echo, print_json, print_table, size
from adapterkit.cli.run import RunCommand, resolved, run_options

if TYPE_CHECKING:
    from adapterkit.workflows.outlook import Outlook


@click.command(cls=RunCommand, short_help="Estimate time, memory and size of a run without starting it.")
@run_options
@common_options
def command(config: str | None, as_json: bool, **flags: Any) -> None:
    """Estimate what `adapt run` with the same flags would train, and its time, memory and adapter size.

    A few training steps on batches of the run are timed, and the base is restored; nothing is written.

    \b
    adapt plan --train-file reviews.csv
    adapt plan --train-file reviews.csv --strategy full --epochs 3
    """
    from adapterkit.workflows.estimate import measure

    found = measure(resolved(config, flags), watch=TerminalWatch())
    if as_json:
        print_json(found.plain())
    else:
        _show(found)


def _show(found: Outlook) -> None:
    rows = [[p.name, " x ".join(map(str, p.shape)), p.tensors, f"{p.parameters:,}"] for p in found.parts]
    print_table(["learns", "shape", "tensors", "parameters"], rows)
    share = found.trained_parameters / found.model_parameters
    lines = {
        "learns": f"{found.trained_parameters:,} of {found.model_parameters:,} parameters, {share:.2%}",
        "adapter": f"{found.adapter_bytes:,} bytes, {found.adapter_bytes / found.base_bytes:.2%} of the base",
        "trunk": _trunk(found),
        "batches": _batches(found),
        "time": _time(found),
        "memory": f"{size(found.memory)} of {'GPU ' if found.on_gpu else ''}memory above the loaded base",
    }
    for topic, text in lines.items():
        echo(f"{topic:<10} {text}")


def _trunk(found: Outlook) -> str:
    trunk = found.trunk
    if not trunk.cached:
        return f"not cached: {trunk.what}"
    return f"{trunk.what} run once and kept: {size(trunk.bytes)} in {'memory' if trunk.in_memory else 'a file'}"


def _batches(found: Outlook) -> str:
    of = found.batches
    if of is None:
        return "none: a probe is solved on all rows at once"
    some = {"shortest": of.tried[0], "median": of.tried[len(of.tried) // 2], "longest": of.tried[-1]}
    tried = ", ".join(f"{name} {k.rows} x {k.tokens} tokens {k.seconds:.3f} s" for name, k in some.items())
    return (
        f"{found.seconds.epochs} x {of.steps:,} steps of {of.rows:,} rows, {of.tokens:,} tokens and "
        f"{of.padding:.1%} padding; {tried}"
    )


def _time(found: Outlook) -> str:
    of, solved = found.seconds, found.batches is None
    parts = f"{of.training:.1f} s for {'solving' if solved else 'steps'} and {of.validation:.1f} s for validation"
    once = f"; once {of.base:.1f} s for running the {'base' if solved else 'trunk'}" if of.base else ""
    return f"{of.epoch:.1f} s an epoch, {parts}{once}; {of.total:.1f} s in all"
