"""Latencies on devices: as CSV, and as columns of a table, where two protocols never share a column."""

import csv
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from mobileone_core.errors import InputError, require
from mobileone_core.latency.device import STATISTICS
from mobileone_core.reporting.document import Column, number_text
from mobileone_core.study.rows import DeviceRow
from mobileone_core.texts import csv_rows, csv_text

TEXTS = (
    *("model", "variant", "model_hash", "form", "precision", "input", "device", "os", "compute_units", "protocol"),
    *("source", "date", "run_id"),
)
COLUMNS = (*TEXTS, "n", *(f"{name}_ms" for name in STATISTICS))
NOT_MEASURED = "not measured"
UNITS = {"all": "all units", "cpu_and_ne": "CPU and Neural Engine", "cpu_and_gpu": "CPU and GPU", "cpu_only": "CPU"}
CAVEATS = {"remote-device": "coarse: the chip idles between predictions"}


def devices_text(rows: Sequence[DeviceRow]) -> str:
    """All measurements as CSV in full precision; read_devices_csv reads them back."""
    lines = []
    for row in rows:
        times = (repr(float(row.statistics[name])) if name in row.statistics else "" for name in STATISTICS)
        lines.append((*(getattr(row, name) for name in TEXTS), str(row.n), *times))
    return csv_text([COLUMNS, *sorted(lines)])


def read_devices_csv(text: str) -> tuple[DeviceRow, ...]:
    """Read what `devices_text` wrote. Raises InputError for anything else."""
    columns, expected = text.partition("\n")[0], ",".join(COLUMNS)
    require(columns == expected, "columns", columns, expected)
    rows = []
    try:
        for line in csv_rows(text):
            statistics = {name: float(line[f"{name}_ms"]) for name in STATISTICS if line[f"{name}_ms"]}
            texts = {name: line[name] for name in TEXTS}
            rows.append(DeviceRow(**texts, n=int(line["n"]), statistics=statistics))
    except (ValueError, TypeError, AttributeError, csv.Error) as error:
        raise InputError(f"devices.csv: row {len(rows) + 1} is not as written ({error})") from error
    return tuple(rows)


def device_columns(rows: Sequence[DeviceRow], titles: Sequence[str]) -> dict[Column, tuple[str, ...]]:
    """Return the cells of a column per device, OS, compute units, form, precision, input, protocol and statistic.

    titles: the models of the table's rows, such as mobileone_s0. Several runs of one cell are all shown, by date.
    """
    groups = defaultdict[tuple[Any, ...], dict[str, list[str]]](lambda: defaultdict(list))
    for row in sorted(rows, key=lambda row: (row.date, row.run_id)):
        setting = row.device, row.os, row.compute_units, row.form, row.precision, row.input, row.protocol
        for index, name in enumerate(STATISTICS):
            if row.model in titles and name in row.statistics:
                groups[*setting, index][row.model].append(number_text(row.statistics[name]))
    columns = {}
    for (device, system, units, form, precision, kind, protocol, index), cells in sorted(groups.items()):
        conditions = [device, system, UNITS.get(units, units), form, precision, f"{kind} input" if kind else ""]
        title = f"{', '.join(filter(None, conditions))}: {STATISTICS[index]}, ms"
        caveat = f"; {CAVEATS[protocol]}" if protocol in CAVEATS else ""
        texts = tuple(" / ".join(cells[name]) or NOT_MEASURED for name in titles)
        columns[Column(title, f"protocol {protocol}{caveat}")] = texts
    return columns
