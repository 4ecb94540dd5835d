"""The queue: one Optuna study per setting of a study, one trial per attempt at a cell."""

import contextlib
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Sequence

import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from mobileone_core.errors import InputError, require
from mobileone_core.study.plan import Queued
from mobileone_core.study.process import Owner
from mobileone_core.study.queue.storage import STORAGES, open_storage, trial_view
from mobileone_core.study.queue.trials import VOID, TrialView
from mobileone_core.study.workspace import QueueTiming

ATTEMPT_ATTRIBUTES = ("owner", "runs", "run", "error", "warning", "part", "speed")  # all others describe the cell
LIVE = ("WAITING", "RUNNING", "COMPLETE")
RESUMED_FIRST = 3  # attempts up to which an interrupted cell goes before others
FEW = 50  # changed trials that are read one by one; more are read at once, with all others that are not finished


class Claim:
    """A trial that this process holds."""

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial = trial
        self.number = trial.number
        self.attributes = trial.user_attrs

    def note(self, name: str, value: object) -> bool:
        """Set an attribute of the trial. False if the trial has been ended by another process."""
        return _updated(self.trial.set_user_attr, name, value)

    def report(self, epoch: int, value: float) -> bool:
        """Report the progress of the attempt. False if the trial has been ended by another process."""
        return _updated(self.trial.report, value, epoch)


def _updated(update: Callable[..., object], *arguments: object) -> bool:
    """Update a trial. False if it has ended already."""
    with contextlib.suppress(UpdateFinishedTrialError):
        update(*arguments)
        return True
    return False


class SelectiveStudy(optuna.Study):
    """Optuna study that claims the first of `candidates`; Optuna has no public hook for this, only a private method."""

    candidates: Callable[[], Iterable[int]]

    def _pop_waiting_trial_id(self) -> int | None:
        for number in self.candidates():
            trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
            with contextlib.suppress(UpdateFinishedTrialError):
                if self._storage.set_trial_state_values(trial_id, state=TrialState.RUNNING):
                    return trial_id
        return None


