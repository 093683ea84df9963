"""Connect to a Ray cluster, or start a Ray of this process, with errors of one line."""

from __future__ import annotations

import functools
import logging
import os
import re
import secrets
import signal
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ClusterError
from .placement import Placement

CONNECT_SECONDS = 5.0
_MODE = "RAY_AUTH_MODE"
OBJECT_STORE = 256 << 20
"""Bytes of the object store of a Ray that is started here: it holds the tasks and results in flight."""
_PASSED = re.compile(
    r"HF_(?!TOKEN)\w+|TRANSFORMERS_\w+|ACCELERATE_\w+|ADAPT_\w+|TOKENIZERS_PARALLELISM|(OMP|MKL)_NUM_THREADS"
    r"|ONEDNN_\w+|PYTHONHASHSEED|AWS_(DEFAULT_)?REGION|AWS_ENDPOINT_URL\w*"
)
"""Environment variables that workers get from this process; credentials aren't among them."""


def connect(ray: Any, placement: Placement) -> bool:
    """Connect to the placement's Ray; return whether it was started here. Raises `ClusterError`."""
    address = placement.ray_address or os.environ.get("RAY_ADDRESS") or "local"
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # a worker without a GPU changes no variable
    starts = address == "local"
    if not starts:
        _check_answers(address)
    more = {"include_dashboard": False, "object_store_memory": OBJECT_STORE} if starts else {}
    if starts and not {_MODE, "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
        # else Ray writes a token to ~/.ray, which clusters that are started later would require
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **more)
    except Exception as error:  # Ray raises RuntimeError, ConnectionError, ValueError and others
        raise ClusterError(_reason(error, address, ray.__version__)) from error
    _print_to_stderr(ray._private.worker)
    if threading.current_thread() is threading.main_thread():
        # as Ctrl-C, the one exception that Ray passes on: its own handler prints a stack and aborts
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    return starts


def _print_to_stderr(worker: Any) -> None:
    """Let Ray print its messages of lost nodes to stderr: it has no option for it, and stdout may be JSON."""
    printed = worker.print_to_stdstream
    if not isinstance(printed, functools.partial):
        worker.print_to_stdstream = functools.partial(_as_error, printed)


def _as_error(printed: Any, data: dict[str, Any], *args: Any, **kwargs: Any) -> None:
    printed({**data, "is_err": True}, *args, **kwargs)


def _check_answers(address: str) -> None:
    """Raise `ClusterError` where nobody answers at HOST:PORT; Ray itself would retry for minutes."""
    match = re.fullmatch(r"(?:ray://)?\[?([^/\s]+?)\]?:(\d{1,5})", address)
    if match is None:
        if address != "auto":
            raise ClusterError(f"'{address}' is no address of Ray; expected HOST:PORT, ray://HOST:PORT, auto or local")
        return
    try:
        socket.create_connection((match[1], int(match[2])), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "no answer"
        raise ClusterError(
            f"no Ray answers at {address} ({reason}); start one with `ray start --head`, or leave out --ray-address"
        ) from None


def _reason(error: Exception, address: str, version: str) -> str:
    """Return why Ray can't be used, in one line."""
    text = " ".join(str(error).split())
    if "ersion mismatch" in text or "were started with" in text:
        theirs = re.search(r"Ray: (\S+)\s+Python: (\S+)", text)
        which = f"Ray {theirs[1]} on Python {theirs[2]}" if theirs else "another version of Ray or Python"
        return f"the cluster at {address} runs {which}, and this process Ray {version}; install the same on both"
    if "Could not find any running Ray" in text or isinstance(error, ConnectionError):
        if address != "auto" and _MODE not in os.environ:  # somebody listens there, as was seen before
            return (
                f"Ray at {address} doesn't accept this process; where it requires a token, set {_MODE}=token, and "
                "RAY_AUTH_TOKEN or ~/.ray/auth_token"
            )
        return f"no Ray answers at {address}; start one with `ray start --head`, or leave out --ray-address"
    return f"Ray at {address} can't be used: {text[:300]}"


@dataclass(frozen=True)
class Resources:
    """The workers of a cluster, and what each reserves."""

    workers: int
    cpus: float
    gpus: float


def resources(placement: Placement, nodes: list[Mapping[str, Any]], *, flag: str = "--workers") -> Resources:
    """Return the workers for the nodes as `ray.nodes()` lists them.

    By default one worker for each GPU or, without any, one for each node, with the CPUs of the smallest node. Raises
    `ClusterError` where no node has room for one worker, or the cluster none for the number that was set, by `flag`.
    """
    sizes = [node["Resources"] for node in nodes if node["Alive"]]
    all_gpus = int(sum(size.get("GPU", 0) for size in sizes))
    gpus = placement.gpus_per_worker if placement.gpus_per_worker is not None else float(all_gpus > 0)
    with_cpus = [size.get("CPU", 0) for size in sizes if size.get("CPU", 0) > 0] or [0]
    cpus = placement.cpus_per_worker or (1.0 if gpus else min(with_cpus))
    room = sum(_fits(size, cpus, gpus) for size in sizes)
    if not cpus or not room:
        largest = ", ".join(f"{size.get('CPU', 0):g} CPUs and {size.get('GPU', 0):g} GPUs" for size in sizes)
        raise ClusterError(
            f"no node of the cluster has room for a worker with {cpus:g} CPUs and {gpus:g} GPUs; there are: {largest}"
        )
    if placement.workers is not None and placement.workers > room:
        raise ClusterError(
            f"{flag} {placement.workers}: the cluster has room for {room} with {cpus:g} CPUs and {gpus:g} GPUs each"
        )
    by_default = all_gpus if gpus and placement.gpus_per_worker is None else len(with_cpus)
    return Resources(placement.workers or min(by_default, room), cpus, gpus)


def _fits(size: Mapping[str, float], cpus: float, gpus: float) -> int:
    """Return how many workers a node has room for."""
    counts = [size.get(key, 0) // need for key, need in (("CPU", cpus), ("GPU", gpus)) if need]
    return int(min(counts, default=0))


def environment() -> dict[str, str]:
    """Return the environment variables that workers get."""
    return {name: value for name, value in os.environ.items() if _PASSED.fullmatch(name)}
