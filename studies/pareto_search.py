"""Does a search find better networks than the hand-made ones? (not in the paper; it extends MobileOne's figure 1)

    python studies/pareto_search.py                                    # tiny and small on digits, two cores
    python studies/pareto_search.py --generations 6                    # continue the same search
    python studies/pareto_search.py --variant s0 --variants s0 s1 --data cifar10 --data-root ~/data --sampler tpe

Optuna chooses k, widths and depths per stage, activation and SE for validation accuracy and for the latency of the
deployed network, in generations. Candidates train in parallel workers. Then one process times the whole generation
interleaved with one reference network and its control, with nothing else running on the machine; the ratio to the
reference counts, so that generations compare. At the end the front and the hand-made networks are trained again with
seeds that chose nothing. Expect single validation accuracies near 100 % on digits, and a front whose order further
seeds do not confirm.
"""

from mobileone_core.study import Factor, SearchStudy

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
