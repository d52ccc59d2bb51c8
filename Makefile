# make demo   fine-tune a small chat model on the CPU in a few minutes, with replies before and after
# make demo-t5   the same with a small T5 from random weights, Chinese and English
# make test   lint, types, import contracts and tests
# make bench     training compared with transformers' own trainer: speed, memory, start, evaluation (over an hour; ROWS=FILE for other rows than the demo's)
# make bench-chat   training of a chat model compared with TRL's, in .venv-peers (nearly two hours, resumed if interrupted; TURNS=1 ROWS=96 for a quarter of one)
# make bench-gpu   training on one GPU compared with both (8 minutes, nothing is downloaded; DEVICE=cpu runs it with tiny models)
# make bench-scale   what more rows and more processes cost
# make bench-screen   what the screen costs in bytes, time and memory
# make texts   compiles the catalogues of texts after one was edited
# make docs   the pages that are made from the code: keys, settings, presets
# make screens   the screens in docs/screens, by a walk through the demo in a real tmux
# They make their environment in .venv first; nothing is needed but Python 3.11 or newer, git and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
# Instead of pip, which compiles the 12,000 modules on one core; a few of them are templates that no Python compiles.
COMPILE := $(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
# What the installation reads.
INSTALLED := pyproject.toml setup.py constraints.txt $(wildcard engine/cpu/*.[ch] engine/contract/locale/*/*/*.po)

# Tests wait for processes and disks a third of their time: three share two cores. worksteal lets nobody end alone with
# a long tail.
SPREAD := -n 3 --dist worksteal

# As the trainer is started by sft-tui: on a busy machine spinning threads cost ten times as much. A benchmark must not
# have it: nobody starts the standard trainer so.
demo demo-t5 fast-tests all-tests: export OMP_WAIT_POLICY := PASSIVE

.PHONY: docs texts demo demo-t5 test test-all fast-tests all-tests bench bench-chat bench-gpu bench-scale bench-screen screens lint format clean

demo: $(VENV)/demo.done
	$(BIN)/sft-tui demo

demo-t5: $(VENV)/demo.done
	$(BIN)/sft-tui demo --t5

test: lint fast-tests

test-all: lint all-tests

fast-tests: $(VENV)/dev.done
	$(BIN)/pytest -m "not slow" $(SPREAD)

all-tests: $(VENV)/dev.done
	$(BIN)/pytest $(SPREAD)

texts: $(VENV)/dev.done
	$(BIN)/python -m engine.contract.texts

docs: $(VENV)/dev.done
	$(BIN)/python -m bench.pages

bench: $(VENV)/dev.done
	$(BIN)/python -m bench.training --size tiny --steps 20 --budget 8192 --chunk 128 $(if $(ROWS),--rows $(ROWS))
	$(BIN)/python -m bench.training --size chatlm --steps 5 --budget 640 $(if $(ROWS),--rows $(ROWS))

bench-chat: $(VENV)/dev.done $(PEERS)/done
	$(BIN)/python -m bench.chat --peers $(PEERS)/bin/python --kept $(PEERS)/chat.jsonl $(if $(MODEL),--model $(MODEL)) $(if $(TURNS),--turns $(TURNS)) $(if $(ROWS),--rows $(ROWS))

bench-gpu: $(VENV)/dev.done
	$(BIN)/python -m bench.gpu --device $(or $(DEVICE),cuda) --peers $(PEERS)/bin/python $(if $(MODEL),--model $(MODEL))

bench-scale: $(VENV)/dev.done
	$(BIN)/python -m bench.scale

bench-screen: $(VENV)/dev.done
	$(BIN)/python -m bench.screen

screens: $(VENV)/dev.done
	$(BIN)/python -m bench.screens docs/screens

lint: $(VENV)/dev.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(VENV)/dev.done
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(PEERS)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; try: make PYTHON=python3.11 …" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.done: $(INSTALLED) | $(BIN)/python
	@echo "Installing into $(VENV) (PyTorch alone takes a few minutes the first time) …"
	$(PIP) -e '.[demo]'
	$(COMPILE)
	@touch $@

$(VENV)/dev.done: $(INSTALLED) | $(BIN)/python
	@echo "Installing into $(VENV) (PyTorch alone takes a few minutes the first time) …"
	$(PIP) -e '.[demo,dev]'
	$(COMPILE)
	@touch $@

$(PEERS)/done: constraints.txt bench/peers.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -r bench/peers.txt
	@touch $@
