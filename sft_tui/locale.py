"""The app's own texts in English and Chinese, and which language to use."""

import os
from collections.abc import Mapping

from engine.contract.texts import Lang, filled
from sft_tui.text import safe

TEXTS: dict[str, tuple[str, str]] = {
    "using": ("Configuration {preset}: {summary}", "使用配置 {preset}：{summary}"),
    "guide_using": ("Using {original} ({summary})", "使用 {original} 配置（{summary}）"),
    "overrides": ("Custom parameters:", "自定义参数："),
    "override": ("  {name}: {old} -> {new}", "  {name}：{old} -> {new}"),
    "no_overrides": ("Custom parameters: none", "自定义参数：无"),
    "low_memory": ("Low-memory training", "低内存模式训练"),
    "low_memory_16": ("Low-memory training, made for 16 GB of memory", "低内存模式训练 - 针对16G内存优化"),
    "low_mem_dataset": (
        "Using LowMemDataset: any number of GPUs, little memory; rows are read from disk as needed ({store})",
        "使用LowMemDataset: 支持多GPU + 低内存模式，按需从磁盘读取数据（{store}）",
    ),
    "machine": (
        "Memory available: {memory}, disk space available: {disk}; {processes} process(es) on {device}",
        "可用内存：{memory}，可用磁盘：{disk}；{processes} 个进程，设备 {device}",
    ),
    "plan": (
        "{rows:,} row(s), effective batch {batch}: {per_epoch:,} step(s) an epoch, {total:,} in all; {precision}",
        "{rows:,} 行，有效批大小 {batch}：每轮 {per_epoch:,} 步，共 {total:,} 步；{precision}",
    ),
    "peak_rate": (
        "Learning rate: {start:g} rising over {warmup} step(s) (at most 30 % of the run) to {peak:g} "
        "({factor:g} × learn_rate), then falling along a cosine",
        "学习率：从 {start:g} 起，在 {warmup} 步内（至多为总步数的 30 %）升到 {peak:g}"
        "（{factor:g} × learn_rate），然后按余弦下降",
    ),
    "phase": ("{name} …", "{name} …"),
    "phase_done": ("{name} {done:,}/{total:,}", "{name} {done:,}/{total:,}"),
    "step": (
        "step {step:>{width}}/{total}  epoch {epoch}/{epochs}  loss {loss:8.4f}  lr {lr:.2e}  grad {grad:6.2f}  "
        "{rate:>6} tok/s  {left}",
        "步 {step:>{width}}/{total}  轮 {epoch}/{epochs}  损失 {loss:8.4f}  学习率 {lr:.2e}  梯度 {grad:6.2f}  "
        "{rate:>6} 词元/秒  {left}",
    ),
    "left_open": ("{time} + evaluation left", "剩余 {time}，另加评估"),
    "left": ("{time} left", "剩余 {time}"),
    "eval": (
        "evaluation of epoch {epoch}: loss {loss:.4f}, BLEU {bleu:.2f} ({signature}), {rows:,} row(s) in {time}",
        "第 {epoch} 轮评估：损失 {loss:.4f}，BLEU {bleu:.2f}（{signature}），{rows:,} 行，用时 {time}",
    ),
    "test": (
        "test: loss {loss:.4f}, BLEU {bleu:.2f} ({signature}), {rows:,} row(s) in {time}",
        "测试：损失 {loss:.4f}，BLEU {bleu:.2f}（{signature}），{rows:,} 行，用时 {time}",
    ),
    "sample_prompt": ("  prompt     {text}", "  提问  {text}"),
    "sample_reference": ("  reference  {text}", "  参考  {text}"),
    "sample_prediction": ("  prediction {text}", "  预测  {text}"),
    "checkpoint": (
        "checkpoint of step {step} saved ({size}, {time})",
        "第 {step} 步的检查点已保存（{size}，{time}）",
    ),
    "notice": ("note: {text}", "提示：{text}"),
    "warning": ("warning: {text}", "警告：{text}"),
    "error": ("error: {text}", "错误：{text}"),
    "fix": ("  {text}", "  {text}"),
    "peak": ("Peak memory of the trainer: {peaks}", "训练进程的内存峰值：{peaks}"),
    "stdout_unwritable": (
        "standard output cannot be written: {why}.",
        "无法写入标准输出：{why}。",
    ),
    "plain_log_gap": (
        "{lost} line(s) could not be written here; `sft-tui logs` prints all.",
        "此处有 {lost} 行未能写入；用 `sft-tui logs` 可查看全部。",
    ),
    "log_place": ("Log of this run: {path}", "本次运行的日志：{path}"),
    "ask": (
        "The run continues without this view. [Enter] leave it running · s stop and save · c cancel: ",
        "关闭本窗口不影响运行。[回车] 让它继续运行 · s 保存并停止 · c 取消：",
    ),
    "ask_again": (
        "The run is about to save and stop. [Enter] leave it to that · n end it now, without saving · c cancel: ",
        "运行正在保存并停止。[回车] 让它完成 · n 立即结束，不保存 · c 取消：",
    ),
    "stopping": ("Asked the run to save and stop …", "已请求保存并停止 …"),
    "pausing": ("Asked the run to save and pause …", "已请求保存并暂停 …"),
    "ending": ("Asked the run to end at once …", "已请求立即结束 …"),
    "left_running": (
        "{run} keeps running. Look at it: sft-tui attach {run} · sft-tui status {run} · Stop it: sft-tui stop {run}",
        "{run} 继续运行。查看：sft-tui attach {run} · sft-tui status {run} · 停止：sft-tui stop {run}",
    ),
    "detached_started": (
        "{run} has started. Look at it: sft-tui attach {run} · sft-tui status {run} · Stop it: sft-tui stop {run}",
        "{run} 已启动。查看：sft-tui attach {run} · sft-tui status {run} · 停止：sft-tui stop {run}",
    ),
    "detached_resumed": (
        "{run} was resumed. Look at it: sft-tui attach {run} · sft-tui status {run} · Stop it: sft-tui stop {run}",
        "{run} 已继续。查看：sft-tui attach {run} · sft-tui status {run} · 停止：sft-tui stop {run}",
    ),
    "next_run": ("Start it: {run}", "启动：{run}"),
    "next_rehearsal": ("See what it takes first: {rehearse}", "先预演，看需要多少内存和时间：{rehearse}"),
    "bleu_scale": (
        "BLEU is on a scale of 0 to 100 here: what is written as 0.3 elsewhere is 30.",
        "这里的 BLEU 以 0 到 100 计：别处写作 0.3 的，这里是 30。",
    ),
    "fixing": ("Applying the fix: {settings}", "应用修正：{settings}"),
    "no_runs": (
        "No runs in {path} yet; sft-tui run PRESET starts one.",
        "{path} 中还没有运行；用 sft-tui run 预设 启动。",
    ),
    "status_place": (
        "epoch {epoch}/{epochs} · step {step}/{total} {percent}",
        "轮 {epoch}/{epochs} · 步 {step}/{total} {percent}",
    ),
    "status_train": ("train loss {loss}", "训练损失 {loss}"),
    "status_scores": ("eval loss {loss} · best BLEU {bleu}", "评估损失 {loss} · 最佳 BLEU {bleu}"),
    "column_run": ("RUN", "运行"),
    "column_preset": ("PRESET", "预设"),
    "column_status": ("STATE", "状态"),
    "column_step": ("STEP", "步"),
    "column_eval": ("EVAL", "评估损失"),
    "column_best": ("BEST", "最佳 BLEU"),
    "compared_eval": ("evaluation loss", "评估损失"),
    "compared_best": ("best BLEU", "最佳 BLEU"),
    "column_started": ("STARTED", "开始"),
    "column_ended": ("HOW IT ENDED", "结束原因"),
    "bar_run": ("run", "全程"),
    "bar_epoch": ("epoch {epoch}/{epochs}", "第 {epoch}/{epochs} 轮"),
    "bar_loss": ("loss {loss:.4f}", "损失 {loss:.4f}"),
    "command": ("`{command}`", "`{command}`"),
    "preflight_good": (
        "Pre-flight: nothing stands in the way; {warnings} warning(s), {oks} check(s) passed.",
        "预检：没有阻碍；{warnings} 个警告，{oks} 项正常。",
    ),
    "preflight_bad": (
        "Pre-flight: {errors} error(s), {warnings} warning(s), {oks} check(s) passed.",
        "预检：{errors} 个错误，{warnings} 个警告，{oks} 项正常。",
    ),
    "preflight_forced": ("Continuing anyway (--force).", "已按 --force 继续。"),
    "preflight_refused": (
        "The run was not started. Fix the errors, or start it anyway with --force.",
        "运行未启动。请排除以上错误；若仍要继续，请加 --force。",
    ),
    "reading": ("reading {what} {done:,}/{total:,} …", "读取{what} {done:,}/{total:,} …"),
    "import_read": (
        "{path}: {kind}; {records:,} record(s), {refused:,} refused",
        "{path}：{kind}；{records:,} 条记录，{refused:,} 条无法使用",
    ),
    "import_passed_over": (
        "{count:,} passed over: {why} (first: {places})",
        "略过 {count:,} 个：{why}（最先是 {places}）",
    ),
    "import_records": (
        "{records:,} record(s) read = {used:,} used ({shapes}) + {refused:,} refused",
        "读取 {records:,} 条记录 = 使用 {used:,} 条（{shapes}）+ 无法使用 {refused:,} 条",
    ),
    "import_refused": (
        "  {count:,} refused: {why} (first: {places})",
        "  {count:,} 条无法使用：{why}（最先见于 {places}）",
    ),
    "import_noticed": (
        "  {count:,} noticed: {why} (first: {places})",
        "  {count:,} 处提示：{why}（最先见于 {places}）",
    ),
    "import_rows": (
        "{made:,} row(s) made = {kept:,} kept + {repeated:,} repeated and left out",
        "得到 {made:,} 行 = 保留 {kept:,} 行 + 略去重复 {repeated:,} 行",
    ),
    "import_turns": (
        "  {made:,} answer(s) of {conversations:,} conversation(s); {earlier:,} prompt(s) with the "
        "turns before them (Q: …, A: …); --history sets how many",
        "  {conversations:,} 段对话，共 {made:,} 个回答；其中 {earlier:,} 个提问带有此前的对话（Q: …，A: …）；"
        "--history 设定轮数",
    ),
    "import_last_turns": (
        "  {made:,} answer(s) of {conversations:,} conversation(s); {earlier:,} prompt(s) without the "
        "turns before them (--history)",
        "  {conversations:,} 段对话，共 {made:,} 个回答；其中 {earlier:,} 个提问略去了此前的对话（--history）",
    ),
    "import_unused": ("  columns that are not used: {columns}", "  未使用的列：{columns}"),
    "import_divided": (
        "  in more than one of the files: {count:,} prompt(s) with very many rows (up to {largest:,})",
        "  {count:,} 个提问的行数过多（最多 {largest:,} 行），分在了多个文件中",
    ),
    "import_spared": (
        "  {path} is not from an import and stays as it is; --test FILE holds out rows for a test",
        "  {path} 并非由导入生成，保持不变；可用 --test 文件 另外划出测试数据",
    ),
    "import_unfilled": (
        "{path} was not written: no rows are held out for it",
        "没有为 {path} 划出数据，因此没有写入",
    ),
    "import_unvalidated": (
        "A run needs validation rows too: name a file of them with --validation_file",
        "训练还需要验证数据：请用 --validation_file 指定一个文件",
    ),
    "import_next": ("Next: `{command}`", "下一步：`{command}`"),
    "import_written": ("{rows:,} row(s) written to {path}", "{rows:,} 行已写入 {path}"),
    "import_dry": ("Nothing was written (--preview).", "仅预览，没有写入（--preview）。"),
    "rehearsing": ("Rehearsing: {phase} …", "预演：{phase} …"),
    "rehearsed_memory": (
        "memory      peak {peaks} with micro-batches of at most {budget} token(s); limit {limit}",
        "内存    峰值 {peaks}，微批最多 {budget} 个词元；上限 {limit}",
    ),
    "rehearsed_gpu": ("GPU memory  peak {peaks}", "显存    峰值 {peaks}"),
    "rehearsed_budget": (
        "budget      {asked} token(s) too many, {budget} fit: `run` uses them, the gradient stays exact",
        "预算    {asked} 个词元放不下，{budget} 个可以：run 会采用，梯度仍然精确",
    ),
    "rehearsed_step": (
        "step        {expected} at the mean length ({least} to {most}; {steps} timed)",
        "步      平均长度下 {expected}（{least} 至 {most}；计时 {steps} 步）",
    ),
    "rehearsed_checkpoint": (
        "checkpoint  {size} written, read back and compared; {time} to save",
        "检查点  {size} 已写入、读回并比对；保存用时 {time}",
    ),
    "rehearsed_run": (
        "run         {steps:,} step(s) with evaluations in about {expected} ({least} to {most}): {when} if started now",
        "运行    {steps:,} 步（含评估）约 {expected}（{least} 至 {most}）：现在开始则 {when} 结束",
    ),
    "rehearsal_applied": (
        "micro_batch_tokens {asked} -> {budget}, as the rehearsal of {when} found",
        "micro_batch_tokens {asked} -> {budget}（{when} 的预演结果）",
    ),
    "tokenizer_trained": (
        "{tokens:,} token(s) learned from {texts:,} text(s), written to {output}",
        "从 {texts:,} 段文本学得 {tokens:,} 个词元，已写入 {output}",
    ),
    "row_head": (
        "row {row} of {path} ({rows:,} row(s)), as the model sees it:",
        "{path} 第 {row} 行（共 {rows:,} 行），模型看到的内容：",
    ),
    "row_part": (
        "{part}: {count} token(s), {kept} kept, {cut} cut, {unknown} unknown",
        "{part}：{count} 个词元，保留 {kept}，截去 {cut}，未知 {unknown}",
    ),
    "row_prompt": ("prompt", "提问"),
    "row_response": ("response", "回答"),
    "row_turns": ("{count:,} earlier turn(s) left out:", "略去此前 {count:,} 轮："),
    "row_null": ("null", "空值"),
    "row_cut": ("cut off:", "截去："),
    "demo_data": ("Preparing the demo's data and tokenizer …", "正在准备演示数据和分词器 …"),
    "demo_between": (
        "This is half of the demo: `sft-tui demo` continues with the fine-tuning.",
        "演示只完成了一半：用 `sft-tui demo` 继续微调。",
    ),
    "demo_replies": ("Replies before and after fine-tuning:", "微调前后的回答："),
    "demo_before": ("  before {text}", "  微调前  {text}"),
    "demo_after": ("  after  {text}", "  微调后  {text}"),
    "demo_done": (
        "Done in {time}. Ask it something: sft-tui reply --model {model} '你好'",
        "完成，用时 {time}。试着问它：sft-tui reply --model {model} '你好'",
    ),
    "preset_head": ("{name}: {summary}", "{name}：{summary}"),
    "preset_from": ("{parent} with other settings", "在 {parent} 基础上修改"),
    "preset_saved": (
        "Saved as {path}. Start it with: sft-tui run {name}",
        "已保存为 {path}。启动：sft-tui run {name}",
    ),
    "presets_hint": (
        "sft-tui presets show NAME lists every value; sft-tui run NAME starts a run.",
        "sft-tui presets show 名称 查看全部参数；sft-tui run 名称 开始训练。",
    ),
    "ui_reading": ("reading the log, {percent} %", "读取日志 {percent} %"),
    "ui_started": ("started {at}", "开始于 {at}"),
    "ui_done": ("done about {at}", "约 {at} 完成"),
    "ui_epoch": ("epoch", "本轮"),
    "ui_apply": ("apply {settings} and resume", "应用 {settings} 并继续"),
    "ui_zero_throughout": ("0 throughout: no step had any.", "始终为 0：没有任何填充。"),
    "ui_reading_run": ("reading", "读取中"),
    "ui_no_steps": ("No step is done yet.", "尚未完成任何一步。"),
    "ui_log": ("log", "对数"),
    "ui_metric_loss": ("Loss", "损失"),
    "ui_metric_lr": ("Learning rate", "学习率"),
    "ui_metric_grad_norm": ("Gradient norm", "梯度范数"),
    "ui_metric_rate": ("Tokens a second", "每秒词元"),
    "ui_metric_padding": ("Share of padding", "填充占比"),
    "ui_train": ("train", "训练"),
    "ui_eval": ("eval", "评估"),
    "ui_grad": ("grad", "梯度"),
    "ui_rate": ("tok/s", "词/秒"),
    "ui_padding": ("pad", "填充"),
    "ui_machine": ("Machine", "机器"),
    "ui_no_readings": ("No readings yet.", "尚无读数。"),
    "ui_host": ("memory", "内存"),
    "ui_free": ("free", "可用"),
    "ui_rank": ("rank", "进程"),
    "ui_disk": ("disk", "磁盘"),
    "ui_disk_free": ("disk free", "磁盘可用"),
    "ui_load": ("load", "负载"),
    "ui_saved": ("saved", "已保存"),
    "ui_best": ("best", "最佳"),
    "ui_best_at": ("BLEU {bleu} in epoch {epoch}", "BLEU {bleu}（第 {epoch} 轮）"),
    "ui_samples": ("Samples", "样例"),
    "ui_was": ("(was {bleu})", "（此前 {bleu}）"),
    "ui_prompt": ("ask", "问"),
    "ui_reference": ("ref", "参"),
    "ui_before": ("was", "前"),
    "ui_after": ("now", "今"),
    "ui_no_samples": ("Samples come with the first evaluation.", "第一次评估后显示样例。"),
    "ui_no_line": ("No line has “{words}”.", "没有含“{words}”的行。"),
    "ui_gap_lines": (
        "… {count:,} line(s) left out: see `sft-tui logs {run}`",
        "… 此处略去 {count:,} 行：用 `sft-tui logs {run}` 查看",
    ),
    "ui_gap_steps": (
        "… {count:,} step(s) left out: see `sft-tui logs {run}`",
        "… 此处略去 {count:,} 步：用 `sft-tui logs {run}` 查看",
    ),
    "ui_reading_earlier": ("… reading what is before, {percent} %", "… 正在读取此前的内容，{percent} %"),
    "ui_follow": ("follow", "跟随"),
    "ui_back": ("{lines} back", "后退 {lines} 行"),
    "ui_level_all": ("with steps", "含每步"),
    "ui_level_warnings": ("warnings", "警告"),
    "ui_log_panel": ("Log", "日志"),
    "ui_small": (
        "This terminal is too small: make it {width}×{height} at least. Until then only q does something: it quits.",
        "终端太小：请放大到至少 {width}×{height}。在此之前只有 q 有效：退出界面。",
    ),
    "ui_launch": ("fine-tune small chat models", "微调小型对话模型"),
    "ui_presets": ("Presets", "预设"),
    "ui_ready": ("Ready?", "就绪？"),
    "ui_settings": ("Settings", "参数"),
    "ui_meaning": ("What that means", "含义"),
    "ui_resumable": ("r: resume {run}, step {step}, {percent} %", "r：继续 {run}，第 {step} 步，{percent} %"),
    "ui_running": ("r: open {run}, which is running", "r：打开正在运行的 {run}"),
    "ui_checking": ("checking …", "检查中 …"),
    "ui_all_good": ("ready", "就绪"),
    "ui_batch": ("effective batch {batch} = {parts}", "有效批大小 {batch} = {parts}"),
    "ui_steps": ("{per_epoch:,} step(s) an epoch, {total:,} in all", "每轮 {per_epoch:,} 步，共 {total:,} 步"),
    "ui_peak_rate": ("peak learning rate {peak}", "峰值学习率 {peak}"),
    "ui_needs_memory": ("memory {size}", "内存 {size}"),
    "ui_needs_disk": ("disk {size}", "磁盘 {size}"),
    "ui_needs_time": ("about {time}", "约 {time}"),
    "ui_lengths": ("responses", "回答长度"),
    "ui_median": (
        "median {median}, max {longest}, cut at {limit}",
        "中位 {median}，最长 {longest}，截于 {limit}",
    ),
    "ui_still_checking": ("Still checking; one moment.", "仍在检查，请稍候。"),
    "ui_errors": (
        "{errors} error(s) in the way: f fixes the first one.",
        "有 {errors} 个错误：按 f 修复第一个。",
    ),
    "ui_no_chart": ("The chart is not on the screen: tab shows it.", "图表不在屏幕上：按 tab 切换到它。"),
    "ui_no_log": ("The log is not on the screen: tab shows it.", "日志不在屏幕上：按 tab 切换到它。"),
    "ui_nothing_to_reset": (
        "Only a setting that was changed can be reset: tab leads to the settings.",
        "只有改过的参数可以还原：按 tab 切换到参数栏。",
    ),
    "ui_ask_way": (
        "Which way? ↑ ↓ and enter, or its number; esc: none of them.",
        "选择哪种办法？用 ↑ ↓ 和回车，或按数字；esc 放弃。",
    ),
    "ui_ways": ("{count} ways, such as ", "共 {count} 种办法，例如 "),
    "ui_ask_prompt_column": (
        "{path}: which column holds the prompts? ↑ ↓ and enter, or its number; esc: none.",
        "{path}：哪一列是提问？用 ↑ ↓ 和回车，或按数字；esc 放弃。",
    ),
    "ui_ask_response_column": (
        "{path}: which column holds the responses? ↑ ↓ and enter, or its number; esc: none.",
        "{path}：哪一列是回答？用 ↑ ↓ 和回车，或按数字；esc 放弃。",
    ),
    "ui_nothing_to_resume": ("This preset has no unfinished run.", "该预设没有未完成的运行。"),
    "ui_no_command": (
        "This cannot be fixed from here; the text says what to do.",
        "无法在此自动修复；请按说明处理。",
    ),
    "ui_ask_fix": ("{actions}? y/n", "{actions}？y/n"),
    "fix_check": ("Check again", "重新检查"),
    "fix_set": ("Set {changes}", "设置 {changes}"),
    "fix_import": ("Import {files} into {targets}", "将 {files} 导入 {targets}"),
    "fix_open": ("Open {run}", "打开 {run}"),
    "fix_resume": ("Resume {run}", "继续 {run}"),
    "fix_start": ("Start {preset}", "启动 {preset}"),
    "fix_start_fresh": (
        "Start {preset} over and keep the old files in earlier/",
        "重新启动 {preset}，并将其目录中已有的内容移到一旁",
    ),
    "fix_command": ("Run `{command}`", "执行 `{command}`"),
    "fix_then": (", then ", "，然后"),
    "ui_task": ("Running {command} … (esc ends it)", "正在执行 {command} …（esc 终止）"),
    "ui_begun": ("{run} has begun; l lists the runs.", "{run} 已启动；按 l 查看运行列表。"),
    "ui_task_ended": ("Ended.", "已终止。"),
    "ui_queued": ("The run starts when the check is done; esc cancels.", "检查完成后自动启动；按 esc 取消。"),
    "ui_copied": ("Copied, and written to {path}", "已复制，并写入 {path}"),
    "ui_copied_only": ("Copied.", "已复制。"),
    "ui_commands": ("Commands", "命令"),
    "ui_find": ("Find:", "查找："),
    "ui_nothing_found": ("Nothing has that name.", "没有匹配的命令。"),
    "ui_help": ("Keys", "按键"),
    "ui_search": ("Show lines with:", "显示包含以下文字的行："),
    "ui_ask_stop": ("Save {run} and stop it? y/n", "保存并停止 {run}？y/n"),
    "ui_ask_now": ("End {run} at once, WITHOUT saving? y/n", "立即结束 {run}，不保存？y/n"),
    "ui_ask_pause": ("Save {run} and free its memory? y/n", "保存 {run} 并释放内存？y/n"),
    "ui_going_on": ("{run} continues.", "{run} 已继续。"),
    "ui_runs": ("Runs", "运行列表"),
    "ui_no_runs": ("No runs yet: n starts one.", "还没有运行：按 n 新建。"),
    "ui_same_settings": ("All settings are the same.", "所有参数相同。"),
    "ui_folder": ("folder", "目录"),
    "ui_model_folder": ("model in", "模型目录"),
    "ui_compare_few": ("Only {most} runs can be compared at a time.", "一次最多比较 {most} 个运行。"),
    "ui_differences": ("What differs", "差异"),
    "ui_ask_delete": ("Delete {places} ({size})? y/n", "删除 {places}（{size}）？y/n"),
    "ui_deleted": ("{run} is deleted.", "已删除 {run}。"),
    "ui_delete_left": ("Left, as the run did not write it: {places}.", "以下内容不是该运行写下的，已保留：{places}。"),
    "ui_crashed": (
        "The screen crashed; runs are not affected. Details are in {path}",
        "界面意外退出；运行不受影响。详情见 {path}",
    ),
    "ui_no_terminal": (
        "The screen needs a terminal; elsewhere use `sft-tui run PRESET --no-ui`, or `sft-tui status`.",
        "界面需要终端；其他情况请用 `sft-tui run 预设 --no-ui` 或 `sft-tui status`。",
    ),
    "ui_demo_done": (
        "The demo is done. Ask it something: sft-tui reply --model {model} '你好'",
        "演示完成。试着问它：sft-tui reply --model {model} '你好'",
    ),
    "ui_demo_offer": (
        "New here? The demo needs no data: choose it and press enter.",
        "初次使用？demo 无需数据：选中并按回车。",
    ),
    "usage_screen": (
        "Before a command, {option} only applies to the screen: put it after {command}.",
        "写在命令之前的 {option} 只对界面有效：请写在 {command} 之后。",
    ),
    "usage_screen_only": (
        "{option} only applies to the screen, and {command} has no such option: leave it out.",
        "{option} 只对界面有效，{command} 没有这个选项：请去掉。",
    ),
    "guide_two": (
        "--{one} and --{other} are two configurations: give one of them.",
        "--{one} 和 --{other} 是两套配置：只能选其一。",
    ),
    "guide_finetuning": (
        "--{switch} is a fine-tuning configuration: add --is_finetune=True.",
        "--{switch} 是微调配置：请加上 --is_finetune=True。",
    ),
    "guide_pretraining": (
        "--{switch} is a pretraining configuration: leave --is_finetune out.",
        "--{switch} 是预训练配置：请去掉 --is_finetune。",
    ),
    "guide_resume_fresh": (
        "--is_keep_training resumes a run, --fresh starts again: give one of them.",
        "--is_keep_training 继续训练，--fresh 重新开始：只能选其一。",
    ),
    "guide_best_epoch": (
        "There is no --best_epoch: of all epochs the model with the highest BLEU is kept, and `test` evaluates it.",
        "没有 --best_epoch：各轮中保留 BLEU 最高的模型，test 评估的就是它。",
    ),
    "usage_resume_fresh": (
        "--resume resumes a run, --fresh starts over: give only one of them.",
        "--resume 继续运行，--fresh 重新开始：只能选其一。",
    ),
    "usage_test": (
        "Name what to test: a PRESET, or a run with --run RUN, and only one of them.",
        "请指定要测试的对象：预设，或用 --run 指定运行，二者选一。",
    ),
    "usage_reply": (
        "--run and --model both name a model: give only one of them.",
        "--run 与 --model 都指定模型：只能选其一。",
    ),
    "others_at_work": (
        "This is {run}, the run started or resumed last. Also running: {others}. Name a run to choose another.",
        "这是最近启动或继续的运行 {run}。正在运行的还有：{others}。如需其他运行，请写明名称。",
    ),
    "usage_history": (
        "{value} is not a number of turns; name all, none, or a number.",
        "{value} 不是轮数；可用 all、none 或一个数字。",
    ),
    "usage_shares": (
        "--valid-ratio and --test-ratio together leave nothing to train on.",
        "--valid-ratio 与 --test-ratio 之和过大，没有剩下训练数据。",
    ),
    "usage_train": (
        "--train names the file to write; --preview writes none.",
        "--train 指定要写出的文件；--preview 不写文件。",
    ),
    "options": ("Options", "选项"),
    "ui_demo_new": (
        "enter writes data and tokenizer, pretrains and fine-tunes: a few minutes on two cores",
        "按回车即可：自动准备数据，预训练并微调，两核约需几分钟",
    ),
    "ui_demo_first": (
        "The first half of the demo was stopped: enter continues it, then fine-tunes.",
        "演示的前半已停止：按回车继续，随后微调。",
    ),
    "ui_demo_between": (
        "Half of the demo is done: enter continues with the fine-tuning.",
        "演示已完成一半：按回车继续微调。",
    ),
    "ui_demo_second": (
        "The second half of the demo was stopped: enter continues it.",
        "演示的后半已停止：按回车继续。",
    ),
    "ui_demo_runs": ("The demo is running: enter opens it.", "演示正在运行：按回车打开。"),
    "ui_demo_next": (
        "{run} has begun, the second half of the demo; l lists the runs.",
        "演示的后半 {run} 已启动；按 l 查看运行列表。",
    ),
    "ui_time_by_h": ("time: h measures it", "用时：按 h 预演测得"),
    "ui_task_busy": ("{command} is still running.", "{command} 仍在执行。"),
    "ui_reading_some": ("reading {what} …", "读取{what} …"),
    "group_data": ("Data", "数据"),
    "group_model": ("Model", "模型"),
    "group_training": ("Training", "训练"),
    "group_memory": ("Memory", "内存"),
    "group_evaluation": ("Evaluation", "评估"),
    "group_saving": ("Saving", "保存"),
}


def language(env: Mapping[str, str] = os.environ) -> Lang:
    """The language of the user's locale: Chinese if it says so, else English."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if env.get(name):
            return "zh" if env[name].lower().startswith("zh") else "en"
    return "en"


def say(key: str, lang: Lang, **args: object) -> str:
    """The text `key` with its arguments."""
    return filled(TEXTS[key][lang == "zh"], args)


STATUS_ZH = {
    "starting": "启动中",
    "unreadable": "无法读取",
    "running": "运行中",
    "finishing": "即将结束",
    "stopping": "停止中",
    "pausing": "暂停中",
    "paused": "已暂停",
    "finished": "已完成",
    "stopped": "已停止",
    "orphaned": "已停止",
    "terminated": "已终止",
    "refused": "被拒绝",
    "busy": "被占用",
    "diverged": "发散",
    "failed": "出错",
    "killed": "被杀",
    "out_of_memory": "内存不足",
    "hung": "停滞",
    "machine_restarted": "机器重启",
}


def status_name(status: str, lang: Lang) -> str:
    """The displayed name of a run's state."""
    return safe(STATUS_ZH.get(status, status) if lang == "zh" else status.replace("_", " "), 40)
