"""The view of a study in MLflow's UI: its runs grouped by the study's factors, with the columns that matter."""

import contextlib
import itertools
import json

from mobileone_core.study.record.record import FINISHED, RECORD_ERRORS, Record

KEY = "factors"  # of the view, in links
SAVED = "mlflow.sharedViewState."  # experiment tags in which MLflow's UI keeps saved views
RUNS = 100  # that are read for the names of factors and metrics
TRAINED = ("test/top1", "test/map", "test/miou", "val/top1", "train/loss", "time/train_seconds")
MEASURED = ("latency/median_ms", "latency/ratio", "time/step_ms", "time/step_ratio")


def save_views(tracking: str, address: str) -> list[str]:
    """Save the view of every study with finished runs in its experiment; return a line with the address of each.

    Data set, seed and metrics are its columns. A record that cannot be written to gets no views.
    """
    record, lines = Record(tracking), list[str]()
    with contextlib.suppress(*RECORD_ERRORS):
        for study in record.experiments():
            runs = [*itertools.islice(record.runs(study, FINISHED), RUNS)]
            factors = dict.fromkeys(name for run in runs for name in run.data.tags if name.startswith("factor."))
            metrics = [name for name in (*TRAINED, *MEASURED) if any(name in run.data.metrics for run in runs)]
            columns = ["attributes.`Dataset`", "tags.`seed`", *(f"metrics.`{name}`" for name in metrics)]
            groups = [{"mode": "tag", "groupByData": name} for name in factors]
            state = {"groupBy": {"aggregateFunction": "average", "groupByKeys": groups}, "selectedColumns": columns}
            view = {"name": "by factor", "createdAt": 0, "updatedAt": 0, "state": json.dumps(state)}
            if factors:
                number = runs[0].info.experiment_id
                record.client.set_experiment_tag(number, SAVED + KEY, json.dumps(view))
                page = f"experiments/{number}/runs?workflowType=machine_learning&viewStateShareKey={KEY}"
                lines.append(f"  {study}: {address}/#/{page}")
    return lines
