"""The licence of a model, as its folder states it."""

from pathlib import Path

import pytest

from engine.contract.durable import write_json
from engine.obtaining.licence import licence_of


@pytest.mark.parametrize(
    ("files", "licence"),
    [
        ({"README.md": "---\nlanguage: en\nlicense: apache-2.0\n---\n# x"}, "apache-2.0"),
        ({"README.md": '---\nlicense: other\nlicense_name: "llama3.2" # see\n---'}, "llama3.2"),
        ({"README.md": "---\r\nlicense: mit\r\n---\r\n"}, "mit"),
        ({"README.md": "# license: not this one", "LICENSE": "\n   Apache License\n  Version 2.0"}, "Apache License"),
        ({"README.md": "---\nlicense:\n---", "LICENSE.txt": "MIT License"}, "MIT License"),
        ({"README.md": "---\n" + "x" * 100_000}, ""),
        ({"README.md": "\xff\xfe"}, ""),
        ({}, ""),
    ],
)
def test_the_licence_is_found(tmp_path: Path, files: dict[str, str], licence: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_bytes(text.encode("latin-1"))
    assert licence_of(tmp_path) == licence


def test_the_record_of_a_download_comes_first(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text("MIT License")
    write_json(tmp_path / "SOURCE.json", {"licence": "apache-2.0"})
    assert licence_of(tmp_path) == "apache-2.0"
