"""adapt serve: an HTTP server over the registry, for the clients of Hugging Face, openai and vLLM."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapterkit.cli.common import (
    cluster_options,
    common_options,
    device_option,
    flag,
    is_onnx,
    registry_option,
    runtime_options,
)
from adapterkit.cli.predict import Bytes
from adapterkit.errors import OptionError, RegistryError, install
from adapterkit.options import options
from adapterkit.serving.canary import Canary
from adapterkit.serving.intra_op import cores
from adapterkit.serving.limits import Access, Limits
from adapterkit.store.registry import Registry

if TYPE_CHECKING:
    from adapterkit.cluster import Placement


@click.command(short_help="Serve the registered adapters over HTTP.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port to listen on.")
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of the token that requests must have.",
)
@click.option("--allowed-hosts", default="", metavar="A,B", help="Host names by which the server is called; * for any.")
@click.option("--cors", default="", metavar="A,B", help="Origins of pages that may call the server.")
@click.option("--admin", is_flag=True, help="Let requests load adapters and remove them from memory.")
@click.option("--base", "base_name", metavar="NAME", help="Serve adapters of this base alone. [default: of every base]")
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16", "float16-weights", "int8"]),
    default="auto",
    show_default=True,
    help="Precision of the base: auto is bfloat16 where the hardware computes in it, float16-weights on other CPUs.",
)
@click.option("--max-bytes", type=Bytes(), help="Memory for adapters, such as 256MB. [default: no limit]")
@click.option(
    "--log-requests",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Append rows and answers to this .jsonl file.",
)
@click.option("--redact", default="", metavar="A,B", help="Replace these in the logged texts by x: email, number, url.")
@click.option(
    "--canary",
    "canaries",
    multiple=True,
    metavar="NAME=VERSION:10%",
    help="Compare a version with the current one on a share of the rows (or :shadow, on all); repeatable.",
)
@click.option(
    "--canary-report",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File of the comparison. [default: canary.json beside the registry]",
)
@click.option(
    "--intra-op-threads",
    type=click.IntRange(1),
    help="Most threads of torch for a request that is alone, where they are quicker; with --runtime onnx, the threads "
    "of every batch. [default: the cores, at most 4; for onnx, divided by --threads]",
)
@click.option(
    "--otel", is_flag=True, help="Export a span of each request with OpenTelemetry; OTEL_ variables configure it."
)
@click.option(
    "--drain-seconds",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Seconds from SIGTERM until connections are closed.",
)
@device_option
@runtime_options
@cluster_options
@click.option("--min-workers", type=int, help="Replicas on Ray without load. [default: all of --workers]")
@click.option("--requests-per-worker", type=int, help="Requests that a replica has at a time. [default: 64]")
@registry_option()
@common_options
def command(
    host: str,
    port: int,
    token_file: Path | None,
    allowed_hosts: str,
    cors: str,
    admin: bool,
    base_name: str | None,
    dtype: str,
    max_bytes: int | None,
    log_requests: Path | None,
    redact: str,
    canaries: tuple[str, ...],
    canary_report: Path | None,
    otel: bool,
    drain_seconds: float,
    device: str | None,
    runtime: str | None,
    exported: Path | None,
    placement: Placement,
    min_workers: int | None,
    requests_per_worker: int | None,
    registry: Path | None,
    as_json: bool,
    **limits: Any,
) -> None:
    """Answer requests of every registered adapter at one address, until SIGTERM.

    Routes are those of huggingface_hub's InferenceClient (/models/NAME), of openai's client (/v1/...) and of vLLM
    (/classify); / is a page to try them, /openapi.json the schema. Changes of the registry take effect with the next
    request. Addresses other than loopback need --token-file and --allowed-hosts.

    With --runtime onnx, an export answers in the versions that it has, without torch and without a registry.

    \b
    adapt serve
    adapt serve --runtime onnx --export exported
    adapt serve --host 0.0.0.0 --token-file token --allowed-hosts models.example.org
    adapt serve --on ray --workers 4 --min-workers 1
    """
    # before torch is imported: each thread computes alone, but for a request that is alone
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    opened = Registry.at(registry)
    onnx = is_onnx(runtime, exported)
    if not onnx and not opened.path.exists():
        raise RegistryError(f"there is no {opened.path}; `adapt run` creates it")
    if redact and log_requests is None:
        raise OptionError("--redact is for the rows that --log-requests writes; give --log-requests FILE")
    access = Access.of(host, _token(token_file), _names(allowed_hosts), _names(cors), admin=admin)
    usual = min(4, cores()) if placement.on == "local" else 1  # a replica has the cores that Ray gives it
    if onnx:  # every batch has the threads that the session was opened with
        usual = max(1, usual // (limits["threads"] or 1))
    limits["intra_op_threads"] = limits["intra_op_threads"] or usual
    checked = Limits(**{name: value for name, value in limits.items() if value is not None})
    counts = {"min_workers": min_workers, "requests_per_worker": requests_per_worker}
    scale = {name: value for name, value in counts.items() if value is not None}
    of_models: dict[str, Any] = {"base": base_name, "dtype": dtype, "max_bytes": max_bytes, "device": device}
    to: dict[str, Any] = {
        "host": host,
        "port": port,
        "limits": checked,
        "access": access,
        "drain_seconds": drain_seconds,
    }
    if onnx:
        of_torch = {"--base": base_name, "--device": device, "--canary": canaries, "--canary-report": canary_report}
        _check_onnx(of_torch, dtype, placement)
        of_models = {"export": _export(opened, exported), "threads": checked.intra_op_threads, "max_bytes": max_bytes}
    if placement.on != "local":
        of_one = {"--admin": admin, "--log-requests": log_requests, "--canary": canaries, "--otel": otel}
        for name, value in of_one.items():
            if value:
                raise OptionError(f"{name} is of one server, and --on ray passes requests on to replicas")
        _serve_on_ray(opened, placement, scale, **to, **of_models)
        return
    if placement.workers is not None:
        scale = {"workers": placement.workers, **scale}
    for name, number in scale.items():
        raise OptionError(f"--{name.replace('_', '-')} {number} is for --on ray")
    try:
        from adapterkit.serving import serve
    except ImportError as error:
        raise OptionError(f"adapt serve needs the extra: {install('serve')} ({error})") from error
    serve(
        opened,
        **to,
        log_requests=log_requests,
        redact=_names(redact),
        canaries=[Canary.parse(text) for text in canaries],
        canary_report=canary_report,
        otel=otel,
        **of_models,
    )


command.params[:0] = [flag(options(Limits)[f.name]) for f in fields(Limits) if f.name != "intra_op_threads"]


def _export(registry: Registry, exported: Path | None) -> Path:
    from adapterkit.runtime.folder import FOLDER

    return exported or registry.path.parent / FOLDER


def _check_onnx(of_torch: dict[str, Any], dtype: str, placement: Placement) -> None:
    """Raise `OptionError` for flags that are of --runtime torch."""
    of_torch = {**of_torch, "--dtype": dtype if dtype != "auto" else None}
    of_torch["--on"] = placement.on if placement.on != "local" else None
    for name, value in of_torch.items():
        if value not in (None, ()):
            raise OptionError(f"{name} is for --runtime torch; an export has its base and versions, and runs here")


def _serve_on_ray(registry: Registry, placement: Placement, scale: dict[str, int], **options: Any) -> None:
    from adapterkit.cluster.opening import check_ray

    check_ray()
    try:
        from adapterkit.serving.on_ray import Scale, serve_on_ray
    except ImportError as error:
        raise OptionError(
            f"adapt serve --on ray needs extras: pip install 'adapterkit[ray,serve]' ({error})"
        ) from error
    serve_on_ray(registry, placement, scale=Scale(**scale), **options)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _token(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = "a token is ASCII" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise OptionError(f"--token-file {path}: {why}") from None
    if len(token) < 16 or len(token.split()) > 1:
        raise OptionError(f"--token-file {path}: a token has at least 16 characters without spaces, got {len(token)}")
    if path.stat().st_mode & 0o077:
        click.echo(f"token      other users of this machine can read {path}; chmod 600 {path}", err=True)
    return token
