"""A seeded trial by fire: processes, servers, disk and clock fail at random moments, and nothing may be lost.

    python tests/chaos.py --kills 40 --seed 1                       # queue and record in SQLite files
    python tests/chaos.py --kills 40 --seed 1 --queue postgresql    # both on servers

Prints a ledger of all faults and ends with status 1 if an invariant is broken. What the machine does not allow is
listed as skipped.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "study"))

from chaos_faults import FAULTS, Faults
from chaos_proof import problems_of
from chaos_site import Site

AT_WORK = 0.8  # share of the faults that strike while cells are running; the others may strike while all is starting


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=40, help="faults in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--queue", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--record", choices=("file", "server"), help="server if the queue is postgresql")
    parser.add_argument("--commands", type=int, default=2, help="commands that work on the study side by side")
    parser.add_argument("--workers", type=int, default=2, help="workers per command")
    parser.add_argument("--keep", action="store_true", help="keep the directory of the trial")
    return parser.parse_args()


def run_trial(kills, seed, *, queue="sqlite", record=None, commands=2, workers=2, keep=False, say=print):
    """Run a trial; returns the problems found."""
    root = Path(tempfile.mkdtemp(prefix="chaos-"))
    root.chmod(0o755)
    record = record or ("server" if queue == "postgresql" else "file")
    random_faults = random.Random(seed)
    began = time.monotonic()
    problems = ["the trial itself was interrupted"]
    site = Site(root, queue, record, commands, workers)
    try:
        with site:
            faults = Faults(site, random_faults)
            skipped = faults.skipped()
            deck = [name for name in FAULTS if name not in skipped]
            say(
                f"{kills} faults, seed {seed}: queue {queue}, record {record}, {commands} commands of {workers} workers"
            )
            for name, reason in skipped.items():
                say(f"skipped: {name}: {reason}")
            dealt = []
            for number in range(kills):
                dealt = dealt or random_faults.sample(deck, len(deck))
                site.keep_working()
                faults.heal(time.monotonic())
                if random_faults.random() < AT_WORK:
                    site.await_work()
                time.sleep(random_faults.uniform(0.2, 2.0))
                name = dealt.pop()
                say(f"{number + 1:4} {time.monotonic() - began:7.1f} s  {name}: {faults.strike(name)}")
            faults.heal()
            site.finish(say)
            problems = problems_of(site)
            ledger(site, faults, say)
    finally:
        if keep or problems:
            say(f"the trial's directory: {root}")
        else:
            shutil.rmtree(root, ignore_errors=True)
    for problem in problems:
        say(f"BROKEN: {problem}")
    say(f"{'broken' if problems else 'held'} after {time.monotonic() - began:.0f} s")
    return problems


def ledger(site, faults, say):
    """A list of what was done, and of the states that the cells ended in."""
    for name, count in sorted(faults.count.items()):
        say(f"  {count:4} x {name}")
    for line in site.summary():
        say(f"  {line}")


def main():
    sys.exit(bool(run_trial(**vars(arguments()))))


if __name__ == "__main__":
    main()
