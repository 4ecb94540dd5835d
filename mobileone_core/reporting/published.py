"""The numbers printed in the paper (arXiv 2206.04040v2), kept as data and always shown as published.

An empty cell was not published or could not be sourced; it stays missing. No torch here.
"""

import csv
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files

from mobileone_core.errors import InputError, require
from mobileone_core.study.declaration import Level

# SHA-256 of each file's text as shipped, its first sixteen digits.
SHIPPED: Mapping[str, str] = {
    "cost": "6f04e6f568d3cfe7",
    "table10_distillation_top1": "15825e7b69a46844",
    "table11a_coco_ssdlite_map": "44a76abe3e213e3b",
    "table11b_deeplabv3_miou": "c9e218bbb1572c4c",
    "table12_robustness": "697b769b99e79dfd",
    "table13_micro": "d22c546a2ca3063f",
    "table1_spearman": "033a76236616ac3c",
    "table2_activation_latency_ms": "8d2e07a87e3efe97",
    "table4_overparam_methods": "f9724770ac7bf3d5",
    "table5_reparam_branches_top1": "2d0e66a50104d61e",
    "table6_branch_count_top1": "fe0a065940eeb3f3",
    "table7_architecture": "c00abbe2fe3f54f6",
    "table8_training_settings_s2_top1": "0fd14869f99c6c93",
    "table9_imagenet": "32970ac568c94b27",
}

Row = dict[str, str | None]


@dataclass(frozen=True)
class PublishedValue:
    """One printed number: the variant it belongs to, the study's level, value, unit, where it stands, its digits."""

    variant: str
    level: Level
    value: float
    unit: str
    source: str
    printed: str


def read_published(name: str) -> tuple[Row, ...]:
    """The rows of a table, columns by name, None where nothing was published.

    Raises InputError for an unknown name, and for a file that is not as it was shipped.
    """
    require(name in SHIPPED, "published", name, f"one of {', '.join(SHIPPED)}")
    text = (files("mobileone_core.reporting") / "published" / f"{name}.csv").read_text(encoding="utf-8")
    found = hashlib.sha256(text.encode()).hexdigest()[:16]
    if found != SHIPPED[name]:
        raise InputError(f"published/{name}.csv: not as shipped (sha256 {found}, not {SHIPPED[name]}); install anew")
    return tuple({column: cell or None for column, cell in row.items()} for row in csv.DictReader(text.splitlines()))


def published_values(name: str) -> tuple[PublishedValue, ...]:
    """A study's published table in long form, in printed order; nothing for an empty name.

    Raises InputError where no study shows that table.
    """
    if not name:
        return ()
    require(name in LONG_FORMS, "published", name, f"one of {', '.join(LONG_FORMS)}")
    return tuple(LONG_FORMS[name](read_published(name)))


def _branch_count(rows: tuple[Row, ...]) -> list[PublishedValue]:
    """Table 6: a row a variant, a column a k."""
    values = []
    for row in rows:
        for column, cell in row.items():
            if column != "variant" and cell is not None:
                level = int(column.removeprefix("k"))
                values.append(PublishedValue(str(row["variant"]), level, float(cell), "%", "table 6, published", cell))
    return values


LONG_FORMS: Mapping[str, Callable[[tuple[Row, ...]], list[PublishedValue]]] = {
    "table6_branch_count_top1": _branch_count,
}
