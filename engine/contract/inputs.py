"""Whether the files that a run reads are there; what is in them is for the trainer to find out."""

from pathlib import Path

from engine.contract.config import RunConfig
from engine.contract.messages import InputError

# What a person calls the file of each setting, in English and Chinese.
FILES = {
    "train_file": ("training file", "训练文件"),
    "validation_file": ("validation file", "验证文件"),
    "test_file": ("test file", "测试文件"),
    "tokenizer": ("tokenizer", "分词器"),
    "pretrained_model": ("pretrained model", "预训练模型"),
}


def require_files(config: RunConfig, *settings: str) -> None:
    """Raises InputError that names the first of `settings` whose file is missing; an empty setting names none."""
    for setting in settings:
        path = str(getattr(config, setting))
        if path and not Path(path).exists():
            what, what_zh = FILES[setting]
            raise InputError("file_missing", what=what, what_zh=what_zh, path=path, setting=setting)
