"""Measured numbers on the pages of the committed reports, recomputed from their cells.csv and comparison.csv."""

import csv
import itertools
import json
import re

import numpy as np
import pytest
from scipy import stats
from site_pages import PAGES, REPORTS, Page, cells_of, level_table


def variance_of_difference(table, trainings, is_within):
    """Variance of the difference of two rows of the table (levels, seeds) and its degrees of freedom, by textbook.

    Rows of one training, and rows of two, have those of a split plot: Cochran and Cox, Experimental Designs, 7.1.
    """
    n, number = table.shape[1], len({tuple(item) for item in trainings})
    readings = len(table) // number
    plots = table[sorted(range(len(table)), key=lambda row: trainings[row])].reshape(number, readings, n)
    means = plots.mean(1)
    whole = means - means.mean(1, keepdims=True) - means.mean(0, keepdims=True) + means.mean()
    df = (number - 1) * (n - 1)
    whole_square = readings * (whole**2).sum() / df
    if readings == 1:
        return 2 * whole_square / n, df
    split = plots - plots.mean(1, keepdims=True) - plots.mean(2, keepdims=True) + plots.mean((1, 2), keepdims=True)
    split_df = number * (readings - 1) * (n - 1)
    split_square = (split**2).sum() / split_df
    if is_within:
        return 2 * split_square / n, split_df
    parts = np.array([whole_square, (readings - 1) * split_square])
    return 2 * parts.sum() / (n * readings), parts.sum() ** 2 / (parts**2 / [df, split_df]).sum()


TRAINED = [page.parent.name for page in PAGES if "Seeds vary initialization" in page.read_text(encoding="utf-8")]


@pytest.mark.parametrize("name", TRAINED)
def test_numbers_of_a_trained_study_are_those_of_its_cells(name):
    """Mean, t interval, n, sd, difference and its interval, computed here from cells.csv."""
    cells, (_, rows) = cells_of(REPORTS / name), level_table(REPORTS / name)
    metric = json.loads((REPORTS / name / "plan.json").read_text())["study"]["metric"]
    factors = [column for column in cells[0] if column.startswith("factor.")]
    values = {}
    for line in cells:
        level = tuple(line[factor] for factor in factors)
        values.setdefault(level, {})[line["seed"]] = 100 * float(line[metric])
    assert set(values) == set(rows)
    table = np.array([[its[seed] for seed in sorted(its)] for its in values.values()])  # fails where a cell is missing
    if table.shape[1] == 1:
        assert [row[:3] for row in rows.values()] == [[f"{mean:.2f}", "1", "-"] for (mean,) in table]
        return
    n, bases = table.shape[1], [index for index, level in enumerate(values) if rows[level][4] == "baseline"]
    reading = next((name for name in factors if name in ("factor.ema", "factor.int8")), "")
    trainings = [[part for name, part in zip(factors, level, strict=True) if name != reading] for level in values]
    for index, (level, its) in enumerate(zip(values, table, strict=True)):
        base = max(
            (base for base in bases if base <= index), default=bases[0]
        )  # a study within networks has one of each
        variance, df = variance_of_difference(table, trainings, trainings[index] == trainings[base])
        half = stats.t.ppf(1 - 0.025 / (len(table) - len(bases)), df) * np.sqrt(variance)
        mean, sd = its.mean(), its.std(ddof=1)
        printed = rows[level]
        assert printed[:3] == [f"{mean:.2f} ± {stats.t.ppf(0.975, n - 1) * sd / n**0.5:.2f}", str(n), f"{sd:.2f}"]
        gap = mean - table[base].mean()
        if printed[3] != "-":
            found = [float(text) for text in re.findall(r"[-+]?[\d.]+(?:e-\d+)?", printed[3])]
            assert found == pytest.approx([gap, gap - half, gap + half], abs=0.0051)


def printed_in(home):
    """Every cell of the page's tables."""
    return {cell for table in Page(home / "index.html").tables for row in table for cell in row}


