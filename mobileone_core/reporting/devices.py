"""Latencies on devices: as CSV, and as columns of a table, where two protocols never share a column."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mobileone_core.errors import InputError, require
from mobileone_core.latency.device import STATISTICS
from mobileone_core.reporting.render.csv import csv_text
from mobileone_core.study.rows import DeviceRow

TEXTS = (
    *("model", "variant", "model_hash", "form", "precision", "input", "device", "os", "compute_units", "protocol"),
    *("source", "date", "run_id"),
)
COLUMNS = (*TEXTS, "n", *(f"{name}_ms" for name in STATISTICS))
NOT_MEASURED = "not measured"
UNITS = {"all": "all units", "cpu_and_ne": "CPU and Neural Engine", "cpu_and_gpu": "CPU and GPU", "cpu_only": "CPU"}
CAVEATS = {"remote-device": "coarse: the chip idles between predictions"}


@dataclass(frozen=True)
class DeviceColumn:
    """A column of a table: title, note, and a cell per model."""

    title: str
    note: str
    cells: tuple[str, ...]


def devices_text(rows: Sequence[DeviceRow]) -> str:
    """All measurements as CSV in full precision; read_devices_csv reads them back."""
    return csv_text([COLUMNS, *sorted(_line(row) for row in rows)])


def read_devices_csv(text: str) -> tuple[DeviceRow, ...]:
    """Read what `devices_text` wrote. Raises InputError for anything else."""
    reader = csv.DictReader(text.splitlines(), strict=True)
    columns = tuple(reader.fieldnames or ())
    require(columns == COLUMNS, "columns", ", ".join(columns), ", ".join(COLUMNS))
    try:
        return tuple(map(_row, reader))
    except (ValueError, TypeError, AttributeError, csv.Error) as error:
        raise InputError(f"devices.csv: line {reader.line_num} is not as written ({error})") from error


def device_columns(rows: Sequence[DeviceRow], titles: Sequence[str]) -> tuple[DeviceColumn, ...]:
    """Return a column per device, OS, compute units, form, precision, input, protocol and statistic.

    titles: the models of the table's rows, such as mobileone_s0. Several runs of one cell are all shown, by date.
    """
    cells: dict[tuple[str, ...], dict[str, list[DeviceRow]]] = {}
    for row in sorted(rows, key=lambda row: (row.date, row.run_id)):
        if row.model in titles:
            for name in row.statistics:
                cells.setdefault(_key(row, name), {}).setdefault(row.model, []).append(row)
    return tuple(_column(key, cells[key], titles) for key in sorted(cells, key=_order))


def _key(row: DeviceRow, statistic: str) -> tuple[str, ...]:
    return row.device, row.os, row.compute_units, row.form, row.precision, row.input, row.protocol, statistic


def _order(key: tuple[str, ...]) -> tuple[object, ...]:
    return (*key[:-1], STATISTICS.index(key[-1]))


def _column(key: tuple[str, ...], rows: Mapping[str, Sequence[DeviceRow]], titles: Sequence[str]) -> DeviceColumn:
    device, system, units, form, precision, kind, protocol, statistic = key
    conditions = [device, system, UNITS.get(units, units), form, precision, f"{kind} input" if kind else ""]
    title = f"{', '.join(filter(None, conditions))}: {statistic}, ms"
    caveat = f"; {CAVEATS[protocol]}" if protocol in CAVEATS else ""
    cells = [
        " / ".join(f"{row.statistics[statistic]:#.3g}".rstrip(".") for row in rows.get(name, ())) or NOT_MEASURED
        for name in titles
    ]
    return DeviceColumn(title, f"protocol {protocol}{caveat}", tuple(cells))


def _line(row: DeviceRow) -> tuple[str, ...]:
    texts = (getattr(row, name) for name in TEXTS)
    times = (repr(float(row.statistics[name])) if name in row.statistics else "" for name in STATISTICS)
    return (*texts, str(row.n), *times)


def _row(line: Mapping[str, str]) -> DeviceRow:
    statistics = {name: float(line[f"{name}_ms"]) for name in STATISTICS if line[f"{name}_ms"]}
    return DeviceRow(**{name: line[name] for name in TEXTS}, n=int(line["n"]), statistics=statistics)
