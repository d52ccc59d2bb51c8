"""JSON and JSON Lines in every layout: every record is used or counted."""

import json
from typing import Any

import pytest

from tests.engine.data.conftest import BOTH, FIRST, LINES, ROWS, SECOND, Importer, Pairs, Reader, counts, places

JSON = [
    (f"[{FIRST}]\n[{SECOND}]", BOTH, {}),
    (f"[{FIRST}][{SECOND}]", BOTH, {}),
    (f"[{FIRST}],\n[{SECOND}]", BOTH, {}),
    (f"[[{FIRST}], [{SECOND}]]", BOTH, {}),
    (f'{{"data": [{FIRST}]}}\n{{"data": [{SECOND}]}}\n', BOTH, {}),
    (f'{{"data": [{FIRST}], "version": 2}}{SECOND}', BOTH, {}),
    (f"{FIRST}\n[{SECOND}]\n", BOTH, {}),
    (f"{FIRST} {SECOND}", BOTH, {}),
    (json.dumps(json.loads(FIRST), indent=2) + "\n" + SECOND, BOTH, {}),
    ('{"data": [{"source": "web"}], ' + FIRST[1:] + "\n" + SECOND, BOTH, {}),
    # one broken record among others, on one line and on many
    (f'[{FIRST}, {{"prompt": "坏" "response": "x"}}, {SECOND}]', BOTH, {"json_broken": ["1#2"]}),
    (f'[{FIRST}, {{"prompt": "坏, "response": "x"}}, {SECOND}]', BOTH, {"json_broken": ["1#2"]}),
    (f'{{"data": [{FIRST}, {{"prompt": "坏"; "response": "x"}}, {SECOND}]}}', BOTH, {"json_broken": ["1#2"]}),
    (f'[\n{FIRST},\n{{"prompt": "坏", "response": "x",\n{SECOND}\n]', BOTH, {"json_broken": ["3"]}),
    (f'[\n{FIRST},\n{{"prompt": "坏\n行", "response": "x"}},\n{SECOND}\n]', BOTH, {"json_broken": ["3"]}),
    (f'{FIRST}\n{{"prompt": "坏", "resp\n{SECOND}\n', BOTH, {"json_broken": ["2"]}),
    (f"{FIRST}\n{FIRST[:-1]}\n{SECOND}\n", BOTH, {"json_broken": ["2"]}),
    # not a record
    (f'[{FIRST}, 7, "text", null, {SECOND}]', BOTH, {"not_object": ["1#2", "1#3", "1#4"]}),
    ('{"train": [' + FIRST + '], "test": [' + SECOND + "]}", [("一", "1")], {"other_split:test": ["1#test.1"]}),
    # keys that come twice, NaN, numbers of any size
    (f'{{"prompt": "a", "prompt": "b", "response": "c"}}\n{FIRST}', [("一", "1")], {"key_repeated:prompt": ["1"]}),
    (f'{{"id": NaN, "n": {9**99}, {FIRST[1:]}\n{SECOND}', BOTH, {}),
    (f'[{{"id": NaN, "n": {9**99}, {FIRST[1:]},\n{SECOND}]', BOTH, {}),
    (f'[{{"prompt": "\\ud800", "response": "x"}}, {FIRST}]', [("一", "1")], {"prompt_not_utf8": ["1"]}),
    ("[" * 5000 + f"\n{FIRST}\n{SECOND}", BOTH, {"json_broken": ["1"]}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "rows", "refused"), JSON)
def test_every_record_of_a_json_file_is_used_or_counted(read: Reader, text: str, rows: Pairs, refused: Any) -> None:
    for name in ("rows.json", "rows.jsonl"):
        found, came = read(text, name)
        assert came == rows
        assert places(found) == refused


def test_a_list_longer_than_the_window_is_read_to_its_end(read: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.data.importing.jsonfile.WRAPPER", 200)
    monkeypatch.setattr("engine.data.importing.jsonfile.CHUNK", 50)
    records = [{"prompt": p, "response": r} for p, r in ROWS]
    for indent in (None, 1):
        found, came = read(json.dumps({"a": {"b": [1]}, "data": records, "n": 2}, indent=indent), "rows.json")
        assert came == ROWS
        assert found.records == len(ROWS)


def test_comment_lines_are_reported_and_cost_no_record(read: Reader) -> None:
    found, came = read("// exported\n# by hand\n" + LINES, "rows.jsonl")
    assert came == ROWS
    assert places(found, "noticed") == {"comment_line": ["1", "2"]}


def test_an_endless_record_costs_itself_and_little_memory(read: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.data.importing.jsonfile.LONGEST_RECORD", 1000)
    monkeypatch.setattr("engine.data.importing.jsonfile.CHUNK", 100)
    whole = '{"prompt": "' + "x" * 5000 + '", "response": "y"}'
    for endless in (whole, whole[:3000], whole[:3000] + '"'):  # a text that ends nowhere
        found, came = read(FIRST + "\n" + endless + "\n" + SECOND + "\n", "rows.jsonl")
        assert came == BOTH
        assert places(found) == {"record_long": ["2"]}


def test_a_truncated_array_gives_the_records_before_the_cut(import_rows: Importer) -> None:
    found, train, _ = import_rows('[{"prompt": "a", "response": "b"}, {"prompt": "c", "resp', "rows.json")
    assert train == [("a", "b")]
    assert counts(found) == {"json_broken": 1}


def test_an_array_longer_than_the_window_is_read_to_its_end(
    import_rows: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.data.importing.jsonfile.CHUNK", 7)
    rows = [(f"问{i}", "答" * i) for i in range(1, 60)]
    content = json.dumps([{"prompt": p, "response": r} for p, r in rows], ensure_ascii=False)
    assert import_rows(content, "rows.json")[1] == rows
