# Everything runs in .venv from pinned versions; only Python >= 3.10 has to be there.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test test-all bench check docs lock clean

demo: .venv/core
	$(BIN)/sharpzo demo

test: .venv/test check docs
	$(BIN)/python -m pytest

test-all: .venv/test check
	$(BIN)/python -m pytest -m "slow or not slow"

# Speed and memory on this machine, into benchmarks/results (half an hour, wants to be alone).
bench: .venv/test
	$(BIN)/python benchmarks/text_speed.py savings
	$(BIN)/python benchmarks/text_speed.py engines
	$(BIN)/python benchmarks/text_speed.py engines --threads 1 --processor --classes 10 --calls 32 --suffix=-bfloat16
	$(BIN)/python benchmarks/text_speed.py batches
	$(BIN)/python benchmarks/text_speed.py generation
	$(BIN)/python benchmarks/class_chunks.py
	$(BIN)/python benchmarks/integer_products.py
	$(BIN)/python benchmarks/search_overhead.py
	$(BIN)/python benchmarks/tangents.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/image_precisions.py
	$(BIN)/python benchmarks/heads.py
	$(BIN)/python benchmarks/whole_path.py
	$(BIN)/python benchmarks/whole_path.py --cold
	$(BIN)/python benchmarks/photo_limits.py
	$(BIN)/python benchmarks/page.py --write

check: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# The documentation site into site/; a warning, such as a link to nothing, is an error.
docs: .venv/test
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

.venv/python:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 10), "sharpzo needs Python 3.10 or newer, this is " + sys.version'
	$(PYTHON) -m venv .venv
	touch $@

.venv/core: .venv/python requirements/core.lock pyproject.toml
	$(PIP) --require-hashes -r requirements/core.lock
	$(PIP) --no-deps -e .
	touch $@

# The reference lock leaves out torch's CUDA packages: pip adds them where the torch it picks asks
# for them, and a machine with a CPU build of torch stays small.
.venv/test: .venv/core requirements/test.lock requirements/reference.lock
	$(PIP) --require-hashes -r requirements/test.lock
	$(PIP) -r requirements/reference.lock
	touch $@

UV := $(BIN)/uv pip compile --quiet --universal --python-version 3.10 --no-header --no-emit-index-url
lock: .venv/python
	$(PIP) uv
	$(UV) --generate-hashes pyproject.toml -o requirements/core.lock
	$(UV) --generate-hashes --extra test -c requirements/core.lock pyproject.toml -o requirements/test.lock
	$(UV) --no-annotate --extra reference -c requirements/test.lock pyproject.toml -o requirements/reference.lock
	sed -i -E '/^(nvidia|cuda|triton)/d' requirements/reference.lock

clean:
	rm -rf .venv build dist site
