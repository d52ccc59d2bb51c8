"""The command line in Chinese: click's own messages, and the help of commands and options.

The English text of a command's declaration is the key to the Chinese one here; a test checks that none is missing.
"""

import re
from collections.abc import Iterable

import click
import click.core
import click.decorators
import click.exceptions
import click.formatting
import click.parser
import click.types

from sft_tui.output import Group
from sft_tui.screen.ink import wrap
from sft_tui.text import pad, width

CLICK_ZH = {
    "Usage:": "用法：",
    "Options": "选项",
    "Commands": "命令",
    "Positional arguments": "参数",
    "Show this message and exit.": "显示本帮助并退出。",
    "Error: {message}": "错误：{message}",
    "Try '{command} {option}' for help.": "查看帮助：'{command} {option}'",
    "Aborted!": "已中止！",
    "default: {default}": "默认：{default}",
    "required": "必填",
    "(dynamic)": "（动态）",
    "%(prog)s, version %(version)s": "%(prog)s，版本 %(version)s",
    "Missing argument": "缺少参数",
    "Missing option": "缺少选项",
    "Missing parameter": "缺少参数",
    "Missing parameter: {param_name}": "缺少参数：{param_name}",
    "Missing command.": "缺少命令。",
    "Invalid value: {message}": "无效的值：{message}",
    "Invalid value for {param_hint}: {message}": "{param_hint} 的值无效：{message}",
    "No such command {name!r}.": "没有命令 {name!r}。",
    "No such option {name!r}.": "没有选项 {name!r}。",
    "Option {name!r} does not take a value.": "选项 {name!r} 不带值。",
    "Option {name!r} requires an argument.": "选项 {name!r} 需要一个值。",
    "Option {name!r} requires {nargs} arguments.": "选项 {name!r} 需要 {nargs} 个值。",
    "Argument {name!r} takes {nargs} values.": "参数 {name!r} 需要 {nargs} 个值。",
    "Got unexpected extra argument ({args})": "多余的参数（{args}）",
    "Got unexpected extra arguments ({args})": "多余的参数（{args}）",
    "Did you mean {possibility}?": "是否想用 {possibility}？",
    "(Did you mean one of: {possibilities}?)": "（是否想用其中之一：{possibilities}？）",
    "{value!r} is not {choice}.": "{value!r} 不是 {choice}。",
    "{value!r} is not one of {choices}.": "{value!r} 不在可选值 {choices} 之中。",
    "{value!r} is not a valid {number_type}.": "{value!r} 不是有效的{number_type}。",
    "{value} is not in the range {range}.": "{value} 不在范围 {range} 内。",
    "{name} {filename!r} does not exist.": "{name} {filename!r} 不存在。",
    "{name} {filename!r} is a directory.": "{name} {filename!r} 是目录。",
    "{name} {filename!r} is a file.": "{name} {filename!r} 是文件。",
    "{name} {filename!r} is not readable.": "{name} {filename!r} 无法读取。",
    "{value!r} is not a valid boolean. Recognized values: {states}": "{value!r} 不是有效的布尔值。可用的值：{states}",
}

# The placeholders of values in a usage line, and click's names of their types.
PLACES_ZH = {
    "PRESET": "预设", "[PRESET]": "[预设]", "RUN": "运行", "[RUN]": "[运行]", "NAME": "名称", "FILE": "文件",
    "[VALUE]": "[值]",
    "FILES": "文件...", "PROMPTS": "提问...", "SIZE": "大小", "SHARE": "比例", "N": "N", "[OPTIONS]": "[选项]",
    "COMMAND [ARGS]...": "命令 [参数]...", "[COMMAND] [ARGS]...": "[命令] [参数]...",
}  # fmt: skip
KINDS_ZH = {
    "text": "文本", "integer": "整数", "float": "数字", "boolean": "布尔值", "integer range": "整数",
    "float range": "数字", "file": "文件", "directory": "目录", "path": "路径",
}  # fmt: skip

