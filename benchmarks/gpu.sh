#!/usr/bin/env bash
# Everything that only a GPU can show: build, the cuda tests, compute-sanitizer, the ops, the step, and
# the stages in every mode. Each table is printed as it is ready, and all of them once more at the end;
# one log and a few records go to $OUT (default: benchmarks/results/gpu). Needs nvcc and a CUDA build of
# torch; nothing is installed, what else is missing is said, and what does not need it runs. Limits of
# the steps add up to nine minutes. DEVICE=cpu tries the script itself, with small tables. Not run on a
# GPU yet.
set -uo pipefail
cd "$(dirname "$0")/.."
OUT=${OUT:-benchmarks/results/gpu} DEVICE=${DEVICE:-cuda}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
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
has() { python3 -c "import importlib.util as u, sys; sys.exit(not u.find_spec('$1'))"; }

missing=()
for module in numpy PIL click safetensors tensorboard tqdm lmdb pytest xdist hypothesis ninja; do
    has "$module" || missing+=("$module")
done
((${#missing[@]})) && echo "missing: ${missing[*]}" | tee -a "$tables"
if ! has lmdb; then  # nothing here reads a prepared set, but modules import it
    stubs=$(mktemp -d)
    echo 'def __getattr__(name): return type(name, (Exception,), {})' > "$stubs/lmdb.py"
    export PYTHONPATH="$PYTHONPATH:$stubs"
fi
fast=(python3 -m pytest -q -p no:cacheprovider -W default --continue-on-collection-errors)
parallel=()
has xdist && parallel=(-n 8)

if [[ $DEVICE == cuda ]]; then
    capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d .)
    export PGVAE_CUDA=1 PGVAE_CUDA_ARCH=${PGVAE_CUDA_ARCH:-$capability}
    has ninja && step build 90 "error|no native" python3 csrc/build.py
    shapes=("4 128" "64 32")
    few=(--precision bf16 --iterations 10)
    stages=4,8,16,32,64,128,256,512,1024 maps=512
else
    shapes=("4 4")
    few=(--iterations 1 --fmap-max 16 --latent-dim 16)
    stages=4 maps=16
fi
step status 20 "native" python3 -c "import pgvae; print(pgvae.ops.status())"
if [[ $DEVICE == cuda ]] && has pytest; then
    step tests 120 "^(FAILED|ERROR)|passed|failed" "${fast[@]}" tests -m "cuda and not slow" "${parallel[@]}"
    # Without torch's cache each tensor is an allocation of its own, and reading past it is seen.
    check=(compute-sanitizer --error-exitcode 9 --print-limit 5)
    two=(tests/ops/test_registered_memory.py -m cuda -k "two_runs")
    export PYTORCH_NO_CUDA_MEMORY_CACHING=1
    step memcheck 40 "ERROR SUMMARY|Error|passed|failed" "${check[@]}" --tool memcheck "${fast[@]}" "${two[@]}"
    step racecheck 40 "RACECHECK|Error|passed|failed" "${check[@]}" --tool racecheck "${fast[@]}" "${two[@]}"
    unset PYTORCH_NO_CUDA_MEMORY_CACHING
fi
for shape in "${shapes[@]}"; do
    read -r resolution batch <<< "$shape"
    step "step at $resolution px" 20 "iteration|ratio|auto:" python3 benchmarks/step.py --device "$DEVICE" \
        --resolution "$resolution" --batch "$batch" "${few[@]}" --json "$OUT/step-$resolution.json"
done
throughput=(python3 benchmarks/throughput.py --device "$DEVICE" --maps "$maps" --seconds 0.5)
step stages 100 "px|native|eager|graphs" "${throughput[@]}" --stages "$stages" \
    --modes eager,native,graphs --json "$OUT/throughput.json"
if [[ $DEVICE == cuda ]]; then
    step compile 50 "px|native|compile" "${throughput[@]}" --stages 4,64 --modes native,compile \
        --json "$OUT/throughput-compile.json"
    step ops 40 "\|" python3 benchmarks/ops.py --device cuda --rounds 1 --json "$OUT/ops.json"
fi

echo; echo "##### all tables"; cat "$tables"
if ((${#failed[@]})); then echo "FAILED: ${failed[*]}"; exit 1; fi
