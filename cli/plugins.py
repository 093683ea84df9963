"""adapt plugins: list, inspect, create, check, install and uninstall plugins."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from adapterkit.cli.common import TerminalWatch, common_options, echo, print_json, print_table, size
from adapterkit.discovery import installed
from adapterkit.errors import OptionError, unknown

if TYPE_CHECKING:
    from adapterkit.testing import Outcome
    from adapterkit.workflows.reach import Reach


def _names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(f.name, help=f.distribution) for f in installed() if f.name.startswith(incomplete)]


@click.group(short_help="List, create, check and install plugins.")
def command() -> None:
    """Strategies, tasks and patch kinds of adapterkit and of other installed packages, found by entry points.

    ADAPTERKIT_PLUGINS restricts which are used: distributions, names or name@distribution, separated by commas; those
    of adapterkit are always available.

    \b
    adapt plugins list
    adapt plugins new my-strategy
    """


@command.command("list")
@common_options
def list_(as_json: bool) -> None:
    """List and import the installed plugins, with the error of each that can't be used."""
    from adapterkit.plugin_tools.inventory import loaded

    plugins = loaded()
    if as_json:
        print_json([dataclasses.asdict(one) for one in plugins])
        return
    print_table(
        ["name", "package", "version", "kind", "loads"],
        [[o.name, o.distribution, o.version, o.kind, o.fault or _took(o.seconds)] for o in plugins],
    )


def _took(seconds: float) -> str:
    return "yes" if seconds < 1 else f"yes, in {seconds:.1f} s"


@command.command()
@click.argument("name", shell_complete=_names)
@click.option(
    "--base", "base_name", metavar="BASE", help="Also show which parameters of this base the strategy trains."
)
@common_options
def show(name: str, base_name: str | None, as_json: bool) -> None:
    """Show the options of the strategy NAME or NAME@PACKAGE.

    \b
    adapt plugins show lora --base minilm
    adapt plugins show layerwise --json
    """
    from adapterkit.discovery import find_plugin, strategy_class
    from adapterkit.errors import named
    from adapterkit.options import options

    plugin, kind = find_plugin(name), strategy_class(name)
    options_by_name = options(kind)
    reached = None
    if base_name is not None:
        from adapterkit.base.base import Base
        from adapterkit.workflows.reach import reach

        with named(plugin.label):
            strategy = kind()  # type: ignore[call-arg]
        reached = reach(Base.load(base_name), strategy)
    if as_json:
        about = {"name": plugin.name, "distribution": plugin.distribution, "version": plugin.version}
        described = [
            {"name": o.name, "type": o.expected, "default": _default(o.default), "help": o.help}
            for o in options_by_name.values()
        ]
        trains = dataclasses.asdict(reached) if reached else None
        print_json(
            {**about, "class": plugin.target, "interface": kind.interface, "options": described, "trains": trains}
        )
        return
    echo(f"{plugin.name} of {plugin.distribution} {plugin.version}: {plugin.target}, interface {kind.interface}")
    echo((kind.__doc__ or "").strip().partition("\n")[0])
    echo()
    print_table(
        ["option", "takes", "default", "description"],
        [[o.flag, o.expected, _cell(o.default), o.help] for o in options_by_name.values()],
    )
    if reached:
        _show_reach(reached)


def _default(value: Any) -> Any:
    return None if value is dataclasses.MISSING else value


def _cell(value: Any) -> str:
    if value is dataclasses.MISSING:
        return "required"
    return "" if value in (None, (), "") else ",".join(value) if isinstance(value, tuple) else str(value)


def _show_reach(reach: Reach) -> None:
    echo()
    if not reach.parts:
        echo("trains     nothing of the base, only the task's head")
        return
    rows = [[p.name, " x ".join(map(str, p.shape)), p.tensors, f"{p.parameters:,}"] for p in reach.parts]
    print_table(["learns", "shape", "tensors", "parameters"], rows)
    which = ", ".join(map(str, reach.blocks)) or "none"
    share = reach.parameters / reach.of
    echo(f"learns     {reach.parameters:,} parameters, {share:.2%} as many as the base has")
    echo(f"blocks     {which} of {reach.of_blocks}")
    echo(f"adapter    {reach.patches} patches, {size(reach.bytes)} and the head")


