"""adapt run: its flags are the options of the run, of the task and of the strategy that the command line names."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from adapterkit.cli.common import (
    TerminalWatch,
    cluster_options,
    common_options,
    echo,
    flag,
    flag_for,
    predict_command,
    print_json,
    print_table,
    print_topics,
    registry_option,
    size,
)
from adapterkit.cli.help import help_all_option, task_of, write_sections
from adapterkit.cli.report import command_line, report_option, write_report
from adapterkit.discovery import default_strategy, installed, strategy_class
from adapterkit.display import learning_curves, metric_table
from adapterkit.errors import AdapterkitError, OptionError
from adapterkit.store.registry import Registry
from adapterkit.workflows.config_file import read_config

if TYPE_CHECKING:
    from adapterkit.cluster import Placement
    from adapterkit.workflows.plan import Plan
    from adapterkit.workflows.run import Report


class RunCommand(click.Command):
    """Read --strategy, --task and --config first, then take the flags that they bring."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["chosen"] = chosen = _peek([a.replace("_", "-") if a.startswith("--") else a for a in args])
        ctx.meta["flags"] = self._flags(ctx, chosen)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name == "--device":
                raise OptionError(
                    "a run has no --device: Accelerate takes the GPU if there is one; ACCELERATE_USE_CPU=true runs on "
                    "the CPU, CUDA_VISIBLE_DEVICES=1 chooses a GPU, --num-processes uses several"
                ) from error
            if owners := strategies_with(error.option_name):
                strategy = chosen.get("strategy") or default_strategy()
                raise OptionError(
                    f"strategy {strategy} has no option {error.option_name}; {', '.join(owners)} "
                    f"{'has' if len(owners) == 1 else 'have'} it: --strategy {owners[0]}"
                ) from error
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        chosen = ctx.meta["chosen"]
        if chosen.get("config"):
            chosen = {**read_config(chosen["config"]), **chosen}
        strategy = strategy_class(str(chosen.get("strategy") or default_strategy()))
        write_sections(ctx, formatter, self.get_params(ctx), strategy, task_of(chosen))

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        params = super().get_params(ctx)
        return [*params[:-1], *ctx.meta.get("flags", []), params[-1]]

    def _flags(self, ctx: click.Context, chosen: dict[str, str]) -> list[click.Option]:
        from adapterkit.workflows.plan import run_options

        try:
            config = read_config(chosen["config"]) if "config" in chosen else {}
            both = {**config, **chosen}
            strategy = default_strategy() if both.get("strategy") is None else str(both["strategy"])
            return [flag(option) for option in run_options(strategy, both.get("task")).values()]
        except AdapterkitError:
            if ctx.resilient_parsing:
                return []
            raise


def strategies_with(flag_name: str) -> list[str]:
    """Return the installed strategies that have an option of this spelling."""
    from adapterkit.options import options

    owners = []
    for entry in installed():
        with contextlib.suppress(AdapterkitError):  # a broken plugin is no reason to fail here
            every = options(strategy_class(entry.name)).values()
            if any(flag_name in (option.flag, *option.aliases) for option in every):
                owners.append(entry.name)
    return owners


_PEEKED = {f"--{name}": name for name in ("strategy", "task", "config")}
_PEEKED |= {"--train-file": "train_file"}
_PEEKED |= {f"--{kind}-column{end}": f"{kind}_column_name" for kind in ("text", "label") for end in ("", "-name")}
"""The flags that decide which others there are, and which of them the help shows."""


def _peek(args: list[str]) -> dict[str, str]:
    """Find the values of the flags that decide which other flags there are."""
    values = {}
    for i, arg in enumerate(args):
        flag_name, equals, value = arg.partition("=")
        if flag_name in _PEEKED and (equals or i + 1 < len(args)):
            values[_PEEKED[flag_name]] = value if equals else args[i + 1]
    return values


def _strategy_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(f.name, help=f.distribution) for f in installed() if f.name.startswith(incomplete)]


def run_options(command: Any) -> Any:
    """Add the flags that choose a run's strategy, task, name and config."""
    for option in reversed(
        (
            click.option(
                "--strategy",
                metavar="NAME",
                shell_complete=_strategy_names,
                help="How to train: see `adapt strategies`. [default: lora]",
            ),
            click.option(
                "--task",
                metavar="NAME",
                help="A task by transformers' name, such as text-classification. [default: inferred from the columns]",
            ),
            click.option("--name", metavar="NAME", help="Name of the adapter. [default: DATA-STRATEGY]"),
            click.option(
                "--config",
                metavar="FILE",
                type=click.Path(),
                help="Read options from a YAML file; flags override them.",
            ),
        )
    ):
        command = option(command)
    return help_all_option(command)


def resolved(config: str | None, flags: Mapping[str, Any]) -> Plan:
    """Return the plan that the flags of a command line make, over those of a config file; its files can be opened."""
    from adapterkit.data.splits import check_files
    from adapterkit.workflows.plan import Plan

    values = {key: value for key, value in flags.items() if value is not None}
    plan = Plan.resolve(values, config=read_config(config) if config else {})
    check_files(plan.data)
    return plan


def launching(command: Any) -> Any:
    """Add the flag that starts several processes, and what follows `--`."""
    count = click.option(
        "--num-processes",
        type=click.IntRange(min=1),
        help="Number of processes, started by Accelerate's launcher; its own flags follow after --.",
    )
    flags = click.argument("launcher_flags", nargs=-1, type=click.UNPROCESSED, metavar="[-- LAUNCHER FLAGS]")
    return count(flags(command))


