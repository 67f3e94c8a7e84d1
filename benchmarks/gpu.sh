#!/usr/bin/env bash
# Everything that only a GPU can show: build, the cuda tests, compute-sanitizer once, the ops, the
# step. Short tables come last; records and logs go to $OUT (default: benchmarks/results/gpu).
# Needs nvcc, a CUDA build of torch and ninja; takes under eight minutes on an H100.
set -uo pipefail
cd "$(dirname "$0")/.."
OUT=${OUT:-benchmarks/results/gpu}
mkdir -p "$OUT"
export PYTHONUNBUFFERED=1
failed=()
step() {  # step NAME SECONDS COMMAND...: run it, keep its log, go on whatever comes of it
    local name=$1 seconds=$2 start=$SECONDS
    shift 2
    timeout "$seconds" "$@" > "$OUT/$name.log" 2>&1 || failed+=("$name ($?)")
    echo "$name: $((SECONDS - start)) s"
}

architecture=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d .)
export PGVAE_CUDA=1 PGVAE_CUDA_ARCH=${PGVAE_CUDA_ARCH:-$architecture}
step build 120 python3 csrc/build.py
step status 60 python3 -c "import pgvae; print(pgvae.ops.status())"
step tests 150 python3 -m pytest tests -m cuda -q -p no:cacheprovider
step sanitizer 90 compute-sanitizer --tool memcheck --error-exitcode 9 \
    python3 -m pytest tests/ops/test_registered_memory.py -m cuda -q -p no:cacheprovider -k same_bytes
step ops 200 python3 benchmarks/ops.py --device cuda --rounds 3 --json "$OUT/ops.json"
for shape in "4 128" "64 32" "256 8" "1024 4"; do
    read -r resolution batch <<< "$shape"
    step "step-$resolution" 60 python3 benchmarks/step.py --device cuda --precision bf16 \
        --resolution "$resolution" --batch "$batch" --iterations 10 --json "$OUT/step-$resolution.json"
done

echo "=== status"; tail -1 "$OUT/status.log"
echo "=== cuda tests"; grep -E "^(FAILED|ERROR)" "$OUT/tests.log" | head -20; tail -1 "$OUT/tests.log"
echo "=== compute-sanitizer"; grep -E "ERROR SUMMARY|Error:" "$OUT/sanitizer.log" | tail -3
echo "=== ops"; cat "$OUT/ops.log" | cut -c1-130
echo "=== steps"; for log in "$OUT"/step-*.log; do tail -5 "$log"; done
if ((${#failed[@]})); then echo "FAILED: ${failed[*]}"; exit 1; fi
