"""A finding of the pre-flight: its level and subject, what was found, why it matters, and what fixes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from engine.contract.messages import Message, with_twins
from engine.contract.texts import Lang, Phrase, filled, rendered
from sft_tui.preflight.fix import Action, command_of

Level = Literal["ok", "warning", "error"]
ORDER: dict[Level, int] = {"error": 0, "warning": 1, "ok": 2}


class Said(NamedTuple):
    """The texts of a finding in both languages; empty if the engine's message is used, or there is nothing to do."""

    what: tuple[str, str] = ("", "")
    why: tuple[str, str] = ("", "")
    fix: tuple[str, str] = ("", "")


_TRUNCATED = Said(
    (
        "{path}: {cut_rows:,} of {rows:,} row(s) cut to {limit} token(s); {cut_tokens:,} token(s) left "
        "out, {share} of the labels.",
        "{path}：{rows:,} 行中有 {cut_rows:,} 行超过 {limit} 个词元；截去 {cut_tokens:,} 个词元，占标签的 {share}。",
    ),
    (
        "The model never sees what is cut, and learns to end where the text does not.",
        "模型看不到被截去的部分，并会学到在句子中间结束。",
    ),
    (
        "Raise --max_seq_len (the longest row has {longest} token(s)), or shorten the rows.",
        "请调大 --max_seq_len（最长的一行有 {longest} 个词元），或缩短数据。",
    ),
)

