"""The command line in Chinese: what click itself says, and the help of commands and options.

The English stands where a command is declared; its Chinese is found here by the English, which a test holds complete.
"""

import click
import click.core
import click.decorators
import click.exceptions
import click.formatting
import click.parser
import click.types

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
    "{value!r} is not a valid {number_type}.": "{value!r} 不是有效的 {number_type}。",
    "{value} is not in the range {range}.": "{value} 不在范围 {range} 内。",
    "{name} {filename!r} does not exist.": "{name} {filename!r} 不存在。",
    "{name} {filename!r} is a directory.": "{name} {filename!r} 是目录。",
    "{name} {filename!r} is a file.": "{name} {filename!r} 是文件。",
    "{name} {filename!r} is not readable.": "{name} {filename!r} 无法读取。",
    "file": "文件",
    "directory": "目录",
    "path": "路径",
}

HELP_ZH = {
    "Fine-tune small chat models on small machines, from a terminal. Without a command: the screen.":
        "在终端里、在小机器上微调小型对话模型。不带命令时打开界面。",
    "Show the version and exit.": "显示版本并退出。",
    "Runs' logs.": "运行日志的目录。",
    "Folder of the runs' logs.": "运行日志的目录。",
    "Language of the screen.": "界面语言。",
    "Colours.": "配色。",
    "Draw with ASCII characters only.": "只用 ASCII 字符绘制。",
    "Draw seldom, for slow connections.": "降低刷新频率，适合慢速连接。",
    "Tell before a run what would fail: data, model, memory, disk and machine.":
        "运行前指出会失败之处：数据、模型、内存、磁盘和机器。",
    "Print the findings as one JSON object.": "以一个 JSON 对象输出检查结果。",
    "Then rehearse the run, as `rehearse` does.": "随后预演该运行，同 `rehearse`。",
    "Memory that the run may take, such as 8GB; else what is free.": "运行可用的内存，如 8GB；默认为可用内存。",
    "Do everything of a run once, on its longest rows, and tell what it takes: memory, time, and the budget that fits. "
    "Nothing of it is kept but what was found, which `run` uses.":
        "用最长的数据把一次运行的各个环节走一遍，得出所需内存、时间和放得下的微批预算。只保留结果，供 `run` 使用。",
    "Print what was found as one JSON object.": "以一个 JSON 对象输出结果。",
    "List the presets.": "列出预设。",
    "Show every value of a preset.": "显示预设的全部参数。",
    "Print the values as JSON.": "以 JSON 输出参数。",
    "Bring in, look at and check data of your own.": "导入、查看和检查自己的数据。",
    "Turn FILES in the usual shapes into training and validation rows. JSON, JSON Lines, CSV, TSV, Parquet and Arrow, "
    "compressed too; folders of them, what `datasets` saves, and - for standard input.":
        "把常见格式的文件转换为训练和验证数据：JSON、JSON Lines、CSV、TSV、Parquet 和 Arrow，可以是压缩过的；"
        "也可以是目录、`datasets` 保存的数据集，或用 - 表示标准输入。",
    "Column of the prompts, where no shape that is known has it.": "提问所在的列；常见格式无需指定。",
    "Column of the responses.": "回答所在的列。",
    "Encoding of the text files, such as gb18030; else it is found out.": "文本文件的编码，如 gb18030；默认自动识别。",
    "Training file to write.": "要写出的训练文件。",
    "Validation file; '' for none.": "要写出的验证文件；'' 表示不写。",
    "Share held out.": "划给验证的比例。",
    "Take so many rows at random; 0: all.": "随机抽取的行数；0 为全部。",
    "Seed of sample and split.": "抽样和划分的随机种子。",
    "Test file; '' for none. Where no file is named, the preset's too.":
        "测试文件；'' 表示不写。未指定任何文件时，也写出预设的测试文件。",
    "Share held out for the test file; 0.05 where there is one.": "划给测试文件的比例；有测试文件时默认 0.05。",
    "Earlier turns of a conversation in the prompt of an answer: all, none, or at most N.": (
        "每个回答的提问中带有此前几轮对话：all 全部，none 不带，或最多几轮。"
    ),
    "Replace files that exist, all of them or none.": "替换已有文件，要么全部替换，要么都不变。",
    "Write nothing; tell what would come of it.": "不写文件，只说明会得到什么。",
    "Print what came of it as one JSON object.": "以一个 JSON 对象输出结果。",
    "Write the rows of chatterbot-corpus, Chinese and English, to try things with.":
        "写出 chatterbot-corpus 的中英文数据，供试用。",
    "Train a tokenizer for a new model on the rows of Parquet FILES.": "用 Parquet 文件中的数据为新模型训练分词器。",
    "Folder to write.": "要写出的目录。",
    "Tokens at most.": "词元数上限。",
    "Tell what is wrong with the rows of a Parquet FILE.": "指出 Parquet 文件中数据的问题。",
    "Print what the model really sees of a row: its tokens, what is cut, and what is unknown.":
        "显示模型真正看到的一行：词元、被截去的部分和未知词元。",
    "Number of the row, from 0.": "行号，从 0 起。",
    "Print the tokens as one JSON object.": "以一个 JSON 对象输出词元。",
    "Train as PRESET says, with any of its settings overridden; the run outlives this command.":
        "按预设训练，任何参数都可另行指定；命令退出后运行继续。",
    "Follow the run as text: bars on a terminal, plain lines elsewhere.":
        "以文本跟踪运行：终端里为进度条，否则为普通行。",
    "Print the run's events, one JSON object a line.": "输出运行事件，每行一个 JSON 对象。",
    "Start it, print its name, and return at once.": "启动后显示名称并立即返回。",
    "Go on from the newest checkpoint in the output folder.": "从输出目录中最新的检查点继续。",
    "Start anew where an unfinished run lies, and keep that aside.": "重新开始，并把未完成的运行移到一旁。",
    "Start although the pre-flight found errors.": "即使预检有错误也启动。",
    "Evaluate a best model on its test file: that of PRESET's output folder, or of the run that --run names.":
        "用测试文件评估最佳模型：预设输出目录中的，或由 --run 指定的运行的。",
    "Take the best model of RUN, wherever it is now.": "使用该运行的最佳模型，无论它现在位于何处。",
    "List the runs, the newest first.": "列出运行，最新的在前。",
    "Tell on one line how RUN is, or how it ended and what to do; the newest where none is named.":
        "用一行说明运行的状态，或它如何结束、该怎么办；不指定时为最新的运行。",
    "Print what is known of the run as one JSON object.": "以一个 JSON 对象输出运行的信息。",
    "Open the screen on RUN; with --no-ui, or where there is no terminal, follow it as text to its end.":
        "在界面中打开运行；加 --no-ui 或没有终端时，以文本跟踪到结束。",
    "Print what RUN has written so far.": "显示运行至今写出的内容。",
    "Print the events as they are.": "原样输出事件。",
    "Print what the trainer's processes wrote to their output instead.": "改为显示训练进程的输出。",
    "Save and end RUN; what it says at its end is printed here.": "保存并结束运行，并显示其结束信息。",
    "End it at once, without saving.": "立即结束，不保存。",
    "Return as soon as it is asked.": "发出请求后立即返回。",
    "Save RUN and end its processes, so that memory and GPUs are free; `continue` goes on with it.":
        "保存运行并结束其进程，释放内存和 GPU；用 `continue` 继续。",
    "Go on with RUN, which was paused.": "继续已暂停的运行。",
    "Go on with RUN from its newest sound checkpoint; with --epochs N a finished run goes on for more.":
        "从最新的完好检查点继续运行；加 --epochs N 可让已完成的运行再训练。",
    "Go on although the checkpoint was made with something else.": "即使检查点的条件不同也继续。",
    "Change what the end of the run said should be changed.": "按运行结束时的建议修改参数。",
    "Pretrain and fine-tune a small model on chatterbot-corpus: the whole story in a few minutes. "
    "Both halves run on when this command is left; called again, it shows the one that runs, or continues what was "
    "cut.":
        "用 chatterbot-corpus 预训练并微调一个小模型：几分钟走完全程。退出本命令后两半照常运行；"
        "再次执行则显示正在运行的，或从中断处继续。",
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
    "Start again where an unfinished run is, and keep that aside.": "重新开始，并把未完成的运行移到一旁。",
    "Model folder.": "模型目录。",
    "Longest reply.": "最长的回答。",
}  # fmt: skip

MODULES = (click.core, click.decorators, click.exceptions, click.formatting, click.parser, click.types)


def translated(text: str) -> str:
    """What click says, in Chinese where that is known."""
    return CLICK_ZH.get(text, text)


def _counted(one: str, many: str, count: int) -> str:
    return translated(one if count == 1 else many)


def in_chinese(command: click.Command) -> None:
    """Has click and the help of a command, with all commands below it, speak Chinese from now on."""
    for module in MODULES:  # click looks its texts up by these names, in a catalogue of the system that has none
        for name, function in (("_", translated), ("ngettext", _counted)):
            if hasattr(module, name):
                setattr(module, name, function)
    _help_in_chinese(command)


def _help_in_chinese(command: click.Command) -> None:
    if command.help:
        command.help = HELP_ZH.get(one_line(command.help), command.help)
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.help:
            parameter.help = HELP_ZH.get(one_line(parameter.help), parameter.help)
    if isinstance(command, click.Group):
        for below in command.commands.values():
            _help_in_chinese(below)


def one_line(text: str) -> str:
    """A help text as it is looked up."""
    return " ".join(text.split())
