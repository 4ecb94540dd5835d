"""Networks that table 9 lacks: what was published of them, next to what was measured here."""

from mobileone_core.latency.zoo import ZOO
from mobileone_core.reporting.document import MISSING, Column, Table
from mobileone_core.reporting.measured import table9, view
from mobileone_core.reporting.measured.result import MeasuredResult
from mobileone_core.reporting.published import Row, read_published

NOTE = (
    "*Networks that table 9 lacks*: published by the source in the last column, at the size in px; some "
    "were distilled. Latencies of different devices are in different columns. Figure and fronts leave out those whose "
    "accuracy was published at another size than was measured here."
)


def published_rows() -> dict[str, Row]:
    """Return the published rows by timm's name of the network."""
    return {str(row["timm"]): row for name in ("peers", "peers_resnet") for row in read_published(name)}


def others(result: MeasuredResult) -> set[str]:
    """Return the networks of a study that table 9 lacks."""
    return {item.network for item in result.entries if not table9.paper_name(item.network)}


def title_of(network: str) -> str:
    """Return a network's name in tables and figures: as published, as in latency/zoo.py, or as given."""
    published = published_rows().get(network)
    return str(published["network"]) if published else ZOO[network].title if network in ZOO else network


def peers_table(result: MeasuredResult) -> Table:
    """Return one row per network that table 9 lacks, and per MobileOne that another source published, too."""
    published = published_rows()
    shown = others(result) | {item.network for item in result.entries if item.network in published}
    devices = list(dict.fromkeys(row["device"] for row in published.values() if row["device"]))
    rows = []
    for network in dict.fromkeys(item.network for item in result.entries if item.network in shown):
        row = published.get(network.removeprefix("timm:"), {})
        cells = [row.get(name) or MISSING for name in ("top1", "params_m", "image_size")]
        cells += [(row.get("latency_ms") if row.get("device") == name else None) or MISSING for name in devices]
        items = [item for item in result.entries if item.network == network]
        cells += [view.estimate_text(item.estimate("latency/median", "_ms")) for item in items]
        rows.append((title_of(network), *cells, row.get("note") or MISSING))
    columns = (
        *(Column("model"), Column("published top-1", "%"), Column("published parameters", "M"), Column("at", "px")),
        *(Column(f"published, {name}", "ms") for name in devices),
        *(Column(f"measured here, {name}", "median, ms [95 %]") for name in result.runtimes),
        Column("source", is_text=True),
    )
    return Table(columns, tuple(rows))
