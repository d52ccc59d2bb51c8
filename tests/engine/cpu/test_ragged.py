import torch

from engine.cpu.ragged import Rows


def test_concatenated_rows_can_be_separated_again() -> None:
    parts = [torch.tensor([5, 6, 7]), torch.tensor([8]), torch.tensor([9, 10])]
    laid, rows = Rows.lay(parts)
    assert laid.tolist() == [5, 6, 7, 8, 9, 10]
    assert [laid[place].tolist() for place in rows.places()] == [part.tolist() for part in parts]


def test_rows_know_how_long_they_are() -> None:
    _, rows = Rows.lay([torch.zeros(3), torch.zeros(1), torch.zeros(4)])
    assert (rows.lengths, rows.tokens, rows.longest) == ((3, 1, 4), 8, 4)


def test_a_single_row_is_the_whole() -> None:
    laid, rows = Rows.lay([torch.tensor([3])])
    assert (laid.tolist(), list(rows.places())) == ([3], [slice(0, 1)])
