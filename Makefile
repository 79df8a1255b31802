# make demo   restore a bundled photo, offline, into demo/
# make test   run the tests
# make lint   ruff and mypy
# Each sets up .venv by itself; only what changed is done again.

PYTHON ?= python3
TORCH_INDEX ?= # a URL; empty = pip's own
BIN := .venv/bin
READY := .venv/.ready
DEV_READY := .venv/.dev-ready

.PHONY: demo test lint clean

demo: $(READY)
	$(BIN)/quantface demo --output demo

# A process a core, for most tests keep only one busy; a file's tests stay together, for what they share.
test: $(DEV_READY)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

# The pack has the name that its folder has, and the nodes import the library relative to it: mypy sees both by one.
lint: $(DEV_READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@mkdir -p build/pack && ln -sfn "$(CURDIR)" build/pack/quantface_pack
	$(BIN)/mypy -p quantface_pack.nodes -p quantface_pack.quantface_webui -p quantface_pack.quantface_core
	MYPYPATH=benchmarks $(BIN)/mypy --explicit-package-bases benchmarks/*.py
	MYPYPATH=training $(BIN)/mypy --explicit-package-bases training/*.py

# torch first and pinned. On Linux, pip's own choice brings gigabytes of CUDA packages; PyTorch's CPU index does not.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt torch $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

# Spandrel without what it needs: PyPI's torchvision is not for a CPU build of torch, and the tests stand in for it.
$(DEV_READY): $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .[dev]
	$(BIN)/python -m pip install --quiet --no-deps "spandrel>=0.4" "spandrel-extra-arches>=0.2" "einops>=0.8"
	touch $@

clean:
	rm -rf .venv demo build *.egg-info
