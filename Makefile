# make demo and make test start from a fresh clone with nothing but Python 3.10+ and make.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

comma  := ,
# What `make quick` runs: the rooms between audio and text. Commands, streams and downloads take as long again.
QUICK  := -m "not (torch or slow or program or conformance)" tests/test_investigation.py \
          $(addprefix tests/runtime/,alignment audio model outputs speech text transcription test_import.py test_transcriber.py)
# Processes that share the tests. More than there are cores make nothing faster.
JOBS   ?= 2
# A file is one process's: what its tests share is made once. Files with long tests come first (tests/conftest.py).
SPREAD := -n $(JOBS) --dist loadfile --no-loadscope-reorder
PYTEST := $(BIN)/python -m pytest $(SPREAD)

.DEFAULT_GOAL := help
.PHONY: help demo test tests quick lint format templates test-templates test-programs installed test-wheel test-oldest test-newest conformance bench eval report mini clean

help:            ## list the targets
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/' | column -t -s ':'

# torch is installed first and alone: constraints.txt pins a release, so that no later resolution picks another build.
$(VENV)/.demo: pyproject.toml constraints.txt
	@echo "==> creating $(VENV) and installing the export and audio extras (torch is about 200 MB)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) torch
	@$(PIP) --editable '.[export,quantize,audio]'
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	@echo "==> installing the development tools"
	@$(PIP) --editable '.[dev]'
	@touch $@

$(VENV)/.conformance: $(VENV)/.dev
	@echo "==> installing other people's clients and recognisers"
	@$(PIP) --editable '.[conformance]'
	@touch $@

demo: $(VENV)/.demo    ## export and quantize the miniature checkpoint, transcribe the sample clips
	@$(BIN)/python eval/mini/demo.py

lint: $(VENV)/.dev     ## ruff, mypy --strict, import-linter
	@echo "==> ruff"   && $(BIN)/ruff check . && $(BIN)/ruff format --check .
	@echo "==> mypy"   && $(BIN)/mypy
	@echo "==> import contracts" && $(BIN)/lint-imports

format: $(VENV)/.dev   ## write what ruff can fix and how it formats
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

quick: lint            ## lint, then the quick tests: under a minute
	@echo "==> quick tests"
	@$(PYTEST) $(QUICK)

test: $(VENV)/.dev     ## lint and every test; COV=--cov also measures the share of lines run, not below the floor
	@$(MAKE) --no-print-directory -j2 lint tests    # the type checker keeps one core busy, the tests the other meanwhile

tests: $(VENV)/.dev
	@echo "==> tests"
	@$(PYTEST) $(COV)

test-templates: $(VENV)/.dev   ## whether the graphs that the package brings are those that are traced today; SHAPES="0.6b or mini"
	@$(PYTEST) --dist load -m traced tests/export/test_templates.py $(if $(SHAPES),-k "$(SHAPES)")

test-programs: $(VENV)/.dev    ## the tests that need ffmpeg, the voices, Chromium, node, Xvfb, QEMU or strace, alone
	@$(PYTEST) -m "program and not conformance"

conformance: $(VENV)/.conformance    ## the tests beside other people's clients and recognisers, alone; ONLY="not slow" without frozen apps
	@$(PYTEST) -m "conformance$(if $(ONLY), and $(ONLY))"

# The rooms that look for packages which may be missing, and what stands for the rest.
EXTRAS := $(addprefix tests/runtime/,audio bundle speech commands/test_cli.py test_import.py test_privacy.py test_transcriber.py)

# The rooms that other people's packages stand in: what an old or a new release of one breaks, it breaks here.
OTHERS := $(addprefix tests/runtime/,audio bundle model serving speech text test_import.py test_transcriber.py)

# $(call install-built,NAME,EXTRAS,PIP OPTIONS): the built wheel in an environment of its own.
define install-built
	@rm -rf build/$(1) && mkdir -p build/$(1)
	@$(PYTHON) -m venv build/$(1)/venv
	@build/$(1)/venv/bin/python -m pip --disable-pip-version-check wheel --quiet --no-deps --wheel-dir build/$(1) .
	@build/$(1)/venv/bin/python -m pip --disable-pip-version-check install --quiet $(3) \
	    "$$(ls build/$(1)/*.whl)[$(2)]" pytest pytest-xdist hypothesis httpx2
	@touch $@
endef

# $(call test-built,NAME,TESTS): tests against it.
define test-built
	@rm -rf build/$(1)/tests && cp -r tests build/$(1)/tests && cp pyproject.toml build/$(1)/
	@cd build/$(1) && venv/bin/python -m pytest $(SPREAD) -m "not torch and not conformance and not traced" $(2)
endef

SOURCES := pyproject.toml constraints.txt $(shell find runtime export quantize eval -type f ! -name '*.pyc')
BUILT   := $(foreach name,wheel oldest newest,build/$(name)/installed)

build/wheel/installed: $(SOURCES)
	$(call install-built,wheel,cpu,--constraint constraints.txt)

build/oldest/installed: $(SOURCES)
	@mkdir -p build && $(PYTHON) .ci/lower-bounds >build/oldest.txt
	$(call install-built,oldest,cpu$(comma)audio,--constraint build/oldest.txt)

build/newest/installed: $(SOURCES)
	$(call install-built,newest,cpu$(comma)audio$(comma)serve,)

installed: $(BUILT)    ## the environments of the three targets that follow

test-wheel: build/wheel/installed      ## build the wheel, install it bare with [cpu], run against it what may miss an extra
	@echo "==> the built wheel in a clean environment"
	$(call test-built,wheel,$(EXTRAS))

test-oldest: build/oldest/installed    ## the same with [audio], every dependency at its lower bound: the rooms with other people's packages
	@echo "==> the oldest versions declared"
	$(call test-built,oldest,$(OTHERS))

test-newest: build/newest/installed    ## the same rooms with [audio,serve], every dependency as new as it resolves
	@echo "==> the newest versions"
	$(call test-built,newest,$(OTHERS))

templates: $(VENV)/.demo    ## trace the graphs of the released shapes that the package brings (after a change of what is traced)
	@$(BIN)/python -m qwen3_asr_onnx_export.templates

mini: $(VENV)/.dev     ## train the miniature checkpoints from nothing (under 2 hours on 2 cores; needs espeak-ng)
	@cd eval && ../$(BIN)/python -m mini all

bench: $(VENV)/.dev    ## full-size random checkpoints: export, load, speed and memory beside transformers
	@$(BIN)/qwen3-asr-onnx bench --output build/bench/results.json

eval: $(VENV)/.dev demo    ## evaluate fp32, int4, int8 and fast variants of the demo's bundle on the miniature's test set (needs the voices)
	@$(BIN)/qwen3-asr-onnx quantize build/demo/bundle --recipe int8 --overwrite
	@$(BIN)/qwen3-asr-onnx quantize build/demo/bundle --recipe fast --overwrite
	@$(BIN)/qwen3-asr-onnx eval build/demo/bundle --output build/eval/mini \
	    --system "transformers float32=transformers:tests/data/mini-asr@float32"

report: $(VENV)/.dev   ## make the README's tables again from the saved results
	@$(BIN)/qwen3-asr-onnx report eval/results/mini-eval.jsonl.gz --into README.md
	@$(BIN)/qwen3-asr-onnx bench --report eval/results/bench.json --into README.md

clean:           ## remove the virtual environment and everything built
	rm -rf $(VENV) build dist