@command.command()
@click.argument("name")
def new(name: str) -> None:
    """Create the package of a new strategy NAME in the folder adapterkit-NAME, ready to edit."""
    from adapterkit.plugin_tools.scaffold import scaffold

    folder = scaffold(name, Path())
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    echo(f"{folder}: {', '.join(files)}")
    echo(f"try        cd {folder} && pip install -e '.[test]' && pytest")


@command.command()
@click.argument("name", shell_complete=_names)
@click.option(
    "--base", "bases", metavar="FAMILY", multiple=True, help="Check on this family of tiny bases; repeatable."
)
@click.option("--all", "everywhere", is_flag=True, help="Check complete runs on every family, not only the first.")
@common_options
def check(name: str, bases: tuple[str, ...], everywhere: bool, as_json: bool) -> None:
    """Check the strategy NAME against the contract, rule by rule, on tiny bases: bert, roberta, gpt2, llama and t5."""
    from adapterkit.discovery import find_plugin, strategy_class
    from adapterkit.errors import named

    label, kind = find_plugin(name).label, strategy_class(name)

    import transformers

    from adapterkit.testing import Bench, cases, tried
    from adapterkit.testing.bench import FAMILIES
    from adapterkit.testing.tiny import CONFIGS

    families = [part for text in bases for part in text.split(",")] or FAMILIES
    for family in families:
        if family not in CONFIGS:
            raise OptionError(unknown("family of tiny bases", family, CONFIGS))
    transformers.logging.disable_progress_bar()
    tries = cases(families, everywhere=everywhere)
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder, TerminalWatch().bar(f"checking {name}", len(tries)) as bar:
        with named(label):
            bench = Bench(kind, Path(folder))
        for rule, family in tries:
            outcomes.append(tried(rule, bench, family))
            bar.advance()
    if as_json:
        print_json([dataclasses.asdict(outcome) for outcome in outcomes])
    else:
        _report(outcomes)
    sys.exit(any(o.state == "broken" for o in outcomes) or all(o.state == "skipped" for o in outcomes))


_STATES = {"broken": "failed", "kept": "passed", "skipped": "skipped"}
"""How the states of an outcome are shown, the worst first."""


def _report(outcomes: list[Outcome]) -> None:
    rows = []
    for rule in dict.fromkeys(outcome.rule for outcome in outcomes):
        of_rule = [outcome for outcome in outcomes if outcome.rule == rule]
        state = next(state for state in _STATES if any(o.state == state for o in of_rule))
        families: dict[str, list[str]] = {}
        for outcome in of_rule:
            if outcome.state == state:
                families.setdefault(outcome.text, []).append(outcome.family)
        texts = "; ".join(f"{', '.join(names)}: {text}" for text, names in families.items())
        rows.append([rule, _STATES[state], texts])
    print_table(["rule", "", "bases and measured difference"], rows)
    counts = {shown: sum(o.state == state for o in outcomes) for state, shown in _STATES.items()}
    echo(", ".join(f"{counts[shown]} {shown}" for shown in ("passed", "failed", "skipped")))


@command.command()
@click.argument("specs", nargs=-1, required=True, metavar="SPEC...")
def install(specs: tuple[str, ...]) -> None:
    """Install packages, named as for pip: a name, name==version, a folder or a wheel."""
    from adapterkit.plugin_tools.install import install

    for plugin in install(specs):
        echo(f"installed  {plugin.kind} {plugin.name} of {plugin.distribution} {plugin.version}")


@command.command()
@click.argument("name")
def uninstall(name: str) -> None:
    """Uninstall the package of the plugin NAME, or the package NAME."""
    from adapterkit.plugin_tools.install import uninstall

    package, gone = uninstall(name)
    echo(f"{package} uninstalled, with {', '.join(f'{plugin.kind} {plugin.name}' for plugin in gone)}")
