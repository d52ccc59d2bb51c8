"""Text is read as a stream: bytes that are not text cost only their line."""

from pathlib import Path

from engine.contract.requests import ImportRequest
from engine.data.importing.convert import import_files
from tests.engine.data.conftest import GOOD, LINES, Importer, counts


def test_invalid_bytes_refuse_only_their_line(import_rows: Importer) -> None:
    found, train, _ = import_rows(GOOD.encode() + b'{"prompt": "\xff\xff\xff", "response": "x"}\n')
    assert train == [("a", "b")]
    assert counts(found) == {"prompt_not_utf8": 1}


def test_progress_is_reported_within_a_record_too(tmp_path: Path) -> None:
    path, reported = tmp_path / "rows.jsonl", []
    path.write_text('{"prompt": "' + "x" * (4 << 20) + '"\n' + LINES)
    import_files(ImportRequest((str(path),)), lambda _path, done, _total: reported.append(done))
    assert len(set(reported)) > 10
