"""Does a search find better networks than the hand-made ones? (not in the paper; it extends MobileOne's figure 1)

    python studies/pareto_search.py                                    # tiny and small on digits, two cores
    python studies/pareto_search.py --generations 6                    # go on with the same search
    python studies/pareto_search.py --variant s0 --variants s0 s1 --data cifar10 --data-root ~/data --sampler tpe

k, widths and depths of every stage, activation and SE are chosen by Optuna for validation accuracy and for the
latency of the deployed network, in generations. Candidates train side by side, on as many workers as there are; then
one process measures the whole generation with nothing else running on the machine, interleaved with one reference
network and its twin, and the ratio to the reference is what counts: so workers disturb no measurement, and generations
compare. k costs nothing once deployed. At the end the front and the hand-made networks are trained again with seeds
that chose nothing. Expect single validation accuracies near 100 % on digits, and so a front whose order the further
seeds do not confirm.
"""

from mobileone_core.study.declaration import Factor
from mobileone_core.study.search import SearchStudy

STUDY = SearchStudy(
    name="pareto_search",
    question="Does a search find better networks than the hand-made ones?",
    factors=(
        Factor("k", "model.k", levels=(1, 2, 4), baseline=1),
        Factor("activation", "model.activation", levels=("relu", "hardswish", "silu"), baseline="relu"),
        Factor("se", "model.se", levels=("none", "paper", "all"), baseline="none"),
    ),
)

if __name__ == "__main__":
    from mobileone_core.cli import main

    main(STUDY)
