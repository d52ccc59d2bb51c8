"""Everything the training job says to people, in English and Chinese, side by side.

An event or an error carries a code and its arguments; the program that shows it renders it in the reader's language.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Self

Lang = Literal["en", "zh"]
Value = str | int | float


class Wording(NamedTuple):
    """What happened and what to do about it, in both languages.

    `{name}` stands for an argument, `{name_in_shell}` for the argument quoted for a shell.
    """

    en: str
    zh: str
    en_fix: str = ""
    zh_fix: str = ""


MESSAGES: dict[str, Wording] = {
    # settings
    "setting_range": Wording(
        "{name} = {value}: it must be {rule}.",
        "{name} = {value}：应{rule_zh}。",
    ),
    "setting_kind": Wording(
        "{name} = {value}: it must be {kind}.",
        "{name} = {value}：类型应为 {kind}。",
    ),
    "setting_empty": Wording(
        "{name} needs a value, such as {example}.",
        "{name} 不能为空，例如 {example}。",
    ),
    "setting_not_number": Wording(
        "{name} = {typed}: it must be a number, such as {example}.",
        "{name} = {typed}：应为数字，例如 {example}。",
    ),
    "setting_not_whole": Wording(
        "{name} = {typed}: it must be a whole number, such as {example}.",
        "{name} = {typed}：应为整数，例如 {example}。",
    ),
    "setting_nul": Wording(
        "{name} contains a NUL character.",
        "{name} 含有 NUL 字符。",
        "Type the value again without it.",
        "请去掉该字符后重新输入。",
    ),
    "setting_not_utf8": Wording(
        "{name}: the bytes of the name {path} are not UTF-8, which the libraries of models and tokenizers need.",
        "{name}：名称 {path} 的字节不是 UTF-8，而模型与分词器的库要求 UTF-8。",
        "Rename the folder, or make a link to it under another name (ln -s).",
        "请重命名该文件夹，或用另一个名称创建指向它的链接（ln -s）。",
    ),
    "setting_fp16": Wording(
        "mixed_precision = fp16: T5 diverges in fp16 (its activations leave the range).",
        "mixed_precision = fp16：T5 的激活值超出 fp16 的范围，训练会发散。",
        "Use --mixed_precision auto: bf16 where the hardware has it, else fp32.",
        "请用 --mixed_precision auto：硬件支持则用 bf16，否则用 fp32。",
    ),
    "size_bad": Wording(
        '"{text}" is not a valid size.',
        "{text} 不是有效的大小。",
        "Give it as 8GB or 800MB.",
        "请写成 8GB 或 800MB 的形式。",
    ),
    "row_unknown": Wording(
        "{path} has no row {row}: its rows are 0 to {last}.",
        "{path} 没有第 {row} 行：行号为 0 到 {last}。",
    ),
    "reader_crash": Wording(
        "Reading {path} crashed the reader ({why}).",
        "读取 {path} 时读取进程崩溃（{why}）。",
        "The file is corrupt or malicious: regenerate it.",
        "该文件已损坏或是恶意构造的：请重新生成。",
    ),
    "reader_memory": Wording(
        "Reading {path} ran out of memory ({why}).",
        "读取 {path} 时内存不足（{why}）。",
        "Free memory, or raise the limit that this shell sets (ulimit -v, ulimit -m).",
        "请释放内存，或放宽当前 shell 的限制（ulimit -v、ulimit -m）。",
    ),
    "reader_failed": Wording(
        "The process that reads {path} failed ({why}).",
        "读取 {path} 的进程出错（{why}）。",
        "This says nothing about the file. If the error in brackets names sft-tui's own code, please report it.",
        "这并不说明该文件有问题。若括号中的错误指向 sft-tui 自身的代码，请报告。",
    ),
    "preset_unknown": Wording(
        "There is no preset named {name}.",
        "没有名为 {name} 的预设。",
        "Known presets: {known}.",
        "可用的预设：{known}。",
    ),
    "preset_unreadable": Wording(
        "The preset in {path} cannot be read: {why}.",
        "无法读取预设文件 {path}：{why}。",
        "Check its path and permissions.",
        "请检查其路径和权限。",
    ),
    "preset_bad": Wording(
        "{path} is not a preset: {why}.",
        "{path} 不是有效的预设：{why}。",
        "A preset names its parent and the settings that differ, each as NAME = VALUE.",
        "预设文件应写明 parent，以及与其不同的参数，每行一个“名称 = 值”。",
    ),
    "preset_key": Wording(
        "{path}: there is no setting named {key}.",
        "{path}：没有名为 {key} 的参数。",
        "Did you mean {near}?",
        "是否指 {near}？",
    ),
    "preset_circle": Wording(
        "The preset {name} is its own parent: {names}.",
        "预设 {name} 的 parent 最终指向自身：{names}。",
        "Name another parent.",
        "请指定其他 parent。",
    ),
    "preset_name": Wording(
        '"{name}" cannot be the name of a preset.',
        "“{name}”不能用作预设名称。",
        "Use at most 60 letters, digits, dots, dashes and underscores, and begin with a letter or digit.",
        "请使用不超过 60 个字母、数字、点、短横线或下划线，并以字母或数字开头。",
    ),
    "preset_built_in": Wording(
        "The preset {name} comes with the program and stays as it is.",
        "{name} 是自带预设，不能更改。",
        "Choose another name; --from {name} begins with its settings.",
        "请换用其他名称；--from {name} 可沿用其参数。",
    ),
    "preset_exists": Wording(
        "There is a preset named {name} already: {path}.",
        "预设 {name} 已存在：{path}。",
        "Choose another name, or replace it with --overwrite.",
        "请换用其他名称，或用 --overwrite 覆盖。",
    ),
    "preset_unwritable": Wording(
        "The preset cannot be written to {path}: {why}.",
        "无法将预设写入 {path}：{why}。",
        "Check the folder's permissions and its disk.",
        "请检查该目录的权限和磁盘。",
    ),
    "run_record_bad": Wording(
        "{path} is not a run record: {why}.",
        "{path} 不是有效的运行记录：{why}。",
        "Start the run with `sft-tui run PRESET`.",
        "请用 `sft-tui run PRESET` 启动。",
    ),
    "run_file_unreadable": Wording(
        "{path} cannot be read: {why}.",
        "{path} 无法读取：{why}。",
        "`chmod -R u+rwX` on the run's folder gives you access; move away what is not a file of the run.",
        "可对运行目录执行 `chmod -R u+rwX` 恢复权限；如果它不是运行自己的文件，请移走。",
    ),
    # data
    "file_missing": Wording(
        "The {what} {path} does not exist.",
        "找不到{what_zh} {path}。",
        "Put it there, or name another with --{setting} PATH.",
        "请把文件放到该处，或用 --{setting} 路径 指定另一个。",
    ),
    "file_missing_advised": Wording(
        "The {what} {path} does not exist.",
        "找不到{what_zh} {path}。",
        "{advice}",
        "{advice}",
    ),
    "file_unreadable": Wording(
        "{path} cannot be read: {why}.",
        "{path} 无法读取：{why}。",
        "Replace it with a regular file, or name another with --{setting} PATH.",
        "请在该处放置普通文件，或用 --{setting} 路径 指定另一个。",
    ),
    # people's files
    "source_missing": Wording(
        "There is no file or folder {path}.",
        "没有文件或目录 {path}。",
        "Check the path; a pattern in quotes, such as 'shards/*.jsonl', names many files.",
        "请检查路径；带引号的通配符（如 'shards/*.jsonl'）可以指定多个文件。",
    ),
    "source_unreadable": Wording(
        "{path} cannot be read: {why}.",
        "{path} 无法读取：{why}。",
        "Check its permissions and its disk.",
        "请检查其权限和磁盘。",
    ),
    "source_folder_large": Wording(
        "The folder {path} holds more than {most} files and folders.",
        "目录 {path} 中的文件和子目录超过 {most} 个。",
        "Name a smaller folder, or the files themselves by a pattern in quotes, such as '{pattern}'.",
        "请指定更小的目录，或用带引号的通配符直接指定文件，例如 '{pattern}'。",
    ),
    "source_bomb": Wording(
        "{path} was given up: decompressed ({compression}), it is more than {ratio} times as long, {made} so far.",
        "已放弃读取 {path}：解压后（{compression}）超过原大小的 {ratio} 倍，目前已有 {made}。",
        "If its rows are real, decompress it yourself, and import what comes of it.",
        "如果其中确有数据，请先自行解压，再导入解压后的文件。",
    ),
    "source_compressed": Wording(
        "{path} is damaged or cut short ({compression}): {why}.",
        "{path} 已损坏或不完整（{compression}）：{why}。",
        "Copy or download it again.",
        "请重新拷贝或下载。",
    ),
    "source_foreign": Wording(
        "{path} is {what}: no rows can be read from it.",
        "{path} 是{what}，无法从中读取数据。",
        "{advice}",
        "{advice}",
    ),
    "source_table": Wording(
        "{path} cannot be read as {format}: {why}.",
        "{path} 无法按 {format} 读取：{why}。",
        "Regenerate it, or copy it again if it was cut short.",
        "请重新生成；若传输中断，请重新拷贝。",
    ),
    "source_none": Wording(
        "The folder {path} holds no file of rows.",
        "目录 {path} 中没有数据文件。",
        "Name the files, or a folder with .jsonl, .json, .csv, .tsv, .parquet or .arrow files in it.",
        "请直接指定文件，或指定含有 .jsonl、.json、.csv、.tsv、.parquet 或 .arrow 文件的目录。",
    ),
    "source_endless": Wording(
        "{path} is longer than {limit}, which is all the temporary folder has room for.",
        "{path} 超过 {limit}，临时目录放不下。",
        "Write it to a file, and name that; or set TMPDIR to a folder with more room.",
        "请先写入文件再指定该文件；或把 TMPDIR 设为空间更大的目录。",
    ),
    "source_column_missing": Wording(
        "{path} has no column {column}; it has: {columns}.",
        "{path} 没有 {column} 列；现有的列：{columns}。",
        "Name the right one with --{setting} NAME.",
        "请用 --{setting} 列名 指定。",
    ),
    "source_column_twice": Wording(
        "{path} has more than one column {column}; its columns: {columns}.",
        "{path} 有多个名为 {column} 的列；所有的列：{columns}。",
        "Rename all but one of them.",
        "请只保留一个，将其余的改名。",
    ),
    "encoding_unknown": Wording(
        "{encoding} is not a known encoding.",
        "没有名为 {encoding} 的编码。",
        "Known encodings include utf-8, gb18030, big5, shift_jis, euc_kr, cp1252 and many more.",
        "可用的编码有 utf-8、gb18030、big5、shift_jis、euc_kr、cp1252 等。",
    ),
    "encoding_doubt": Wording(
        "The encoding of {path} is in doubt; it could be {candidates}.",
        "无法确定 {path} 的编码，可能是 {candidates}。",
        "Say which it is, such as --encoding {encoding}, or save it as UTF-8.",
        "请指明编码，如 --encoding {encoding}，或另存为 UTF-8。",
    ),
    "encoding_none": Wording(
        "{path} is not text in any known encoding.",
        "{path} 不是任何已知编码的文本。",
        "Say which encoding it is in with --encoding NAME, or save it as UTF-8.",
        "请用 --encoding 名称 指明编码，或另存为 UTF-8。",
    ),
    "import_exists": Wording(
        "{path} already exists.",
        "{path} 已存在。",
        "Replace it with --overwrite, or name another file.",
        "如需覆盖请加 --overwrite，或指定另一个文件名。",
    ),
    "import_cut_off": Wording(
        "An import was killed, and what it left cannot be put in order ({path}: {why}).",
        "一次导入被强行终止，其遗留的文件无法整理（{path}：{why_zh}）。",
        "Import again with --overwrite, as a user who may write there.",
        "请以有写入权限的用户用 --overwrite 重新导入。",
    ),
    "import_busy": Wording(
        "Another import is writing into {path}.",
        "另一个导入正在写入 {path}。",
        "Wait until it has ended, then try again.",
        "请等它结束后再试。",
    ),
    "target_without_rows": Wording(
        "{path} exists, but no rows are held out for it now. If it stayed, it might hold rows that are trained on.",
        "{path} 已存在，但这次没有为它划出数据；若保留，其中可能有用于训练的数据。",
        "Move it away, hold out more rows with --{setting}-ratio, or keep it with --{setting} ''.",
        "请移走该文件，或用 --{setting}-ratio 划出更多数据；若要保留它，请用 --{setting} ''。",
    ),
    "targets_equal": Wording(
        "--{one} and --{other} are the same file, {path}.",
        "--{one} 与 --{other} 是同一个文件 {path}。",
        "Name a file of its own for each.",
        "请分别指定不同的文件。",
    ),
    "target_is_source": Wording(
        "{path} is a file that the rows are read from.",
        "{path} 正是要读取数据的文件。",
        "Name another file with --{setting}.",
        "请用 --{setting} 指定另一个文件。",
    ),
    "target_not_file": Wording(
        "{path} is a folder or a device, not a file.",
        "{path} 是目录或设备，不是文件。",
        "Name a file with --{setting}.",
        "请用 --{setting} 指定一个文件。",
    ),
    "tokenizer_exists": Wording(
        "{path} already exists and is not empty.",
        "{path} 已存在且不为空。",
        "A model needs the tokenizer it was trained with: name another folder with --output.",
        "模型只能与训练它的分词器配套：请用 --output 指定另一个目录。",
    ),
    "vocabulary_small": Wording(
        "A vocabulary of {vocabulary} is too small: each character of the texts needs a token.",
        "{vocabulary} 个词元太少：文本中的每个字符都需要一个。",
        "Raise --vocabulary; 4000 are enough for a few thousand Chinese rows.",
        "请用 --vocabulary 调高；几千行中文数据 4000 就够。",
    ),
    "import_nothing": Wording(
        "No usable record in {path}; {records} read ({reasons}).",
        "{path} 的 {records} 条记录都无法使用（{reasons}）。",
        "Name the columns with --prompt_column and --response_column; known shapes: {shapes}.",
        "请用 --prompt_column 和 --response_column 指定列名；可识别的格式：{shapes}。",
    ),
    "import_nothing_records": Wording(
        "No usable record in {path}; {records} read ({reasons}).",
        "{path} 的 {records} 条记录都无法使用（{reasons}）。",
        "Write each record on a line of its own as a JSON object; pandas does so with "
        '`df.to_json(path, orient="records", lines=True, force_ascii=False)`.',
        "请把每条数据作为一个 JSON 对象单独写成一行；用 pandas 时："
        '`df.to_json(path, orient="records", lines=True, force_ascii=False)`。',
    ),
    "import_nothing_trees": Wording(
        "No usable record in {path}; {records} read ({reasons}).",
        "{path} 的 {records} 条记录都无法使用（{reasons}）。",
        "Choose one reply to each message, and write each conversation that comes of it on a line: an object whose "
        "`messages` are a list of objects with `role` and `content`.",
        "请为每条消息选定一个回复，把由此得到的每段对话写成一行："
        "一个对象，其 `messages` 是由含 `role` 和 `content` 的对象组成的列表。",
    ),
    "import_nothing_options": Wording(
        "No usable record in {path}; {records} read ({reasons}).",
        "{path} 的 {records} 条记录都无法使用（{reasons}）。",
        "Write the letter or the text of the right option as the answer.",
        "请把正确选项的字母或文本写作回答。",
    ),
    "import_nothing_utf8": Wording(
        "No usable record in {path}; {records} read ({reasons}).",
        "{path} 的 {records} 条记录都无法使用（{reasons}）。",
        "Name the encoding that the file is in with --encoding, such as gb18030 or big5.",
        "请用 --encoding 指定文件的编码，例如 gb18030 或 big5。",
    ),
    "rows_none": Wording(
        "{path} has no rows.",
        "{path} 没有任何行。",
        "Regenerate it with rows, or name another file.",
        "请重新生成该文件，或指定另一个文件。",
    ),
    "not_parquet": Wording(
        "{path} is not Parquet, but {kind}.",
        "{path} 不是 Parquet 文件，而是 {kind}。",
        "Import it: `{import_command}`.",
        "请导入：`{import_command}`。",
    ),
    "parquet_bad": Wording(
        "{path} cannot be read as Parquet: {why}.",
        "{path} 无法按 Parquet 读取：{why}。",
        "Regenerate it (pyarrow or pandas: to_parquet), or copy it again if it was cut short.",
        "请重新生成（pyarrow 或 pandas 的 to_parquet）；若传输中断，请重新拷贝。",
    ),
    "column_missing": Wording(
        "{path} has no column {column}; it has: {columns}.",
        "{path} 没有 {column} 列；现有的列：{columns}。",
        "Name the right one with --{setting} NAME.",
        "请用 --{setting} 列名 指定。",
    ),
    "column_not_text": Wording(
        "Column {column} of {path} holds {kind}, not text.",
        "{path} 的 {column} 列是 {kind}，不是文本。",
        "Convert the column to strings, or name another with --{setting} NAME.",
        "请把该列转换为字符串，或用 --{setting} 列名 指定另一列。",
    ),
    "rows_all_empty": Wording(
        "{path} has no row to train on; {dropped} of {rows} dropped ({reasons}).",
        "{path} 没有可用的行：共 {rows} 行，丢弃了 {dropped} 行（{reasons}）。",
        "Fill the columns {prompt} and {response} with text.",
        "请在 {prompt} 和 {response} 两列中填入文本。",
    ),
    "token_store_again": Wording(
        "The tokenized rows were damaged ({path}: {why}); they were rebuilt from the data file.",
        "分词缓存已损坏（{path}：{why}），已根据数据文件重新生成。",
        "No action is needed; if it happens again, test the disk and the memory of this machine.",
        "无需处理；如果再次发生，请检查这台机器的磁盘和内存。",
    ),
    "token_store_bad": Wording(
        "The tokenized rows are damaged ({path}: {why}).",
        "分词缓存已损坏（{path}：{why}）。",
        "Remove the folder {folder}: it is rebuilt from the data file. Or name another with --token_store PATH.",
        "请删除目录 {folder}，它会根据数据文件重新生成；或用 --token_store 路径 指定另一个。",
    ),
    "rows_dropped": Wording(
        "{path}: {dropped} of {rows} row(s) left out ({reasons}); the first is row {first}.",
        "{path}：共 {rows} 行，略过 {dropped} 行（{reasons}）；第一处在第 {first} 行。",
    ),
    "rows_truncated": Wording(
        "{path}: {cut_rows} of {rows} row(s) cut to {limit} token(s); {cut_tokens} of {tokens} token(s) left out.",
        "{path}：共 {rows} 行，其中 {cut_rows} 行超过 {limit} 个词元；{tokens} 个词元中截去 {cut_tokens} 个。",
    ),
    "turns_left_out": Wording(
        "{path}: {turns_left_out} earlier turn(s) left out of {turns_rows} of {rows} row(s), to fit {limit} token(s).",
        "{path}：共 {rows} 行，其中 {turns_rows} 行为不超过 {limit} 个词元而略去了此前的 {turns_left_out} 轮对话。",
    ),
    "turns_elsewhere": Wording(
        "{path}: row {row}: the turns of its {prompt} do not begin where {column} says. One of the two "
        "was changed after the import.",
        "{path}：第 {row} 行 {prompt} 中各轮的起始位置与 {column} 列不符：导入后其中之一被改动过。",
    ),
    # model and tokenizer
    "tokenizer_bad": Wording(
        "The tokenizer {path} cannot be used: {why}.",
        "无法使用分词器 {path}：{why}。",
        "Name a tokenizer folder (with tokenizer.json, spiece.model or vocab.txt) with --tokenizer PATH.",
        "请用 --tokenizer 路径 指定分词器目录（含 tokenizer.json、spiece.model 或 vocab.txt）。",
    ),
    "tokenizer_token_missing": Wording(
        "The tokenizer {path} has no {token} token.",
        "分词器 {path} 没有 {token} 词元。",
        'Name the one that it has: "{token}_token" in its tokenizer_config.json.',
        "请在其 tokenizer_config.json 中用 {token}_token 指定已有的词元。",
    ),
    "tokenizer_died": Wording(
        "The process that used the tokenizer {path} on the rows of {rows} died ({why}).",
        "分词器 {path} 处理 {rows} 的数据时，其进程意外结束（{why}）。",
        "Its patterns or its normalizer take unbounded time or memory: name another with --tokenizer PATH.",
        "其正则或规范化规则会耗尽时间或内存：请用 --tokenizer 路径 指定另一个。",
    ),
    "tokenizer_unnamed": Wording(
        "A new model has no tokenizer of its own, and none is named.",
        "新模型没有自带的分词器，也没有指定分词器。",
        "Train one on the rows (`sft-tui data tokenizer FILE`), and name it with --tokenizer PATH.",
        "请先用数据训练一个（`sft-tui data tokenizer 文件`），再用 --tokenizer 路径 指定。",
    ),
    "tokenizer_differs": Wording(
        "The tokenizer {tokenizer} is not the one that the model {model} was trained with: {count} of "
        "{shared} token(s) have another id; {number} is {token} here and {other} there.",
        "分词器 {tokenizer} 与模型 {model} 自带的不同：{shared} 个词元中有 {count} 个编号不一致；"
        "编号 {number} 在前者为 {token}，在后者为 {other}。",
        "Use the model's own: --tokenizer ''.",
        "请使用模型自带的分词器：--tokenizer ''。",
    ),
    "model_bad": Wording(
        "No model can be loaded from {path}: {why}.",
        "无法从 {path} 加载模型：{why}。",
        "Name a transformers folder or a state dict with --pretrained_model PATH.",
        "请用 --pretrained_model 路径 指定 transformers 目录或权重文件。",
    ),
    "model_kind": Wording(
        "{path} is {kind}.",
        "{path} 是{kind}。",
        "{advice}",
        "{advice}",
    ),
    "model_wrapped": Wording(
        "The names of the weights in {path} began with {prefix}, added by a program that wrapped the "
        "model; the prefix was removed.",
        "{path} 中的权重名都以 {prefix} 开头，这是训练程序包装模型时加上的：已去掉。",
    ),
    "model_gated": Wording(
        "The feed-forward layers in {path} have gates: it is treated as T5 1.1 (gated-gelu), like mT5 and Flan.",
        "{path} 的前馈层带门控：按 T5 1.1（gated-gelu）处理，mT5 和 Flan 也是如此。",
    ),
    "weights_not_numbers": Wording(
        "{tensor} in {path} holds NaN or infinity.",
        "{path} 中的 {tensor} 含有 NaN 或无穷大。",
        "The model was damaged when it was trained or converted (often by fp16): use an earlier one.",
        "该模型在训练或转换时已损坏（常因 fp16）：请换用更早的版本。",
    ),
    "generation_bad": Wording(
        "The generation settings in {path} cannot be used: {why}.",
        "{path} 中的生成设置无法使用：{why}。",
        "Correct or remove that setting; replies are greedy here, and the settings are kept for the model's users.",
        "请修正或删除该项；这里用贪心生成，这些设置只是随模型保留。",
    ),
    "positions_short": Wording(
        "{path} has rows whose {part} is {longest} token(s) long, and the model has {positions} position(s).",
        "{path} 中有行的{part}长 {longest} 个词元，而模型只有 {positions} 个位置。",
        "Cut rows to what the model can take: --max_seq_len {positions}.",
        "请按模型的上限截短：--max_seq_len {positions}。",
    ),
    "replies_long": Wording(
        "Replies of {longest} token(s) were requested, and the model has {positions} position(s).",
        "要求生成 {longest} 个词元的回答，而模型只有 {positions} 个位置。",
        "Use --max_new_tokens {positions}.",
        "请用 --max_new_tokens {positions}。",
    ),
    "model_lfs": Wording(
        "{path} is a pointer of Git LFS, not the file itself.",
        "{path} 只是 Git LFS 指针，不是文件本身。",
        "Fetch it with git lfs pull.",
        "请用 git lfs pull 取回文件。",
    ),
    "model_checksum": Wording(
        "{path} is damaged: the checksum of {part} is not the one it was written with.",
        "{path} 已损坏：其中 {part} 的校验和与写入时不同。",
        "It was damaged in transit: copy or download it again.",
        "文件在传输中损坏：请重新拷贝或下载。",
    ),
    "model_hash": Wording(
        "{path} is not the file that it should be: its SHA-256 is {found}, and {source} says {wanted}.",
        "{path} 不是原来的文件：其 SHA-256 为 {found}，而 {source} 记录的是 {wanted}。",
        "It was damaged or changed in transit: copy or download it again.",
        "文件在传输中损坏或被改动：请重新拷贝或下载。",
    ),
    "model_pickle": Wording(
        "{path} is not a plain state dict, and nothing of it was executed: {why}.",
        "{path} 不是单纯的权重字典，其中的代码没有被执行：{why}。",
        "Save it again with torch.save(model.state_dict(), path), or use a file from a source you trust.",
        "请用 torch.save(model.state_dict(), 路径) 重新保存，或换用可信来源的文件。",
    ),
    "model_keys": Wording(
        "The weights in {path} do not fit the model: {missing_count} missing ({missing}), "
        "{unexpected_count} unexpected ({unexpected}), {mismatched_count} of another shape ({mismatched}).",
        "{path} 中的权重与模型不符：缺少 {missing_count} 个（{missing}），"
        "多出 {unexpected_count} 个（{unexpected}），形状不符 {mismatched_count} 个（{mismatched}）。",
        "{advice}",
        "{advice}",
    ),
    "vocabulary_mismatch": Wording(
        "The tokenizer {tokenizer} has {tokens} token(s), the model {model} has room for {rows}.",
        "分词器 {tokenizer} 有 {tokens} 个词元，模型 {model} 只容得下 {rows} 个。",
        "Use the tokenizer the model was trained with: --tokenizer PATH.",
        "请使用与模型配套的分词器：--tokenizer 路径。",
    ),
    "special_token_mismatch": Wording(
        "The model {model} takes token {model_id} for {token}, the tokenizer {tokenizer} takes {tokenizer_id}.",
        "模型 {model} 的 {token} 是词元 {model_id}，分词器 {tokenizer} 的却是 {tokenizer_id}。",
        "Use the tokenizer the model was trained with: --tokenizer PATH.",
        "请使用与模型配套的分词器：--tokenizer 路径。",
    ),
    "special_token_bad": Wording(
        "The model {model} says that its {token} token is {number}, and its token ids run only from 0 to below {rows}.",
        "模型 {model} 的 {token} 词元为 {number}，而它的词元编号从 0 起，小于 {rows}。",
        "Set {token}_token_id in its config.json to a token that it has.",
        "请将其 config.json 中的 {token}_token_id 改为存在的词元。",
    ),
    "decoder_start_missing": Wording(
        "The model {model} does not say with which token its decoder starts.",
        "模型 {model} 没有说明解码器以哪个词元开头。",
        "Set decoder_start_token_id in its config.json (T5 uses the pad token).",
        "请在其 config.json 中设置 decoder_start_token_id（T5 用 pad 词元）。",
    ),
    "freeze_unknown": Wording(
        "freeze names {name}, and the model has no such part.",
        "freeze 中的 {name} 在模型中不存在。",
        "Use encoder, decoder, embeddings, or the beginning of a parameter name: {known}.",
        "可用 encoder、decoder、embeddings，或参数名的开头：{known}。",
    ),
    "nothing_trainable": Wording(
        "freeze = {freeze} leaves no parameter to train.",
        "freeze = {freeze} 冻结了全部参数，没有可训练的部分。",
        "Name fewer parts with --freeze.",
        "请在 --freeze 中减少冻结的部分。",
    ),
    "head_frozen": Wording(
        "The output head shares its weights with the embeddings, so freezing these freezes the head too.",
        "输出层与词嵌入共享权重，冻结词嵌入也就冻结了输出层。",
    ),
    "trainable": Wording(
        "{trained} of {total} parameters learn; frozen: {frozen}.",
        "共 {total} 个参数，训练其中 {trained} 个；冻结：{frozen}。",
    ),
    "model_new": Wording(
        "No pretrained model is named: the weights start at random from seed {seed}.",
        "未指定预训练模型：权重由种子 {seed} 随机初始化。",
    ),
    "head_not_separable": Wording(
        "The output of {model} cannot be computed in chunks; all logits of a micro-batch are held at once.",
        "{model} 的输出无法分块计算；一个微批的全部 logits 将同时占用内存。",
    ),
    "precision_fallback": Wording(
        "bf16 is not native on this hardware ({device}); training in fp32.",
        "该硬件（{device}）没有原生 bf16，改用 fp32 训练。",
    ),
    # processes of a run
    "world_mismatch": Wording(
        "{launched} processes were launched, and each finds a world of {found}: they would train "
        "separately into one folder. This machine has {gpus} GPU(s).",
        "启动了 {launched} 个进程，但每个进程看到的总进程数是 {found}："
        "它们会各自训练并写入同一个目录。这台机器有 {gpus} 个 GPU。",
        "What works here: `{command}`",
        "在这台机器上可用：`{command}`",
    ),
    "world_promised": Wording(
        "The run was set up for {promised} process(es), not for {found}.",
        "该运行应有 {promised} 个进程，实际有 {found} 个。",
        "Start it with `sft-tui run`, or with `accelerate launch --num_processes {promised}`.",
        "请用 `sft-tui run` 启动，或用 `accelerate launch --num_processes {promised}`。",
    ),
    "launched_alone": Wording(
        "The launcher was asked for {asked} processes and started this one alone: the effective batch is {batch}, not "
        "{wanted}.",
        "启动器应启动 {asked} 个进程，实际只有当前一个：有效批大小为 {batch}，而不是 {wanted}。",
        "For {asked} processes: `{several}`. For one: `{one}`.",
        "{asked} 个进程：`{several}`；单进程：`{one}`。",
    ),
    # a config.py in the format of the original scripts
    "config_file_unread": Wording(
        "{path} is neither read nor executed: settings come from the preset {preset} and from the command line.",
        "{path} 不会被读取或执行：参数来自预设 {preset} 和命令行。",
        "Give what you changed there as options, such as --train_file=PATH or --max_seq_len=256; "
        "`sft-tui presets show {preset}` lists all.",
        "请把在其中改过的内容写成选项，如 --train_file=路径、--max_seq_len=256；`sft-tui presets show {preset}` "
        "列出全部。",
    ),
    "config_file_same": Wording(
        "{path} is neither read nor executed; its {original} has the values of the preset {preset}, as "
        "far as it can be compared.",
        "{path} 不会被读取或执行；其中 {original} 的值与预设 {preset} 相同（就可比较的部分而言）。",
    ),
    "config_file_differs": Wording(
        "{path} is neither read nor executed; its {original} is not the preset {preset}: {settings} (in "
        "brackets: what is used).",
        "{path} 不会被读取或执行；其中 {original} 与预设 {preset} 不同：{settings}（括号内为实际使用的值）。",
        "To use its values: {options}",
        "如需使用其中的值：{options}",
    ),
    # folders, space, locks
    "working_folder_gone": Wording(
        "The folder that this was called in no longer exists.",
        "当前所在的目录已不存在。",
        "Change to one that exists (cd), and call it again there.",
        "请先用 cd 切换到存在的目录，再重新执行。",
    ),
    "busy": Wording(
        "{path} is in use by {holder}.",
        "{path} 正被 {holder} 使用。",
        "Follow it: `sft-tui attach {run}`. Stop it: `sft-tui stop {run}`. Or use another folder: --output_dir PATH.",
        "查看：`sft-tui attach {run}`；停止：`sft-tui stop {run}`；或换一个目录：--output_dir 路径。",
    ),
    "space_short": Wording(
        "{path} has {free} free, and the first checkpoint and the best model need {need}.",
        "{path} 可用 {free}，而第一个检查点和最佳模型需要 {need}。",
        "Free {short}, or use a folder on another disk: --output_dir PATH.",
        "请腾出 {short}，或换用其他磁盘上的目录：--output_dir 路径。",
    ),
    "folder_unwritable": Wording(
        "{path} cannot be written: {why}.",
        "{path} 无法写入：{why}。",
        "Fix its permissions or its disk, or name another folder with --{setting} PATH.",
        "请修正其权限或磁盘，或用 --{setting} 路径 指定另一个目录。",
    ),
    "unfinished_run": Wording(
        "{path} holds the run {run}, cut at step {step} of {steps_total}.",
        "{path} 中有未完成的运行 {run}，停在第 {step} 步（共 {steps_total} 步）。",
        "Resume it: `{resume_option}`. Start over, and keep it under earlier/: `{fresh_option}`.",
        "继续训练：`{resume_option}`。重新开始，并把它保留在 earlier/ 下：`{fresh_option}`。",
    ),
    "set_aside": Wording(
        "What the run {run} left in {path} was moved to {aside} ({size}); delete it when you no longer need it.",
        "运行 {run} 留在 {path} 的内容已移到 {aside}（{size}）；不再需要时可以删除。",
    ),
    "reply_missing": Wording(
        "There is no model folder {path}.",
        "没有模型目录 {path}。",
        "Name one with --model PATH; a run leaves its best in model_save/<preset>/best.",
        "请用 --model 路径 指定；训练结果在 model_save/<预设>/best。",
    ),
    "prompt_not_text": Wording(
        "Prompt {number} is not text: it holds bytes that are not UTF-8.",
        "第 {number} 条提问不是文本：其中有不属于 UTF-8 的字节。",
        "Give it in UTF-8.",
        "请以 UTF-8 编码输入。",
    ),
    "best_missing": Wording(
        "There is no best model in {path} to test.",
        "{path} 中没有可供测试的最佳模型。",
        "Train one first, or name another folder with --output_dir PATH.",
        "请先训练，或用 --output_dir 路径 指定另一个目录。",
    ),
    # checkpoints and resume
    "resumed": Wording(
        "Resuming from {checkpoint}: epoch {epoch}, step {step} of {steps_total}; every hash was verified.",
        "从 {checkpoint} 继续：第 {epoch} 轮，第 {step} 步，共 {steps_total} 步；所有哈希均已校验。",
    ),
    "resume_nothing": Wording(
        "{path} has no checkpoint to resume from; starting at step 0.",
        "{path} 中没有可继续的检查点，从第 0 步开始。",
    ),
    "resume_finished": Wording(
        "The run {run} is finished ({steps_total} step(s)); there is nothing left to train.",
        "运行 {run} 已经完成（共 {steps_total} 步），无需再训练。",
        "For more epochs: `{resume_option} --epochs N`. To start over: `{fresh_option}`.",
        "继续更多轮：`{resume_option} --epochs N`；重新训练：`{fresh_option}`。",
    ),
    "resume_differs": Wording(
        "The checkpoint {checkpoint} was made with other settings: {differences}.",
        "检查点 {checkpoint} 的设置与现在不同：{differences}。",
        "Restore those settings, resume anyway with `{resume_option} --force`, or start over with `{fresh_option}`.",
        "请恢复当时的条件；若仍要继续：`{resume_option} --force`；重新开始：`{fresh_option}`。",
    ),
    "checkpoint_skipped": Wording(
        "The checkpoint {checkpoint} was skipped: {why}.",
        "跳过检查点 {checkpoint}：{why}。",
    ),
    "resume_accepted": Wording(
        "The checkpoint {checkpoint} was made under other conditions; resuming anyway, as requested: {differences}.",
        "检查点 {checkpoint} 的条件与现在不同，已按要求继续：{differences}。",
    ),
    "resume_proved": Wording(
        "Step {step} repeated: its loss {loss} is the one before the cut, to the last bit.",
        "重复第 {step} 步：损失 {loss} 与中断前逐位相同。",
    ),
    "resume_proved_within": Wording(
        "Step {step} repeated: its loss {loss} is the one before the cut within {worst} ({why}).",
        "重复第 {step} 步：损失 {loss} 与中断前相差不超过 {worst}（{why}）。",
    ),
    "resume_repeated": Wording(
        "Steps {first} to {step} of the log repeated: {steps} loss(es) as logged, to the last bit.",
        "已重复日志中的第 {first} 至 {step} 步：{steps} 个损失与记录逐位相同。",
    ),
    "resume_repeated_within": Wording(
        "Steps {first} to {step} of the log repeated: {steps} loss(es) as logged within {worst} ({why}).",
        "已重复日志中的第 {first} 至 {step} 步：{steps} 个损失与记录相差不超过 {worst}（{why}）。",
    ),
    "resume_unproved": Wording(
        "The log and the checkpoint end at step {step}: there is no later loss to repeat; every hash was verified.",
        "日志和检查点都止于第 {step} 步，没有之后的损失可供重复；所有哈希均已校验。",
    ),
    "resume_other_cut": Wording(
        "The micro-batch budget changes from {old} to {new} token(s), and with it what dropout draws: "
        "no loss can be repeated; every hash was verified.",
        "微批预算由 {old} 改为 {new} 个词元，dropout 的随机数随之不同，无法重复此前的损失；所有哈希均已校验。",
    ),
    "resume_disproved": Wording(
        "Step {step} does not repeat: its loss is {loss}, before the cut it was {logged}. What differs from "
        "then: {changed}.",
        "第 {step} 步未能重现：损失为 {loss}，中断前为 {logged}。与当时的不同：{changed}。",
        "Restore what differs, or resume anyway with `{resume_option} --force`.",
        "请恢复这些条件；若仍要继续：`{resume_option} --force`。",
    ),
    "resume_drift": Wording(
        "Step {step} does not repeat: its loss is {loss}, the log has {logged} (what differs: "
        "{changed}); training continues.",
        "第 {step} 步未能重现：损失为 {loss}，日志中为 {logged}（不同之处：{changed}）；训练继续。",
    ),
    "resume_schedule": Wording(
        "With {steps_total} step(s) instead of {before} the learning rate follows a longer curve: it "
        "continues at {rate}, and was {last} in the last step.",
        "总步数由 {before} 增至 {steps_total}，学习率改走更长的曲线：从 {rate} 继续，而上一步为 {last}。",
        "A lower one from here on: `{resume_option} --epochs {epochs} --learn_rate RATE --force`.",
        "如需更低的学习率：`{resume_option} --epochs {epochs} --learn_rate 数值 --force`。",
    ),
    "loss_rose": Wording(
        "The loss rose: {loss} on average in epoch {epoch}, and {before} in {since}.",
        "损失上升：第 {epoch} 轮平均为 {loss}，而{since_zh}为 {before}。",
        "The learning rate (up to {rate}) may be too high: stop the run, and start again with a lower --learn_rate.",
        "学习率（最高 {rate}）可能过高：请停止运行，并以更小的 --learn_rate 重新开始。",
    ),
    "save_no_space": Wording(
        "No checkpoint of step {step}: {path} has {free} free, and it needs {need}. Training continues "
        "and tries again after the next interval; the checkpoints saved before are untouched.",
        "第 {step} 步未保存检查点：{path} 可用 {free}，需要 {need}。训练继续，下一个间隔再试；此前的检查点不受影响。",
        "Free some space.",
        "请腾出空间。",
    ),
    "save_failed": Wording(
        "The checkpoint of step {step} could not be saved in {path}: {why}. Training continues; the "
        "checkpoints saved before are untouched.",
        "第 {step} 步的检查点无法保存到 {path}：{why}。训练继续，此前的检查点不受影响。",
    ),
    "publish_failed": Wording(
        "The best model could not be published in {path}: {why}. Training continues.",
        "最佳模型无法写入 {path}：{why}。训练继续。",
    ),
    "best_published": Wording(
        "BLEU {bleu} is the best so far (epoch {epoch}); published in {path}.",
        "BLEU {bleu} 为目前最佳（第 {epoch} 轮），已写入 {path}。",
    ),
    "exported": Wording(
        "The best model is also in {path}, as a plain state dict.",
        "最佳模型另存为权重文件：{path}。",
    ),
    "export_kept": Wording(
        "{path} exists, and no run of this output folder wrote it: it is left as it is. The best model is in {best}.",
        "{path} 已存在，且不是本输出目录的运行写入的，保持不变。最佳模型在 {best}。",
        "Start from it with --pretrained_model {best}, or name another file with --export_state_dict PATH.",
        "如需从它开始训练：--pretrained_model {best}；或用 --export_state_dict 路径 指定另一个文件。",
    ),
    "export_failed": Wording(
        "The best model could not be written to {path}: {why}. Training continues.",
        "最佳模型无法写入 {path}：{why}。训练继续。",
    ),
    "bleu_ceiling": Wording(
        "The labels themselves, as the model learns them (cut at {limit} token(s), in the tokenizer's "
        "spelling), score BLEU {bleu} against the texts of the file: replies can hardly score more.",
        "标签本身（截至 {limit} 个词元，按分词器的写法还原）与文件原文相比的 BLEU 只有 {bleu}：模型的回答很难超过它。",
        "Where rows are cut, raise --max_seq_len; where characters are unknown to the tokenizer, use another one.",
        "若因截断所致，请调大 --max_seq_len；若因分词器缺字，请换用其他分词器。",
    ),
    "bleu_incomparable": Wording(
        "The best model so far (epoch {epoch}) was scored in another way, and BLEU cannot be compared; the loss "
        "decides between the two.",
        "此前最佳模型（第 {epoch} 轮）的 BLEU 计算方式不同，无法比较；这一次按损失判断优劣。",
    ),
    "log_gap": Wording(
        "{lost} event(s) could not be written to the log ({why}); training continued.",
        "有 {lost} 条事件未能写入日志（{why}）；训练没有中断。",
    ),
    "plain_log_unwritable": Wording(
        "{path} cannot be written: {why}. The run still has its events: `sft-tui logs` prints them.",
        "{path} 无法写入：{why}。运行的事件照常记录：用 `sft-tui logs` 查看。",
    ),
    "demo_missing": Wording(
        "The demo needs the package {package}, which is not installed.",
        "演示需要的软件包 {package} 没有安装。",
        "Install it: pip install 'sft-tui[demo]'",
        "请安装：pip install 'sft-tui[demo]'",
    ),
    "gpu_unreadable": Wording(
        "No GPU readings: {why}. Training does not need them.",
        "无法读取 GPU 状态：{why}。训练不受影响。",
    ),
    "engine_failed": Wording(
        "{what} ended with exit code {code}; its output is above.",
        "{what} 以退出码 {code} 结束；它的输出见上文。",
    ),
    # what runs are asked to do
    "run_unread": Wording(
        "{name} is still being read.",
        "仍在读取 {name}。",
        "Wait a moment.",
        "请稍候。",
    ),
    "run_none": Wording(
        "There are no runs in {path}.",
        "{path} 中没有运行。",
        "Start one with `sft-tui run PRESET`, or name the folder of the logs with --logs PATH.",
        "用 `sft-tui run 预设` 启动，或用 --logs 路径 指定日志目录。",
    ),
    "run_unknown": Wording(
        "There is no run named {name} in {path}.",
        "{path} 中没有名为 {name} 的运行。",
        "Did you mean {known}? `sft-tui runs` lists all.",
        "是否想用 {known}？`sft-tui runs` 列出全部。",
    ),
    "run_unlike": Wording(
        "There is no run named {name} in {path}.",
        "{path} 中没有名为 {name} 的运行。",
        "The newest there: {known}. `sft-tui runs` lists all.",
        "其中最新的：{known}。`sft-tui runs` 列出全部。",
    ),
    "run_no_model": Wording(
        "The run {run} has no best model: {path} does not exist.",
        "运行 {run} 没有最佳模型：{path} 不存在。",
        "A run publishes one after its first evaluation; `sft-tui status {run_in_shell}` says how far it is.",
        "运行在首次评估后才会发布最佳模型；`sft-tui status {run_in_shell}` 可查看进度。",
    ),
    "run_not_running": Wording(
        "The run {run} is not running ({status}).",
        "运行 {run} 不在运行中（{status}）。",
        "`sft-tui status {run}` shows how it ended, `sft-tui resume {run}` resumes it.",
        "`sft-tui status {run}` 查看结束原因，`sft-tui resume {run}` 继续训练。",
    ),
    "run_running": Wording(
        "The run {run} is already running.",
        "运行 {run} 已在运行中。",
        "Look at it: `sft-tui attach {run}`.",
        "查看：`sft-tui attach {run}`。",
    ),
    "run_not_pausable": Wording(
        "{run} is a test: it could not be continued after a pause.",
        "{run} 是测试，暂停后无法继续。",
        "Stop it: `sft-tui stop {run}`.",
        "停止：`sft-tui stop {run}`。",
    ),
    "run_not_paused": Wording(
        "The run {run} is not paused ({status}).",
        "运行 {run} 没有暂停（{status}）。",
        "Resume it with `sft-tui resume {run}`.",
        "继续训练：`sft-tui resume {run}`。",
    ),
    "resume_not_training": Wording(
        "{run} is a test; only training can be resumed.",
        "{run} 是测试；只有训练可以继续。",
        "Start it again: `sft-tui test PRESET`.",
        "重新开始：`sft-tui test 预设`。",
    ),
    "resume_set_aside": Wording(
        "The checkpoints of {run} are no longer in {path}: the folder belongs to {owner} now.",
        "{run} 的检查点已不在 {path}：该目录现属于 {owner}。",
        "They were moved to earlier/{run} there; to resume from them, move them back, or name another --output_dir.",
        "它们已移到该目录的 earlier/{run}；如需继续，请移回原处，或指定另一个 --output_dir。",
    ),
    "resume_processes": Wording(
        "{run} was trained by {processes} process(es), and this machine has {cores} core(s) and {gpus} GPU(s).",
        "{run} 由 {processes} 个进程训练，而本机只有 {cores} 个核心和 {gpus} 个 GPU。",
        "Resume it on a machine with as many, or add --num_processes {processes} to start them all here.",
        "请在有足够核心或 GPU 的机器上继续，或加上 --num_processes {processes}，仍在本机启动这么多进程。",
    ),
    "fix_none": Wording(
        "There is no automatic fix for how {run} ended ({status}).",
        "{run} 的结束原因（{status}）没有可自动应用的修正。",
        "Resume it with `sft-tui resume {run}`.",
        "继续训练：`sft-tui resume {run}`。",
    ),
    "attempts_spent": Wording(
        "{path} records {most} attempts, which is not plausible: the log was modified.",
        "{path} 中的尝试次数已到 {most}：这不可能是真实的，该日志已被改动。",
        "Move the log elsewhere: the run then resumes from its newest checkpoint.",
        "请把该日志移到别处，运行随后会从最新的检查点继续。",
    ),
    "fix_foreign": Wording(
        "The log of {run} proposes to change {name}, which no automatic fix does: the log was modified.",
        "{run} 的日志建议修改 {name}，而本程序的修正不会这样做：该日志已被改动。",
        "Resume it with its own settings: `sft-tui resume {run}`.",
        "请用原来的参数继续：`sft-tui resume {run}`。",
    ),
    # how a run ends
    "ended_finished": Wording(
        "Finished: {steps_total} step(s); best BLEU {bleu}, evaluation loss {loss} (epoch {epoch}); the "
        "model is in {path}.",
        "训练完成：共 {steps_total} 步；最佳 BLEU {bleu}，评估损失 {loss}（第 {epoch} 轮）；模型在 {path}。",
        "Try it: sft-tui reply --model {path_in_shell} 'hello'",
        "试一试：sft-tui reply --model {path_in_shell} '你好'",
    ),
    "ended_finished_unpublished": Wording(
        "Finished: {steps_total} step(s), loss {loss}, but no model could be published in {path}: see the warnings.",
        "训练完成：共 {steps_total} 步；损失 {loss}。模型未能写入 {path}，原因见上面的警告。",
        "The last checkpoint holds the weights: fix the cause, then publish them with `{resume_option}`.",
        "权重在最后一个检查点中：排除原因后用 `{resume_option}` 发布。",
    ),
    "ended_folder_lost": Wording(
        "Nothing more is saved: the lock file of {path} was removed, and {run} took the folder over (step {step}).",
        "不再保存：{path} 的锁文件被删除，该目录已由 {run} 接管（第 {step} 步）。",
        "Leave `.lock` where it is while a run is active. Earlier checkpoints are in earlier/ there.",
        "运行期间请保留 `.lock` 文件。此前的检查点在该目录的 earlier/ 中。",
    ),
    "ended_tested": Wording(
        "Evaluated {model} on {rows} row(s) of {path}: loss {loss}, BLEU {bleu}.",
        "已用 {path} 的 {rows} 行评估 {model}：损失 {loss}，BLEU {bleu}。",
    ),
    "ended_rehearsed": Wording(
        "Rehearsed: the run fits with micro-batches of {budget} token(s).",
        "预演完成：微批为 {budget} 个词元时放得下。",
    ),
    "rehearsal_short": Wording(
        "With micro-batches of {budget} token(s) the run needs {need}; the limit is {limit}.",
        "即使微批只有 {budget} 个词元，运行也需要 {need}，而上限为 {limit}。",
        "Lower --max_seq_len or --eval_batch_rows, or raise --memory-limit.",
        "请用 --max_seq_len 截短数据，调小 --eval_batch_rows，或提高 --memory-limit。",
    ),
    "rehearsal_out_of_memory": Wording(
        "The longest rows do not fit in memory, even with micro-batches of {budget} token(s).",
        "即使微批只有 {budget} 个词元，最长的数据也放不进内存。",
        "Lower --max_seq_len, or free memory.",
        "请用 --max_seq_len 截短数据，或释放内存。",
    ),
    "rehearsal_unsaved": Wording(
        "No checkpoint could be written in {path}.",
        "无法在 {path} 写入检查点。",
        "The reason is above; fix it, or use a folder on another disk with --output_dir.",
        "原因见上；请排除，或用 --output_dir 换到其他磁盘。",
    ),
    "rehearsal_checkpoint": Wording(
        "A checkpoint that was just written cannot be read back as it was: {why} ({path}).",
        "刚写入的检查点读回后不一致：{why}（{path}）。",
        "The disk or its file system cannot be trusted: use another with --output_dir.",
        "该磁盘或文件系统不可靠：请用 --output_dir 换到其他磁盘。",
    ),
    "rehearsal_failed": Wording(
        "The rehearsal ended without a result: {why}",
        "预演没有得到结果：{why}",
    ),
    "ended_stopped": Wording(
        "Stopped at step {step} of {steps_total}, as asked; saved in {checkpoint}.",
        "已按要求停在第 {step} 步（共 {steps_total} 步）；已保存到 {checkpoint}。",
        "Resume with `{resume_option}`.",
        "继续训练：`{resume_option}`。",
    ),
    "ended_paused": Wording(
        "Paused at step {step} of {steps_total}; saved in {checkpoint}, and memory and GPUs are free.",
        "已暂停在第 {step} 步（共 {steps_total} 步）；已保存到 {checkpoint}，内存和 GPU 已释放。",
        "Continue with `sft-tui continue {run}`.",
        "继续训练：`sft-tui continue {run}`。",
    ),
    "ended_orphaned": Wording(
        "The supervisor or launcher of the run was killed; its ranks stopped at step {step} of {steps_total} "
        "and saved in {checkpoint}.",
        "运行的监管进程或启动器被终止；训练停在第 {step} 步（共 {steps_total} 步），已保存到 {checkpoint}。",
        "Resume with `{resume_option}`.",
        "继续训练：`{resume_option}`。",
    ),
    "ended_stopped_unsaved": Wording(
        "Stopped at step {step} of {steps_total}, as asked; this step could not be saved.",
        "已按要求停在第 {step} 步（共 {steps_total} 步）；该步未能保存。",
        "Free some space, then resume from the checkpoint before it with `{resume_option}`.",
        "请先腾出空间，再从之前的检查点继续：`{resume_option}`。",
    ),
    "ended_stopped_resuming": Wording(
        "Stopped while {phase}, as asked; the checkpoint of step {step} is as it was.",
        "已按要求在{phase}时停止；第 {step} 步的检查点没有变化。",
        "Resume with `{resume_option}`.",
        "继续训练：`{resume_option}`。",
    ),
    "ended_stopped_early": Wording(
        "Stopped while {phase}, as asked; there was nothing to save yet.",
        "已按要求在{phase}时停止；尚无可保存的内容。",
        "Start again with the same command.",
        "用同样的命令重新开始即可。",
    ),
    "ended_terminated": Wording(
        "Terminated while {phase}, as asked; steps since the last checkpoint are lost.",
        "已按要求在{phase}时终止；上一个检查点之后的步数已丢失。",
        "Resume from that checkpoint with `{resume_option}`.",
        "从该检查点继续：`{resume_option}`。",
    ),
    "ended_diverged": Wording(
        "Diverged at step {step} on rank {rank}: loss {loss}, gradient norm {grad_norm}; the weights were not "
        "updated. Rows of the training file in question: {rows}.",
        "第 {step} 步在进程 {rank} 上发散：损失 {loss}，梯度范数 {grad_norm}；权重未被更新。训练文件中相关的行："
        "{rows}。",
        "Look at these rows, or resume with half the learning rate: `{resume_option} --apply-fix`.",
        "请检查这些行，或将学习率减半后继续：`{resume_option} --apply-fix`。",
    ),
    "ended_diverged_weights": Wording(
        "After step {step} some weights are not finite; they were not saved.",
        "第 {step} 步之后部分权重不是有限值，未予保存。",
        "Resume from the checkpoint before it with half the learning rate: `{resume_option} --apply-fix`.",
        "从之前的检查点以减半的学习率继续：`{resume_option} --apply-fix`。",
    ),
    "ended_failed": Wording(
        "Rank {rank} failed while {phase}: {why}",
        "进程 {rank} 在{phase}时出错：{why}",
        "The full traceback is in {log}; after fixing the cause, resume with `{resume_option}`.",
        "完整记录见 {log}；排除原因后继续：`{resume_option}`。",
    ),
    "ended_memory": Wording(
        "Rank {rank} ran out of memory while {phase}, at step {step}: {why}",
        "进程 {rank} 在{phase}时内存不足（第 {step} 步）：{why}",
        "Resume with half the micro-batch budget, {budget} token(s); the effective batch stays the "
        "same: `{resume_option} --apply-fix`.",
        "将微批预算减半为 {budget} 个词元后继续（有效批大小不变）：`{resume_option} --apply-fix`。",
    ),
    "ended_memory_least": Wording(
        "Rank {rank} ran out of memory while {phase}, at step {step}, with the smallest micro-batches: {why}",
        "进程 {rank} 在{phase}时内存不足（第 {step} 步），微批已是最小：{why}",
        "Close other programs, or start over with a lower --max_seq_len; resume with `{resume_option}`.",
        "请关闭其他程序，或以更小的 --max_seq_len 重新开始；继续训练：`{resume_option}`。",
    ),
    "ended_killed": Wording(
        "Rank {rank} was killed by {signal} (last seen while {phase}, step {step}).",
        "进程 {rank} 被 {signal} 终止（最后状态：{phase}，第 {step} 步）。",
        "Memory was not low, so the signal came from outside (a user or the system). Resume with `{resume_option}`.",
        "从读数看内存并不紧张，应为人为终止。继续训练：`{resume_option}`。",
    ),
    "ended_unstartable": Wording(
        "The trainer could not be started: {why}.",
        "无法启动训练进程：{why}。",
        "Fix the cause (memory, limits on processes, the Python environment), then resume with `{resume_option}`.",
        "请排除原因（内存、进程数限制、Python 环境），再用 `{resume_option}` 继续。",
    ),
    "start_failed": Wording(
        "The process that is to look after {run} could not be started ({why}).",
        "无法启动 {run} 的监管进程（{why}）。",
        "Fix the cause (memory, limits on processes, the Python environment), then give the command again.",
        "请排除原因（内存、进程数限制、Python 环境），再重新执行该命令。",
    ),
    "supervisor_failed": Wording(
        "The supervisor of {run} exited without giving a reason.",
        "{run} 的监管进程没有说明原因就结束了。",
        "What it wrote is in {log}.",
        "其输出见 {log}。",
    ),
    "ended_crashed": Wording(
        "Rank {rank} crashed while {phase} ({signal}): a fault of native code, not of the data.",
        "进程 {rank} 在{phase}时崩溃（{signal}）：这是底层代码的错误，与数据无关。",
        "Its stacks are in {log}; resume with `{resume_option}`.",
        "调用栈见 {log}；继续训练：`{resume_option}`。",
    ),
    "ended_unlogged": Wording(
        "The trainer ended normally, but its last events could not be written to the log (step {step} or later).",
        "训练正常结束，但最后的事件未能写入日志（第 {step} 步或之后）。",
        "Free some space on the disk of the log; `{resume_option}` says whether anything is left to train.",
        "请在日志所在的磁盘上腾出空间；`{resume_option}` 会说明是否还有未完成的训练。",
    ),
    "ended_vanished": Wording(
        "Rank {rank} exited with code {code} without giving a reason; its last lines: {tail}",
        "进程 {rank} 以退出码 {code} 结束，没有说明原因；最后的输出：{tail}",
        "The full output is in {log}; resume with `{resume_option}`.",
        "完整记录见 {log}；继续训练：`{resume_option}`。",
    ),
    "ended_still": Wording(
        "Rank {rank} hung while {phase}: no progress for {seconds} s. Its stacks are with the evidence.",
        "进程 {rank} 在{phase}时停滞：{seconds} 秒没有进展。调用栈见证据。",
        "Resume from the last checkpoint with `{resume_option}`.",
        "从上一个检查点继续：`{resume_option}`。",
    ),
    "ended_suspended": Wording(
        "Rank {rank} was suspended by a stop signal while {phase}, for {seconds} s.",
        "进程 {rank} 在{phase}时被信号挂起，已 {seconds} 秒。",
        "Resume from the last checkpoint with `{resume_option}`.",
        "从上一个检查点继续：`{resume_option}`。",
    ),
    "ended_silent": Wording(
        "Rank {rank} gave no sign of life for {seconds} s while {phase}. Its stacks are with the evidence.",
        "进程 {rank} 在{phase}时 {seconds} 秒没有任何响应。调用栈见证据。",
        "Resume from the last checkpoint with `{resume_option}`.",
        "从上一个检查点继续：`{resume_option}`。",
    ),
    "ended_lost": Wording(
        "Every process of the run was killed at once (last seen while {phase}, step {step}).",
        "运行的所有进程同时被终止（最后状态：{phase}，第 {step} 步）。",
        "Resume from the last checkpoint with `{resume_option}`.",
        "从上一个检查点继续：`{resume_option}`。",
    ),
    "ended_restarted": Wording(
        "The machine restarted during the run (last seen while {phase}, step {step}).",
        "运行期间机器重启（最后状态：{phase}，第 {step} 步）。",
        "Resume from the last checkpoint with `{resume_option}`.",
        "从上一个检查点继续：`{resume_option}`。",
    ),
}

PHASES_ZH = {
    "starting": "启动",
    "loading": "加载",
    "hashing": "计算校验和",
    "tokenizing": "分词",
    "training": "训练",
    "rehearsing": "预演",
    "evaluating": "评估",
    "generating": "生成",
    "verifying": "校验",
    "saving": "保存",
    "publishing": "发布",
}


COUNTED = re.compile(r"\{(\w+)[^{}]*\}[^{}]*?\((?:s|es)\)")


def filled(template: str, args: Mapping[str, object]) -> str:
    """A text with its arguments; `{rows} row(s)` becomes singular or plural. Raises what `str.format_map` raises."""
    return COUNTED.sub(lambda found: _one_or_many(found[0], args[found[1]]), template).format_map(args)


def _one_or_many(counted: str, count: object) -> str:
    noun, _, ending = counted.removesuffix(")").rpartition("(")
    return noun if str(count) == "1" else noun + ending


def localized(args: Mapping[str, Value], lang: Lang) -> dict[str, Value]:
    """Arguments in a language: an argument may have a Chinese variant, such as `why_zh`."""
    found = dict(args)
    if lang == "zh":
        found |= {name.removesuffix("_zh"): value for name, value in args.items() if name.endswith("_zh")}
    return found


@dataclass(frozen=True)
class Message:
    """A code of the catalogue with its arguments; `text` is for readers that do not know the code."""

    code: str
    args: Mapping[str, Value] = field(default_factory=dict)
    fallback: str = ""

    @classmethod
    def of(cls, code: str, /, **args: Value) -> Self:
        """The message `code` with its arguments."""
        return cls(code, args)

    def what(self, lang: Lang = "en") -> str:
        """What happened, in `lang`."""
        return self._render(lang)[0]

    def fix(self, lang: Lang = "en") -> str:
        """What to do about it, in `lang`; empty if there is nothing to do."""
        return self._render(lang)[1]

    def text(self, lang: Lang = "en") -> str:
        """Both, on one line."""
        return " ".join(part for part in (self.what(lang), self.fix(lang)) if part)

    def _render(self, lang: Lang) -> tuple[str, str]:
        wording, said = MESSAGES.get(self.code), (self.fallback or self.code, "")
        if wording is None:  # written by a newer version: show the text it came with
            return said
        args, phase = localized(self.args, lang), self.args.get("phase")
        if lang == "zh" and isinstance(phase, str):
            args["phase"] = PHASES_ZH.get(phase, phase)
        args |= {f"{name}_in_shell": shlex.quote(value) for name, value in args.items() if isinstance(value, str)}
        what, fix = (wording.zh, wording.zh_fix) if lang == "zh" else (wording.en, wording.en_fix)
        try:
            said = filled(what, args), ""
            return said[0], filled(fix, args)
        except (KeyError, IndexError, ValueError, OverflowError, RecursionError):  # arguments from another version
            return said


class InputError(Exception):
    """The user's input cannot be used; ends the program with exit code 2."""

    exit_code = 2

    def __init__(self, code: str, /, **args: Value) -> None:
        self.message = Message(code, args)
        super().__init__(self.message.text())


class BusyError(InputError):
    """Another run holds something that this one needs; ends the program with exit code 3."""

    exit_code = 3
