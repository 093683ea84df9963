#!/usr/bin/env bash
# All that is to be shown on CUDA GPUs, in under ten minutes and without a network: the tests, FSDP2, training and pool
# in bf16, and the share of the matrix-product ceiling. Writes docs/explanation/gpu.md. PYTHON chooses the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."
export HF_HUB_OFFLINE=1
PYTHON=${PYTHON:-.venv/bin/python} OUT=${OUT:-.gpu}
"$PYTHON" -c 'import sys, torch; sys.exit(None if torch.cuda.is_available() else "no CUDA GPU here")'
rm -rf "$OUT" && mkdir -p "$OUT/data"
GPUS=$("$PYTHON" -c 'import torch; print(torch.cuda.device_count())')

"$PYTHON" -m pytest -n 8 -q 2>&1 | tail -n 40 | tee "$OUT/tests.txt"

"$PYTHON" -m adapterkit.cli demo sentiment "$OUT/data/sentiment"
for strategy in full lora; do # sharded over all GPUs; on one, the same path with one piece
    (cd "$OUT" && "$PYTHON" -m accelerate.commands.launch --use_fsdp --fsdp_version 2 --num_processes "$GPUS" \
        --mixed_precision bf16 --fsdp_auto_wrap_policy TRANSFORMER_BASED_WRAP --main_process_port 0 \
        -m adapterkit.cli run --strategy "$strategy" --name "sharded-$strategy" --epochs 2 2>&1 | tail -n 6 | tee -a fsdp.txt)
done

"$PYTHON" benchmarks/training.py --data "$OUT/data" --cases lora-3,full-3,layerwise-3 --limit 400 --limit-eval 80 \
    --turns 3 --out "$OUT/training.json"
"$PYTHON" benchmarks/pool.py --device cuda --dtype bf16 --out "$OUT/pool.json"
"$PYTHON" benchmarks/gpu.py --figures "$OUT" --update docs/explanation/gpu.md