SAID: dict[str, Said] = {
    # files, in the words of the engine
    "file_missing": Said(why=("The run cannot begin without it.", "没有它，运行无法开始。")),
    "file_unreadable": Said(why=("The run cannot begin without it.", "没有它，运行无法开始。")),
    "not_parquet": Said(
        why=("Training reads Parquet alone.", "训练只读取 Parquet。"),
        fix=("Import it: `{command}`", "请导入：`{command}`"),
    ),
    "source_foreign": Said(why=("Training reads Parquet alone.", "训练只读取 Parquet。")),
    "parquet_bad": Said(why=("Rows that cannot be read cannot be trained on.", "读不出的数据无法用于训练。")),
    "column_missing": Said(why=("Prompts and responses come from two columns of text.", "提问和回答来自两列文本。")),
    "column_not_text": Said(why=("Prompts and responses come from two columns of text.", "提问和回答来自两列文本。")),
    "export_kept": Said(
        why=("The run trains, and leaves no state dict there.", "训练照常进行，但不会在该处写出权重文件。")
    ),
    "rows_none": Said(why=("There is nothing to train on or to evaluate.", "没有可供训练或评估的数据。")),
    "rows_all_empty": Said(why=("There is nothing to train on or to evaluate.", "没有可供训练或评估的数据。")),
    "rows": Said(
        (
            "{path}: {rows:,} row(s); prompts of {prompt} token(s), responses of {label} (median); {scripts}.",
            "{path}：{rows:,} 行；提问中位数 {prompt} 个词元，回答 {label} 个；{scripts}。",
        )
    ),
    "lengths": Said(
        (
            "Tokens of prompts {prompt}; of responses {label}.",
            "提问词元数 {prompt}；回答词元数 {label}。",
        )
    ),
    "rows_untokenized": Said(
        ("{path}: {rows:,} readable row(s); {scripts}.", "{path}：可读取 {rows:,} 行；{scripts}。")
    ),
    "rows_dropped": Said(
        why=("They are left out of training and evaluation.", "这些行不会用于训练和评估。"),
        fix=("Fill them in, or remove them from the file.", "请补全这些行，或从文件中删除。"),
    ),
    "token_store_again": Said(
        why=(
            "A run would have learned from other rows than those of the file. A disk or memory that fails "
            "does such damage.",
            "否则训练用的将不是文件中的数据。磁盘或内存故障会造成这种损坏。",
        ),
    ),
    "token_store_bad": Said(
        why=("A run would learn from other rows than those of the file.", "否则训练用的将不是文件中的数据。")
    ),
    "rows_duplicate": Said(
        (
            "{path}: {count:,} of {rows:,} row(s) repeated; the first is row {first}.",
            "{path}：{rows:,} 行中有 {count:,} 行与其他行重复；第一处在第 {first} 行。",
        ),
        (
            "A repeated row is trained on several times and tends to be memorized.",
            "重复的行会被多次训练，容易被死记。",
        ),
        ("Remove the repetitions: `{command}`", "请去除重复行：`{command}`"),
    ),
    "rows_overlap": Said(
        (
            "{count:,} of {rows:,} validation row(s) also in the training rows; the first is row {first} of {path}.",
            "{rows:,} 行验证数据中有 {count:,} 行也在训练数据中；第一处在 {path} 的第 {first} 行。",
        ),
        (
            "What was trained on scores too well: the best model is chosen by a score that flatters.",
            "训练过的数据得分虚高，选出的“最佳”模型并不可靠。",
        ),
        (
            "Split the rows again, no prompt on both sides: `{command}`",
            "请重新划分数据，使同一提问不同时出现在两边：`{command}`",
        ),
    ),
    "text_control": Said(
        (
            "{path}: {count:,} row(s) with control characters; the first is row {first}.",
            "{path}：{count:,} 行含有控制字符；第一处在第 {first} 行。",
        ),
        ("The model learns to write them, and terminals obey them.", "模型会学会输出它们，而终端会执行它们。"),
        ("Look at it: `{command}`", "查看该行：`{command}`"),
    ),
    "text_replacement": Said(
        (
            "{path}: {count:,} row(s) with the character U+FFFD; the first is row {first}.",
            "{path}：{count:,} 行含有字符 U+FFFD；第一处在第 {first} 行。",
        ),
        (
            "It marks text that was lost by decoding it with the wrong encoding.",
            "它表明文本曾用错误的编码解码，原文已丢失。",
        ),
        ("Export the rows again as UTF-8. Look at one: `{command}`", "请以 UTF-8 重新导出。查看该行：`{command}`"),
    ),
    "rows_truncated": _TRUNCATED,
    "turns_left_out": Said(
        (
            "{path}: {turns_left_out:,} earlier turn(s) left out of {turns_rows:,} of {rows:,} row(s), to "
            "fit {limit} token(s).",
            "{path}：{rows:,} 行中有 {turns_rows:,} 行为不超过 {limit} 个词元，略去此前 {turns_left_out:,} 轮。",
        ),
        ("The oldest turns go first.", "最早的几轮最先略去。"),
        (
            "Raise --max_seq_len to keep more of them (the longest row has {longest} token(s)).",
            "调大 --max_seq_len 可保留更多（最长的一行有 {longest} 个词元）。",
        ),
    ),
    "turns_elsewhere": Said(
        why=(
            "A prompt that is too long loses its oldest turns, so it must be known where they begin.",
            "提问过长时会略去最早的几轮，因此必须知道各轮从哪里开始。",
        ),
        fix=(
            "Import the rows again, or remove the column {column}: long prompts then lose their end.",
            "请重新导入数据，或删除 {column} 列：此时过长的提问会从末尾截去。",
        ),
    ),
    "labels_empty": Said(
        (
            "{path}: {count:,} row(s) whose response has no token but the end; the first is row {first}.",
            "{path}：{count:,} 行的回答除结束符外没有任何词元；第一处在第 {first} 行。",
        ),
        ("From these the model learns to answer nothing.", "模型会由此学会不作回答。"),
        ("Look at it: `{command}`", "查看该行：`{command}`"),
    ),
    "unknown_tokens": Said(
        (
            "{path}: {share} of the tokens are unknown to the tokenizer {tokenizer}.",
            "{path}：{share} 的词元不在分词器 {tokenizer} 的词表中。",
        ),
        (
            "The model sees one and the same token for all of them, and can never write them.",
            "模型把它们都看作同一个词元，也永远无法输出它们。",
        ),
        (
            "Use the tokenizer that belongs to the model and to this language: --tokenizer PATH. A row: `{command}`",
            "请使用与模型和语言配套的分词器：--tokenizer 路径。查看一行：`{command}`",
        ),
    ),
    "script_differs": Said(
        (
            "The validation rows are mostly {valid}, the training rows mostly {train}.",
            "验证数据以{valid}为主，训练数据以{train}为主。",
        ),
        ("The score would be of something that is not trained.", "评估的将不是所训练的内容。"),
        ("Take the validation rows from the same source: `{command}`", "请从同一来源划分验证数据：`{command}`"),
    ),
    "rows_few": Said(
        (
            "{path}: {rows:,} row(s), less than one step of {batch}.",
            "{path}：{rows:,} 行不足一步（有效批大小 {batch}）。",
        ),
        ("Every epoch is a single short step; hardly anything is learned.", "每轮只有不完整的一步，几乎学不到东西。"),
        ("Add rows, or lower --gradient_accumulation_steps.", "请增加数据，或调小 --gradient_accumulation_steps。"),
    ),
    # model and tokenizer
    "tokenizer": Said(
        (
            "{path}: {tokens:,} token(s), {unknown} unknown in the training rows.",
            "{path}：{tokens:,} 个词元，训练数据中未知词元占 {unknown}。",
        )
    ),
    "tokenizer_bad": Said(why=("Without it no text can be turned into tokens.", "没有分词器就无法处理文本。")),
    "tokenizer_died": Said(why=("The trainer would end in the same way.", "训练进程也会同样结束。")),
    "tokenizer_unnamed": Said(why=("Without it no text can be turned into tokens.", "没有分词器就无法处理文本。")),
    "tokenizer_differs": Said(
        why=(
            "Each number would stand for another text than in the model's training: it would begin by unlearning.",
            "同一编号代表的文字与模型训练时不同，模型原有的知识会作废。",
        )
    ),
    "tokenizer_token_missing": Said(
        why=("Rows are padded to one length, and replies must end.", "需要填充词元来对齐长度，需要结束词元来结束回答。")
    ),
    "model": Said(
        (
            "{path}: {family}, {trained} of {total} parameters learn (frozen: {frozen}){verified}{wrapped}.",
            "{path}：{family}，共 {total} 个参数，训练 {trained} 个（冻结：{frozen}）{verified}{wrapped}。",
        )
    ),
    "model_bad": Said(why=("The run would end while loading it.", "运行会在加载时失败。")),
    "model_lfs": Said(why=("The run would end while loading it.", "运行会在加载时失败。")),
    "model_checksum": Said(
        why=("A damaged weight shows in nothing but bad replies.", "损坏的权重不会报错，只会使回答变差。")
    ),
    "model_hash": Said(
        why=("A damaged weight shows in nothing but bad replies.", "损坏的权重不会报错，只会使回答变差。")
    ),
    "model_kind": Said(
        why=("A run needs all weights and the configuration they belong to.", "训练需要全部权重及其配置。")
    ),
    "weights_not_numbers": Said(
        why=("Every loss would be NaN, from the first step on.", "从第一步起，所有损失都会是 NaN。")
    ),
    "generation_bad": Said(why=("The model could be trained and not be published.", "模型可以训练，但无法发布。")),
    "positions_short": Said(
        why=("The first such row ends the run with an index error.", "遇到第一条这样的数据，运行就会中断。")
    ),
    "replies_long": Said(why=("The first evaluation would end the run.", "第一次评估就会使运行中断。")),
    "model_pickle": Said(
        why=(
            "A pickle can run any program; only named tensors are read.",
            "pickle 文件可以执行任意代码；这里只读取具名张量。",
        )
    ),
    "model_keys": Said(why=("Weights that are missing would be random numbers.", "缺失的权重会是随机数。")),
    "vocabulary_mismatch": Said(
        why=(
            "A token beyond the model's rows ends the run with an index error.",
            "超出范围的词元会使运行因索引错误而中断。",
        )
    ),
    "special_token_mismatch": Said(why=("The model would not know where a text ends.", "模型将不知道文本在何处结束。")),
    "special_token_bad": Said(why=("The first step would end with an index error.", "第一步就会因索引错误而中断。")),
    "decoder_start_missing": Said(
        why=(
            "Labels cannot be shifted without it: training or the first evaluation fails.",
            "没有它就无法平移标签，训练或第一次评估会失败。",
        )
    ),
    "freeze_unknown": Said(why=("The part that should be kept would be trained.", "本应冻结的部分会被训练。")),
    "nothing_trainable": Said(
        why=("A run that changes nothing would only cost time.", "什么都不改变的运行只会浪费时间。")
    ),
    "precision": Said(("Computes in {precision}: {reason}.", "以 {precision} 计算：{reason}。")),
    "precision_fallback": Said(
        (
            "bf16 was asked for, and this hardware ({device}) does not compute in it natively: fp32 is used.",
            "指定了 bf16，但该硬件（{device}）没有原生支持：将使用 fp32。",
        ),
        ("Emulated bf16 is slower than fp32, and needs as much memory.", "模拟的 bf16 比 fp32 更慢，也不省内存。"),
        ("Leave --mixed_precision at auto.", "请保留 --mixed_precision auto。"),
    ),
    # memory
    "memory": Said(
        ("Peak of {total} of {free} available: {items}.", "峰值约 {total}，可用 {free}：{items}。"),
    ),
    "memory_rehearsed": Said(
        (
            "Peak of {total} in the rehearsal, of {free} available; micro-batches of {budget} token(s).",
            "预演峰值 {total}，可用 {free}；微批 {budget} 个词元。",
        ),
    ),
    "memory_tight": Said(
        ("Peak of {total} of {free} available: {items}.", "峰值约 {total}，可用 {free}：{items}。"),
        (
            "Little is left for other programs; a kernel that runs out of memory kills processes without warning.",
            "给其他程序的余量很小；内存不足时内核会直接杀掉进程。",
        ),
        (
            "Close other programs, or lower the budget of a micro-batch: `{command}`",
            "请关闭其他程序，或调小微批预算：`{command}`",
        ),
    ),
    "memory_short": Said(
        ("Peak of {total}, and {free} are available: {items}.", "峰值约 {total}，而可用内存只有 {free}：{items}。"),
        ("The kernel would kill the run without warning.", "内核会直接杀掉该运行。"),
    ),
    "gpu_memory": Said(
        (
            "GPU {gpu}: peak of about {total} of {free} free: {items}; estimated, not measured.",
            "GPU {gpu}：显存峰值约 {total}，可用 {free}：{items}；此为估算。",
        ),
    ),
    "gpu_memory_short": Said(
        (
            "GPU {gpu}: peak of about {total}, and {free} are free: {items}.",
            "GPU {gpu}：显存峰值约 {total}，而可用只有 {free}：{items}。",
        ),
        ("CUDA ends a run that runs out of its memory.", "显存不足时 CUDA 会中断运行。"),
        (
            "Free the GPU, rehearse the run to see what fits, or lower the budget of a micro-batch: `{command}`",
            "请释放显存，先预演以确认，或调小微批预算：`{command}`",
        ),
    ),
    "gpu_memory_unknown": Said(
        (
            "GPU {gpu}: peak of about {total}, and the driver does not report what is free: {items}.",
            "GPU {gpu}：显存峰值约 {total}（{items}），而驱动不报告可用显存。",
        ),
        ("Whether it fits shows when the run begins.", "是否放得下要到运行时才知道。"),
        ("Rehearse the run first: `{command}`", "请先预演：`{command}`"),
    ),
    "memory_unknown": Said(
        (
            "The peak of memory cannot be predicted for this kind of model ({family}).",
            "无法预测这类模型（{family}）的内存峰值。",
        ),
        ("Whether it fits shows when the run begins.", "是否放得下要到运行时才知道。"),
        ("Rehearse the run first: `{command}`", "请先预演：`{command}`"),
    ),
    # disk
    "disk": Said(
        (
            "{path}: the run writes at most {need}, {free} are free ({items}).",
            "{path}：运行最多写入 {need}，可用 {free}（{items}）。",
        )
    ),
    "space_short": Said(
        (
            "{path}: the run needs {need}, and {free} are free ({items}).",
            "{path}：运行需要 {need}，而可用只有 {free}（{items}）。",
        ),
        ("The disk would fill at a save, hours from now.", "几小时后保存时磁盘会写满。"),
        (
            "Free {short}, or use a folder on another disk: --{setting} PATH.",
            "请腾出 {short}，或用 --{setting} 路径 换到其他磁盘。",
        ),
    ),
    "folder_unwritable": Said(why=("Nothing of the run could be kept.", "运行的结果将无法保存。")),
    # machine
    "machine": Said(
        (
            "{processes} process(es) on {device}; {memory} of memory, {cores} core(s).",
            "{processes} 个进程，设备 {device}；内存 {memory}，{cores} 核。",
        )
    ),
    "processes_over_gpus": Said(
        (
            "{processes} processes were requested, and this machine has {gpus} GPU(s).",
            "要求 {processes} 个进程，而这台机器有 {gpus} 个 GPU。",
        ),
        (
            "Two processes on one GPU share its memory; NCCL refuses them.",
            "两个进程共用一个 GPU 会争抢显存，NCCL 也不允许。",
        ),
        ("Use --num_processes {gpus}, or the CPU: `{command}`", "请用 --num_processes {gpus}，或改用 CPU：`{command}`"),
    ),
    "processes_over_cores": Said(
        (
            "{processes} processes were requested, and this machine has {cores} core(s).",
            "要求 {processes} 个进程，而这台机器只有 {cores} 个核。",
        ),
        (
            "They take turns: slower than one, and each holds a model of its own.",
            "它们轮流运行，比单进程更慢，且每个都占一份模型内存。",
        ),
        ("Use --num_processes {cores} or fewer.", "请用 --num_processes {cores} 或更少。"),
    ),
    "gpu_unreadable": Said(
        why=("Whether the GPU is in use cannot be seen.", "无法得知 GPU 的使用情况。"),
        fix=("Fix the driver: nvidia-smi should list the GPUs.", "请修复驱动：nvidia-smi 应能列出 GPU。"),
    ),
    "shm_small": Said(
        ("/dev/shm has {free} free.", "/dev/shm 可用 {free}。"),
        ("Processes that train together exchange gradients there.", "多进程训练通过它交换梯度。"),
        ("In a container, start it with --shm-size 1g.", "在容器中请加上 --shm-size 1g。"),
    ),
    "ports_closed": Said(
        ("Processes on this machine cannot reach each other ({why}).", "本机进程之间无法通信（{why}）。"),
        ("Processes that train together exchange gradients over TCP.", "多进程训练通过 TCP 交换梯度。"),
        (
            "Bring the loopback interface up, or use --num_processes 1: `{command}`",
            "请启用回环接口，或用 --num_processes 1：`{command}`",
        ),
    ),
    "files_few": Said(
        ("The limit on open files is {limit}.", "打开文件数上限为 {limit}。"),
        ("A run that reaches it fails while saving.", "达到上限时保存会失败。"),
        ("Raise it: `ulimit -n 4096`", "请提高上限：`ulimit -n 4096`"),
    ),
    "uncompiled": Said(
        (
            "The part of the trainer that is written in C {state}.",
            "训练程序中用 C 编写的部分{state}。",
        ),
        (
            "gcc compiles it when sft-tui is installed. Without it, a small model takes half as long again to train.",
            "它在安装 sft-tui 时用 gcc 编译；缺少它时，小模型的训练要多花一半时间。",
        ),
        (
            "Make sure that gcc is installed (`gcc --version`), then install sft-tui again: `{command}`",
            "请确认已装有 gcc（`gcc --version`），再重新安装 sft-tui：`{command}`",
        ),
    ),
    "uncompiled_wheel": Said(
        (
            "The part of the trainer that is written in C {state}.",
            "训练程序中用 C 编写的部分{state}。",
        ),
        (
            "gcc compiles it when sft-tui is installed. Without it, a small model takes half as long again to train.",
            "它在安装 sft-tui 时用 gcc 编译；缺少它时，小模型的训练要多花一半时间。",
        ),
        (
            "Build the wheel again where gcc is installed (`gcc --version`), and install it with pip's "
            "--force-reinstall.",
            "请在装有 gcc 的机器上（`gcc --version`）重新构建 wheel，并用 pip 的 --force-reinstall 安装。",
        ),
    ),
    "unloadable": Said(
        (
            "The part of the trainer that is written in C cannot be loaded: {why}.",
            "训练程序中用 C 编写的部分无法加载：{why}。",
        ),
        (
            "torch computes the same in its place. A small model then takes half as long again to train.",
            "训练会改由 torch 完成同样的计算，小模型要多花一半时间。",
        ),
        (
            "Install the library that is named (libgomp.so.1 is in the package libgomp1 or libgomp).",
            "请安装其中提到的库（libgomp.so.1 在软件包 libgomp1 或 libgomp 中）。",
        ),
    ),
    "logout_kills": Said(
        (
            "Logging out ends all your processes on this machine (KillUserProcesses=yes).",
            "在这台机器上注销会结束你的所有进程（KillUserProcesses=yes）。",
        ),
        ("The run would not outlive the SSH connection.", "断开 SSH 后运行会被终止。"),
        ("Keep them: `{command}`", "保留进程：`{command}`"),
    ),
    "clock_off": Said(
        ("The clock says {now}, and {path} was written at {then}.", "系统时钟为 {now}，而 {path} 写于 {then}。"),
        (
            "Times in the log would be wrong, and files look older than they are.",
            "日志中的时间会出错，文件新旧也无法判断。",
        ),
        ("Set the clock: `timedatectl set-ntp true`", "请校准时钟：`timedatectl set-ntp true`"),
    ),
    "busy": Said(why=("Two runs would write over each other's checkpoints.", "两个运行会互相覆盖检查点。")),
    "unfinished_run": Said(why=("Starting over would discard what it has learned.", "重新开始会丢弃它已学到的内容。")),
    # time
    "plan": Said(
        (
            "{per_epoch:,} step(s) an epoch, {total:,} in all; effective batch {batch}; peak learning rate {peak:g}.",
            "每轮 {per_epoch:,} 步，共 {total:,} 步；有效批大小 {batch}；峰值学习率 {peak:g}。",
        )
    ),
    "rehearsed": Said(
        (
            "About {expected} ({least} to {most}), evaluations included: {when} if started now; rehearsed {at}.",
            "约 {expected}（{least} 至 {most}，含评估）：现在开始则 {when} 结束；预演于 {at}。",
        )
    ),
    # the pre-flight itself
    "probe_crash": Said(
        ("Reading {path} crashed the reader ({why}).", "读取 {path} 时读取进程崩溃（{why}）。"),
        ("The trainer would end in the same way.", "训练进程也会同样结束。"),
        (
            "The file is corrupt or malicious: regenerate it, or name another with --{setting} PATH.",
            "该文件已损坏或是恶意构造的：请重新生成，或用 --{setting} 路径 指定另一个。",
        ),
    ),
    "probe_memory": Said(
        ("Reading {path} ran out of memory ({why}).", "读取 {path} 时内存不足（{why}）。"),
        ("The trainer needs more than the reader.", "训练进程需要的内存比读取进程更多。"),
        (
            "Free memory, or raise the limit that this shell sets (ulimit -v, ulimit -m).",
            "请释放内存，或放宽当前 shell 的限制（ulimit -v、ulimit -m）。",
        ),
    ),
    "probe_failed": Said(
        ("The process that reads {path} failed ({why}).", "读取 {path} 的进程出错（{why}）。"),
        ("This says nothing about the file.", "这并不说明该文件有问题。"),
        (
            "Look at the error in brackets; if it names sft-tui's own code, please report it.",
            "请查看括号中的错误；若指向 sft-tui 自身的代码，请报告。",
        ),
    ),
}


