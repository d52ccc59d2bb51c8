"""What both sides agree on loads at once."""

import json
import pkgutil
import subprocess
import sys

import engine.contract

HEAVY = {"torch", "transformers", "accelerate", "numpy", "pyarrow", "textual", "rich"}
PROGRAM = """
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_the_contract_loads_nothing_heavy() -> None:
    names = [f"engine.contract.{module.name}" for module in pkgutil.iter_modules(engine.contract.__path__)]
    assert len(names) > 5

    command = [sys.executable, "-c", PROGRAM, json.dumps(names)]
    loaded = set(json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout))

    assert "engine" in loaded
    assert loaded & HEAVY == set()
