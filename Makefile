# Each target builds what it needs in .venv, from nothing. PYTHON chooses the interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# uv links files from its cache: an environment takes seconds, where pip takes minutes
UV := .uv/bin/uv
UV_PIP := $(UV) --quiet pip install
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
export UV_PYTHON_DOWNLOADS ?= never
SOURCES := $(shell find adapters plugins cli -name '*.py' -o -name '*.pyi' | sed 's/ /\\ /g')

# what many processes import is compiled once
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo docs site notebooks examples browser test test-all test-ray check bench-rows bench-pool bench-serving bench-serving-adapters bench-few-rows bench-few-shot bench-embeddings bench-time-to-accuracy packages installs fuzz mutants kernels clean

# the link tree of a strict editable install holds the files that there were, so a new file needs it again
$(VENV)/.installed: pyproject.toml constraints.txt $(SOURCES) | $(UV)
	@test -x $(BIN)/python || { echo "making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing adapterkit and what it needs into $(VENV)"
	@$(UV_PIP) --python $(BIN)/python --constraint constraints.txt --editable '.[demo,dev,tune]'
	@touch $@

$(UV):
	@$(PYTHON) -m venv .uv
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9

# every page runs its commands again: DATA is a folder with the data sets and bases that pages name
docs: $(VENV)/.installed
	@$(BIN)/python benchmarks/figures.py
	@$(BIN)/python docs/refresh.py $(if $(DATA),--data $(DATA))
	@$(BIN)/python docs/terminal.py
	@$(BIN)/python -m benchmarks.pictures

# the site, in build/html: no warning is allowed, and nothing is fetched; its tools are in an environment of their own
.site/.installed: docs/site/requirements.txt | $(UV)
	@$(PYTHON) -m venv .site
	@$(UV_PIP) --python .site/bin/python --requirement docs/site/requirements.txt
	@touch $@

site: export NO_MKDOCS_2_WARNING = 1
site: $(VENV)/.installed .site/.installed
	@$(BIN)/python docs/site/stage.py build/site build/html
	@PATH="$(CURDIR)/.site/bin:$$PATH" .site/bin/mkdocs build --quiet --strict --config-file build/site/mkdocs.yml
	@echo "build/html/index.html"

# the built wheel with the extras that notebooks and examples name, and no source
.package/.installed: dist/.built | $(UV)
	@rm -rf .package && $(PYTHON) -m venv .package
	@$(UV_PIP) --python .package/bin/python --constraint constraints.txt "$$(echo dist/adapterkit-*.whl)[demo,report,serve]" pytest nbclient==0.11.0 nbformat==5.11.1 ipykernel==7.4.0
	@touch $@

# executes examples/notebooks and writes their outputs, which the site shows
notebooks: .package/.installed
	@.package/bin/python docs/notebooks.py

# every folder of examples/ with a run.sh or with tests
examples: .package/.installed
	@UV="$(abspath $(UV))" .package/bin/python release/examples.py

# examples/browser as a folder to serve; npm checks its packages by the hashes of package-lock.json
browser: build/browser/page.js

build/browser/page.js: $(wildcard examples/browser/*.* examples/browser/src/*)
	@mkdir -p .browser build/browser
	@cp -r examples/browser/package.json examples/browser/package-lock.json examples/browser/src .browser
	@cd .browser && npm ci --ignore-scripts --no-audit --no-fund --silent
	@cd .browser && npm run --silent build -- --outfile=../build/browser/page.js
	@cp examples/browser/index.html examples/browser/page.css build/browser
	@cp .browser/node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm build/browser
	@touch $@

demo: $(VENV)/.installed
	@mkdir -p .demo
	cd .demo && ../$(BIN)/adapt run --strategy lora --epochs 4
	cd .demo && ../$(BIN)/adapt run --strategy head-only --epochs 3
	cd .demo && ../$(BIN)/adapt run --strategy layerwise --top 2 --epochs 2
	cd .demo && ../$(BIN)/adapt list
	cd .demo && ../$(BIN)/adapt predict sentiment-lora "The soup was cold and so was the waiter." "I'd stay here again tomorrow."

# openai's client and axe-core for tests/serving, where they are installed
.clients/.installed:
	@$(PYTHON) -m venv .clients
	@.clients/bin/python -m pip install --quiet --disable-pip-version-check openai==3.57.0
	@npm install --silent --no-audit --no-fund --prefix .clients axe-core@4.14.1 || echo "no axe-core" >&2
	@touch $@

test test-all: export OPENAI_PYTHON ?= $(if $(wildcard .clients/.installed),$(CURDIR)/.clients/bin/python)
test test-all: export AXE ?= $(wildcard $(CURDIR)/.clients/node_modules/axe-core/axe.min.js)
# without what is marked as slow: further families and combinations, and what takes several seconds
test: $(VENV)/.installed
	@$(BIN)/python -m pytest -n 3 --dist worksteal -m 'not slow'

test-all: $(VENV)/.installed
	@$(BIN)/python -m pytest -n 3 --dist worksteal

# what needs Ray (485 MB) or an S3 server, in an environment of its own; several raylets on loopback, about five minutes
.ray/.installed: pyproject.toml constraints.txt $(SOURCES) | $(UV)
	@test -x .ray/bin/python || $(PYTHON) -m venv .ray
	@$(UV_PIP) --python .ray/bin/python --constraint constraints.txt --editable '.[demo,dev,tune,ray,remote]' 'moto[server]' kubernetes-validate
	@touch $@

test-ray: .ray/.installed
	@.ray/bin/python -m pytest tests/cluster tests/store/test_remote.py

check: $(VENV)/.installed
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@cd benchmarks && $(abspath $(BIN))/mypy --config-file mypy.ini *.py

# against transformers, on one thread: DATA is the folder with the data sets
bench-pool: $(VENV)/.installed
	@$(BIN)/python benchmarks/pool_pass.py --data $(DATA) --out docs/figures/pool_pass.json
	@$(BIN)/python benchmarks/figures.py

# against FastAPI, onnxruntime and OpenVINO, the first and the last in folders of their own
bench-serving: $(VENV)/.installed
	@test -d .rivals/fastapi || $(BIN)/python -m pip install --quiet --disable-pip-version-check --target .rivals/fastapi fastapi uvicorn
	@test -d .rivals/openvino || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target .rivals/openvino openvino || rm -rf .rivals/openvino
	@$(BIN)/python -m benchmarks.serving --fastapi .rivals/fastapi --openvino .rivals/openvino --out docs/figures/serving.json
	@$(BIN)/python benchmarks/figures.py

# one to a thousand adapters in memory, and ten thousand of which memory holds five hundred
bench-serving-adapters: $(VENV)/.installed
	@$(BIN)/python -m benchmarks.serving_adapters --out docs/figures/serving_adapters.json
	@$(BIN)/python benchmarks/figures.py

# rivals, each in an environment of its own
.rivals/sentence-transformers/.installed: PACKAGES = --constraint constraints.txt sentence-transformers
.rivals/setfit/.installed: PACKAGES = --constraint constraints.txt setfit==1.2.0
.rivals/adapterhub/.installed: PACKAGES = adapters==1.3.0 accelerate torch==2.13.0
.rivals/embeddings/.installed: PACKAGES = --constraint constraints.txt 'sentence-transformers[train]==6.2.0' peft
.rivals/%/.installed: constraints.txt | $(UV)
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@$(UV_PIP) --python $(@D)/bin/python $(PACKAGES)
	@touch $@

# DATA is the folder with the data sets
bench-few-rows: $(VENV)/.installed .rivals/sentence-transformers/.installed
	@$(BIN)/python benchmarks/few_rows.py --data $(DATA) --rival .rivals/sentence-transformers/bin/python --draws $(or $(DRAWS),5) --figures docs/figures/few_rows.json

# SetFit takes minutes a cell: CELLS=sentiment:16,snips-intent:8 are some of them
bench-few-shot: $(VENV)/.installed .rivals/setfit/.installed
	@$(BIN)/python benchmarks/few_shot.py --data $(DATA) --rival .rivals/setfit/bin/python --draws $(or $(DRAWS),2) $(if $(CELLS),--cells $(CELLS)) --figures docs/figures/few_shot.json

# every strategy, these rivals, AdapterHub and Trainer: hours; what docs/figures holds isn't measured again
bench-rows: $(VENV)/.installed .rivals/sentence-transformers/.installed .rivals/setfit/.installed .rivals/adapterhub/.installed
	@$(BIN)/python benchmarks/accuracy_by_rows.py --data $(DATA) --sentence-transformers .rivals/sentence-transformers/bin/python --setfit .rivals/setfit/bin/python --adapterhub .rivals/adapterhub/bin/python --draws $(or $(DRAWS),1) $(if $(SETS),--sets $(SETS)) $(if $(ROWS),--rows $(ROWS)) --out docs/figures/accuracy_by_rows.json
	@$(BIN)/python benchmarks/figures.py

# against Trainer at its best, about an hour and a half on one thread
bench-time-to-accuracy: $(VENV)/.installed
	@$(BIN)/python benchmarks/time_to_accuracy.py --data $(DATA) --figures docs/figures/time_to_accuracy.json
	@$(BIN)/python benchmarks/figures.py

bench-embeddings: $(VENV)/.installed .rivals/embeddings/.installed
	@$(BIN)/python benchmarks/embeddings.py --data $(DATA) --rival .rivals/embeddings/bin/python $(if $(CELLS),--cells $(CELLS)) --figures docs/figures/embeddings.json

# wheel and sdist of adapterkit and of adapterkit-runtime in dist/, checked as an index would
.release/.installed: | $(UV)
	@$(PYTHON) -m venv .release
	@$(UV_PIP) --python .release/bin/python build==1.6.1 twine==7.0.0 check-wheel-contents==0.6.3
	@touch $@

packages: dist/.built

dist/.built: pyproject.toml MANIFEST.in README.md release/runtime_source.py $(SOURCES) .release/.installed
	@rm -rf dist build/runtime build/lib
	@$(PYTHON) release/runtime_source.py build/runtime
	@export PATH="$(abspath .uv/bin):$$PATH"; for source in . build/runtime; do \
		.release/bin/python -m build --installer uv --outdir dist $$source > build/packages.log 2>&1 || { cat build/packages.log; exit 1; }; done
	@.release/bin/twine check --strict dist/*
	@.release/bin/check-wheel-contents dist/*.whl
	@touch $@

# each wheel alone in a new environment of Python 3.11, 3.12 and 3.13, where they are
installs: dist/.built
	@UV="$(abspath $(UV))" $(PYTHON) release/installs.py

fuzz: $(VENV)/.installed
	@$(BIN)/python -m tests.fuzz --cases 200000
	@$(BIN)/python -m tests.fuzz_files --cases 200000

# single faults in the core, each run against the tests of its place: COUNT of them, drawn with SEED
mutants: $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check mutmut==3.8.1
	@$(BIN)/python -m tests.mutants --count $(or $(COUNT),150) --seed $(or $(SEED),0)

# the suite under each set of CPU kernels that this CPU has, and on two threads
kernels: $(VENV)/.installed
	@$(BIN)/python -m tests.kernels

clean:
	rm -rf $(VENV) .browser .clients .package .ray .release .site .uv .demo build dist *.egg-info