HELP_ZH = {
    "Fine-tune small chat models on small machines, from a terminal. Without a command: the screen.":
        "在终端里、在小机器上微调小型对话模型。不带命令时打开界面。",
    "Show the version and exit.": "显示版本并退出。",
    "Folder of the runs' logs.": "运行日志的目录。",
    "Language of the screen.": "界面语言。",
    "Colours.": "配色。",
    "Draw with ASCII characters only.": "只用 ASCII 字符绘制。",
    "Redraw less often, for slow connections.": "降低刷新频率，适合慢速连接。",
    "Find what would make a run fail: data, model, memory, disk.":
        "找出会使运行失败的问题：数据、模型、内存、磁盘和机器。",
    "Print the findings as one JSON object.": "以一个 JSON 对象输出检查结果。",
    "Then rehearse the run, as `rehearse` does.": "随后预演该运行，同 `rehearse`。",
    "Memory that the run may take, such as 8GB; by default what is free.": "运行可用的内存，如 8GB；默认为可用内存。",
    "Do each part of a run once, and measure what the run takes. The longest rows are used. It reports memory, time, "
    "and the micro-batch budget that fits; only this is kept, and `run` uses it.":
        "把一次运行的各个环节走一遍，测出所需的内存和时间。\n\n"
        "采用最长的数据，并得出放得下的微批预算。只保留结果，供 `run` 使用。",
    "Print the result as one JSON object.": "以一个 JSON 对象输出结果。",
    "List the presets.": "列出预设。",
    "Print what differs from its parent, as its file has it.": "以 TOML 输出与上级预设不同的参数。",
    "Save settings as a preset of your own.": "将参数保存为自己的预设。",
    "What it begins with.": "以哪个预设为基础。",
    "A line on what it is for.": "一行用途说明。",
    "For every folder, and not for this one alone.": "供所有目录使用，而不只是当前目录。",
    "Replace a preset of this name.": "覆盖同名预设。",
    "Show every value of a preset.": "显示预设的全部参数。",
    "Print the values as JSON.": "以 JSON 输出参数。",
    "Import, look at and check your own data.": "导入、查看和检查自己的数据。",
    "Turn FILES into training, validation and test rows. Read are JSON, JSON Lines, CSV, TSV, Parquet and Arrow, "
    "compressed or not; folders of them, what `datasets` saves, and - for standard input.":
        "把文件转换为训练、验证和测试数据。\n\n可读取 JSON、JSON Lines、CSV、TSV、Parquet 和 Arrow，可以是压缩过的；"
        "也可以是目录、`datasets` 保存的数据集，或用 - 表示标准输入。",
    "Training file to write.": "要写出的训练文件。",
    "Validation file; '' for none.": "要写出的验证文件；'' 表示不写。",
    "Share of the rows for the validation file.": "划给验证文件的比例。",
    "Test file; '' for none. By default the preset's, unless --train or --valid is given.":
        "要写出的测试文件；'' 表示不写。默认为预设的测试文件，指定了 --train 或 --valid 时除外。",
    "Share of the rows for the test file; 0.05 if there is one.": "划给测试文件的比例；有测试文件时默认 0.05。",
    "Earlier turns of a conversation in the prompt of an answer: all, none, or at most N.":
        "每个回答的提问中带有此前几轮对话：all 全部，none 不带，或最多 N 轮。",
    "Number of rows to draw at random; 0: all.": "随机抽取的行数；0 为全部。",
    "Seed of sample and split.": "抽样和划分的随机种子。",
    "Column with the prompts, if the format is not recognized.": "提问所在的列；能识别的格式无需指定。",
    "Column with the responses.": "回答所在的列。",
    "Encoding of the text files, such as gb18030; by default detected.": "文本文件的编码，如 gb18030；默认自动识别。",
    "Replace files that exist, all of them or none.": "替换已有文件，要么全部替换，要么都不变。",
    "Write nothing; show what would be imported.": "不写文件，只显示将导入什么。",
    "Write the rows of chatterbot-corpus, to try things out.": "写出 chatterbot-corpus 的中英文数据，供试用。",
    "Train a tokenizer for a new model on the rows of Parquet FILES.": "用 Parquet 文件中的数据为新模型训练分词器。",
    "Folder to write.": "要写出的目录。",
    "Number of tokens at most.": "词元数上限。",
    "Check the rows of a Parquet FILE.": "检查 Parquet 文件中的数据。",
    "Show a row as the model sees it: tokens, cuts, unknowns.": "显示模型看到的一行：词元、截去的部分和未知词元。",
    "Number of the row, from 0.": "行号，从 0 起。",
    "Set one value in a JSON file of a model or tokenizer. VALUE is JSON, or else a text; the rest of FILE is kept.":
        "修改模型或分词器的 JSON 文件中的一个值。\n\n值按 JSON 解析，否则视为文本；文件的其余内容不变。",
    "Remove it.": "删除该值。",
    "Print the tokens as one JSON object.": "以一个 JSON 对象输出词元。",
    "Train with a PRESET; any of its settings can be overridden. The run does not end with this command or its "
    "terminal. `sft-tui presets` lists the presets.":
        "按预设训练，任何参数都可另行指定。\n\n命令退出或终端关闭后运行继续。`sft-tui presets` 列出预设。",
    "Follow the run as text: bars on a terminal, plain lines elsewhere.":
        "以文本跟踪运行：终端里为进度条，否则为普通行。",
    "Print the run's events, one JSON object a line.": "输出运行事件，每行一个 JSON 对象。",
    "Start it, print its name, and return at once.": "启动后显示名称并立即返回。",
    "Resume from the newest checkpoint in the output folder.": "从输出目录中最新的检查点继续。",
    "Start over, and keep the unfinished run under earlier/.": "重新开始，未完成的运行移到 earlier/ 下。",
    "Start although the pre-flight found errors.": "即使预检有错误也启动。",
    "Evaluate a trained model on its test file. The model is the best of PRESET's output folder, or of the run that "
    "--run names.":
        "用测试文件评估训练好的模型。\n\n即预设输出目录中的最佳模型，或由 --run 指定的运行的。",
    "Take the best model of RUN, wherever it is now.": "使用该运行的最佳模型，无论它现在位于何处。",
    "List the runs, the newest first.": "列出运行，最新的在前。",
    "Print what is known of the runs as a JSON array.": "以 JSON 数组输出各运行的信息。",
    "Print the state of RUN on one line, or how it ended. What to do next is said too. Without RUN, the newest is "
    "taken.":
        "用一行显示运行的状态，或它如何结束。\n\n同时说明该怎么办。不指定时为最新的运行。",
    "Print what is known of the run as one JSON object.": "以一个 JSON 对象输出运行的信息。",
    "Open the screen on RUN, or follow it as text. It is followed as text, to its end, with --no-ui or without a "
    "terminal.":
        "在界面中打开运行，或以文本跟踪。\n\n加 --no-ui 或没有终端时，以文本跟踪到结束。",
    "Print what RUN has written so far.": "显示运行至今写出的内容。",
    "Print the events as they are.": "原样输出事件。",
    "Print what the trainer's processes wrote to their output instead.": "改为显示训练进程的输出。",
    "Save and end RUN, and print how it ended.": "保存并结束运行，并显示其结束信息。",
    "End it at once, without saving.": "立即结束，不保存。",
    "Return at once, without waiting for the end.": "立即返回，不等待结束。",
    "Save RUN and end its processes, to free memory and GPUs. `continue` resumes it.":
        "保存运行并结束其进程，释放内存和 GPU。\n\n用 `continue` 继续。",
    "Continue a paused RUN.": "继续已暂停的运行。",
    "Resume RUN from its newest valid checkpoint. With --epochs N, a finished run is trained for more epochs.":
        "从最新的完好检查点继续运行。\n\n加 --epochs N 可让已完成的运行再多训练几轮。",
    "Resume although the conditions differ from the checkpoint's.": "即使检查点的条件不同也继续。",
    "Apply the change that was proposed when the run ended.": "采用运行结束时建议的修改。",
    "Pretrain and fine-tune a small model, in a few minutes. Its data is chatterbot-corpus. Both halves keep running "
    "when this command is left; called again, it shows the one that runs, or continues what was stopped.":
        "用几分钟预训练并微调一个小模型。\n\n数据为 chatterbot-corpus。退出本命令后两半照常运行；"
        "再次执行则显示正在运行的，或从停止处继续。",
    "Print the replies of a trained model to PROMPTS, one a line.": "显示训练好的模型对各个提问的回答，每行一个。",
    "Train or test as the original guide says; `sft-tui` is the fuller command.":
        "按原指南训练或测试；功能更全的命令是 `sft-tui`。",
    "Train.": "训练。",
    "Evaluate the best model on the test file.": "用测试文件评估最佳模型。",
    "Fine-tune: encoder and embeddings do not learn.": "微调：编码器和词嵌入不参与训练。",
    "Fine-tuning: the preset for small data and 16 GB of memory.": "微调：适合小数据集和 16 GB 内存的预设。",
    "Fine-tuning: the preset for two GPUs of 20 GB.": "微调：适合两块 20 GB 显卡的预设。",
    "Pretraining: the preset for 6 million rows.": "预训练：适合 600 万行数据的预设。",
    "Resume from the newest checkpoint.": "从最新的检查点继续。",
    "Model folder.": "模型目录。",
    "Longest reply, in tokens.": "回答的最大长度（词元）。",
}  # fmt: skip

