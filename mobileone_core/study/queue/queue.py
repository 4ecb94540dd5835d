"""The queue: one Optuna study a setting of a study, one trial an attempt at a cell."""

import contextlib
import dataclasses
import time
import warnings
from collections.abc import Callable, Collection, Sequence

import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from mobileone_core.errors import InputError
from mobileone_core.study.job import QueueTiming
from mobileone_core.study.plan import Queued
from mobileone_core.study.process import Owner
from mobileone_core.study.queue.storage import open_storage, trial_view
from mobileone_core.study.queue.trials import VOID, TrialView

OF_ATTEMPT = (
    "owner",
    "runs",
    "run",
    "error",
    "warning",
)  # what one attempt leaves on its trial; the rest names the cell
LIVE = ("WAITING", "RUNNING", "COMPLETE")


class Claim:
    """A trial that this process holds."""

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial = trial
        self.number = trial.number
        self.attributes = trial.user_attrs

    def note(self, name: str, value: object) -> bool:
        """Leave a word on the trial; False where it is no longer ours."""
        try:
            self.trial.set_user_attr(name, value)
        except UpdateFinishedTrialError:
            return False
        return True

    def report(self, epoch: int, value: float) -> bool:
        """Say how far the attempt is; False where the trial is no longer ours."""
        try:
            self.trial.report(value, epoch)
        except UpdateFinishedTrialError:
            return False
        return True


