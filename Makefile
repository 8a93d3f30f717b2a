PYTHON ?= python
SOURCES = find csrc tests -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh'
.PHONY: build test lint ci bench

build: ; $(PYTHON) -m pip install --no-build-isolation --no-deps --editable .
test: ; $(PYTHON) -m pytest -q
lint: ; ruff check . && ruff format --check . && mypy && $(SOURCES) | xargs clang-format --dry-run -Werror
ci: ; PYTHON=$(PYTHON) .ci/run
bench: ; $(PYTHON) benchmarks/bench_ops.py && $(PYTHON) benchmarks/bench_step.py
