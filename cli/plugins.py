"""adapt plugins: what is installed beside adapterkit, and what it takes to add to it."""

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


@click.group(short_help="List, look into, make, check and install plugins.")
def command() -> None:
    """Strategies, tasks and kinds of patches, ours and other packages': entry points of what is installed.

    ADAPTERKIT_PLUGINS restricts what is used: distributions, names or name@distribution, separated by commas;
    adapterkit's own are always there.
    """


@command.command("list")
@common_options
def list_(as_json: bool) -> None:
    """List what is installed, import each, and say what is wrong with those that can't be used."""
    from adapterkit.plugin_tools.inventory import loaded

    found = loaded()
    if as_json:
        print_json([dataclasses.asdict(one) for one in found])
        return
    print_table(
        ["name", "package", "version", "kind", "loads"],
        [[o.name, o.distribution, o.version, o.kind, o.fault or _took(o.seconds)] for o in found],
    )


def _took(seconds: float) -> str:
    return "yes" if seconds < 1 else f"yes, in {seconds:.1f} s"


@command.command()
@click.argument("name", shell_complete=_names)
@click.option("--base", "base_name", metavar="BASE", help="Say what the strategy trains of this base.")
@common_options
def show(name: str, base_name: str | None, as_json: bool) -> None:
    """Show the options of the strategy NAME or NAME@PACKAGE."""
    from adapterkit.discovery import find_plugin, strategy_class
    from adapterkit.errors import named
    from adapterkit.options import options

    found, kind = find_plugin(name), strategy_class(name)
    known = options(kind)
    reached = None
    if base_name is not None:
        from adapterkit.base.base import Base
        from adapterkit.workflows.reach import reach

        with named(found.label):
            strategy = kind()  # type: ignore[call-arg]
        reached = reach(Base.load(base_name), strategy)
    if as_json:
        about = {"name": found.name, "distribution": found.distribution, "version": found.version}
        given = [
            {"name": o.name, "type": o.expected, "default": _default(o.default), "help": o.help} for o in known.values()
        ]
        trains = dataclasses.asdict(reached) if reached else None
        print_json({**about, "class": found.target, "interface": kind.interface, "options": given, "trains": trains})
        return
    echo(f"{found.name} of {found.distribution} {found.version}: {found.target}, interface {kind.interface}")
    echo((kind.__doc__ or "").strip().partition("\n")[0])
    echo()
    print_table(
        ["option", "takes", "default", "what it is"],
        [[o.flag, o.expected, _cell(o.default), o.help] for o in known.values()],
    )
    if reached:
        _show_reach(reached)


def _default(value: Any) -> Any:
    return None if value is dataclasses.MISSING else value


def _cell(value: Any) -> str:
    if value is dataclasses.MISSING:
        return "required"
    return "" if value in (None, (), "") else ",".join(value) if isinstance(value, tuple) else str(value)


def _show_reach(found: Reach) -> None:
    echo()
    if not found.parts:
        echo("trains     nothing of the base; the task's head learns")
        return
    rows = [[p.name, " x ".join(map(str, p.shape)), p.tensors, f"{p.parameters:,}"] for p in found.parts]
    print_table(["learns", "shape", "tensors", "parameters"], rows)
    which = ", ".join(map(str, found.blocks)) or "none"
    share = found.parameters / found.of
    echo(f"learns     {found.parameters:,} parameters, {share:.2%} as many as the base has")
    echo(f"blocks     {which} of {found.of_blocks}")
    echo(f"adapter    {found.patches} patches, {size(found.bytes)} and the head")


@command.command()
@click.argument("name")
def new(name: str) -> None:
    """Write the package of a new strategy NAME into the folder adapterkit-NAME; it works, and is yours to change."""
    from adapterkit.plugin_tools.scaffold import scaffold

    folder = scaffold(name, Path())
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    echo(f"{folder}: {', '.join(files)}")
    echo(f"try        cd {folder} && pip install -e '.[test]' && pytest")


@command.command()
@click.argument("name", shell_complete=_names)
@click.option("--base", "bases", metavar="FAMILY", multiple=True, help="Try it on this family; again for another.")
@click.option("--all", "everywhere", is_flag=True, help="Try whole runs on each family, not on the first alone.")
@common_options
def check(name: str, bases: tuple[str, ...], everywhere: bool, as_json: bool) -> None:
    """Hold the strategy NAME to the contract, rule by rule, on tiny bases: bert, roberta, gpt2, llama and t5."""
    from adapterkit.discovery import find_plugin, strategy_class
    from adapterkit.errors import named

    whose, kind = find_plugin(name).label, strategy_class(name)

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
    found: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder, TerminalWatch().bar(f"checking {name}", len(tries)) as bar:
        with named(whose):
            bench = Bench(kind, Path(folder))
        for rule, family in tries:
            found.append(tried(rule, bench, family))
            bar.advance()
    if as_json:
        print_json([dataclasses.asdict(outcome) for outcome in found])
    else:
        _report(found)
    sys.exit(any(o.state == "broken" for o in found) or all(o.state == "skipped" for o in found))


def _report(found: list[Outcome]) -> None:
    rows = []
    for rule in dict.fromkeys(outcome.rule for outcome in found):
        own = [outcome for outcome in found if outcome.rule == rule]
        state = next(state for state in ("broken", "kept", "skipped") if any(o.state == state for o in own))
        told = [o for o in own if o.state == state]
        families: dict[str, list[str]] = {}
        for outcome in told:
            families.setdefault(outcome.text, []).append(outcome.family)
        rows.append([rule, state, "; ".join(f"{', '.join(some)}: {text}" for text, some in families.items())])
    print_table(["rule", "", "on which base, and by how much"], rows)
    counts = {state: sum(o.state == state for o in found) for state in ("kept", "broken", "skipped")}
    echo(", ".join(f"{count} {state}" for state, count in counts.items()))


@command.command()
@click.argument("specs", nargs=-1, required=True, metavar="SPEC...")
def install(specs: tuple[str, ...]) -> None:
    """Install packages as pip names them: a name, name==version, a folder or a wheel."""
    from adapterkit.plugin_tools.install import install

    for found in install(specs):
        echo(f"installed  {found.kind} {found.name} of {found.distribution} {found.version}")


@command.command()
@click.argument("name")
def uninstall(name: str) -> None:
    """Take away the package of the plugin NAME; the name of the package will do, too."""
    from adapterkit.plugin_tools.install import uninstall

    package, gone = uninstall(name)
    echo(f"{package} is gone, and with it {', '.join(f'{found.kind} {found.name}' for found in gone)}")
