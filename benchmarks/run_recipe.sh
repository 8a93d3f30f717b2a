#!/usr/bin/env bash
# What the recipe is worth: ten seeds of MNIST with it, three with the paper's objective, what a classifier says of
# their images, also with averaged weights, and five seeds of strokes. Leaves seeds.json of each in benchmarks/results/.
# About three hours on two CPU threads; stopped, the same command goes on. Needs this package installed, or PYTHONPATH=.
# beside a build in place.
#
#   benchmarks/run_recipe.sh OUT      INFOGAN_FAST_MNIST=DIR for the MNIST files, else they are downloaded
set -euo pipefail
out=$(realpath -m "${1:?benchmarks/run_recipe.sh OUT: name a folder for the runs}")
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
mnist=(--data mnist --steps 5000 --amp --checkpoint-every 2500 --keep-checkpoints 1)
if [ -n "${INFOGAN_FAST_MNIST:-}" ]; then mnist+=(--data-dir "$INFOGAN_FAST_MNIST"); fi
results=benchmarks/results

"$python" -m infogan_fast.seeds --n 10 "${mnist[@]}" --out "$out/mnist"
cp "$out/mnist/seeds.json" $results/mnist-ten-seeds.json
"$python" -m infogan_fast.seeds --n 3 "${mnist[@]}" --recipe paper --out "$out/mnist-paper"
cp "$out/mnist-paper/seeds.json" $results/mnist-paper-recipe-seeds.json
"$python" -m infogan_fast.seeds --n 5 --steps 2000 --amp --out "$out/strokes"
cp "$out/strokes/seeds.json" $results/strokes-five-seeds.json
"$python" benchmarks/image_quality.py "$out"/mnist/seed-? "$out"/mnist-paper/seed-? --json $results/image-quality.json
# The run that was chosen, with an average of the generator's weights.
"$python" -m infogan_fast.seeds --n 1 --first-seed 4 "${mnist[@]}" --ema 0.999 --out "$out/mnist-ema"
"$python" benchmarks/image_quality.py "$out"/mnist{,-ema}/seed-4 --json $results/image-quality-moving-average.json
