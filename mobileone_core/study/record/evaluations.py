"""The evaluations of checkpoints as reports read them from the record."""

import dataclasses
from collections.abc import Iterator, Mapping

from mobileone_core.model.spec import PRESETS, ModelSpec
from mobileone_core.study.record.record import FINISHED, Record
from mobileone_core.study.rows import EvaluationRow

EXPERIMENT = "evaluate"


def read_evaluations(tracking: str) -> tuple[EvaluationRow, ...]:
    """The finished evaluations of variants as the paper has them, on the images they were read from."""
    runs = Record(tracking).runs(EXPERIMENT, FINISHED)
    rows = [row for run in runs for row in _row(run.info.run_id, run.data.tags, run.data.params, run.data.metrics)]
    return tuple(sorted(rows, key=lambda row: (row.variant, row.run_id)))


def _row(
    run_id: str, tags: Mapping[str, str], params: Mapping[str, str], metrics: Mapping[str, float]
) -> Iterator[EvaluationRow]:
    """One row, or none where the network was changed or the run is of another version."""
    texts = ("variant", "data", "split", "form", "crop", "interpolation", "image_size", "sha256")
    numbers = [f"{tags.get('split')}/{name}" for name in ("top1", "images")]
    if not tags.keys() >= set(texts) or not metrics.keys() >= set(numbers) or tags["variant"] not in PRESETS:
        return
    channels = int(params.get("data.channels", "3"))
    preset = ModelSpec.preset(tags["variant"], in_channels=channels).fitted_to(int(tags["image_size"]))
    wanted = {f"model.{name}": str(value) for name, value in dataclasses.asdict(preset).items()}
    if all(params.get(name) == value for name, value in wanted.items()):
        top1, images = (metrics[name] for name in numbers)
        yield EvaluationRow(**{name: tags[name] for name in texts}, run_id=run_id, top1=top1, images=images)
