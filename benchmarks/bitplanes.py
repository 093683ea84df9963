"""Compare our coding of tensor deltas by byte plane with zstandard and blosc2: bytes, and time to pack and unpack.

    python benchmarks/bitplanes.py --figures docs/figures/bitplanes.json

The tensors are a base's and those of a full fine-tune of it on demo sentences, after a few steps (as a checkpoint's
best values differ from its current ones) and after some epochs (what `exact` encodes). Libraries get the same
differences; blosc2 splits them into byte planes itself. Every fourth tensor is measured, repetitions are interleaved,
times are medians of CPU seconds in one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import blosc2  # type: ignore[import-untyped]
import numpy as np
import zstandard
from pages import cpu_name

from adapterkit import Base, Plan, Registry, run
from adapterkit.io import bitplanes

Pair = tuple[np.ndarray, np.ndarray]
Coder = tuple[Callable[[np.ndarray, np.ndarray], bytes], Callable[[bytes, np.ndarray], np.ndarray]]


def ours(level: int) -> Coder:
    """Return our packing at a level of zlib."""
    return (
        lambda values, like: bitplanes.pack(values, like, level=level).tobytes(),
        lambda packed, like: bitplanes.unpack(np.frombuffer(packed, np.uint8), like),
    )


def zstd(level: int) -> Coder:
    """Return the same planes of the same differences, compressed by zstandard as one frame."""

    def pack(values: np.ndarray, like: np.ndarray) -> bytes:
        planes = np.ascontiguousarray(bitplanes._bytes(bitplanes._folded(values, like)).T)
        return zstandard.ZstdCompressor(level=level).compress(planes.tobytes())

    def unpack(packed: bytes, like: np.ndarray) -> np.ndarray:
        plain = zstandard.ZstdDecompressor().decompress(packed, max_output_size=like.nbytes)
        planes = np.frombuffer(plain, np.uint8).reshape(like.dtype.itemsize, -1)
        return bitplanes._unfolded(np.ascontiguousarray(planes.T), like)

    return pack, unpack


def blosc(codec: blosc2.Codec, level: int, split: blosc2.Filter) -> Coder:
    """Return the same differences, split into planes and compressed by blosc2 in one thread."""

    def pack(values: np.ndarray, like: np.ndarray) -> bytes:
        folded = bitplanes._folded(values, like)
        done: bytes = blosc2.compress2(
            folded.tobytes(), typesize=folded.itemsize, codec=codec, clevel=level, filters=[split], nthreads=1
        )
        return done

    def unpack(packed: bytes, like: np.ndarray) -> np.ndarray:
        plain = np.frombuffer(blosc2.decompress2(packed, nthreads=1), np.uint8)
        return bitplanes._unfolded(plain.reshape(like.size, like.itemsize), like)

    return pack, unpack


CODERS: dict[str, Coder] = {
    "ours, level 1 (checkpoints)": ours(1),
    "ours, level 9 (exact)": ours(9),
    "zstandard, level 1": zstd(1),
    "zstandard, level 3": zstd(3),
    "zstandard, level 9": zstd(9),
    "blosc2, shuffle, zstd 1": blosc(blosc2.Codec.ZSTD, 1, blosc2.Filter.SHUFFLE),
    "blosc2, shuffle, zstd 9": blosc(blosc2.Codec.ZSTD, 9, blosc2.Filter.SHUFFLE),
    "blosc2, bitshuffle, zstd 1": blosc(blosc2.Codec.ZSTD, 1, blosc2.Filter.BITSHUFFLE),
    "blosc2, bitshuffle, zstd 9": blosc(blosc2.Codec.ZSTD, 9, blosc2.Filter.BITSHUFFLE),
    "blosc2, shuffle, zlib 9": blosc(blosc2.Codec.ZLIB, 9, blosc2.Filter.SHUFFLE),
}


def pairs(base: Base, epochs: int, samples: int) -> list[Pair]:
    """Return (fine-tuned, base's) bits of every tensor that a full fine-tune changes."""
    with tempfile.TemporaryDirectory() as folder:
        options = {"strategy": "full", "dataset": "demo:sentiment", "base": base.path}
        plan = Plan.resolve({**options, "num_train_epochs": epochs, "max_train_samples": samples})
        adapter = run(plan, Registry(Path(folder) / "registry.json"), base=base).adapter
    changed = []
    for module, patch in adapter.patches(base).items():
        for name, values in patch.tensors().items():
            own = base.model.get_submodule(module).get_parameter(name).detach().cpu_name()
            if values.shape == own.shape:
                changed.append((bitplanes.bits(values), bitplanes.bits(own)))
    return changed[::4]


def measure(tensors: list[Pair], repetitions: int) -> dict[str, dict[str, Any]]:
    """Return bytes and median seconds of each coder over all tensors; every one must restore them to the bit."""
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in CODERS}
    sizes: dict[str, int] = {}
    for _ in range(repetitions):
        for name, (pack, unpack) in CODERS.items():
            start = time.process_time()
            packed = [pack(values, like) for values, like in tensors]
            between = time.process_time()
            restored = [unpack(data, like) for data, (_, like) in zip(packed, tensors, strict=True)]
            times[name][1].append(time.process_time() - between)
            times[name][0].append(between - start)
            assert all(np.array_equal(a, b) for a, (b, _) in zip(restored, tensors, strict=True)), name
            sizes[name] = sum(map(len, packed))
    return {
        name: {
            "bytes": sizes[name],
            "pack_cpu_seconds": round(statistics.median(packing), 3),
            "unpack_cpu_seconds": round(statistics.median(unpacking), 3),
        }
        for name, (packing, unpacking) in times.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="minilm")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--figures", type=Path, default=Path("docs/figures/bitplanes.json"))
    args = parser.parse_args()
    base = Base.load(args.base)
    figures: dict[str, Any] = {"cpu": cpu_name(), "threads": 1, "base": args.base, "repetitions": args.repetitions}
    for name, epochs, samples in (("a few steps", 1, 64), ("three epochs", 3, 400)):
        tensors = pairs(base, epochs, samples)
        plain = sum(values.nbytes for values, _ in tensors)
        figures[name] = {"plain_bytes": plain, "coders": measure(tensors, args.repetitions)}
        print(json.dumps(figures[name], indent=2), flush=True)
    args.figures.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