class Queue:
    """The trials of one queue, an Optuna study. on_dead is told of every attempt that a process left behind.

    Of several trials of a cell the lowest number that is waiting, running or complete is the one that counts:
    numbers are given in a transaction, so that all processes agree without a lock.
    """

    def __init__(
        self, url: str, study: str, timing: QueueTiming, on_dead: Callable[[TrialView], None], *, create: bool = False
    ) -> None:
        self.timing = timing
        self.on_dead = on_dead
        self._stale: list[TrialView] = []
        self._seen: dict[tuple[int, str], float] = {}
        storage = open_storage(url, timing, self._after_stale, create=create)
        sampler = optuna.samplers.RandomSampler()
        if create:
            self.study = optuna.create_study(
                storage=storage, study_name=study, sampler=sampler, direction="maximize", load_if_exists=True
            )
            return
        try:
            self.study = optuna.load_study(storage=storage, study_name=study, sampler=sampler)
        except KeyError as error:
            raise InputError.of("study", study, "it is not in this queue; plan it first") from error

    @property
    def study_name(self) -> str:
        """The study whose cells these are."""
        return next((str(trial.attributes["study"]) for trial in self.trials()), self.study.study_name)

    def enqueue(self, cell: Queued, metric: str, attempt: int) -> None:
        """Add a cell or a comparison; metric names the value that a cell's trial returns, attempt counts from 1."""
        attributes = {
            "cell": cell.key,
            "role": cell.role,
            "needs": list(cell.needs),
            "seed": cell.seed,
            "study": cell.study,
            "variant": cell.variant,
            "factors": dict(cell.factors),
            "metric": metric,
            "epochs": cell.epochs,
            "spec": cell.spec.to_json(),
            "attempt": attempt,
        }
        self.study.enqueue_trial({}, user_attrs=attributes)

    def requeue(self, trial: TrialView) -> None:
        """Put the cell of an attempt that ended without a result back."""
        kept = {name: value for name, value in trial.attributes.items() if name not in OF_ATTEMPT}
        kept |= {"attempt": trial.attributes["attempt"] + 1, "after": trial.number}
        self.study.enqueue_trial({}, user_attrs=kept)

    def trials(self, *states: str) -> list[TrialView]:
        """All attempts in the order of their numbers, or those in the states named; spare and void ones left out."""
        wanted = tuple(TrialState[name] for name in states) or None
        views = [trial_view(trial) for trial in self.study.get_trials(deepcopy=False, states=wanted)]
        void = self.study.user_attrs.get(VOID, ())
        return [
            item for item in views if "cell" in item.attributes and item.state != "PRUNED" and item.number not in void
        ]

    def claimable(self, trials: Sequence[TrialView], cells: Collection[str] | None = None) -> list[TrialView]:
        """Of all trials those of the cells named, or of all, that wait for nobody: what they need is complete."""
        complete = {trial.key for trial in trials if trial.state == "COMPLETE"}

        def can_begin(trial: TrialView) -> bool:
            needs = set(trial.needs)
            if trial.is_comparison and cells is not None:  # a plan of more seeds may have queued it
                needs.intersection_update(cells)
            return trial.state == "WAITING" and (cells is None or trial.key in cells) and needs <= complete

        return list(filter(can_begin, trials))

    def void(self, trial: TrialView) -> None:
        """Let a complete trial count no more: its result is lost."""
        self.study.set_user_attr(VOID, [*self.study.user_attrs.get(VOID, ()), trial.number])

    def claim(self, attempt: Callable[[Claim], float], cells: Collection[str] | None = None) -> TrialView | None:
        """Pop one cell, of those named or of all, and run attempt on it.

        Gives the trial as it ended, None where it was spare or no longer ours.
        """
        ended: list[FrozenTrial] = []
        taken: list[Claim] = []

        def objective(trial: optuna.Trial) -> float:
            claim = Claim(trial)
            taken.append(claim)
            if self._is_spare(claim) or not claim.note("owner", dataclasses.asdict(Owner.here())):
                raise optuna.TrialPruned
            return attempt(claim)

        self.study._pop_waiting_trial_id = lambda: self._pop(cells)  # type: ignore[method-assign]
        try:
            self.study.optimize(
                objective, n_trials=1, catch=(Exception,), callbacks=[lambda _, trial: ended.append(trial)]
            )
        except Exception:  # a trial that others ended refuses to be told
            if not taken or self._is_running(taken[0].number):
                raise
        return next((trial_view(item) for item in ended if item.state != TrialState.PRUNED), None)

    def _pop(self, cells: Collection[str] | None) -> int | None:
        """Claim the first of these cells that can begin; Optuna's own method, which this stands for, takes any."""
        storage, study_id = self.study._storage, self.study._study_id
        for trial in self.claimable(self.trials(), cells):
            number = storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
            with contextlib.suppress(UpdateFinishedTrialError):
                if storage.set_trial_state_values(number, state=TrialState.RUNNING):
                    return number
        return None

    def sweep(self) -> list[TrialView]:
        """Fail and requeue every attempt whose process is gone or silent; these attempts."""
        swept = [trial for trial in self.trials("RUNNING") if self._is_dead(trial) and self._fail(trial.number)]
        for trial in swept:
            self._after_death(trial)
        self._stale.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            optuna.storages.fail_stale_trials(self.study)
        for trial in filter(self._stays, self.lost()):
            self.requeue(trial)
        return [*swept, *self._stale]

    def lost(self) -> list[TrialView]:
        """Attempts that ended without result or error, their cells not queued again."""
        trials = self.trials()
        last = {trial.key: trial for trial in trials}
        live = {trial.key for trial in trials if trial.state in LIVE}
        return [item for cell, item in last.items() if cell not in live and "error" not in item.attributes]

    def _is_spare(self, claim: Claim) -> bool:
        """Whether this trial names no cell, or one that another trial has."""
        cell = claim.attributes.get("cell")
        others = [item for item in self.trials(*LIVE) if item.key == cell]
        earlier = [item for item in others if item.number < claim.number or item.state == "COMPLETE"]
        return cell is None or bool(earlier)

    def _is_dead(self, trial: TrialView) -> bool:
        owner = Owner.read(trial.attributes.get("owner"))
        return owner.is_gone if owner is not None else self._stays(trial)

    def _stays(self, trial: TrialView) -> bool:
        """Whether this process has seen a trial stay between two steps too long: clocks of hosts may differ."""
        first = self._seen.setdefault((trial.number, trial.state), time.monotonic())
        return time.monotonic() - first > self.timing.claim

    def _fail(self, number: int) -> bool:
        """End a trial of another process; False where it has ended meanwhile."""
        try:
            self.study.tell(number, state=TrialState.FAIL)
        except (ValueError, UpdateFinishedTrialError):
            return False
        return True

    def _after_stale(self, study: optuna.Study, trial: FrozenTrial) -> None:  # noqa: ARG002
        view = trial_view(trial)
        if "cell" in view.attributes:
            self._stale.append(view)
            self._after_death(view)

    def _after_death(self, trial: TrialView) -> None:
        self.requeue(trial)
        self.on_dead(trial)

    def _is_running(self, number: int) -> bool:
        trials = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return any(item.number == number for item in trials)
