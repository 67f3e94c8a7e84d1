#!/usr/bin/env bash
# Everything that only a GPU can show: build, the cuda tests, compute-sanitizer, the ops, the step.
# Each table is printed as it is ready, and all of them once more at the end; one log and a few
# records go to $OUT (default: benchmarks/results/gpu). Needs nvcc, a CUDA build of torch, ninja and
# pytest with xdist; nothing needs to be installed. Limits of the steps add up to nine minutes. Not
# run on a GPU yet.
set -uo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
OUT=${OUT:-benchmarks/results/gpu}
mkdir -p "$OUT"
log=$OUT/gpu.log
tables=$OUT/tables.txt
: > "$log"
: > "$tables"
failed=()
step() {  # step NAME SECONDS PATTERN COMMAND...: log it, show the lines that match, go on
    local name=$1 seconds=$2 pattern=$3 start=$SECONDS part
    shift 3
    part=$(mktemp)
    timeout "$seconds" "$@" > "$part" 2>&1 || failed+=("$name ($?)")
    { echo "=== $name"; cat "$part"; } >> "$log"
    { echo "=== $name, $((SECONDS - start)) s"; grep -E "$pattern" "$part" | cut -c1-130 | tail -90; } |
        tee -a "$tables"
    rm -f "$part"
}

capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d .)
export PGVAE_CUDA=1 PGVAE_CUDA_ARCH=${PGVAE_CUDA_ARCH:-$capability}
fast=(python3 -m pytest -q -p no:cacheprovider -W default)
check=(compute-sanitizer --error-exitcode 9 --print-limit 5)
few=(tests/ops/test_registered_memory.py -m cuda -k "two_runs")
step build 90 "error|no native" python3 csrc/build.py
step status 20 "native" python3 -c "import pgvae; print(pgvae.ops.status())"
step tests 120 "^(FAILED|ERROR)|passed|failed" "${fast[@]}" tests -m "cuda and not slow" -n 8
# Without torch's cache each tensor is an allocation of its own, and reading past it is seen.
export PYTORCH_NO_CUDA_MEMORY_CACHING=1
step memcheck 40 "ERROR SUMMARY|Error|passed|failed" "${check[@]}" --tool memcheck "${fast[@]}" "${few[@]}"
step racecheck 40 "RACECHECK|Error|passed|failed" "${check[@]}" --tool racecheck "${fast[@]}" "${few[@]}"
unset PYTORCH_NO_CUDA_MEMORY_CACHING
for shape in "4 128" "64 32" "256 8" "1024 4"; do
    read -r resolution batch <<< "$shape"
    step "step at $resolution px" 20 "iteration|ratio|auto:" python3 benchmarks/step.py --device cuda \
        --precision bf16 --resolution "$resolution" --batch "$batch" --iterations 10 \
        --json "$OUT/step-$resolution.json"
done
step ops 140 "\|" python3 benchmarks/ops.py --device cuda --rounds 3 --json "$OUT/ops.json"

echo; echo "##### all tables"; cat "$tables"
if ((${#failed[@]})); then echo "FAILED: ${failed[*]}"; exit 1; fi
