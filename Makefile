# `make run` does the main job from nothing, `make test` runs all tests; both make their environment first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test proof bench browser pins sbom clean

run: $(VENV)/installed
	$(BIN)/python tools/quickstart.py

test: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not long" tests  # a file's fixtures are made once

bench: $(VENV)/installed
	$(BIN)/python tools/benchmark.py --batch_size=32
	$(BIN)/python tools/benchmark.py --batch_size=32 --precision=mixed_bfloat16

# The long proofs, with other frameworks as witnesses; docs/measurements holds what they print. All of
# them, or one: `make proof PART=field` runs tests/proof/test_field.py. The parts are backends, browser,
# cluster, edge, examples, field, fuzz, hostile, learning, mediapipe, notebook, pages, pictures,
# reproduce, serving_abuse, slurm, stops, supply, survival, trunk and weights; that of the browser needs
# npm and Chromium, those of cluster and slurm root, and that of slurm Slurm. One more, long, is what
# tests/ marks as too long for make test.
PROOFS := $(if $(PART),$(if $(filter long,$(PART)),-m long tests,tests/proof/test_$(PART).py),tests/proof)
proof: $(VENV)/installed .venv-proof/installed $(if $(filter-out notebook,$(PART)),,.venv-notebook/installed) $(if $(filter-out browser mediapipe,$(PART)),,.venv-mediapipe/installed examples/browser/node_modules) $(if $(filter-out fuzz,$(PART)),,.venv-fuzz/installed) $(if $(filter-out supply,$(PART)),,.venv-audit/installed)
	@$(if $(filter-out browser,$(PART)),,command -v chromium > /dev/null || { echo "make proof needs Chromium on the path (Debian: apt install chromium)." >&2; exit 2; })
	$(BIN)/python -m pytest -s $(PROOFS)
	$(if $(PART),,$(BIN)/python -m pytest -m long tests)

# Brings the LiteRT web runtime, of the version in package-lock.json, beside the page.
browser: $(VENV)/installed examples/browser/node_modules
	@echo "Now: $(BIN)/alexnet serve-page --model=FILE.tflite"

examples/browser/node_modules: examples/browser/package-lock.json
	@command -v npm > /dev/null || { echo "npm is needed (Debian: apt install npm)." >&2; exit 2; }
	cd examples/browser && npm ci
	@touch $@

.venv-proof/installed: constraints.txt $(VENV)/installed
	$(BIN)/python -m pip install --quiet --no-build-isolation --constraint constraints.txt --editable '.[proof]'
	$(PYTHON) -m venv .venv-proof
	.venv-proof/bin/python -m pip install --quiet --constraint constraints.txt keras jax torch opencv-python-headless \
		pillow simplejpeg safetensors onnx onnxruntime requests tqdm \
		tree-sitter tree-sitter-go tree-sitter-java tree-sitter-kotlin tree-sitter-swift
	@touch $@

# Apart, because it brings another OpenCV.
.venv-mediapipe/installed: constraints.txt
	$(PYTHON) -m venv .venv-mediapipe
	.venv-mediapipe/bin/python -m pip install --quiet --constraint constraints.txt mediapipe
	@touch $@

# The package as pip installs it, and Jupyter.
.venv-notebook/installed: setup.py constraints.txt $(shell git ls-files alexnet_tf examples/browser 2>/dev/null)
	$(PYTHON) -m venv .venv-notebook
	.venv-notebook/bin/python -m pip install --quiet --constraint constraints.txt '.[serving]' nbconvert ipykernel
	@touch $@

# The list of what make installs, in CycloneDX's format: sbom.json.
sbom: $(VENV)/installed .venv-audit/installed
	.venv-audit/bin/cyclonedx-py environment --output-reproducible --of JSON -o sbom.json $(BIN)/python

# What make installs, of the versions in constraints.txt, with the hashes of all files that the index has.
pins: .venv-audit/installed
	sed '/^# Of the proofs/,$$d' constraints.txt | .venv-audit/bin/uv pip compile --quiet --no-config --no-deps --universal --python-version 3.11 \
		--generate-hashes --no-annotate --custom-compile-command 'make pins' --output-file requirements.txt -

.venv-audit/installed: constraints.txt
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet --constraint constraints.txt pip-audit cyclonedx-bom uv
	@touch $@

# The fuzzer beside what the tests have: it is built for Linux alone.
.venv-fuzz/installed: constraints.txt $(VENV)/installed
	$(PYTHON) -m venv .venv-fuzz
	.venv-fuzz/bin/python -m pip install --quiet --constraint constraints.txt atheris
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > \
		$$(.venv-fuzz/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/tests.pth
	@touch $@

# Two steps, because pip takes no hashes beside --editable. Its build system comes first: promise is
# built here, and what builds it is to have a hash as well.
$(VENV)/installed: setup.py requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is $(PYTHON). Try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	sed -n '/^setuptools==/,/[^\\]$$/p' requirements.txt | $(BIN)/python -m pip install --quiet --require-hashes --requirement /dev/stdin
	$(BIN)/python -m pip install --quiet --no-build-isolation --require-hashes --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --no-build-isolation --no-deps --editable .
	@touch $@

clean:
	rm -rf build $(VENV) .venv-proof .venv-mediapipe .venv-notebook .venv-fuzz .venv-audit sbom.json examples/browser/node_modules *.egg-info edge/*.egg-info edge/build
