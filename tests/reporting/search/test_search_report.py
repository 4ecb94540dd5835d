"""A search's report: from a made-up record to files and back, and what it says."""

import itertools

import pytest

from mobileone_core.model.spec import ModelSpec
from mobileone_core.reporting.figures.style import style
from mobileone_core.reporting.report import read_report, write_index, write_report
from mobileone_core.reporting.search.answer import verdict
from mobileone_core.reporting.search.kind import search_figure
from mobileone_core.reporting.search.result import analyse_search
from mobileone_core.study.declaration import Factor
from mobileone_core.study.rows import CellRow, StudyRecord
from mobileone_core.study.search import SearchStudy
from mobileone_core.study.search_plan import SearchPlan
from mobileone_core.training.cell import CellSpec

TAGS = {"device": "cpu", "processor": "Any CPU", "git": "0" * 40}


def made_up(plan, accuracy=lambda cell: 0.9 + cell.spec.model.k / 100, control=1.01):
    """Accuracies by k and seed; ratios by channels."""
    rows = [
        CellRow(cell.key, cell.seed, cell.factors, f"run{number}",
                {"val/top1": accuracy(cell), "test/top1": accuracy(cell) + cell.seed / 1000}, TAGS)
        for number, cell in enumerate(plan.cells)
    ]  # fmt: skip
    compared = []
    for planned in plan.comparisons:
        for entry in planned.spec.entries:
            ratio = sum(entry.cell.network.widths) / 240
            metrics = {"latency/ratio": ratio, "latency/ratio_low": 0.9 * ratio, "latency/ratio_high": 1.1 * ratio}
            if entry.reference == entry.label:
                metrics["control/latency_ratio"] = control
            compared.append(CellRow(planned.key, 0, entry.factors, f"arm{len(compared)}", metrics, TAGS))
    return StudyRecord(tuple(rows), (), tuple(compared))


@pytest.fixture
def plan():
    """A search with a front by construction: candidates of k = 4 in half and full width."""
    study = SearchStudy(
        "pareto_search", "Does a search pay?", (Factor("k", "model.k", (1, 4), 1),),
        widths=(0.5, 1.0), depths=(1.0,), generations=1, seeds=3, variants=("tiny",), variant_k=(1,),
    )  # fmt: skip
    base = CellSpec(ModelSpec.preset("tiny", in_channels=1))
    half, full = (1, 0, 0, 0, 0, 0, 0, 0, 0), (1, 1, 1, 1, 1, 0, 0, 0, 0)
    begun = SearchPlan(study, base, proposed=((half, full),))
    grown = begun.grown(made_up(begun))
    assert len(grown.confirmed) == 1  # equally accurate, and half as slow
    return grown


def test_files_hold_the_record_and_the_same_one_gives_the_same_bytes(plan, tmp_path):
    record = made_up(plan)
    files = write_report(plan, record, tmp_path)
    assert files.rendered
    written = {path.name: path.read_bytes() for path in files.directory.iterdir()}
    plan_read, read = read_report(files.directory)
    assert plan_read == plan
    assert [(row.key, row.run_id, row.metrics) for row in read.rows] == [
        (row.key, row.run_id, row.metrics) for row in record.rows
    ]
    assert [(row.key, row.factors, row.metrics) for row in read.comparison] == [
        (row.key, row.factors, row.metrics) for row in record.comparison
    ]
    assert not write_report(plan_read, read, tmp_path).rendered
    assert write_report(plan_read, read, tmp_path / "again").rendered
    again = tmp_path / "again" / files.directory.name
    assert {path.name: path.read_bytes() for path in again.iterdir()} == written
    assert "Does a search pay?" in write_index(tmp_path).read_text()


def test_verdict_names_dominated_networks_and_the_others(plan):
    text = verdict(analyse_search(plan, made_up(plan)))
    assert "better in one, as tiny k=1 (by" in text
    assert "within 3 %" in text
    worse = made_up(plan, lambda cell: 0.9 if cell.variant == "candidate" else 0.95)
    assert "On test no searched network dominates tiny k=1." in verdict(analyse_search(plan, worse))
    assert "NOT within 3 %" in verdict(analyse_search(plan, made_up(plan, control=1.04)))


def test_test_means_leave_the_seed_that_chose_out(plan):
    result = analyse_search(plan, made_up(plan))
    assert [item.test.n for item in result.finalists] == [3, 3]
    assert result.finalists[1].test.mean == pytest.approx(0.94 + 0.002)


def test_hypervolumes_by_hand(plan):
    result = analyse_search(plan, made_up(plan))
    assert result.reference.latency == pytest.approx(1.1)
    assert result.volume(searched=False) == pytest.approx(0.91 * 0.1)
    assert result.volume(searched=True) == pytest.approx(0.94 * 0.6)


def test_an_unfinished_search_shows_what_it_has(plan, tmp_path):
    from dataclasses import replace

    begun = replace(plan, confirmed=())
    page = write_report(begun, StudyRecord(made_up(begun).rows[:2]), tmp_path).page.read_text()
    assert "not both trained and measured" in page
    assert "Not finished: 1 of 1 generations are proposed." in page


def test_names_in_the_figure_are_apart_and_intervals_end_at_100(plan):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    noisy = made_up(plan, lambda cell: 0.99 - 0.02 * (cell.seed % 2))  # whose t intervals reach above 1
    result = analyse_search(plan, noisy)
    assert max(item.test.high for item in result.finalists) > 1
    with style():
        figure = search_figure(result)
        renderer = FigureCanvasAgg(figure).get_renderer()
        right = figure.axes[1]
        names = [text.get_window_extent(renderer) for text in right.texts]
        tops = [float(line.get_segments()[0][:, 1].max()) for line in right.collections]
    assert len(names) == len(result.finalists)
    assert not any(one.overlaps(other) for one, other in itertools.combinations(names, 2))
    assert 99 < max(tops) <= 100