class Queue:
    """Trials of one queue.

    Of a cell's trials the one that counts is the first that is waiting, running or complete. Numbers are given in a
    transaction, so all processes agree without a lock.

    url: Optuna's storage URL; name: name of the Optuna study; on_dead: called with every attempt whose process died;
    create: create the Optuna study if it does not exist. Raises InputError if it does not exist otherwise.
    """

    def __init__(
        self, url: str, name: str, timing: QueueTiming, on_dead: Callable[[TrialView], None], *, create: bool = False
    ) -> None:
        self.name = name
        self.timing = timing
        self.on_dead = on_dead
        self._swept: list[TrialView] = []
        self._since: dict[tuple[int, str], float] = {}
        self._views: dict[int, TrialView] = {}
        self._storage = open_storage(url, timing, self._after_stale, create=create)
        if create:
            optuna.create_study(storage=self._storage, study_name=name, direction="maximize", load_if_exists=True)
        try:
            self.study = SelectiveStudy(name, self._storage, optuna.samplers.RandomSampler())
        except KeyError as error:
            raise InputError.of("study", name, "it is not in this queue; plan it first") from error
        STORAGES.setdefault(url, self.study._storage)  # for reading, too: it waits for a server that restarts

    @property
    def study_name(self) -> str:
        """Name of the study whose cells these are."""
        return next((str(trial.attributes["study"]) for trial in self.trials()), self.name)

    def enqueue(self, cell: Queued, metric: str, attempt: int) -> None:
        """Add a cell or a comparison. metric is the name of the trial's value; attempts count from 1."""
        attributes = {name: getattr(cell, name) for name in ("role", "seed", "study", "variant", "epochs")}
        attributes |= {"cell": cell.key, "needs": list(cell.needs), "factors": dict(cell.factors)}
        attributes |= {"spec": cell.spec.to_json(), "metric": metric, "attempt": attempt}
        self.study.enqueue_trial({}, user_attrs=attributes)

    def requeue(self, trial: TrialView) -> None:
        """Queue the cell of an attempt that ended without a result once more, as a new trial."""
        attributes = {name: value for name, value in trial.attributes.items() if name not in ATTEMPT_ATTRIBUTES}
        kept = 0 if trial.is_comparison else max(trial.epoch, attributes.get("kept", 0))
        attributes |= {"attempt": trial.attributes["attempt"] + 1, "after": trial.number, "kept": kept}
        self.study.enqueue_trial({}, user_attrs=attributes)

    def trials(self, *states: str) -> list[TrialView]:
        """Trials in the order of their numbers, all or those in the given states; without void and pruned ones."""
        void = self.study.user_attrs.get(VOID, ())
        views = [view for view in self._read() if view.is_attempt and view.number not in void]
        return [view for view in views if not states or view.state in states]

    def _read(self) -> list[TrialView]:
        """All trials. Only those are read in full that are new, running or in another state than when last read."""
        rows = self._storage.trial_states(self.study._study_id)
        last = {number: view.state for number, view in self._views.items() if view.state != "RUNNING"}
        changed = [trial_id for trial_id, number, state in rows if last.get(number) != state]
        trials = self.study.get_trials(deepcopy=False) if len(changed) > FEW else map(self._storage.get_trial, changed)
        self._views |= {trial.number: trial_view(trial) for trial in trials}
        return [self._views[number] for _, number, _ in rows]

    def claimable(self, trials: Sequence[TrialView], cells: Collection[str] | None = None) -> list[TrialView]:
        """Those of all trials that wait and whose needs are complete, of all cells or of the given keys.

        Interrupted cells come first, unless they were interrupted so often that they may kill their workers.
        """
        complete = {trial.key for trial in trials if trial.state == "COMPLETE"}

        def can_begin(trial: TrialView) -> bool:
            needs = set(trial.needs)
            if trial.is_comparison and cells is not None:  # a plan with more seeds may have queued it
                needs.intersection_update(cells)
            return trial.state == "WAITING" and (cells is None or trial.key in cells) and needs <= complete

        def was_interrupted(trial: TrialView) -> bool:
            return "after" in trial.attributes and trial.attributes["attempt"] <= RESUMED_FIRST

        return sorted(filter(can_begin, trials), key=was_interrupted, reverse=True)

    def void(self, *trials: TrialView) -> None:
        """Mark ended trials as void: they count no more, and the cells of complete ones are missing again."""
        numbers = [trial.number for trial in trials]
        self.study.set_user_attr(VOID, [*self.study.user_attrs.get(VOID, ()), *numbers])

    def forget(self) -> None:
        """Remove the trials that wait or have failed, and the queue if nothing complete is left of it.

        Raises InputError if one is running; what a worker claims meanwhile is its own and stays.
        """
        self._require_idle()
        self.study.candidates = lambda: [trial.number for trial in self.trials("WAITING")]
        while (trial_id := self.study._pop_waiting_trial_id()) is not None:  # as a worker does: one of the two gets it
            self._storage.set_trial_state_values(trial_id, state=TrialState.PRUNED)
        self._require_idle()
        if not self.trials("COMPLETE"):
            optuna.delete_study(study_name=self.name, storage=self._storage)
        else:
            self.void(*self.trials("FAIL"))

    def _require_idle(self) -> None:
        running = [str(trial.number) for trial in self.trials("RUNNING")]
        require(not running, "setting", self.name, f"one that does not run: trial {', '.join(running)} does")

    def claim(self, attempt: Callable[[Claim], float], cells: Collection[str] | None = None) -> TrialView | None:
        """Claim one cell, of all or of the given keys, and run attempt on it, which returns the trial's value.

        Returns the ended trial; None without one to claim, if the cell has another trial, or another process ended it.
        """
        ended: list[FrozenTrial] = []
        claims: list[Claim] = []

        def objective(trial: optuna.Trial) -> float:
            claim = Claim(trial)
            claims.append(claim)
            if self._is_spare(claim) or not claim.note("owner", vars(Owner.here())):
                raise optuna.TrialPruned
            return attempt(claim)

        self.study.candidates = lambda: [trial.number for trial in self.claimable(self.trials(), cells)]
        try:
            self.study.optimize(objective, n_trials=1, catch=Exception, callbacks=[lambda _, last: ended.append(last)])
        except Exception:  # Optuna refuses the result of a trial that another process has ended
            running = self.study.get_trials(states=(TrialState.RUNNING,))
            if not claims or claims[0].number in [item.number for item in running]:
                raise
        return next((trial_view(item) for item in ended if item.state != TrialState.PRUNED), None)

    def sweep(self) -> list[TrialView]:
        """Fail every attempt whose process is dead or silent, and queue its cell again. Returns these attempts."""
        self._swept.clear()
        for trial in [item for item in self.trials("RUNNING") if self._is_dead(item) and self._fail(item.number)]:
            self._after_death(trial)
        with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
            optuna.storages.fail_stale_trials(self.study)
        for trial in filter(self._is_overdue, self.lost()):
            self.requeue(trial)
        return self._swept.copy()

    def lost(self) -> list[TrialView]:
        """Attempts that ended without result or error and whose cell was not queued again."""
        trials = self.trials()
        last = {trial.key: trial for trial in trials}
        live = {trial.key for trial in trials if trial.state in LIVE}
        return [item for key, item in last.items() if key not in live and "error" not in item.attributes]

    def _is_spare(self, claim: Claim) -> bool:
        """Whether a trial names no cell, or a cell that another trial runs or has completed."""
        key = claim.attributes.get("cell")
        others = [item for item in self.trials(*LIVE) if item.key == key]
        return key is None or any(item.number < claim.number or item.state == "COMPLETE" for item in others)

    def _is_dead(self, trial: TrialView) -> bool:
        owner = Owner.read(trial.attributes.get("owner"))
        return owner.is_gone if owner is not None else self._is_overdue(trial)

    def _is_overdue(self, trial: TrialView) -> bool:
        """Whether a trial has stayed between two steps too long, by this process's clock: clocks of hosts differ."""
        first = self._since.setdefault((trial.number, trial.state), time.monotonic())
        return time.monotonic() - first > self.timing.claim

    def _fail(self, number: int) -> bool:
        """End a trial of another process as failed. False if it has ended already."""
        with contextlib.suppress(ValueError, UpdateFinishedTrialError):
            self.study.tell(number, state=TrialState.FAIL)
            return True
        return False

    def _after_stale(self, study: optuna.Study, trial: FrozenTrial) -> None:  # noqa: ARG002
        if "cell" in trial.user_attrs:
            self._after_death(trial_view(trial))

    def _after_death(self, trial: TrialView) -> None:
        self._swept.append(trial)
        self.requeue(trial)
        self.on_dead(trial)
