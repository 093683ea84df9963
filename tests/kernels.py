"""Run the suite under each set of CPU kernels that this CPU has, on one thread and on two.

Results to the bit hold for the same computation by the same kernels; everything else is compared within a tolerance of
`tests/helpers/tolerance.py`, which has to hold for all of them. Sets that this CPU lacks are named.

    make kernels
    python -m tests.kernels --sets generic -- -m 'not slow' tests/pool
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

SETS = {  # the flag of /proc/cpuinfo that each needs, and the variables that choose it
    "default": ("", {}),
    "generic": ("", {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"}),
    "AVX2": ("avx2", {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2"}),
    "AVX512_CORE": ("avx512bw", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}),
    "two threads": ("", {"ADAPTERKIT_TEST_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}),
}


def flags() -> set[str]:
    """Return the instruction sets of this CPU, by their names in /proc/cpuinfo."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return set(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("pytest", nargs="*", help="arguments of pytest, after -- [default: make test]")
    args = parser.parse_args()
    chosen, results = args.sets.split(","), {}
    if unknown := [name for name in chosen if name not in SETS]:
        parser.error(f"no '{unknown[0]}'; there is {', '.join(SETS)}")
    for name in chosen:
        flag, variables = SETS[name]
        if flag and flag not in flags():
            results[name] = f"not run: this CPU has no {flag}"
            continue
        began = time.monotonic()
        command = [sys.executable, "-m", "pytest", *args.pytest] if args.pytest else ["make", "test"]
        done = subprocess.run(command, env={**os.environ, **variables})
        results[name] = f"{'passed' if not done.returncode else 'FAILED'} in {time.monotonic() - began:.0f} s"
    for name, result in results.items():
        print(f"{name}: {result}")
    sys.exit(any(result.startswith("FAILED") for result in results.values()))


if __name__ == "__main__":
    main()
