"""What an inspection imports, for the process that tests fork theirs from: import it in no other, it hides torch."""

import importlib

from engine.inspecting.limits import hide_torch

hide_torch()
for name in ("engine.inspect", "engine.data.tokenizer", "engine.data.chat.templates", "engine.models.generation"):
    importlib.import_module(name)
importlib.import_module("transformers.models.auto.tokenization_auto")
