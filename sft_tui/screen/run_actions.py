"""What can be done with a run, on its own screen and on the list of runs: by the functions of the commands."""

from engine.contract.messages import InputError
from engine.contract.texts import say
from sft_tui import chat_names, notes, rerun, runs, starting
from sft_tui.runs import Run
from sft_tui.screen import actions, fix_keys
from sft_tui.screen.base import ActionScreen
from sft_tui.screen.bottom import Question
from sft_tui.text import safe

NAMES = actions.names(actions.OF_RUN)
AFTER_END = ("fix", "fresh", "more_epochs", "resume_changed")  # only while no process of the run exists
IN_FOOTER_AFTER_END = ("test", "more_epochs")  # of use at other times too, but not worth a place there


def require_possible(name: str, run: Run) -> None:
    """Raises InputError if an action cannot be carried out on a run in this state; reads no file."""
    if name in ("note", "output"):
        return
    runs.require_readable(run)
    if name in AFTER_END and run.alive:
        raise InputError("run_running", run=run.name)
    if run.record.job != "train" and name in ("again", "fresh"):
        raise InputError("again_not_training", run=run.name)
    if name in ("fix", "more_epochs", "resume_changed"):
        _require_checkpoints(run)
    if name == "fix":
        starting.fix_of(run)
    if name == "resume_changed" and is_finished(run):
        raise InputError("run_finished", run=run.name)
    if name in ("test", "chat"):
        runs.model_of(run)


def _require_checkpoints(run: Run) -> None:
    if run.record.job != "train":
        raise InputError("resume_not_training", run=run.name)
    place = run.record.output
    if run.output is not None and run.output != place:
        raise InputError("resume_set_aside", run=run.name, path=str(place.path), owner=place.owner().run)


def is_finished(run: Run) -> bool:
    """Whether a run has trained all its epochs."""
    return not run.alive and run.state.ended is not None and run.state.ended.reason == "finished"


class RunActions(ActionScreen):
    """A screen with a run on which the actions of the scope `actions.OF_RUN` are carried out."""

    def shown_run(self) -> Run:
        """The run as it is shown; raises InputError if there is none."""
        raise NotImplementedError

    def chosen(self) -> Run:
        """The run as it is now; raises InputError if there is none."""
        return self.shown_run()

    def why_disabled(self, name: str) -> str:
        """Why an action cannot be carried out on the run, with keys in place of commands."""
        if name not in NAMES:
            return super().why_disabled(name)
        try:
            require_possible(name, self.shown_run())
        except InputError as error:
            return fix_keys.with_keys(error.message.text(self.services.options.lang))
        return ""

    def offered(self, action: actions.Action) -> bool:
        """Whether the footer shows an action: some only when they are what comes next."""
        if action.name in IN_FOOTER_AFTER_END and not self._ended(action.name):
            return False
        return super().offered(action)

    def _ended(self, name: str) -> bool:
        try:
            run = self.shown_run()
        except InputError:
            return False
        return is_finished(run) if name == "more_epochs" else not run.alive

    def show_error(self, error: InputError) -> None:
        """Shows why something could not be done, with keys in place of commands."""
        self.show_notice(fix_keys.with_keys(error.message.text(self.services.options.lang)), "bad")

    def do_again(self) -> None:
        """Opens the launch screen with the run's settings."""
        run = self.chosen()
        same = rerun.again(run)
        self.services.launch_with(same.preset, same.values, based_on=run.name)

    def do_fresh(self) -> None:
        """Asks whether to start over with the run's settings, and says where the present output goes."""
        run, lang = self.chosen(), self.services.options.lang
        record, aside = rerun.plan_fresh(run), rerun.set_aside_by_fresh(run)
        words = say("screen.ask_fresh", lang, run=safe(run.name, 40))
        if aside is not None:
            owner, place = aside
            words += say("screen.ask_fresh_moves", lang, owner=safe(owner, 40) or "-", path=safe(str(place), 80))

        def answered(key: str) -> None:
            if key == "y":
                self.services.start_run(record)

        self.ask(Question(words + say("screen.ask_yes", lang), answered))

    def do_more_epochs(self) -> None:
        """Asks how many more epochs to train."""
        run = self.chosen()
        epochs = rerun.settings_of(run).epochs
        words = say("screen.ask_epochs", self.services.options.lang, run=safe(run.name, 40), epochs=epochs)

        def answered(typed: str) -> None:
            self.services.start_run(rerun.plan_more_epochs(run, typed))

        self.ask(Question(words, answered, typed="1"))

    def do_resume_changed(self) -> None:
        """Opens the form with the settings that may be changed at a resume."""
        self.services.open_resume(self.chosen())

    def do_test(self) -> None:
        """Tests the best model on the test file, and shows the test."""
        self.services.start_run(starting.plan_test(self.chosen(), {}))

    def do_fix(self) -> None:
        """Resumes the run with the settings that fix its end."""
        run = self.chosen()
        self.resume_with(run, starting.fix_of(run))

    def resume_with(self, run: Run, fix: dict[str, object]) -> None:
        """Resumes a run; raises InputError."""
        if run.alive:
            raise InputError("run_running", run=run.name)
        self.services.start_run(starting.plan_resume(run.record, {}, fix=fix))
        self.services.notify_here(say("screen.going_on", self.services.options.lang, run=safe(run.name, 40)))

    def do_output(self) -> None:
        """Shows what the trainer's processes printed."""
        self.services.open_output(self.chosen().name)

    def do_note(self) -> None:
        """Asks for the note about the run, with its tags."""
        run, lang = self.chosen(), self.services.options.lang

        def answered(typed: str) -> None:
            notes.write(run.run_dir, notes.parse(typed))
            self.show_notice(say("screen.note_kept", lang))

        words = say("screen.ask_note", lang, run=safe(run.name, 40))
        self.ask(Question(words, answered, typed=notes.read(run.run_dir).line()))

    def do_chat(self) -> None:
        """Opens a conversation with the model that the run began from, and with its best one."""
        run = self.chosen()
        self.services.open_chat(chat_names.models_of(run), run.name)
