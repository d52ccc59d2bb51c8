"""Text is read in its encoding; an ambiguous one is asked for."""

import json

import pytest

from engine.contract.messages import InputError
from engine.data.importing.charset import require_encoding
from tests.engine.data.conftest import LINES, ONE, ROWS, Importer, Reader, csv_text, places

CHINESE = ["请问今天天气怎么样", "今天天气很好", "北京在哪里", "我很好谢谢"]


TAIWAN = ["請問今天天氣如何", "今天天氣很好", "台北在哪裡", "我很好謝謝"]


JAPANESE = ["今日の天気はどうですか", "とても良いです", "東京はどこですか", "ありがとう"]


KOREAN = ["오늘 날씨 어때요", "아주 좋아요", "서울은 어디에 있나요", "감사합니다"]


FRENCH = ["Où est la gare à Paris ?", "Là-bas, très près du café.", "Ça va ?", "Très bien, merci, et toi, élève ?"]


@pytest.mark.parametrize(
    ("texts", "encoding"),
    [
        *((CHINESE, name) for name in ("gbk", "gb18030", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be")),
        *((CHINESE, name) for name in ("utf-32", "utf-32-le")),
        *((TAIWAN, name) for name in ("big5", "cp950", "gbk", "utf-16-le")),
        *((JAPANESE, name) for name in ("shift_jis", "euc_jp")),
        *((KOREAN, name) for name in ("euc_kr", "cp949")),
        *((FRENCH, name) for name in ("cp1252", "latin-1")),
    ],
)
@pytest.mark.parametrize("form", ["csv", "json"])
def test_texts_are_read_in_their_encoding(read: Reader, texts: list[str], encoding: str, form: str) -> None:
    rows = list(zip(texts[::2], texts[1::2], strict=True))
    records = [{"prompt": p, "response": r} for p, r in rows]
    text = json.dumps(records, ensure_ascii=False) if form == "json" else csv_text(*(f'"{p}","{r}"' for p, r in rows))
    assert read(text.encode(encoding), f"rows.{form}")[1] == rows


def test_an_ambiguous_encoding_is_asked_for(read: Reader) -> None:
    content = csv_text("Zażółć gęślą jaźń,Ąś", "Źle,Dobrze ą").encode("cp1250")
    with pytest.raises(InputError) as refused:
        read(content)
    assert refused.value.message.code == "encoding_doubt"
    assert "cp1250" in refused.value.message.text()
    assert read(content, encoding="cp1250")[1][0] == ("Zażółć gęślą jaźń", "Ąś")
    with pytest.raises(InputError) as refused:
        read(content, encoding="no-such")
    assert refused.value.message.code == "encoding_unknown"


def test_a_line_in_another_encoding_costs_only_itself(read: Reader) -> None:
    other = '{"prompt": "混入", "response": "国标"}\n'.encode("gbk")
    found, came = read(LINES.encode() + other, "rows.jsonl")
    assert came == ROWS
    ((reason, lines),) = places(found).items()
    assert (reason.partition("_")[2], lines) == ("not_utf8", ["21"])


@pytest.mark.parametrize("name", ["idna", "undefined", "zip", "rot13", "no such", "../x"])
def test_a_codec_that_is_not_a_text_encoding_is_refused(name: str) -> None:
    with pytest.raises(InputError) as refused:
        require_encoding(name)
    assert refused.value.message.code == "encoding_unknown"


def test_a_named_encoding_that_fits_nothing_is_questioned(read: Reader) -> None:
    for encoding in ("utf-8", "ascii"):
        with pytest.raises(InputError) as refused:
            read(csv_text("请问,今天", "北京,在哪").encode("gbk"), encoding=encoding)
        assert "--encoding" in refused.value.message.fix("en")


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16", "utf-8-sig"])
def test_other_encodings_are_detected_and_reported(import_rows: Importer, encoding: str) -> None:
    found, train, _ = import_rows("prompt,response\n你好,你好！\n".encode(encoding), "rows.csv")
    assert train == ONE
    assert [file.encoding for file in found.files] == [encoding]