MODULES = (click.core, click.decorators, click.exceptions, click.formatting, click.parser, click.types)


def translated(text: str) -> str:
    """A message of click, in Chinese if it is known here."""
    return CLICK_ZH.get(text, text)


def _counted(one: str, many: str, count: int) -> str:
    return translated(one if count == 1 else many)


class ChineseHelp(click.HelpFormatter):
    """Lays out help by the columns that characters take on a terminal; a Chinese one takes two."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """Writes the usage line."""
        super().write_usage(prog, args, prefix or translated("Usage:"))

    def write_heading(self, heading: str) -> None:
        """Writes a heading."""
        self.write(f"{'':>{self.current_indent}}{heading}：\n")

    def write_text(self, text: str) -> None:
        """Writes paragraphs."""
        for place, paragraph in enumerate(text.split("\n\n")):
            self.write("\n" * (place > 0))
            for line in wrap(one_line(paragraph), self.width - self.current_indent):
                self.write(f"{'':>{self.current_indent}}{line}\n")

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Writes terms and their meanings in two columns."""
        terms = list(rows)
        column = min(max(width(term) for term, _ in terms), col_max) + col_spacing
        for term, meaning in terms:
            lines = wrap(re.sub(r"(\[默认：[^]]*); ", r"\1；", meaning), max(self.width - column - 2, 10))
            head = pad(term, column) if width(term) <= column - col_spacing else term
            rest = lines if head == term and meaning else lines[1:]
            first = f"{head}{lines[0]}" if rest is not lines else head
            self.write(f"{'':>{self.current_indent}}{first}".rstrip() + "\n")
            for line in rest:
                self.write(f"{'':>{self.current_indent + column}}{line}\n")