def launched(num_processes: int | None, launcher_flags: tuple[str, ...]) -> None:
    """Run this command again in several processes and exit, if --num-processes requests that."""
    if launcher_flags and (num_processes is None or "--" not in sys.argv):
        first = launcher_flags[0]
        flags = ("--dataset", "--config", "--train-file", "--strategy")
        expected = flag_for(first, flags) or "flags of the launcher follow after --, with --num-processes"
        raise OptionError(f"'{first}' was not expected; {expected}")
    if num_processes is None or (num_processes == 1 and not launcher_flags) or "RANK" in os.environ:
        return
    from adapterkit.cli.launch import launch, without

    sys.exit(launch(without(sys.argv[1:], "--num-processes"), num_processes, launcher_flags))


def report_of(plan: Plan, registry: Path | None, as_json: bool, *, resume: bool, page: str | None = None) -> None:
    """Carry out a plan and print its result, on rank 0."""
    from adapterkit.execution import processes
    from adapterkit.workflows.run import run

    main = processes.launched_main()
    report = run(plan, Registry.at(registry), resume=resume, watch=TerminalWatch() if main else None)
    processes.end()
    if main:
        _show(report, plan, registry, as_json, page)


def _show(report: Report, plan: Plan, registry: Path | None, as_json: bool, page: str | None) -> None:
    """Print the result of a run, and write the page that was requested."""
    if page:
        from adapterkit.report.evaluated import run_results

        write_report(run_results(Registry.at(registry), report, command_line()), page)
    if as_json:
        print_json(report.plain())
        return
    print_table(*metric_table(report.metrics, report.adapter.task.best))
    if sys.stdout.isatty():
        print_topics(learning_curves(report.history, report.adapter.task.best))
    share = report.adapter_bytes / report.base_bytes
    percent = f"{share:.2%}" if share >= 1e-4 else "under 0.01%"
    echo(f"saved      {report.folder}: {size(report.adapter_bytes)}, {percent} of the base")
    stage = plan.saving.stage
    echo(f"try        {predict_command(report.name if stage is None else f'{report.name}@{stage}')}")


@click.command(cls=RunCommand, short_help="Train an adapter.")
@run_options
@click.option(
    "--resume",
    is_flag=True,
    help="Continue from the newest checkpoint of a run with the same options, or start if there is none.",
)
@click.option(
    "--each",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="Train an adapter for each data set of a folder, or for each entry of a YAML list of options.",
)
@launching
@cluster_options
@report_option
@registry_option()
@common_options
def command(
    config: str | None,
    registry: Path | None,
    report: str | None,
    as_json: bool,
    resume: bool,
    each: Path | None,
    num_processes: int | None,
    launcher_flags: tuple[str, ...],
    placement: Placement,
    **flags: Any,
) -> None:
    """Train an adapter, evaluate it and register it.

    Without flags it trains on the demo data and the demo base. `adapt run --strategy NAME --help` shows the options of
    a strategy, --task NAME or --train-file FILE those of a task.

    \b
    adapt run --train-file reviews.csv --test-file more.csv
    adapt run --strategy head-only --dataset demo:topics --name topics
    adapt run --strategy head-only --each tasks/
    """
    if each is not None:
        if num_processes is not None or report is not None:
            raise OptionError(
                "--each trains in one process and writes no page: --num-processes and --report don't apply"
            )
        values = {key: value for key, value in flags.items() if value is not None}
        settings = read_config(config) if config else {}
        _run_each(each, values, settings, Registry.at(registry), as_json, resume=resume, placement=placement)
        return
    if placement.on == "local" and placement.workers is not None:
        raise OptionError("--workers trains the tasks of --each; one run on several GPUs is --num-processes N")
    plan = resolved(config, flags)
    if placement.on != "local":
        if num_processes is None or launcher_flags or placement.workers is not None:
            raise OptionError("--on ray trains the tasks of --each, or one adapter by --num-processes N alone")
        values = {key: value for key, value in flags.items() if value is not None}
        settings = read_config(config) if config else {}
        trained = _run_on_ray(values, settings, Registry.at(registry), num_processes, placement, resume=resume)
        _show(trained, plan, registry, as_json, report)
        return
    launched(num_processes, launcher_flags)
    report_of(plan, registry, as_json, resume=resume, page=report)


def _run_on_ray(values: dict[str, Any], config: dict[str, Any], *placed: Any, resume: bool) -> Report:
    from adapterkit.cluster.opening import check_ray

    check_ray()
    from adapterkit.workflows.run_on_ray import run_on_ray

    return run_on_ray(values, config, *placed, resume=resume)


def _run_each(
    path: Path,
    values: dict[str, Any],
    config: dict[str, Any],
    registry: Registry,
    as_json: bool,
    *,
    resume: bool,
    placement: Placement,
) -> None:
    """Train each task and print a table; exits with 2 where one failed."""
    from adapterkit.cluster import open_executor
    from adapterkit.workflows.run_each import run_each, tasks_in

    tasks, watch = tasks_in(path), TerminalWatch()
    with open_executor(placement) as on:
        results = run_each(tasks, values, registry, config=config, resume=resume, watch=watch, executor=on)
    if as_json:
        print_json([vars(result) for result in results])
    else:
        print_table(["task", "adapter", "metric", "train s"], [result.row() for result in results])
    failed = sum(bool(result.error) for result in results)
    if failed:
        raise OptionError(f"{failed} of {len(results)} tasks failed")
