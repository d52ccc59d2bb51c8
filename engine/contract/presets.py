"""The presets: plain RunConfig values with a line on what each is for."""

import difflib
from dataclasses import dataclass, replace

from engine.contract.config import RunConfig
from engine.contract.messages import InputError, Lang


@dataclass(frozen=True)
class Preset:
    """A named RunConfig; `finetunes` is False where a model is trained from random weights."""

    name: str
    en: str
    zh: str
    config: RunConfig
    finetunes: bool = True
    original: str = ""  # the class of the original scripts that it is
    note_en: str = ""  # what the original guide says of that, where it says something else
    note_zh: str = ""

    def summary(self, lang: Lang = "en") -> str:
        """What it is for, in `lang`."""
        return self.zh if lang == "zh" else self.en


_SFT_SMALL = RunConfig()

_PRETRAIN = RunConfig(
    train_file="data/my_train_dataset.parquet",
    validation_file="data/my_valid_dataset.parquet",
    pretrained_model="",
    freeze="",
    max_seq_len=192,
    epochs=6,
    batch_size_per_gpu=32,
    gradient_accumulation_steps=2,
    learn_rate=1.5e-4,
    div_factor=50,
    warmup_steps=1024,
    micro_batch_tokens=4096,
    output_dir="model_save/pretrain",
    logging_steps=100,
    save_steps=500,
    keep_latest_n_ckp=8,
)

_DEMO = RunConfig(
    train_file="data/demo/train.parquet",
    validation_file="data/demo/valid.parquet",
    test_file="data/demo/valid.parquet",
    tokenizer="model_save/demo/tokenizer",
    pretrained_model="model_save/demo/pretrain/best",
    max_seq_len=64,
    token_store="data/demo/token_store",
    epochs=3,
    batch_size_per_gpu=16,
    gradient_accumulation_steps=1,
    learn_rate=1.5e-4,
    div_factor=10,
    warmup_steps=20,
    micro_batch_tokens=4096,
    d_model=192,
    d_kv=48,
    d_ff=768,
    num_layers=2,
    num_decoder_layers=3,
    num_heads=4,
    bleu_rows=96,
    max_new_tokens=40,
    eval_batch_rows=64,
    output_dir="model_save/demo/sft",
    logging_steps=25,
    save_steps=100,
)

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "sft-small",
            "fine-tune on a small data set; for 16 GB of memory and small GPUs, or none",
            "小数据集微调，适合 16 GB 内存和小显存，无 GPU 亦可",
            _SFT_SMALL,
            original="TrainConfigSFTSmall",
            note_en="small data set - for 16 GB of memory",
            note_zh="小数据集 - 适合16G内存",
        ),
        Preset(
            "sft",
            "fine-tune on 10k rows; the standard recipe",
            "标准微调（1 万行数据）",
            replace(
                _SFT_SMALL,
                train_file="data/sft_train_dataset_10k.parquet",
                validation_file="data/sft_valid_dataset_1k.parquet",
                epochs=20,
                batch_size_per_gpu=20,
                gradient_accumulation_steps=6,
                warmup_steps=200,
                max_seq_len=256,
                micro_batch_tokens=4096,
                output_dir="model_save/sft",
                logging_steps=20,
                save_steps=83,
                keep_latest_n_ckp=5,
            ),
            original="TrainConfigSFT",
        ),
        Preset(
            "sft-fast",
            "fine-tune on the small data set with large steps; for two GPUs of 20 GB",
            "小数据集快速微调，适合两块 20 GB 显存的 GPU",
            replace(
                _SFT_SMALL,
                epochs=5,
                batch_size_per_gpu=24,
                gradient_accumulation_steps=2,
                warmup_steps=300,
                micro_batch_tokens=8192,
                output_dir="model_save/sft_fast",
                logging_steps=100,
                save_steps=521,
            ),
            original="TrainConfigSFTFast",
        ),
        Preset(
            "pretrain",
            "train a T5 from random weights",
            "从随机权重开始预训练 T5",
            _PRETRAIN,
            finetunes=False,
            original="TrainConfig",
        ),
        Preset(
            "pretrain-large",
            "the same on 6 million rows",
            "同上，使用 600 万行数据",
            replace(
                _PRETRAIN,
                train_file="data/my_train_dataset_6m.parquet",
                output_dir="model_save/pretrain_large",
                save_steps=5000,
                keep_latest_n_ckp=5,
            ),
            finetunes=False,
            original="TrainConfigPretrainLarge",
        ),
        Preset(
            "demo-pretrain",
            "first half of the demo: a small T5 learns from random weights to continue texts of chatterbot-corpus",
            "演示的前半：从随机权重预训练一个小 T5，学习续写 chatterbot-corpus 的文本",
            replace(
                _DEMO,
                train_file="data/demo/pretrain_train.parquet",
                validation_file="data/demo/pretrain_valid.parquet",
                test_file="data/demo/pretrain_valid.parquet",
                pretrained_model="",
                freeze="",
                epochs=3,
                learn_rate=1e-3,
                output_dir="model_save/demo/pretrain",
            ),
            finetunes=False,
        ),
        Preset(
            "demo",
            "second half of the demo: it learns to reply; `sft-tui demo` runs both",
            "演示的后半：微调该模型，学习回答；`sft-tui demo` 依次运行两者",
            _DEMO,
        ),
    )
}


def preset(name: str) -> Preset:
    """The preset `name`; raises InputError that names the nearest known one first."""
    if name in PRESETS:
        return PRESETS[name]
    near = difflib.get_close_matches(name.lower(), PRESETS, n=1, cutoff=0.4)
    known = near + [other for other in PRESETS if other not in near]
    raise InputError("preset_unknown", name=name, known=", ".join(known))
