"""Twelve cells under twenty kills: what is lost, repeated and left running, here and with what Optuna offers by itself.

    python tests/benchmarks/bench_survival.py            # a Markdown table

Four workers take cells of six epochs; at random moments one is killed (SIGKILL) and started again. Optuna's samplers
run as its documentation shows: RDBStorage with heartbeats and RetryHeartbeatStaleTrialCallback, in processes that are
started again. Afterwards all workers go on undisturbed until they end by themselves, and for two grace periods more.
"""

import contextlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS / "study"))

LEVELS, SEEDS, EPOCHS, SECONDS = (1, 2, 3, 4), 3, 6, 0.3
KILLS, WORKERS, HEARTBEAT, GRACE = 20, 4, 2, 6
PATIENCE = 300.0  # seconds
SAMPLERS = ("GridSampler", "BruteForceSampler")


def optuna_worker(sampler, url):
    """A user's script."""
    import warnings

    import optuna
    from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback

    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = RDBStorage(
        url,
        heartbeat_interval=HEARTBEAT,
        grace_period=GRACE,
        heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
        engine_kwargs={"connect_args": {"timeout": 60}},
    )
    space = {"k": list(LEVELS), "seed": list(range(SEEDS))}
    made = optuna.samplers.GridSampler(space) if sampler == "GridSampler" else optuna.samplers.BruteForceSampler()

    def objective(trial):
        for name, choices in space.items():
            trial.suggest_categorical(name, choices)
        for epoch in range(EPOCHS):
            time.sleep(SECONDS)
            trial.report(epoch, epoch)
        return 1.0

    optuna.create_study(study_name="cells", storage=storage, sampler=made, load_if_exists=True).optimize(objective)


def with_optuna(sampler, directory):
    import optuna

    url = f"sqlite:///{directory}/optuna.db"
    optuna.create_study(study_name="cells", storage=url)
    command = [sys.executable, __file__, sampler, url]
    workers = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(WORKERS)]

    def alive():
        for index, worker in enumerate(workers):
            if worker.poll() is not None:
                workers[index] = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        return [psutil.Process(worker.pid) for worker in workers]

    def running():
        study = optuna.load_study(study_name="cells", storage=url)
        return any(trial.state.name == "RUNNING" for trial in study.get_trials(deepcopy=False))

    disturb(alive, running)
    end = time.monotonic() + PATIENCE
    for worker in workers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(max(0.0, end - time.monotonic()))
        worker.kill()
    time.sleep(2 * GRACE)
    trials = optuna.load_study(study_name="cells", storage=url).get_trials(deepcopy=False)
    done = Counter(tuple(trial.params.values()) for trial in trials if trial.state.name == "COMPLETE")
    return done, sum(trial.state.name == "RUNNING" for trial in trials)


def with_workspace(directory):
    from study_fakes import small_plan

    from mobileone_core.study.queue.queue import Queue
    from mobileone_core.study.state import cell_states
    from mobileone_core.study.workspace import QueueTiming, Workspace

    plan_options = {"levels": LEVELS, "seeds": SEEDS, "epochs": EPOCHS}
    plan, workspace = small_plan(**plan_options), Workspace.at(directory / "runs")
    (directory / "settings.json").write_text(json.dumps({"seconds": SECONDS}))
    timing = {"heartbeat": HEARTBEAT, "grace": GRACE, "claim": 2.0}
    settings = {"plan": plan_options, "runs": str(workspace.runs), "workers": WORKERS, "train": "study_fakes:train"}
    path = directory / "command.json"
    path.write_text(json.dumps({**settings, "timing": timing, "data_root": str(directory)}))
    commands = []

    def command():
        if not commands or commands[-1].poll() is not None:
            drive = [sys.executable, str(TESTS / "study" / "drive.py"), str(path)]
            commands.append(subprocess.Popen(drive, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        return psutil.Process(commands[-1].pid)

    def workers():
        return [worker for helper in command().children() for worker in helper.children()]

    disturb(workers, lambda: any(item.state == "running" for item in cell_states(workspace, plan)))
    commands[-1].wait(PATIENCE)
    command()
    commands[-1].wait(PATIENCE)
    trials = Queue(workspace.queue, plan.queue, QueueTiming(), lambda _: None).trials()
    done = Counter(trial.key for trial in trials if trial.state == "COMPLETE")
    return done, sum(trial.state == "RUNNING" for trial in trials)


def disturb(workers, running):
    """Kill a worker so many times, each while cells are running if they are at all within a minute."""
    generator = random.Random(1)
    for _ in range(KILLS):
        end = time.monotonic() + 60.0
        while not ((living := workers()) and running()) and time.monotonic() < end:
            time.sleep(0.2)
        time.sleep(generator.uniform(0.2, 1.5))
        for victim in generator.sample(living, min(1, len(living))):
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
    workers()


def main():
    print(f"| {len(LEVELS) * SEEDS} cells, {KILLS} kills | complete | lost | repeated | left running | s |")
    print("|---|---|---|---|---|---|")
    for name in (*SAMPLERS, "this workspace"):
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as text:
            directory = Path(text)
            done, left = with_workspace(directory) if name == "this workspace" else with_optuna(name, directory)
        cells, repeated = len(LEVELS) * SEEDS, sum(done.values()) - len(done)
        seconds = time.monotonic() - began
        print(f"| {name} | {len(done)} | {cells - len(done)} | {repeated} | {left} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in SAMPLERS:
        optuna_worker(*sys.argv[1:])
    else:
        main()
