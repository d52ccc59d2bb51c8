"""One model of a chat: its process, its own conversation, and what is asked of it, one after another in a thread."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Literal

import psutil

from engine.contract.conversing import Choice, History, Piece, Replied, Sampling, System
from engine.contract.messages import InputError, Message
from sft_tui.chat_memory import require_room
from sft_tui.chat_names import form_of
from sft_tui.conversation import Conversation

GREEDY = Sampling()  # as evaluations choose tokens
ENDED = "conversation_ended"  # the message of a process that ended by itself
State = Literal["waiting", "loading", "ready", "replying", "ended"]


@dataclass(frozen=True)
class Exchange:
    """What the user said, and the reply as far as it came; a refused turn does not belong to the conversation."""

    asked: str
    reply: str = ""
    replied: Replied | None = None
    refused: Message | None = None


@dataclass(frozen=True)
class ChatState:
    """A model's conversation as a screen shows it; `fault` is why it cannot reply, `memory` its bytes."""

    name: str
    state: State = "waiting"
    turns: tuple[Exchange, ...] = ()
    fault: Message | None = None
    memory: int = 0
    last: Replied | None = None

    @property
    def pending(self) -> bool:
        """Whether the last turn has no whole reply yet."""
        return bool(self.turns) and self.turns[-1].replied is None and self.turns[-1].refused is None

    @property
    def busy(self) -> bool:
        """Whether a reply is awaited that will come."""
        return self.pending and self.state != "ended"

    @property
    def speed(self) -> float:
        """Tokens a second of the last reply; 0 without one."""
        return self.last.tokens / self.last.seconds if self.last is not None and self.last.seconds > 0 else 0.0


@dataclass(frozen=True)
class Settings:
    """How the models of a chat reply."""

    system: str = ""
    sampling: Sampling = GREEDY
    max_new_tokens: int = 256


Alone = Callable[[Replied | Message], None]  # gets the reply to a prompt of its own, or why there is none
Open = Callable[..., Conversation]


