#!/usr/bin/env bash
# How much is the recipe worth? Ten seeds of MNIST with it, three with the paper's objective, the quality of their images,
# also with averaged weights, and five seeds of strokes. Results go to benchmarks/results/DATE-HOST/, or to $RESULTS.
# Takes about three hours on two CPU threads; if it is stopped, the same command continues. Needs this package installed,
# or PYTHONPATH=. with the libraries built in place.
#
#   benchmarks/run_recipe.sh OUT      INFOGAN_FAST_MNIST=DIR for the MNIST files; without it they are downloaded
set -euo pipefail
out=$(realpath -m "${1:?benchmarks/run_recipe.sh OUT: name a folder for the runs}")
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
mnist=(--data mnist --steps 5000 --amp --checkpoint-every 2500 --keep-checkpoints 1)
if [ -n "${INFOGAN_FAST_MNIST:-}" ]; then mnist+=(--data-dir "$INFOGAN_FAST_MNIST"); fi
results=${RESULTS:-benchmarks/results/$(date +%F)-$(hostname)}
mkdir -p "$results"

"$python" -m infogan_fast.seeds --n 10 "${mnist[@]}" --out "$out/mnist"
cp "$out/mnist/seeds.json" "$results/seeds-mnist.json"
"$python" -m infogan_fast.seeds --n 3 "${mnist[@]}" --recipe paper --out "$out/mnist-paper"
cp "$out/mnist-paper/seeds.json" "$results/seeds-mnist-paper.json"
"$python" -m infogan_fast.seeds --n 5 --steps 2000 --amp --out "$out/strokes"
cp "$out/strokes/seeds.json" "$results/seeds-strokes.json"
"$python" benchmarks/image_quality.py "$out"/mnist/seed-? "$out"/mnist-paper/seed-? --json "$results/image_quality.json"
# The selected run, with a moving average of the generator's weights.
"$python" -m infogan_fast.seeds --n 1 --first-seed 4 "${mnist[@]}" --ema 0.999 --out "$out/mnist-ema"
"$python" benchmarks/image_quality.py "$out"/mnist{,-ema}/seed-4 --json "$results/image_quality-ema.json"
