"""Start a command again in several processes, through Accelerate's launcher."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from adapterkit.errors import OptionError


def launch(command: Sequence[str], count: int, flags: Sequence[str]) -> int:
    """Run `adapt` with the arguments `command` in `count` processes and return their exit code.

    `flags` are those of `accelerate launch`; its default config sets what they leave out.
    """
    import subprocess

    import torch
    from accelerate.commands.config.config_args import default_config_file
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    from adapterkit.execution.precision import precision

    arguments = [f"--num_processes={count}"]
    if count > 1 and not _any(flags, "multi_gpu", "use_fsdp", "use_deepspeed", "config_file"):
        arguments.append("--multi_gpu")  # Accelerate's name for several processes, whatever the hardware
    if not _any(flags, "main_process_port", "num_machines", "machine_rank"):
        arguments.append("--main_process_port=0")  # any free port, so that concurrent runs do not collide
    if not _any(flags, "config_file") and not os.path.isfile(
        default_config_file
    ):  # Accelerate warns about values it has to guess
        usual = {
            "num_machines": "1",
            "mixed_precision": precision("auto").name,
            "dynamo_backend": "no",
            "num_cpu_threads_per_process": str(max(1, torch.get_num_threads() // count)),
        }
        arguments += [f"--{name}={value}" for name, value in usual.items() if not _any(flags, name)]
    logging.getLogger("torch.distributed.elastic").setLevel(
        logging.CRITICAL
    )  # the process that failed reports the error
    parser = launch_command_parser()
    try:
        args = parser.parse_args([*arguments, *flags, "-m", "adapterkit.cli", *command])
        launch_command(args)
    except ChildFailedError as error:
        code: int = error.get_first_failure()[1].exitcode
        return code if code > 0 else 128 - code
    except SignalException as error:
        return 128 + int(error.sigval)
    except subprocess.CalledProcessError as error:
        return error.returncode
    except ValueError as error:
        raise OptionError(f"accelerate launch: {error}") from error
    return 0


def _any(flags: Sequence[str], *names: str) -> bool:
    present = {flag.lstrip("-").partition("=")[0].replace("-", "_") for flag in flags if flag.startswith("--")}
    return not present.isdisjoint(names)


def without(args: Sequence[str], flag: str) -> list[str]:
    """Return the arguments of this process up to `--`, without a flag and its value."""
    arguments = list(args)
    arguments = arguments[: arguments.index("--")] if "--" in arguments else arguments
    remaining, skip = [], False
    for arg in arguments:
        if skip:
            skip = False
        elif arg.replace("_", "-") == flag:
            skip = True
        elif not arg.replace("_", "-").startswith(f"{flag}="):
            remaining.append(arg)
    return remaining
