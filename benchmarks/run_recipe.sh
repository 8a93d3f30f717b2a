#!/usr/bin/env bash
# How much is the recipe worth? Studies of seeds that nothing was chosen on, and what each part of the recipe adds:
#
#   mnist          ten seeds, 5,000 updates; the quality of their images
#   mnist-256      the same seeds with batches of 256
#   fashion-mnist  ten seeds, 5,000 updates
#   strokes        ten seeds, 2,000 updates
#   paper          three seeds of MNIST with the paper's objective
#   ablations      eight other seeds of MNIST, as they are and without each part in turn
#
# Results go to benchmarks/results/DATE-HOST/, or to $RESULTS. On a GPU ten seeds of MNIST take some minutes, on two CPU
# threads three hours; if it is stopped, the same command continues. Needs this package installed, or PYTHONPATH=. with
# the libraries built in place. INFOGAN_FAST_MNIST and INFOGAN_FAST_FASHION_MNIST name folders of the files; without them
# they are downloaded. $JOBS seeds run at a time: by default one per GPU or CPU thread.
#
#   benchmarks/run_recipe.sh OUT [STUDY]...      all of them by default; PYTHON=python3.12 to choose the interpreter
set -euo pipefail
usage='benchmarks/run_recipe.sh OUT [STUDY]...: name a folder for the runs'
out=$(realpath -m "${1:?$usage}")
cd "$(dirname "$0")/.."
shift
known=(mnist mnist-256 fashion-mnist strokes paper ablations)
[ $# -gt 0 ] || set -- "${known[@]}"
for name in "$@"; do
    if [[ " ${known[*]} " != *" $name "* ]]; then
        echo "run_recipe.sh: unknown study '$name'; expected one of ${known[*]}" >&2
        exit 2
    fi
done

python=${PYTHON:-python3}
results=${RESULTS:-benchmarks/results/$(date +%F)-$(hostname)}
mkdir -p "$results"
jobs=() device=(--device cpu)
if [ -n "${JOBS:-}" ]; then jobs=(--jobs "$JOBS"); fi
if "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then device=(--device cuda); fi
# Mixed precision where the machine has it.
amp=()
if "$python" -c 'from infogan_fast.runtime.device import amp_dtype, choose_device; amp_dtype(choose_device("auto"))' \
    2> /dev/null; then amp=(--amp); fi

study() { # study NAME FLAG...: the seeds from 7001 on
    local name=$1
    shift
    "$python" -m infogan_fast.seeds --first-seed 7001 "${jobs[@]}" "${amp[@]}" --checkpoint-every 2500 \
        --keep-checkpoints 1 "$@" --out "$out/$name"
    cp "$out/$name/seeds.json" "$results/seeds-$name.json"
}
mnist=(--data mnist) fashion=(--data fashion-mnist)
if [ -n "${INFOGAN_FAST_MNIST:-}" ]; then mnist+=(--data-dir "$INFOGAN_FAST_MNIST"); fi
if [ -n "${INFOGAN_FAST_FASHION_MNIST:-}" ]; then fashion+=(--data-dir "$INFOGAN_FAST_FASHION_MNIST"); fi

for name in "$@"; do
    case $name in
        mnist)
            study mnist --n 10 --steps 5000 "${mnist[@]}"
            "$python" benchmarks/image_quality.py "$out"/mnist/seed-???? --json "$results/image_quality.json"
            ;;
        mnist-256) study mnist-256 --n 10 --steps 5000 --batch-size 256 "${mnist[@]}" ;;
        fashion-mnist) study fashion-mnist --n 10 --steps 5000 "${fashion[@]}" ;;
        strokes) study strokes --n 10 --steps 2000 ;;
        paper) study mnist-paper --n 3 --steps 5000 --recipe paper "${mnist[@]}" ;;
        ablations)
            for change in '' ema=0 consistency=0 balance=0 joint_ema=0 equivariance=0 invariance=0 smoothness=0 bending=0 \
                restart_q=0 lr_q=2e-4 lambda_categorical=1; do
                file=$results/bench_recipe-${change:-as-it-is}.json
                [ -e "$file" ] && continue
                "$python" benchmarks/bench_recipe.py --seeds {201..208} --updates 5000 --every 1000 \
                    "${device[@]}" "${jobs[@]}" ${change:+--set "$change"} --json "$file.part"
                mv "$file.part" "$file"  # whole
            done
            ;;
    esac
done
