# The commands of the book, the same for people, .ci/run and GitHub.

PYTHON ?= python3
PORT ?= 8000
CHROMIUM ?= /usr/bin/chromium
export CHROMIUM
export JAX_PLATFORMS = cpu
# Two cores shared with XLA: more threads wait for each other, and cost up to thirty times as much.
export OPENBLAS_NUM_THREADS = 1
# Most of a chapter's time is compilation, most of it the same each time: kept until make clean.
export JAX_COMPILATION_CACHE_DIR = $(CURDIR)/_build/compiled
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS = 0

# A Python named by the user is taken or refused; the default may be replaced by a supported one.
ifeq ($(origin PYTHON),file)
PYTHONS = $(PYTHON) python3.13 python3.12 python3.11
else
PYTHONS = $(PYTHON)
endif

BIN = .venv/bin
# Written last, so that an interrupted installation is begun again.
READY = .venv/.ready
CHAPTERS = $(wildcard chapters/*.ipynb)

.DEFAULT_GOAL := help
.PHONY: help book test check lab serve chapters mutants bench clean

help: ## Explain the targets
	@echo "make TARGET, where TARGET is one of"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1:\2/p' $(MAKEFILE_LIST) | while IFS=: read -r name told; do printf '  %-9s %s\n' "$$name" "$$told"; done
	@echo "The first one installs the locked packages into .venv (PYTHON=$(PYTHON); 3.11 to 3.13)."

book: $(READY) ## Build the book and say where to open it
	@$(BIN)/python tools/build.py

test: $(READY) ## Run everything that CI runs
	@$(BIN)/python tools/check.py

check: $(READY) ## Run the fast part of the tests, in less than a minute
	@$(BIN)/python tools/check.py --fast

lab: $(READY) ## Open the chapters in JupyterLab
	@$(BIN)/jupyter lab --notebook-dir=chapters $(if $(filter 0,$(shell id -u)),--allow-root)

serve: $(READY) ## Serve the built book on localhost (PORT=8000)
	@test -f _build/html/index.html || $(MAKE) --no-print-directory book
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

chapters: $(CHAPTERS:chapters/%.ipynb=_build/executed/%) ## Execute again, in place, the chapters that changed

mutants: $(READY) ## Count the random mutants of each module that tests and claims kill
	@$(BIN)/python tools/mutants.py $(MUTANTS)

bench: $(READY) ## Time the library beside others (up to hours; the peer needs Python 3.9 to 3.12)
	@$(BIN)/python benchmarks/gram.py --out chapters/data/gram.json
	@$(BIN)/python benchmarks/tangent.py --out chapters/data/tangent.json
	@OPENBLAS_NUM_THREADS=2 $(BIN)/python benchmarks/solve.py --out chapters/data/solve.json --checkpoint _build/million

clean: ## Remove what was built; .venv stays
	rm -rf _build build .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

_build/executed/%: chapters/%.ipynb ntklib/*.py ntklib/moving.* requirements.txt | $(READY)
	@$(BIN)/python tools/execute.py $<
	@mkdir -p $(@D) && touch $@

$(READY): requirements.txt
	@python=$$(sh tools/find_python.sh $(PYTHONS)) && \
	echo "Installing the locked packages into .venv for $$($$python --version)" && \
	rm -rf .venv && $$python -m venv .venv && \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt && \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e . && \
	touch $@
