#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: builds both libraries for it, runs the GPU tests, runs compute-sanitizer over the
# operators' cases, lists the kernels of an iteration, and runs the benchmarks. Results, logs and checks.json (the
# outcome of each step) go to the folder $OUT, or to benchmarks/results/DATE-CARD/. Needs no network: Python with PyTorch,
# pytest, pybind11, setuptools and ninja, and nvcc; a test file that imports a missing package (hypothesis, scipy,
# scikit-learn) fails, and the others run. bench_train and bench_recipe run if INFOGAN_FAST_MNIST names the folder of the
# MNIST files. Every step runs even after one has failed; the exit status is 1 if any failed. Tests and sanitizers, which
# time nothing, run at the same time; each benchmark runs alone.
#
#   benchmarks/run_gpu.sh [all|tests|sanitizers|kernels|benchmarks]...      PYTHON=python3.12 to choose the interpreter
set -uo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
[ $# -gt 0 ] || set -- all
for name in "$@"; do
    case $name in all | tests | sanitizers | kernels | benchmarks) ;; *)
        echo "run_gpu.sh: unknown step '$name'; expected all, tests, sanitizers, kernels or benchmarks" >&2
        exit 2
        ;;
    esac
done
wanted() { [[ " $steps_wanted " == *" all "* || " $steps_wanted " == *" $1 "* ]]; }
steps_wanted="$*"
if ! card=$("$python" -c 'import torch; print(torch.cuda.get_device_name())' 2> /dev/null); then
    echo "run_gpu.sh: $python sees no CUDA device (torch.cuda.get_device_name() fails)" >&2
    exit 2
fi
name=$(printf '%s' "$card" | tr '[:upper:]' '[:lower:]' | tr -cs 'a-z0-9' '-' | sed 's|-$||')
results=${OUT:-benchmarks/results/$(date +%F)-$name}
work=$(mktemp -d "${TMPDIR:-/tmp}/infogan-fast-gpu.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$results"
echo "card: $card, results in $results"

steps=$work/steps
: > "$steps"
step() { # step NAME COMMAND...: runs it, keeps its output and its outcome
    local name=$1 start=$SECONDS outcome=passed
    shift
    "$@" > "$results/$name.log" 2>&1 || outcome=failed
    printf '%s\t%s\t%s\n' "$name" "$outcome" "$((SECONDS - start))" >> "$steps"
    printf '\n==== %s: %s after %d s\n%s\n' "$name" "$outcome" "$((SECONDS - start))" "$(tail -n 25 "$results/$name.log")"
}
skipped() { # skipped NAME WHY
    printf '\n==== %s: NOT run: %s\n' "$1" "$2"
    printf '%s\tnot run: %s\t0\n' "$1" "$2" >> "$steps"
}

build() {
    TORCH_CUDA_ARCH_LIST=$("$python" -c 'import torch; print("%d.%d" % torch.cuda.get_device_capability())') \
        INFOGAN_FAST_CUDA=1 "$python" -m pip install -q --no-build-isolation --no-deps --no-index \
        --target "$work/site" . && "$python" -m infogan_fast.info && "$python" - "$work/site" << 'END'
import pathlib
import sys

from infogan_fast.runtime import native

library = pathlib.Path(native.load().__file__)
if not library.is_relative_to(sys.argv[1]):  # one that was built in the source folder comes first
    sys.exit(f"{library} would be tested, not what was just built; delete it")
sys.exit(native.cuda_missing() or native.not_covered(0))
END
}
export PYTHONPATH=$work/site${PYTHONPATH:+:$PYTHONPATH}
step build build

# Only files that have GPU tests: the others may import what such a machine lacks.
mapfile -t files < <(grep -lE 'mark\.gpu|device: torch\.device' -r tests --include='test_*.py')
pytest=("$python" -m pytest -q -m gpu -p no:cacheprovider --continue-on-collection-errors)
if wanted tests; then step tests "${pytest[@]}" "${files[@]}" & fi

# Every tensor has an allocation of its own, so that the sanitizers see the ends of each buffer. Graphs cannot be captured
# then, and the largest grids take long under instrumentation: the plain tests cover both. initcheck has to see the writes
# of PyTorch's kernels too; the other tools look at this project's kernels.
sanitize() { # sanitize TOOL OPTION...
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 "$sanitizer" --tool "$@" --error-exitcode 9 \
        "${pytest[@]}" -x tests/test_gpu.py -k 'not graph and not largest and not stream'
}
if wanted sanitizers; then
    if sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2> /dev/null); then
        step memcheck sanitize memcheck --kernel-regex kns=infogan_fast &
        step racecheck sanitize racecheck --kernel-regex kns=infogan_fast --racecheck-report all &
        step synccheck sanitize synccheck --kernel-regex kns=infogan_fast &
        step initcheck sanitize initcheck &
    else
        for tool in memcheck racecheck synccheck initcheck; do skipped $tool 'compute-sanitizer is not installed'; done
    fi
fi
wait

bench() { # bench NAME SCRIPT OPTION...
    step "$1" "$python" "benchmarks/$2.py" --device cuda --json "$results/$1.json" "${@:3}"
}
if wanted kernels; then bench profile_step profile_step; fi
if wanted benchmarks; then
    bench bench_ops bench_ops
    bench bench_step bench_step
    bench bench_step-sweep bench_step --sweep --rounds 5
    if [ -n "${INFOGAN_FAST_MNIST:-}" ]; then
        bench bench_train bench_train
        bench bench_recipe bench_recipe --updates 5000 --every 1000
    else
        printf '\n==== bench_train, bench_recipe: NOT run: INFOGAN_FAST_MNIST is not set\n'
    fi
fi

"$python" - "$steps" "$results/checks.json" << 'END'
import datetime, json, platform, subprocess, sys
import torch

def first_line(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip().splitlines()[-1]
    except (OSError, IndexError):
        return None

steps = [line.rstrip("\n").split("\t") for line in open(sys.argv[1])]
properties = torch.cuda.get_device_properties(0)
report = {
    "card": properties.name,
    "memory_bytes": properties.total_memory,
    "multiprocessors": properties.multi_processor_count,
    "capability": "%d.%d" % torch.cuda.get_device_capability(),
    "driver": first_line("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
    "nvcc": first_line("nvcc", "--version"),
    "torch": torch.__version__,
    "cuda": torch.version.cuda,
    "python": platform.python_version(),
    "date": datetime.date.today().isoformat(),
    "commit": first_line("git", "describe", "--always", "--dirty", "--abbrev=12"),
    "steps": {name: {"outcome": outcome, "seconds": int(seconds)} for name, outcome, seconds in steps},
}
with open(sys.argv[2], "w") as file:
    json.dump(report, file, indent=1)
    file.write("\n")
print()
for name, outcome, seconds in steps:
    print(f"{name:<14}{outcome:<12}{seconds:>6} s")
END
! grep -qv "$(printf '\tpassed\t')" "$steps"
