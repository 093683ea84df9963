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

    outlook = measure(resolved(config, flags), watch=TerminalWatch())
    if as_json:
        print_json(outlook.plain())
    else:
        _show(outlook)


def _show(outlook: Outlook) -> None:
    rows = [[p.name, " x ".join(map(str, p.shape)), p.tensors, f"{p.parameters:,}"] for p in outlook.parts]
    print_table(["learns", "shape", "tensors", "parameters"], rows)
    share = outlook.trained_parameters / outlook.model_parameters
    lines = {
        "learns": f"{outlook.trained_parameters:,} of {outlook.model_parameters:,} parameters, {share:.2%}",
        "adapter": f"{outlook.adapter_bytes:,} bytes, {outlook.adapter_bytes / outlook.base_bytes:.2%} of the base",
        "trunk": _trunk(outlook),
        "batches": _batches(outlook),
        "time": _time(outlook),
        "memory": f"{size(outlook.memory)} of {'GPU ' if outlook.on_gpu else ''}memory above the loaded base",
    }
    for topic, text in lines.items():
        echo(f"{topic:<10} {text}")


def _trunk(outlook: Outlook) -> str:
    trunk = outlook.trunk
    if not trunk.cached:
        return f"not cached: {trunk.what}"
    return f"{trunk.what} run once and cached: {size(trunk.bytes)} in {'memory' if trunk.in_memory else 'a file'}"


def _batches(outlook: Outlook) -> str:
    of = outlook.batches
    if of is None:
        return "none: a probe is solved on all rows at once"
    some = {"shortest": of.tried[0], "median": of.tried[len(of.tried) // 2], "longest": of.tried[-1]}
    tried = ", ".join(f"{name} {k.rows} x {k.tokens} tokens {k.seconds:.3f} s" for name, k in some.items())
    return (
        f"{outlook.seconds.epochs} x {of.steps:,} steps of {of.rows:,} rows, {of.tokens:,} tokens and "
        f"{of.padding:.1%} padding; {tried}"
    )


def _time(outlook: Outlook) -> str:
    of, solved = outlook.seconds, outlook.batches is None
    parts = f"{of.training:.1f} s for {'solving' if solved else 'steps'} and {of.validation:.1f} s for validation"
    once = f"; once {of.base:.1f} s for running the {'base' if solved else 'trunk'}" if of.base else ""
    return f"{of.epoch:.1f} s an epoch, {parts}{once}; {of.total:.1f} s in all"
