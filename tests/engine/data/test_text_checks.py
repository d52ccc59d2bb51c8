import pytest

from engine.data.text_checks import TextBatch, TextTally, row_hashes


def tally_of(*rows: tuple[str | bytes | None, str | bytes | None]) -> TextTally:
    """Rows counted in two batches."""
    tally = TextTally()
    for first, part in ((0, rows[:2]), (2, rows[2:])):
        prompts, labels = [prompt for prompt, _ in part], [label for _, label in part]
        tally.count(TextBatch(prompts, labels, [None] * len(part), range(first, first + len(part))))
    return tally


def test_scripts_are_counted_as_shares_of_letters() -> None:
    scripts = tally_of(("你好吗 12。", "abcd"), ("ひらが", "Привет"), ("，", "!"))._scripts
    assert scripts.sum() > 0
    assert tally_of(("你好吗 12。", "a"), ("！", "?"), ("3", "4")).to_json()["scripts"] == {"Han": 0.75, "Latin": 0.25}


@pytest.mark.parametrize(
    ("text", "script"),
    [("你", "Han"), ("㐀", "Han"), ("𠀀", "Han"), ("é", "Latin"), ("ß", "Latin"), ("あ", "Kana"), ("ア", "Kana"),
     ("한", "Hangul"), ("я", "Cyrillic"), ("α", "Greek"), ("ش", "Arabic"), ("ש", "Hebrew"), ("ก", "Thai"),
     ("ह", "Devanagari")],
)  # fmt: skip
def test_each_script_is_known(text: str, script: str) -> None:
    assert tally_of((text, text)).to_json()["scripts"] == {script: 1.0}


@pytest.mark.parametrize("text", ["1", "。", "🙂", "×", "\u3000x".strip("x")])
def test_only_letters_count_for_a_script(text: str) -> None:
    assert tally_of((text or "1", "2")).to_json()["scripts"] == {}


@pytest.mark.parametrize("char", ["\x00", "\x1b", "\x7f", "\x9b", "\u202e", "\u2066"])
def test_control_characters_are_counted_with_the_first_row(char: str) -> None:
    reported = tally_of(("a", "b"), (None, f"x{char}"), ("a", "b"), ("a", f"b{char}"), (f"{char}a", "b")).to_json()
    assert (reported["control_rows"], reported["first_control"]) == (2, 3)
    assert (reported["dropped"], reported["first_dropped"]) == ({"prompt_null": 1}, 1)


@pytest.mark.parametrize("text", ["a\tb", "a\nb", "a\r\nb", "你\u3000好", "👩\u200d🚀"])
def test_line_ends_and_tabs_are_no_control_characters(text: str) -> None:
    assert tally_of((text, "b"))._odd["control"] == 0


def test_lost_characters_are_counted() -> None:
    reported = tally_of(("a", "b"), ("a\ufffd", "b"), ("\ufffd", "\ufffd")).to_json()
    assert (reported["replacement_rows"], reported["first_replacement"]) == (2, 1)


def test_rows_of_one_content_have_one_hash() -> None:
    hashes = row_hashes([("a", "b"), ("ab", ""), ("", "ab"), ("a", "b"), ("\ud800", "b")])
    assert hashes[0] == hashes[3]
    assert len(set(hashes.tolist())) == 4
