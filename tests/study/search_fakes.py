"""Small searches, and a stand-in for what measures latencies."""

from dataclasses import replace

from study_fakes import TRAIN

from mobileone_core.benchmark.protocol import Protocol
from mobileone_core.benchmark.spec import EntryResult
from mobileone_core.model.spec import ModelSpec
from mobileone_core.study.declaration import Factor
from mobileone_core.study.search import SearchStudy
from mobileone_core.study.search_plan import SearchPlan
from mobileone_core.study.workspace import Engine, QueueTiming
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.recipe import Recipe

SEARCH_ENGINE = Engine(QueueTiming(heartbeat=1, grace=3, claim=1.0), TRAIN, "search_fakes:measure")


def small_search(generations=2, population=3, seeds=1, epochs=2, **changes):
    """A search around a network of two stages."""
    study = SearchStudy(
        "pareto_search",
        "Does a search pay?",
        (Factor("k", "model.k", (1, 2, 4), 1), Factor("activation", "model.activation", ("relu", "silu"), "relu")),
        generations=generations,
        population=population,
        seeds=seeds,
        widths=(1.0, 2.0, 3.0),
        variants=("tiny",),
        variant_k=(1, 2),
        protocol=Protocol(rounds=6),
    )
    spec = ModelSpec(widths=(8, 8), depths=(1, 1), stage_strides=(2, 2), in_channels=1)
    recipe = Recipe(epochs=epochs, batch_size=256, augmentation="none", ema_decay=0.0)
    return SearchPlan(replace(study, **changes), CellSpec(model=spec, recipe=recipe))


def measure(spec, *, execution, progress):
    """Ratios that the channels give; the reference with a control."""
    for number in range(spec.protocol.rounds + 1):
        progress(number)
    sizes = {entry.label: float(sum(entry.cell.network.widths)) for entry in spec.entries}
    results = []
    for entry in spec.entries:
        ratio = sizes[entry.label] / sizes[entry.reference]
        metrics = {"latency/ratio": ratio, "latency/ratio_low": 0.9 * ratio, "latency/ratio_high": 1.1 * ratio}
        if entry.label == entry.reference:
            metrics["control/latency_ratio"] = 1.01
        results.append(EntryResult(entry.label, entry.factors, "", metrics, {"latency": [[1.0]]}))
    return results