def in_chinese(command: click.Command) -> None:
    """Switches click and the help of a command, with all its subcommands, to Chinese."""
    for module in MODULES:  # click looks up its texts by these names, in a system catalogue that has none of them
        for name, function in (("_", translated), ("ngettext", _counted)):
            if hasattr(module, name):
                setattr(module, name, function)
    click.Context.formatter_class = ChineseHelp
    if isinstance(command, Group):
        command.wording = punctuated
    _help_in_chinese(command)


def punctuated(message: str) -> str:
    """An error of click with Chinese punctuation: click adds English marks around translated parts."""
    return re.sub(r"(?<=['\"]), (?=['\"])", "、", re.sub(r"(?<=[。？]) ", "", re.sub(r"\.(?=$| )", "。", message)))


def _help_in_chinese(command: click.Command) -> None:
    command.help = HELP_ZH.get(one_line(command.help or ""), command.help)
    command.options_metavar = PLACES_ZH.get(command.options_metavar or "", command.options_metavar)
    for parameter in command.params:
        _parameter_in_chinese(parameter)
    if isinstance(command, click.Group):
        command.subcommand_metavar = PLACES_ZH.get(command.subcommand_metavar, command.subcommand_metavar)
        for below in command.commands.values():
            _help_in_chinese(below)


def _parameter_in_chinese(parameter: click.Parameter) -> None:
    place = parameter.metavar or (parameter.name or "").upper() * isinstance(parameter, click.Argument)
    parameter.metavar = PLACES_ZH.get(place, parameter.metavar)
    parameter.type.name = KINDS_ZH.get(parameter.type.name, parameter.type.name)
    if isinstance(parameter, click.Option) and parameter.help:
        parameter.help = HELP_ZH.get(one_line(parameter.help), parameter.help)


def one_line(text: str) -> str:
    """A help text as the key for the lookup."""
    return " ".join(text.split())
