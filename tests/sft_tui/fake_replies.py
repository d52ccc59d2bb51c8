"""A process that replies by a rule, in place of the engine's."""

# Replies "NUMBER OF TURNS:SYSTEM TEXT:WHAT WAS SAID" in pieces; "slow" is replied without end, and "die" kills it.
CHILD = """
import json, sys, threading, os, signal, queue
turns, system, stop = [], "", threading.Event()
def send(kind, **values):
    sys.stdout.write(json.dumps({"kind": kind, **values}) + chr(10)); sys.stdout.flush()
def reply(text):
    global turns
    stop.clear()
    if text == "die": os.kill(os.getpid(), signal.SIGKILL)
    if text == "no":
        return send("refused", message={"code": "prompt_not_text", "args": {"number": 1}}, fatal=False)
    whole = f"{len(turns) // 2}:{system}:{text}"
    for part in whole:
        send("piece", text=part)
    while text == "slow" and not stop.wait(0.01):
        send("piece", text="."); whole += "."
    ended = "stopped" if text == "slow" else "end"
    turns += [text, whole]
    send("replied", text=whole, ended=ended, tokens=len(whole), seconds=0.5, prompt_tokens=3)
def listen():
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        kind = asked["kind"]
        if kind == "stop": stop.set(); continue
        waiting.put(asked)
    os._exit(0)
waiting = queue.SimpleQueue()
threading.Thread(target=listen, daemon=True).start()
while True:
    asked = waiting.get()
    kind = asked["kind"]
    if kind == "open": send("opened", family="t5", rows="pairs", positions=9); continue
    if kind == "say": reply(asked["text"]); continue
    if kind == "system": system = asked["text"]
    if kind == "history": turns = list(asked["turns"])
    if kind == "choice" and asked["sampling"]["temperature"]: system += str(asked["sampling"]["temperature"])
    send("changed", turns=len(turns) // 2)
"""