@pytest.mark.parametrize("name", sorted(path.parent.name for path in REPORTS.glob("*/curves.csv")))
def test_curves_of_a_page_are_those_of_its_cells(name):
    """The mean of each curve at its last epoch with the t interval over seeds."""
    home, levels = REPORTS / name, {}
    cells = {line["key"]: line for line in cells_of(home)}
    points = [*csv.DictReader((home / "curves.csv").read_text(encoding="utf-8").splitlines())]
    last = {point["key"]: int(point["epoch"]) for point in sorted(points, key=lambda point: int(point["epoch"]))}
    for point in points:
        if int(point["epoch"]) == last[point["key"]]:
            level = tuple(value for column, value in cells[point["key"]].items() if column.startswith("factor."))
            levels.setdefault((point["metric"], level), []).append(float(point["value"]))
    printed = printed_in(home)
    assert levels
    for values in levels.values():
        error = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else None
        half = "" if error is None else f" ± {stats.t.ppf(0.975, len(values) - 1) * error:.4f}"
        assert f"{np.mean(values):.4f}{half}" in printed


@pytest.mark.parametrize("name", sorted(path.parent.name for path in REPORTS.glob("*/effects.csv")))
def test_main_effects_of_a_page_are_those_of_its_cells(name):
    """The mean with a level minus that with its factor's baseline, over all levels of the other factors, in points."""
    cells, plan = cells_of(REPORTS / name), json.loads((REPORTS / name / "plan.json").read_text())["study"]
    effects = {row[0]: row[1] for table in Page(REPORTS / name / "index.html").tables for row in table
               if table[0][0] == "effect"}  # fmt: skip
    checked = 0
    for factor in plan["factors"]:
        column, base = f"factor.{factor['name']}", str(factor["baseline"])
        means = {level: np.mean([100 * float(line[plan["metric"]]) for line in cells if line[column] == level])
                 for level in {line[column] for line in cells}}  # fmt: skip
        for level, mean in means.items():
            shown = effects.get(
                f"{factor['name']} = {level}", effects.get(factor["name"], "") if len(means) == 2 else ""
            )
            if level != base and shown:
                assert float(re.match(r"[-+]?[\d.]+(?:e-\d+)?", shown)[0]) == pytest.approx(
                    mean - means[base], abs=0.0051
                )
                checked += 1
    assert checked >= len(plan["factors"]) - bool(plan.get("within"))


TIMED = [
    page.parent.name for page in PAGES if page.parent != REPORTS and page.parent.name not in {*TRAINED, "pareto_search"}
]


@pytest.mark.parametrize("name", TIMED)
def test_times_of_a_measured_study_are_those_of_its_cells(name):
    """Every median with its interval that the page prints, from cells.csv."""
    text = Page(REPORTS / name / "index.html").tables
    printed = {cell for table in text for row in table for cell in row}
    for line in cells_of(REPORTS / name):
        metric = next(item for item in ("latency/median{}_ms", "time/step{}_ms") if item.format("") in line)
        if line[metric.format("")]:
            numbers = [float(line[metric.format(end)]) for end in ("", "_low", "_high")]
            middle, low, high = (f"{value:#.3g}".rstrip(".") if value < 1000 else f"{value:,.0f}" for value in numbers)
            assert f"{middle} [{low}, {high}]" in printed


NUMBER = re.compile(r"[-+]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?")
EXACT, TIME, RATIO, MEMORY = {"rel": 1e-12}, {"rel": 0.006}, {"abs": 0.0051}, {"abs": 0.051}
FORMS = {  # columns of the table by the metrics they show, and how they are rounded
    "parameters": ("params", "", EXACT),
    "multiply-addsper image": ("macs", "", EXACT),
    "training step, ms": ("time/step", "_ms", TIME),
    "step ratioto its deployed form": ("time/step_over_deployed", "", RATIO),
    "step ratioto ": ("time/step_ratio", "", RATIO),
    "memory of a step": ("memory/step_bytes", "", MEMORY),
    "memory ratio": ("memory/step_over_deployed", "", RATIO),
    "inference, ms": ("time/inference", "_ms", TIME),
    "inference ratioto its deployed form": ("time/inference_over_deployed", "", RATIO),
    "inference ratioto ": ("time/inference_ratio", "", RATIO),
}


def numbers_in(text):
    return [float(item.replace(",", "")) for item in NUMBER.findall(text)]


def rows_of(path):
    return [*csv.DictReader(path.read_text(encoding="utf-8").splitlines())]


def table_with(name, head):
    """The table of a report's page that has a head, as its heads and its rows."""
    tables = [table for table in Page(REPORTS / name / "index.html").tables if head in table[0]]
    assert len(tables) == 1
    return tables[0][0], tables[0][1:]


