# `make demo` and `make test` are the two to know: whichever comes first makes .venv from nothing.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
EXTRAS := train,cpu,rtx,cuda,bench,serve,keras,data,test

.PHONY: demo pages test trust ray-test wheels wheel-check oldest lock supply lint format gpu-check soak load clean

# The demo: train, export, compare, write - at most three minutes of work on two cores.
demo: $(READY)
	$(BIN)/p2 demo

# The HTML pages of the finished reports, from their JSON; git keeps none of them.
pages: $(READY)
	$(BIN)/p2 bench render $(wildcard artifacts/bench/*.json)
	$(BIN)/p2 practical report

# The whole test suite.
test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal $(PYTEST_ARGS)

# What p2 promises, tried: kills, faults, hostile files, threads, planted mistakes. Some minutes on two cores; writes
# artifacts/trust/report.json and .md.
# atheris, which one of the checks needs, is for Linux on x86-64.
CHECKS = $(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: atheris==3.0.0 || \
  echo "no atheris: what it guides is skipped"; $(BIN)/python -m pytest -n 2 --dist worksteal tests/trust/check_*.py
trust: $(READY)
	$(CHECKS) --trust-report artifacts/trust/report.json $(TRUST_ARGS)

# What runs on Ray: a worker killed among 100,000 prompts, too. Ray is 500 MB and a minute to install, so .venv has it
# only from here on; until then `make test` skips what needs it.
ray-test: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt 'ray[data,serve]'
	$(BIN)/python -m pytest tests/ray tests/ray/check_large.py $(PYTEST_ARGS)

# What would be published, in dist/: the source distribution, and a wheel for each kind of processor. Prints their SHA-256.
wheels: $(READY)
	$(BIN)/python docs/wheels.py dist

# The same built twice, and what a stranger does with it: away from here, without a compiler. A minute; downloads nothing.
wheel-check: $(READY)
	$(BIN)/python -m pytest tests/check_wheel.py

# Engines, exporter and proof with the oldest versions that pyproject.toml admits, in an environment of their own: some
# minutes. `make test` has the newest.
OLDEST := build/oldest/bin/python
oldest:
	$(PYTHON) -m venv --clear build/oldest
	$(OLDEST) -m pip install --quiet --disable-pip-version-check --constraint constraints-oldest.txt --editable '.[train,cpu,serve,keras,data]' pytest pytest-xdist hypothesis
	$(OLDEST) -m pytest -n 2 --dist worksteal tests/contract tests/importing tests/parity tests/export/test_graph.py \
	  tests/export/test_matvec.py tests/export/test_exporter.py tests/runtime/native tests/runtime/onnxruntime \
	  tests/runtime/test_decoder.py $(PYTEST_ARGS)

# requirements.lock: the versions of constraints.txt, with the hashes of every file that PyPI has of them; but for torch,
# whose builds (+cpu, +cu130) have a hash each, and come from elsewhere.
SUPPLY := build/supply
TOOLS  := $(SUPPLY)/env/bin
lock: $(TOOLS)/uv
	sed -n '1,/^[^#]/{/^#/p}' requirements.lock > $(SUPPLY)/head
	$(TOOLS)/uv pip compile --quiet --no-deps --no-header --no-annotate --generate-hashes --no-emit-package torch \
	  --python-version 3.11 constraints.txt --output-file $(SUPPLY)/lock
	cat $(SUPPLY)/head $(SUPPLY)/lock > requirements.lock

# Of what is installed here: licences, a bill of materials (CycloneDX), and what PyPI knows to be vulnerable. Only the last
# asks PyPI, and says for how many packages it had no answer: nothing is known of those.
supply: $(READY) $(TOOLS)/uv
	$(TOOLS)/pip-licenses --python $(BIN)/python --format markdown --output-file $(SUPPLY)/licences.md
	$(TOOLS)/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml --output-reproducible --output-file $(SUPPLY)/sbom.json
	$(TOOLS)/pip-audit --disable-pip --require-hashes --requirement requirements.lock > $(SUPPLY)/audit.txt 2>&1; status=$$?; \
	  grep -v 'could not be audited' $(SUPPLY)/audit.txt; \
	  echo "PyPI had no answer for $$(grep -c 'could not be audited' $(SUPPLY)/audit.txt) of $$(grep -c '^[^#].*==' requirements.lock) packages"; \
	  exit $$status

$(TOOLS)/uv:
	$(PYTHON) -m venv $(SUPPLY)/env
	$(TOOLS)/pip install --quiet --disable-pip-version-check uv==0.13.9 cyclonedx-bom==7.5.0 pip-licenses==5.5.5 pip-audit==2.10.1

# Style, and types as strict as they go: p2's own, and those that a user's program meets (tests/typed_user.py).
# mypy looks for a folder called p2; the repository's root is that package under another name.
lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p $(VENV)/types && ln -sfn $(CURDIR) $(VENV)/types/p2
	cd $(VENV)/types && ../../$(BIN)/mypy --config-file $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/.mypy_cache -p p2 -m p2.tests.typed_user

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Every check that needs an NVIDIA GPU, in one go; writes artifacts/gpu/<name of the GPU>.json and .md. Needs no
# network where PYTHON has a torch that reaches the GPU: then that one runs it, else .venv does.
gpu-check:
	if $(PYTHON) -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; \
	then $(PYTHON) gpu_check $(GPU_CHECK_ARGS); \
	else $(MAKE) $(READY) && $(BIN)/python gpu_check $(GPU_CHECK_ARGS); fi

# The checks of `make trust` fifty times as long, with an hour of mixed load on a server among them: some hours. Writes
# artifacts/trust/soak.json and .md, and the tables of docs/trust.md, docs/mutants.md and docs/parity.md. With
# TRUST_ARGS='--trust-minutes 70' it does as much of each as it has time for.
soak: $(READY)
	$(CHECKS) --trust-report artifacts/trust/soak.json --trust-scale 50 --trust-seed $$(date +%s) $(TRUST_ARGS); \
	code=$$?; $(BIN)/python tests/trust/report.py artifacts/trust/soak.json docs/trust.md docs/mutants.md docs/parity.md; exit $$code

# What a server of MODEL does under load; writes artifacts/serve/load.json and .md. On a machine with nothing else to do.
MODEL ?= charlm.onnx
load: $(READY)
	$(BIN)/python -m p2.serve.load $(MODEL) $(LOAD_ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml setup.py constraints.txt $(wildcard runtime/native/*.[ch] runtime/native/*/*.[ch])
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "p2 needs Python 3.11 or newer: make PYTHON=python3.12")'
	@echo "Installing p2 into $(VENV): PyTorch, TensorRT-RTX and others, about 1.9 GB; one to five minutes, once."
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@