class ChatModel:
    """A model that replies in a thread of its own; its methods return at once, and `state` is always whole.

    The process holds no conversation that this object does not know, so that another one can take its place.
    """

    def __init__(
        self, folder: str, name: str, settings: Settings, after: "ChatModel | None" = None, like: str = ""
    ) -> None:
        """It is loaded once `after` is, or cannot be; its prompts have the form of those of the model `like`."""
        self.folder, self.settings, self._after = folder, settings, after
        self.state = ChatState(name)
        self.settled = threading.Event()  # it is loaded, or cannot be
        self._like = like
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._changing = threading.Lock()
        self._closed, self._round, self._to_stop = False, 0, False
        self._conversation: Conversation | None = None
        self._held: tuple[Sequence[str], Settings | None] = ((), None)  # what the process has been given

    def start(self) -> None:
        """Begins to load the model."""
        self._jobs.put(self._load)
        threading.Thread(target=self._work, name="chat", daemon=True).start()

    def say(self, text: str) -> None:
        """Says one more turn."""
        self._change(turns=(*self.state.turns, Exchange(text)))
        self._jobs.put(self._reply)

    def again(self) -> None:
        """Generates the last reply again; loads the model again if its process has ended."""
        if self.state.state == "ended":
            self.settled.clear()
            self._change(state="waiting", fault=None)
            self._jobs.put(self._load)
        if self.state.turns:
            last = self.state.turns[-1]
            if last.replied is None or self.state.state == "ready":
                self._change(turns=(*self.state.turns[:-1], Exchange(last.asked)))
                self._jobs.put(self._reply)

    def new(self) -> None:
        """Begins another conversation."""
        self._change(turns=(), last=None)
        self._held = ((), None)  # the seed begins again too

    def alone(self, prompt: str, done: Alone) -> None:
        """Has a prompt answered that knows no other turn; `done` is called in the thread of this model."""
        began = self._round
        self._jobs.put(lambda: self._alone(prompt, done, began))

    def abandon(self) -> None:
        """Stops the reply to a single prompt, and forgets all that wait for one."""
        with self._changing:
            self._round += 1
        self.stop()

    def stop(self) -> None:
        """Stops the reply that is being generated; one that has not begun is not generated."""
        with self._changing:  # a reply may begin or end at this moment
            state = self.state
            if state.state == "replying":
                self._to_stop = True
                if self._conversation is not None:
                    self._conversation.stop()
            elif state.pending and state.state != "ended":
                self.state = replace(state, turns=state.turns[:-1])

    def close(self) -> None:
        """Ends the process and the thread, at once."""
        self._closed = True
        self._round += 1
        self.settled.set()  # another one may wait for it
        self._jobs.put(lambda: None)
        with self._changing:
            if self._conversation is not None:
                self._conversation.kill()

    @property
    def pid(self) -> int:
        """Its process; 0 without one."""
        return self._conversation.pid if self._conversation is not None else 0

    def _work(self) -> None:
        while not self._closed:
            self._jobs.get()()
        if self._conversation is not None:
            self._conversation.close()

    def _change(self, **changes: object) -> None:
        with self._changing:
            self.state = replace(self.state, **changes)  # type: ignore[arg-type]

    def _load(self) -> None:
        if self._after is not None:
            self._after.settled.wait()
        try:
            if self._closed:
                return
            require_room(self.folder)
            self._change(state="loading")
            self._held = ((), None)
            template, options = form_of(self.folder, self._like)
            self._conversation = Conversation(
                self.folder, chat_template=template, template_options=options, started=self._begun
            )
            self._change(state="ready", memory=_resident(self.pid))
        except InputError as error:
            self._end(error.message)
        finally:
            self.settled.set()

    def _begun(self, conversation: Conversation) -> None:
        with self._changing:
            self._conversation = conversation
            if self._closed:
                conversation.kill()

    def _end(self, why: Message) -> None:
        if self._conversation is not None:
            self._conversation.close()
        self._conversation = None
        self._change(state="ended", fault=why, memory=0)

    def _give(self, conversation: Conversation, turns: Sequence[str], *, fresh: bool = False) -> None:
        """Has the process hold these turns and the settings of now; raises InputError."""
        held, settings = self._held
        self._held = ((), None)  # until all has been taken
        if settings is None or settings.system != self.settings.system:
            conversation.change(System(self.settings.system))
        if fresh or settings is None or settings != self.settings:
            conversation.change(Choice(self.settings.sampling, self.settings.max_new_tokens))
        if list(held) != list(turns) or settings is None:
            conversation.change(History(tuple(turns)))
        self._held = (turns, self.settings)

    def _begin(self) -> None:
        """Notes that a reply begins, while nothing else changes."""
        self._to_stop = False
        self.state = replace(self.state, state="replying")

    def _spoken(self, conversation: Conversation, said: str) -> Iterator[Piece | Replied]:
        """The reply; a stop that came before the process knew what to reply to is said again."""
        with closing(conversation.say(said)) as spoken:  # type: ignore[type-var]
            for more in spoken:
                if self._to_stop:
                    self._to_stop = False
                    conversation.stop()
                yield more

    def _reply(self) -> None:
        conversation = self._conversation
        with self._changing:
            if conversation is None or not self.state.pending:
                return
            self._begin()
            turns = self.state.turns
        before = [part for one in turns[:-1] if one.replied is not None for part in (one.asked, one.reply)]
        try:
            self._give(conversation, before)
            for more in self._spoken(conversation, turns[-1].asked):
                if isinstance(more, Replied):
                    self._held = ([*before, turns[-1].asked, more.text], self._held[1])
                self._hear(turns, more)
        except InputError as error:
            self._refuse(turns, error.message)

    def _hear(self, turns: tuple[Exchange, ...], more: Piece | Replied) -> None:
        """Adds to the last reply; with its end the model is ready, as the next key may come at once."""
        last = self.state.turns[-1]
        if isinstance(more, Replied):
            last = replace(last, reply=more.text, replied=more)
            self._change(turns=(*turns[:-1], last), last=more, state="ready", memory=_resident(self.pid))
        else:
            self._change(turns=(*turns[:-1], replace(last, reply=last.reply + more.text)))

    def _refuse(self, turns: tuple[Exchange, ...], why: Message) -> None:
        """A turn that was refused is shown as such; one that the process did not survive can be answered later."""
        if why.code == ENDED:
            self._change(turns=(*turns[:-1], Exchange(turns[-1].asked)))
            self._end(why)
        else:
            self._change(turns=(*turns[:-1], replace(turns[-1], refused=why)), state="ready")

    def _alone(self, prompt: str, done: Alone, began: int) -> None:
        conversation = self._conversation
        with self._changing:
            if began != self._round:
                return
            if conversation is not None:
                self._begin()
        if conversation is None:
            done(self.state.fault or Message.of(ENDED, why=self.folder))
            return
        try:
            self._give(conversation, (), fresh=True)
            self._held = ((), None)
            *_, replied = self._spoken(conversation, prompt)
            assert isinstance(replied, Replied)
        except InputError as error:
            if error.message.code == ENDED:
                self._end(error.message)
            else:
                self._change(state="ready")
            done(error.message)
            return
        self._change(state="ready", last=replied, memory=_resident(conversation.pid))
        if began == self._round:
            done(replied)


def _resident(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except (psutil.Error, OSError):
        return 0