COMPARED = [path.parent.name for path in sorted(REPORTS.glob("*/comparison.csv"))]
COMPARED = [name for name in COMPARED if "form" in rows_of(REPORTS / name / "comparison.csv")[0]]


@pytest.mark.parametrize("name", COMPARED)
def test_costs_of_forms_are_those_of_the_comparison(name):
    """Parameters, multiply-adds, times, memory and ratios with their intervals, row by row."""
    heads, rows = table_with(name, "form")
    recorded = rows_of(REPORTS / name / "comparison.csv")
    assert len(rows) == len(recorded)
    order = {form: index for index, form in enumerate(("train", "deployed"))}
    recorded.sort(key=lambda row: order[row["form"]])  # stable: levels stay in order
    checked = 0
    for row, known in zip(rows, recorded, strict=True):
        assert row[heads.index("form")] == known["form"]
        for head, text in zip(heads, row, strict=True):
            metric, unit, rounding = next((FORMS[key] for key in FORMS if head.startswith(key)), (None, None, None))
            if metric is None or text in ("-", "baseline"):
                continue
            scale = 2**20 if metric.endswith("bytes") else 1
            ends = [f"{metric}{end}{unit}" for end in ("", "_low", "_high")]
            expected = [float(known[end]) / scale for end in ends if known.get(end)]
            assert numbers_in(text) == pytest.approx(expected, **rounding), (row[:2], head)
            checked += len(expected)
    assert checked >= 6 * len(rows)


FACTORIAL = [
    path.parent.name
    for path in sorted(REPORTS.glob("*/effects.csv"))
    if any(" x " in row["effect"] for row in rows_of(path))
]


@pytest.mark.parametrize("name", FACTORIAL)
def test_interactions_of_a_page_are_those_of_its_cells(name):
    """Differences of differences of means over seeds, averaged over the other factors, in points."""
    cells = cells_of(REPORTS / name)
    study = json.loads((REPORTS / name / "plan.json").read_text())["study"]
    base = {factor["name"]: str(factor["baseline"]) for factor in study["factors"]}
    printed = {row[0]: numbers_in(row[1])[0] for row in table_with(name, "effect")[1]}
    interactions = [effect for effect in printed if " x " in effect]
    orders = range(2, len(base) + 1)
    assert len(interactions) == sum(len([*itertools.combinations(base, order)]) for order in orders)
    for effect in interactions:
        names = [part.partition(" = ")[0] for part in effect.split(" x ")]
        corners = []
        for on in itertools.product((False, True), repeat=len(names)):
            values = [
                100 * float(line[study["metric"]])
                for line in cells
                if all((line[f"factor.{item}"] != base[item]) == is_on for item, is_on in zip(names, on, strict=True))
            ]
            corners.append((-1) ** (len(names) - sum(on)) * np.mean(values))
        assert printed[effect] == pytest.approx(sum(corners), abs=0.0051)


@pytest.mark.parametrize("name", [path.parent.name for path in sorted(REPORTS.glob("*/int8.csv"))])
def test_losses_by_int8_are_those_of_its_cells(name):
    """Loss against the same network in float32, seed by seed: mean, t interval, n, and the size of the file."""
    heads, rows = table_with(name, "size of the fileshare of float32")
    assert heads[:2] == ["int8", "branches"]
    cells = cells_of(REPORTS / name)
    of = {(line["factor.branches"], line["factor.int8"], line["seed"]): line for line in cells}
    settings = {(line["factor.int8"], line["factor.branches"]) for line in cells if line["factor.int8"] != "float32"}
    assert {tuple(row[:2]) for row in rows} == settings
    for row in rows:
        seeds = sorted(seed for branches, int8, seed in of if (int8, branches) == tuple(row[:2]))
        lines = [of[row[1], row[0], seed] for seed in seeds]
        losses = [
            100 * (float(of[row[1], "float32", seed]["test/top1"]) - float(line["test/top1"]))
            for seed, line in zip(seeds, lines, strict=True)
        ]
        half = stats.t.ppf(0.975, len(losses) - 1) * np.std(losses, ddof=1) / len(losses) ** 0.5
        assert numbers_in(row[2]) == pytest.approx([np.mean(losses), half], abs=0.0051)
        assert row[3] == str(len(seeds))
        share = np.mean([float(line["int8/bytes"]) / float(line["float32/bytes"]) for line in lines])
        assert float(row[-1]) == pytest.approx(share, abs=0.0051)
