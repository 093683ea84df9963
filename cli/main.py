"""The group of commands: each is imported when it is used, so that `adapt --help` is quick."""

from __future__ import annotations

import atexit
import difflib
import functools
import gc
import importlib
import keyword
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any

import click

from adapterkit.cli import imports

SECTIONS = {
    "Train": {
        "run": "Train an adapter, evaluate it and register it.",
        "resume": "Continue an interrupted run from its last checkpoint.",
        "data": "Show what a run would read of its files.",
        "plan": "Estimate time, memory and size of a run without starting it.",
        "tune": "Search hyperparameters.",
        "compare": "Compare strategies on your rows.",
        "demo": "List or copy the demo data sets.",
    },
    "Use": {
        "predict": "Predict with one adapter or several.",
        "search": "Find the texts of a file that are nearest to a query.",
        "serve": "Serve the registered adapters over HTTP.",
        "eval": "Evaluate an adapter on labelled rows.",
        "report": "Write adapters, measured on their rows, as one HTML page.",
        "errors": "List the rows that an adapter gets wrong, the most confident first.",
        "merge": "Merge an adapter into its base, or several adapters into one.",
        "base": "Print the folder of a base model.",
    },
    "Registry": {
        "list": "List the registered adapters.",
        "show": "Show an adapter: task, data, metrics, files.",
        "diff": "Compare two adapters.",
        "tag": "Name a version of an adapter.",
        "rollback": "Make an earlier version the current one.",
        "bundle": "Name a list of adapters for the server.",
        "promote": "Make the version of a canary the current one.",
        "rename": "Rename an adapter.",
        "remove": "Remove an adapter or a version from the registry.",
    },
    "Share": {
        "push": "Upload an adapter to the Hugging Face Hub.",
        "pull": "Download an adapter from the Hugging Face Hub.",
        "export": "Export an adapter for PEFT, transformers or llama.cpp.",
        "import": "Import an adapter trained with PEFT.",
        "compress": "Save an adapter in fewer bytes.",
    },
    "Plugins": {
        "strategies": "List the installed strategies.",
        "plugins": "List, create, check and install plugins.",
    },
    "Maintain": {
        "verify": "Check the files of adapters against their digests.",
        "doctor": "Find and repair faults of the registry.",
        "gc": "Delete removed versions and leftover files.",
        "registry": "Rebuild registry.json from the store.",
        "info": "Print versions, hardware and plugins for a bug report.",
    },
}
COMMANDS = {name: text for section in SECTIONS.values() for name, text in section.items()}
TRAINING = {
    *("torch", "transformers", "peft", "accelerate", "datasets", "safetensors", "sklearn", "scipy", "psutil", "yaml"),
    *("pyarrow", "threadpoolctl", "sacrebleu", "xxhash", "charset_normalizer"),
}
"""The modules that an environment for answers alone may lack."""


ALIASES = {
    **dict.fromkeys(("train", "fit", "finetune", "fine-tune"), "run"),
    **dict.fromkeys(("evaluate", "test", "score"), "eval"),
    **dict.fromkeys(("infer", "classify", "ask"), "predict"),
    **dict.fromkeys(("delete", "rm", "del"), "remove"),
    **dict.fromkeys(("ls", "adapters"), "list"),
    **{"help": "--help", "version": "--version", "start": "serve", "server": "serve", "upload": "push"},
    **{"download": "pull", "inspect": "data", "check": "data", "mv": "rename"},
}
"""What people type for a command, by its name in other programs."""


class Group(click.Group):
    """Commands by name; errors of the library become one line and exit code 2."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        name = f"{name}_" if keyword.iskeyword(name) else name
        module = importlib.import_module(f"adapterkit.cli.{name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        widest = max(map(len, COMMANDS))
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(widest), text) for name, text in commands.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            near = [ALIASES[args[0]]] if args[0] in ALIASES else difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" did you mean '{near[0]}'?" if near else ""
            ctx.fail(f"no command '{args[0]}';{hint} there are {', '.join(COMMANDS)}")
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        from adapterkit.errors import AdapterkitError

        gc.set_threshold(50_000, 20, 50)  # the defaults take an eighth of the time of importing torch and transformers
        _leave_at_once()
        words = list(args[0] if args and args[0] is not None else kwargs.get("args") or sys.argv[1:])
        answers = words[:1] == ["predict"]
        imports.defer(answers=answers)
        if answers:
            gc.disable()  # until there are many rows; what is imported is no garbage
        try:
            sys.exit(super().main(*args, **{**kwargs, "standalone_mode": False}) or 0)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(2)
        except click.ClickException as error:
            click.echo(f"Error: {' '.join(error.format_message().split())}{_place_of(error, words)}", err=True)
            sys.exit(error.exit_code)
        except click.Abort:
            click.echo("Error: interrupted", err=True)
            sys.exit(130)
        except AdapterkitError as error:
            from adapterkit.execution import processes

            if "--debug" in sys.argv:
                import traceback

                traceback.print_exc()

            code = getattr(error, "exit_code", 2)  # a signal's, of which all processes say the same
            if processes.launched_main() if code > 2 else processes.failed_first():
                which = "" if processes.launched_main() else f"process {os.environ['RANK']}: "
                click.echo(f"Error: {which}{error}", err=True)
                if error.suggestion:
                    click.echo(f"try: {completed(words, error.suggestion)}", err=True)
            sys.exit(code)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in TRAINING:
                raise
            click.echo(f"Error: this needs {error.name}, which is not installed: pip install adapterkit", err=True)
            sys.exit(2)
        except RuntimeError:
            from adapterkit.execution import processes

            if processes.launched() == 1 or processes.failed_first():
                raise
            sys.exit(1)  # another process ended, and said why
        finally:
            gc.enable()


@functools.cache
def _leave_at_once() -> None:
    """Let the interpreter end without looking for garbage among all that was imported."""
    atexit.register(gc.freeze)


def _place_of(error: click.ClickException, words: Sequence[str]) -> str:
    """Return what to do with an argument too many, such as the flag of a file, or an empty text."""
    if not isinstance(error, click.UsageError) or error.ctx is None or "unexpected extra argument" not in error.message:
        return ""
    if error.ctx.info_name == "serve":
        return "; every adapter of the registry is served, each at /models/NAME"
    from adapterkit.cli.common import flag_for

    flags = {flag for param in error.ctx.command.get_params(error.ctx) for flag in param.opts}
    word = next((word for word in reversed(words) if f"({word})" in error.message), "")
    hint = flag_for(word, flags)
    return f"; {hint}" if hint else ""


def completed(words: Sequence[str], suggestion: Sequence[str]) -> str:
    """Return a command line with the options that complete it, before what follows `--`."""
    from adapterkit.errors import printable

    end = words.index("--") if "--" in words else len(words)
    return printable(shlex.join(["adapt", *words[:end], *suggestion, *words[end:]]))


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        from adapterkit.workflows.environment import distribution_name

        click.echo(f"adapt {version(distribution_name())}")
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
    # oneDNN caches code for a thousand shapes by default: 0.2 GB where every batch has a length of its own
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
