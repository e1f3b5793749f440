# Lineside: each target makes what it needs; on a fresh Debian 12 start with `make demo`.
.DEFAULT_GOAL := help
.PHONY: help venv demo test check types oldest imports bench devices clean

OUT ?= demo-out
SUITE ?= bench-suite

BIN := .venv/bin
STAMP := .venv/.installed
DECLARED := constraints.txt requirements-dev.txt scripts/make_venv \
    $(foreach distribution,sdk trainer export firmware_bridge benchmarks,$(distribution)/pyproject.toml)
DEMO_FLAGS := --out '$(OUT)' $(if $(DATA),--data '$(DATA)') $(if $(TARGET),--target '$(TARGET)') \
    $(if $(GROUP),--group '$(GROUP)') $(if $(LIMIT),--limit '$(LIMIT)')

BENCH_FLAGS := $(if $(QUICK),--quick,--out benchmarks/results)

help:  ## Show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "Variables: DATA=folder TARGET=column GROUP=column LIMIT=number OUT=folder (demo);"
	@echo "           QUICK=1 SUITE=folder (bench);"
	@echo "           PYTHON=interpreter, 3.11 or newer, for .venv"

venv: $(STAMP)  ## Make .venv and install everything into it

$(STAMP): $(DECLARED)
	@PYTHON="$(PYTHON)" scripts/make_venv
	@touch $@

demo: $(STAMP)  ## The whole road once: images to verdicts on MQTT [DATA= TARGET= GROUP= LIMIT= OUT=]
	@$(BIN)/python examples/demo.py $(DEMO_FLAGS)

check: $(STAMP)  ## ruff, mypy strict, import-linter
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	@$(MAKE) --no-print-directory --jobs 2 --output-sync types oldest imports

types: $(STAMP)  ## mypy strict, a part of check
	$(BIN)/mypy

# NumPy's stubs are for newer ones, so some of its results are Any.
oldest: $(STAMP)  ## mypy of what runs on devices, as Python 3.10 sees it, a part of check
	$(BIN)/mypy --python-version 3.10 --no-warn-return-any sdk/lineside firmware_bridge/lineside_bridge

imports: $(STAMP)  ## import-linter, a part of check
	$(BIN)/lint-imports --no-logo

test: check  ## check, then every test; a skip counts as a failure
	@scripts/need_debian mosquitto strace softhsm2 libc6-dev libsodium-dev gcc-arm-none-eabi cmake
	@# A file's tests in one worker, one thread each, in the order of tests/conftest.py. Three on two cores: a fifth of the time they wait.
	@# A worker that dies ends the run: with another in its place xdist waits for ever at the end.
	@# Thousands of processes start; where Python may keep no bytecode, each would compile our sources again.
	@$(BIN)/python -m compileall -q sdk trainer export firmware_bridge benchmarks examples
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder --max-worker-restart 0 --durations 20

bench: $(STAMP)  ## Every measurement into benchmarks/results; QUICK=1 is a look that records nothing
	$(BIN)/lineside measure bundles --out '$(SUITE)' $(if $(QUICK),--quick)
	for name in latency footprint line scaling flash; do \
	    $(BIN)/lineside measure $$name '$(SUITE)' $(BENCH_FLAGS) || exit; done
	$(BIN)/lineside measure peers '$(SUITE)' --work '$(SUITE)/environments' $(BENCH_FLAGS)
	$(BIN)/lineside measure training --peers '$(SUITE)/peers' $(BENCH_FLAGS)
	$(if $(QUICK),,$(BIN)/lineside measure readme README.md benchmarks/results)

devices: $(STAMP)  ## Resolve the device's dependencies for Linux aarch64 and print the glibc they need
	@$(BIN)/python scripts/resolve_device.py

clean:  ## Remove what was made: environment, caches, demo output
	rm -rf .venv demo-out bench-suite build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find sdk trainer export firmware_bridge tests examples benchmarks scripts -type d -name __pycache__ -prune -exec rm -rf {} +