def words(code: str, part: str, lang: Lang) -> str:
    """What a check says in its part what, why or fix, with placeholders; empty if the engine's message says it."""
    text: str = getattr(SAID.get(code, Said()), part)[lang == "zh"]
    return text


@dataclass(frozen=True)
class Finding:
    """The result of one check; `subject` is the setting or resource it concerns, and `actions`, in order, fix it.

    `advice` says what they do, if that is not always the same; `others` are other ways, each with its own actions.
    """

    level: Level
    code: str
    subject: str
    args: Mapping[str, Any] = field(default_factory=dict)
    actions: tuple[Action, ...] = ()
    others: tuple[tuple[Action, ...], ...] = ()
    advice: Phrase | None = None

    @property
    def ways(self) -> tuple[tuple[Action, ...], ...]:
        """All ways to fix it, the recommended one first."""
        found = [way for way in (self.actions, *self.others) if way]
        return tuple(way for place, way in enumerate(found) if way not in found[:place])

    @property
    def command(self) -> str:
        """The fix as one shell command line; empty if there is none."""
        return command_of(self.actions)

    def what(self, lang: Lang = "en") -> str:
        """What was found."""
        return self._said("what", lang) or self._message().what(lang)

    def why(self, lang: Lang = "en") -> str:
        """Why it matters; empty if nothing is wrong."""
        return self._said("why", lang)

    def fix(self, lang: Lang = "en") -> str:
        """What to do; empty if there is nothing to do."""
        if self.advice is not None:
            return Phrase.of(self.advice.key, **self.advice.args, command=self.command).text(lang)
        return self._said("fix", lang) or ("" if self.level == "ok" else self._message().fix(lang))

    def to_json(self, lang: Lang = "en") -> dict[str, str]:
        """Its parts as plain values; `command` is for people, programs take the lists of words in `actions`."""
        texts = {"what": self.what(lang), "why": self.why(lang), "fix": self.fix(lang)}
        return {"level": self.level, "code": self.code, "subject": self.subject, **texts, "command": self.command}

    def _said(self, part: str, lang: Lang) -> str:
        return filled(
            words(self.code, part, lang), {"command": self.command, **rendered(with_twins(self.args, lang), lang)}
        )

    def _message(self) -> Message:
        known = {name: arg for name, arg in self.args.items() if isinstance(arg, str | int | float | Phrase | tuple)}
        return Message(self.code, known)


def sized(item: str, amount: str) -> Phrase:
    """An item that takes memory or disk space, with its size."""
    return Phrase.of("item.sized", item=Phrase.of(f"item.{item.replace(' ', '_')}"), size=amount)
