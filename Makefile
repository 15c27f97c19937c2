# Every chore of this repository, by name.  `make` alone lists them.
#
# A fresh machine needs Python 3.11 or newer, a C compiler and make.  Everything else comes from the
# project's own files through pip, into .venv: CMake and Ninja too, where the system has none.
#
#   .venv/.package    the package is installed, editable: Python files are used where they lie, and
#                     a change of C or of the build brings a new build of what it touches
#   .venv/.dev        and the tools that the checks need (the extra "dev" of pyproject.toml)
#   build/PRESET      the engine alone, by native/CMakePresets.json
#
# `make test` runs quick things first, so that a slip is seen in seconds.  Each step says its name
# before and its time after; the first that fails ends the run.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
FUZZ_SECONDS ?= 60
FAST_FUZZ_SECONDS ?= 20
DEMO_OPTIONS ?=
BENCH_OPTIONS ?=
PYTEST_OPTIONS ?=

# CMake and Ninja of .venv, where there are any, before the system's.
WITH_TOOLS := export PATH="$(CURDIR)/$(BIN):$$PATH"

C_FILES = $(sort $(wildcard native/*/*.[ch] native/*/*/*.[ch] tests/native/*.[ch] src/stratalog/*.c \
	src/stratalog/core/zookeeper/fast/*.[ch] src/stratalog/wire/zookeeper/*.c \
	src/stratalog/server/zookeeper/*.c))
BUILD_FILES = pyproject.toml CMakeLists.txt native/CMakeLists.txt \
	$(sort $(wildcard native/include/* native/src/* native/bench/* src/stratalog/*.c \
	src/stratalog/core/zookeeper/fast/* src/stratalog/wire/zookeeper/*.c \
	src/stratalog/server/zookeeper/*.c src/stratalog/_ffi_build.py))

# $(call step,NAME,COMMANDS): say the name, do it, say how long it took.
define step
@printf '\n\033[1m== %s\033[0m\n' "$(1)"; SECONDS=0; $(2); printf '== %s: %d s\n' "$(1)" "$$SECONDS"
endef

# $(call quietly,LOG,COMMAND): show what a command printed only if it failed.
define quietly
$(2) >$(1) 2>&1 || { cat $(1); exit 1; }
endef

# $(call native,PRESET): configure, build and test the engine alone.  ThreadSanitizer cannot place its
# shadow memory where the kernel scatters maps widely, so its tests run without that, where allowed.
define native
$(WITH_TOOLS); mkdir -p build/$(1); \
$(call quietly,build/$(1)/configure.log,cmake --preset $(1) -S native); \
$(call quietly,build/$(1)/build.log,cmake --build build/$(1) --parallel $(JOBS)); \
steady=; \
if [ $(1) = tsan ] && setarch "$$(uname -m)" -R true 2>/dev/null; then steady="setarch $$(uname -m) -R"; fi; \
$$steady ctest --test-dir build/$(1) --output-on-failure --no-tests=error --parallel $(JOBS)
endef

.PHONY: help demo test build dev lint format house native-test asan tsan fuzz-quick pytest \
	trials-quick bench coverage clean fast-asan

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.package ## build, then see it work on a million real records
	@$(BIN)/stratalog demo $(DEMO_OPTIONS)

test: dev lint house native-test asan tsan fuzz-quick fast-asan pytest trials-quick ## everything that must hold before a commit
	@printf '\n\033[1mAll checks passed.\033[0m\n'

build: $(VENV)/.package ## install the package, editable, into .venv

dev: $(VENV)/.dev

# ---- the environment -----------------------------------------------------------------------------

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "stratalog needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
			"Say which one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@command -v cc >/dev/null || command -v gcc >/dev/null || command -v clang >/dev/null || { \
		echo "stratalog needs a C compiler: install gcc or clang." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot make a virtual environment; on Debian: apt install python3-venv" >&2; \
		exit 1; }

# The build runs in .venv itself (no isolation), so that the next one finds the same CMake again and
# compiles only what changed.  What it needs is read from pyproject.toml and written down nowhere else.
$(VENV)/.tools: $(BIN)/python pyproject.toml
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		| $(PIP) install --requirement /dev/stdin
	@cmake --version 2>/dev/null | grep -qE 'version (3\.(2[1-9]|[3-9][0-9])|[4-9]|[1-9][0-9])' || $(PIP) install cmake
	@command -v ninja >/dev/null || $(PIP) install ninja
	@touch $@

$(VENV)/.package: $(VENV)/.tools $(BUILD_FILES)
	$(call step,build,$(WITH_TOOLS); $(PIP) install --no-build-isolation --editable .)
	@touch $@

$(VENV)/.dev: $(VENV)/.package
	$(call step,tools,$(WITH_TOOLS); $(PIP) install --no-build-isolation --editable '.[dev]')
	@touch $@

# ---- the checks, quick ones first ------------------------------------------------------------------

lint: $(VENV)/.dev ## ruff, clang-format, mypy; nothing is changed
	$(call step,ruff check,$(BIN)/ruff check --quiet .)
	$(call step,ruff format,$(BIN)/ruff format --quiet --check .)
	$(call step,clang-format,$(BIN)/clang-format --dry-run --Werror $(C_FILES))
	$(call step,mypy,$(BIN)/mypy)

format: $(VENV)/.dev ## lay out Python and C as lint wants it
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .
	@$(BIN)/clang-format -i $(C_FILES)

house: $(VENV)/.dev ## import arrows, essays, lengths of files
	$(call step,house,$(BIN)/python -m pytest --quiet tests/test_house.py)

native-test: $(VENV)/.tools ## the engine's own tests, as shipped
	$(call step,native release,$(call native,release))

asan: $(VENV)/.tools ## the engine's tests under AddressSanitizer and UndefinedBehaviorSanitizer
	$(call step,native asan-ubsan,$(call native,asan-ubsan))

tsan: $(VENV)/.tools ## the engine's tests under ThreadSanitizer
	$(call step,native tsan,$(call native,tsan))

fuzz-quick: $(VENV)/.tools ## every fuzzer for FUZZ_SECONDS, from its seeds (needs clang)
	$(call step,fuzz,$(fuzz))

# libFuzzer is part of clang; its runtime is a package of its own in some distributions.
define fuzz
$(WITH_TOOLS); probe=$$(mktemp -d); trap 'rm -rf "$$probe"' EXIT; \
echo 'int LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n); \
int LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n) { return d == 0 && n == 1; }' >"$$probe/probe.c"; \
if ! command -v clang >/dev/null; then \
	echo "skipped: there is no clang (Debian: apt install clang)"; \
elif ! clang -fsanitize=fuzzer,address,undefined "$$probe/probe.c" -o "$$probe/probe" 2>"$$probe/why"; then \
	echo "skipped: clang has no fuzzer runtime (Debian: apt install libclang-rt-dev)"; head -n 2 "$$probe/why"; \
elif [ -z "$(wildcard native/fuzz/fuzz_*.c)" ]; then \
	echo "skipped: native/fuzz has no fuzzers"; \
else \
	mkdir -p build/fuzz; \
	$(call quietly,build/fuzz/configure.log,cmake --preset fuzz -S native); \
	$(call quietly,build/fuzz/build.log,cmake --build build/fuzz --parallel $(JOBS) --target $(notdir $(basename $(wildcard native/fuzz/fuzz_*.c)))); \
	for source in native/fuzz/fuzz_*.c; do \
		name=$$(basename "$$source" .c); corpus="build/fuzz/corpus/$$name"; mkdir -p "$$corpus"; \
		seeds=; if [ -d "native/fuzz/seeds/$$name" ]; then seeds="native/fuzz/seeds/$$name"; fi; \
		"build/fuzz/$$name" -max_total_time=$(FUZZ_SECONDS) -timeout=5 -rss_limit_mb=2048 \
			-artifact_prefix=build/fuzz/ -print_final_stats=1 "$$corpus" $$seeds \
			2>"build/fuzz/$$name.log" || { tail -n 60 "build/fuzz/$$name.log"; exit 1; }; \
		echo "$$name: $$(grep -oE 'number_of_executed_units: +[0-9]+' "build/fuzz/$$name.log" | grep -oE '[0-9]+') inputs"; \
	done; \
fi
endef

fast-asan: $(VENV)/.dev ## the coordination service's C: sanitizers, a fuzzer for FAST_FUZZ_SECONDS, planted bugs
	$(call step,coordination service in C,$(BIN)/python tests/core/sanitized.py all --seconds $(FAST_FUZZ_SECONDS))

pytest: $(VENV)/.dev ## the Python tests, long trials excepted
	$(call step,pytest,$(BIN)/python -m pytest --quiet -m 'not trial' --ignore=tests/test_house.py $(PYTEST_OPTIONS))

# ---- longer things ---------------------------------------------------------------------------------

trials-quick: $(VENV)/.dev ## crash, damage and full-disk trials, a short round of each
	$(call step,trials,$(BIN)/python -m pytest --quiet -m trial $(PYTEST_OPTIONS))

bench: $(VENV)/.dev ## floors, this engine and its peers, side by side
	@$(BIN)/stratalog bench $(BENCH_OPTIONS)

coverage: $(VENV)/.dev ## lines and branches that the tests reach, in Python and in C
	@$(PIP) install pytest-cov
	$(call step,coverage of Python,$(BIN)/python -m pytest --quiet -m 'not trial' --cov=stratalog --cov-branch \
		--cov-report=term-missing:skip-covered $(PYTEST_OPTIONS))
	$(call step,coverage of C,$(call native,coverage); \
		cd build/coverage; find . -name '*.gcda' -path '*stratalog.dir*' -exec gcov --branch-probabilities {} + \
		| grep -A3 "native/src/.*\.c'")

clean: ## remove everything that can be made again
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
