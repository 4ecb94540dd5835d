"""Names of a data set's classes, in the order of its labels."""

from pathlib import Path

from mobileone_core.data import catalog
from mobileone_core.data.spec import DATA_SETS, DataSpec


def class_names(spec: DataSpec, root: Path | None) -> tuple[str, ...]:
    """Class names in the order of labels; none if they are not known or root is not given."""
    if spec.name == "imagenet":
        return _imagenet_names()
    if DATA_SETS[spec.name].class_names or root is not None:
        return catalog.class_names(spec, root)
    return ()


def _imagenet_names() -> tuple[str, ...]:
    """ImageNet uses two names twice (crane, maillot): the second class of each carries its number."""
    from torchvision.models._meta import _IMAGENET_CATEGORIES as CATEGORIES

    first = {label: number for number, label in reversed(list(enumerate(CATEGORIES)))}
    return tuple(label if first[label] == number else f"{label} ({number})" for number, label in enumerate(CATEGORIES))
