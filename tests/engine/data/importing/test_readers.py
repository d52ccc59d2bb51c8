"""Formats, compressions, encodings and dialects as people have them: read, or refused with what to do."""

import time

from tests.engine.data.conftest import Reader


def test_time_grows_linearly_with_the_number_of_columns(read: Reader) -> None:
    names = ["prompt", "response", *(f"c{number}" for number in range(30_000))]
    before = time.process_time()
    _, came = read(f"{','.join(names)}\n{','.join('1' for _ in names)}\n")
    assert came == [("1", "1")]
    assert time.process_time() - before < 10  # where each was looked for among all, it took a minute
