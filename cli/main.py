"""The group of commands: each is imported when it is used, so that `adapt --help` is quick."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import os
import sys
from typing import Any

import click

COMMANDS = {
    "run": "Train an adapter with a strategy, measure it, save it and register it.",
    "resume": "Go on with a run that died.",
    "plan": "Say what a run would train and take, from a few of its steps; write nothing.",
    "tune": "Search a strategy's options and rates.",
    "predict": "Answer texts, files or streams with one adapter or several.",
    "eval": "Measure an adapter on labelled rows.",
    "list": "List the adapters in the registry.",
    "show": "Show what an adapter is, what it was trained on, and how good it is.",
    "compress": "Save an adapter again in fewer bytes.",
    "verify": "Check every file of adapters against its digest.",
    "diff": "Say how two adapters differ.",
    "tag": "Give a version of an adapter a name of its own.",
    "rollback": "Make an earlier version of an adapter the current one.",
    "rename": "Call an adapter by another name.",
    "remove": "Take an adapter or a version of it out of the registry.",
    "merge": "Write an adapter and its base as one plain model, or add adapters up to one.",
    "import": "Take in an adapter that PEFT made.",
    "export": "Write an adapter for PEFT, transformers or llama.cpp.",
    "push": "Send an adapter to a repository on the Hub.",
    "pull": "Fetch an adapter from a repository on the Hub.",
    "strategies": "List the strategies that are installed.",
    "gc": "Delete what was removed and what was left over.",
    "doctor": "Find what is wrong with a registry, and put it right.",
    "plugins": "List, look into, make, check and install plugins.",
    "registry": "Make registry.json again from the store.",
    "demo": "List the data sets that come with the package, or copy one.",
    "base": "Print where a base lies, to use it with other tools.",
}


class Group(click.Group):
    """Commands by name; errors of the library become one line and exit code 2."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"adapterkit.cli.{name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" did you mean '{near[0]}'?" if near else ""
            ctx.fail(f"no command '{args[0]}';{hint} there are {', '.join(COMMANDS)}")
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        from adapterkit.errors import AdapterkitError

        try:
            sys.exit(super().main(*args, **{**kwargs, "standalone_mode": False}) or 0)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(2)
        except click.ClickException as error:
            click.echo(f"Error: {' '.join(error.format_message().split())}", err=True)
            sys.exit(error.exit_code)
        except click.Abort:
            click.echo("Error: interrupted", err=True)
            sys.exit(130)
        except AdapterkitError as error:
            from adapterkit.runtime import processes

            if "--debug" in sys.argv:
                import traceback

                traceback.print_exc()

            code = getattr(error, "exit_code", 2)  # a signal's, of which all processes say the same
            if processes.launched_main() if code > 2 else processes.failed_first():
                which = "" if processes.launched_main() else f"process {os.environ['RANK']}: "
                click.echo(f"Error: {which}{error}", err=True)
            sys.exit(code)
        except RuntimeError:
            from adapterkit.runtime import processes

            if processes.launched() == 1 or processes.failed_first():
                raise
            sys.exit(1)  # another process ended, and said why


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"adapt {importlib.metadata.version('adapterkit')}")
        ctx.exit()


@click.group(
    cls=Group,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda name: name.replace("_", "-"),
        "max_content_width": 110,
    },
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """One shared base, a small adapter per task, pluggable strategies.

    \b
    adapt run --strategy lora              train on the demo task and base
    adapt predict sentiment-lora "a text"  use what was trained
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
