"""The numbers and statements printed in the paper (arXiv 2206.04040v2), always shown as published.

An empty cell was not published or could not be sourced; it stays missing.
"""

import csv
import hashlib
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files

from mobileone_core.errors import InputError, require, require_choice
from mobileone_core.study.factor import level_label

DIRECTORY = files("mobileone_core.reporting") / "published"
# Tables by name, with the first sixteen digits of the file's SHA-256 as shipped.
SHIPPED = {line[66:-4]: line[:16] for line in (DIRECTORY / "SHA256SUMS").read_text(encoding="utf-8").splitlines()}

Row = dict[str, str | None]


@dataclass(frozen=True)
class PublishedValue:
    """A printed number: level is the study's, printed its digits, what its meaning if not the study's metric."""

    variant: str
    level: str
    value: float
    unit: str
    source: str
    printed: str
    what: str = ""

    @property
    def column(self) -> tuple[str, str]:
        """Title and unit of its column: published S2, %."""
        return f"published {', '.join(text for text in (self.what, self.variant.upper()) if text)}", self.unit


def read_published(name: str) -> tuple[Row, ...]:
    """Return a table's rows, None where nothing was published. Raises InputError for an unknown or changed table."""
    require(name in SHIPPED, "published", name, f"one of {', '.join(SHIPPED)}")
    text = (DIRECTORY / f"{name}.csv").read_text(encoding="utf-8")
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    if digest != SHIPPED[name]:
        raise InputError(f"published/{name}.csv: not as shipped (sha256 {digest}, not {SHIPPED[name]}); reinstall")
    return tuple({column: cell or None for column, cell in row.items()} for row in csv.DictReader(text.splitlines()))


def published_values(name: str) -> tuple[PublishedValue, ...]:
    """A study's published table in long form; empty for an empty name, InputError where no study shows that table."""
    if not name:
        return ()
    require_choice("published", name, LONG_FORMS)
    source = f"table {name.removeprefix('table').partition('_')[0]}, published"
    return tuple(
        PublishedValue(str(variant), str(level), float(cell), unit, source, cell, what)
        for variant, level, cell, unit, what in LONG_FORMS[name](read_published(name))
        if cell is not None
    )


Entry = tuple[str | None, str | None, str | None, str, str]  # variant, level, printed number, unit, what it is


def _branch_count(rows: tuple[Row, ...]) -> Iterator[Entry]:
    """Table 6: a row per variant, a column per k."""
    return ((row["variant"], name[1:], cell, "%", "") for row in rows for name, cell in row.items() if name[0] == "k")


def _reparam_branches(rows: tuple[Row, ...]) -> Iterator[Entry]:
    """Table 5: with and without branches, a column per variant; with branches its k is that of table 7."""
    stem = read_published("table7_architecture")[0]
    for row in rows:
        has_branches = row.pop("reparam") != "without"
        for variant, cell in row.items():
            yield variant, stem[f"{variant}_k"] if has_branches else "none", cell, "%", ""


def _training_settings(rows: tuple[Row, ...]) -> Iterator[Entry]:
    """Table 8: every row adds its setting to those of the rows above it."""
    names = {"progressive_learning": "progressive", "weight_decay_annealing": "annealing", "ema": "ema"}
    levels = dict.fromkeys(names.values(), "off")
    for row in rows:
        if row["setting"] in names:
            levels = {**levels, names[str(row["setting"])]: "on"}
        gain = row["gain_over_previous"]
        yield "s2", level_label(levels), row["top1"], "%", ""
        yield "s2", level_label(levels), gain and f"+{gain}", "points", "gain over the previous row of table 8"


def _distillation(rows: tuple[Row, ...]) -> Iterator[Entry]:
    """Table 10: only MobileOne's rows; the other networks are not levels of our study."""
    for row in rows:
        family, _, variant = str(row["model"]).lower().partition("-")
        if family == "mobileone":
            yield variant, "off", row["baseline"], "%", ""
            yield variant, "on", row["distilled"], "%", ""


def _overparam_methods(rows: tuple[Row, ...]) -> Iterator[Entry]:
    """Table 4: a row per method and network; of RepVGG and MobileOne those of the size of the others."""
    networks = {"expandnet": "expandnet-cl ", "acnet": "acnet ", "dbb": "dbbnet ", "repvgg": "repvgg-a0"}
    for row in rows:
        model = str(row["model"])
        method = next((name for name, start in networks.items() if model.lower().startswith(start)), "mobileone")
        size = f"{model.rpartition(' ')[2]}, {row['params_m']} M parameters"
        if method != "mobileone" or model in ("MobileOne-S0", "MobileOne-S1"):
            yield "", method, row["top1"], "%", size


def _activation_latency(rows: tuple[Row, ...]) -> Iterator[Entry]:
    """Table 2: a row per activation, the 30-layer network on an iPhone 12."""
    return (("", row["activation"], row["latency_ms"], "ms", "minimum latency, iPhone 12") for row in rows)


COMPETITORS = {  # levels of the studies by the names of table 11; MixNet and MNASNet are of sizes that it does not name
    "MobileNetV3": "torchvision:mobilenet_v3_large",
    "MobileNetV2": "torchvision:mobilenet_v2",
    "MobileNetV2-x0.5": "timm:mobilenetv2_050",
    "MobileNetV2-x1.0": "torchvision:mobilenet_v2",
    "MobileNetV1": "timm:mobilenetv1_100",
    **{f"MobileViT-{size}": f"timm:mobilevit_{size.lower()}" for size in ("XXS", "XS", "S")},
    **{f"MobileOne-S{size}": f"s{size}" for size in range(5)},
}


def _transfer(rows: tuple[Row, ...]) -> Iterator[Entry]:
    """Table 11: a row per backbone, a column per data set."""
    names = {"map": "COCO", "voc": "VOC", "ade20k": "ADE20K"}
    for row in rows:
        backbone = str(row.pop("backbone"))
        for column, cell in row.items():
            yield "", COMPETITORS.get(backbone.partition(" ")[0], backbone), cell, "%", names[column]


LONG_FORMS: Mapping[str, Callable[[tuple[Row, ...]], Iterator[Entry]]] = {
    "table4_overparam_methods": _overparam_methods,
    "table5_reparam_branches_top1": _reparam_branches,
    "table6_branch_count_top1": _branch_count,
    "table8_training_settings_s2_top1": _training_settings,
    "table10_distillation_top1": _distillation,
    "table2_activation_latency_ms": _activation_latency,
    "table11a_coco_ssdlite_map": _transfer,
    "table11b_deeplabv3_miou": _transfer,
}

STATEMENTS = tomllib.loads((DIRECTORY / "statements.toml").read_text(encoding="utf-8"))
CAVEATS: Mapping[str, str] = STATEMENTS["caveats"]  # what limits a table's numbers


def quoted_notes(study: str) -> list[str]:
    """The paper's statements on a study's question, as notes of a page."""
    return [f"*Published* {text}" for text in STATEMENTS["quotations"].get(study, ())]
