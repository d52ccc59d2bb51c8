"""The error to raise if a model's weights are not those that its configuration asks for."""

from collections.abc import Iterable
from pathlib import Path

from engine.contract.messages import InputError

OF_A_FILE = (
    "Set the shape the weights were trained with (--d_model, --d_ff, --num_layers, …), or name another file.",
    "请设置与权重一致的模型形状（--d_model、--d_ff、--num_layers 等），或换用其他文件。",
)
OF_A_FOLDER = (
    "Put the config.json that was saved with these weights next to them, or name another model.",
    "请放回与这些权重一同保存的 config.json，或换用其他模型。",
)


def misfit(
    path: Path, missing: Iterable[str], unexpected: Iterable[str], mismatched: Iterable[str], shape: dict[str, int]
) -> InputError:
    """The error for weights that do not fit the model: how many, the first of each kind, and their shape."""
    groups = {"missing": sorted(missing), "unexpected": sorted(unexpected), "mismatched": sorted(mismatched)}
    counts = {f"{name}_count": len(group) for name, group in groups.items()}
    shown = {name: ", ".join(group[:3]) + (", …" * (len(group) > 3)) or "-" for name, group in groups.items()}
    advice, advice_zh = OF_A_FOLDER if path.is_dir() else OF_A_FILE  # a folder states its shape itself
    texts = {"advice": advice, "advice_zh": advice_zh}
    return InputError("model_keys", path=str(path), **counts, **shown, **shape, **texts)
