"""The inspecting process loads no torch, and takes no more memory than it may."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.inspecting.limits import MEMORY_LIMIT
from tests.engine.models.causal.small import saved


def test_an_inspection_never_loads_torch(tmp_path: Path, tiny_tokenizer: Path) -> None:
    script = (
        "import sys\nfrom engine.contract.config import RunConfig\n"
        "from engine.inspecting.data_facts import read_tokenizer\n"
        "read_tokenizer(RunConfig(pretrained_model='', tokenizer=sys.argv[1]))\n"
        "print([name for name in ('torch', 'accelerate') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tiny_tokenizer)], cwd=tmp_path, capture_output=True, text=True, timeout=60,
        check=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("kind", ["llama", "gpt2", "opt"])
def test_a_causal_model_is_inspected_without_torch(tmp_path: Path, kind: str) -> None:
    script = (
        "import sys\nfrom engine.contract.config import RunConfig\n"
        "from engine.inspecting.model_facts import model_facts\n"
        "facts = model_facts(RunConfig(pretrained_model=sys.argv[1], freeze='layers.0', token_store='notes'))\n"
        "print(facts.kind, facts.title, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(saved(tmp_path / "small", kind))], cwd=tmp_path, capture_output=True,
        text=True, timeout=60, check=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "causal small False"


def test_memory_beyond_the_limit_is_refused() -> None:
    script = (
        "import sys\nfrom engine.inspecting.limits import limit_this_process\nlimit_this_process()\n"
        "kept = bytearray(int(sys.argv[1]) // 2)\n"
        "try:\n    bytearray(int(sys.argv[1]))\nexcept MemoryError:\n    print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(MEMORY_LIMIT)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "refused\n"


def test_a_task_of_known_needs_gets_more_and_no_more_than_is_free() -> None:
    script = (
        "from engine.inspecting.limits import allow_memory, limit_this_process\n"
        "from engine.contract.messages import InputError\n"
        f"limit_this_process()\nallow_memory(1 << 30)\nprint(len(bytearray({MEMORY_LIMIT} + (200 << 20))))\n"
        "try:\n    allow_memory(1 << 60)\nexcept InputError as error:\n    print(error.message.code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == [str(MEMORY_LIMIT + (200 << 20)), "conversion_memory"]
