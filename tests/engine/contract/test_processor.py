from pathlib import Path

import pytest
import torch

from engine.contract import processor

X86 = "processor\t: 0\nvmx flags\t: bf16\nflags\t\t: fpu avx2 avx512f avx512_bf16\nbugs\t\t: bf16\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd bf16 i8mm\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (X86, {"fpu", "avx2", "avx512f", "avx512_bf16"}),
        (X86.replace(" avx512_bf16", ""), {"fpu", "avx2", "avx512f"}),
        (ARM, {"fp", "asimd", "bf16", "i8mm"}),
        ("processor: 0\nisa: rv64imafdc\n", set()),
        ("", set()),
    ],
)
def test_features_are_read_as_the_kernel_lists_them(
    text: str, expected: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    found = processor.flags(tmp_path / "cpuinfo")
    assert found == expected
    monkeypatch.setattr(processor, "flags", lambda: found)
    assert processor.multiplies_bf16() == bool({"avx512_bf16", "bf16"} & expected)


def test_a_machine_without_such_a_list_has_no_features(tmp_path: Path) -> None:
    assert processor.flags(tmp_path / "missing") == frozenset()


def test_torch_knows_the_same_of_this_machine() -> None:
    able = torch.cpu.get_capabilities()
    assert processor.multiplies_bf16() == any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "arm_bf16"))
