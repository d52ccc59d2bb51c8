"""The command line of our child processes."""

import subprocess
from pathlib import Path

from engine.contract.child_command import module_command


def test_a_file_of_the_working_folder_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("print('executed')")
    done = subprocess.run(
        module_command("json.tool", "--help"), cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "executed" not in done.stdout
