"""Options of `mobileone latency run|import`: latencies on a Mac or an iPhone, as recorded runs."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from mobileone_core.cli.options.workspace import CommandOptions, WorkspaceOptions

ComputeUnits = Literal["all", "cpu_and_ne", "cpu_and_gpu", "cpu_only"]
Files = Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE ...")]


@dataclass(frozen=True)
class Models:
    """Which exported models the numbers may belong to."""

    manifest: Files = ()  # Manifests that `mobileone export` wrote next to packages.
    package: Files = ()  # Packages (.mlpackage), each with its manifest next to it, or with --title.
    title: str = ""  # Title if no manifest has one, such as mobileone_s0.


@dataclass(frozen=True)
class Run(CommandOptions):
    """Measure exported packages on a connected iPhone, or on this Mac. Needs macOS; an iPhone needs Xcode 15 too.

    An iPhone is driven through coremltools' remote device, which copies four files per prediction: the chip idles in
    between. Good for which unit runs each operator and for coarse numbers, not for the paper's latency: the protocol of
    these numbers is remote-device. On the Mac all packages and compute units are timed side by side: mac-interleaved.
    """

    device: Literal["iphone", "mac"]  # What measures: an iPhone on a cable, or this Mac.
    model: Files  # Packages (.mlpackage) that `mobileone export` wrote.
    title: str = ""  # Title if no manifest has one, such as mobileone_s0.
    units: tuple[ComputeUnits, ...] = ("all", "cpu_and_ne", "cpu_only")  # Compute units.
    n: int = 50  # Predictions on the iPhone, after one that is not counted.
    rounds: int = 20  # Rounds of 4 predictions on the Mac.
    team: str = ""
    """Development team id that signs the app on the iPhone: ten letters and digits, in Xcode's account settings."""
    name: str = ""  # Name of the iPhone if several are connected.
    timeout: float = 900.0  # Seconds that building, installing and each measurement may take.
    work: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Directory of the built app; modelrunner/ in the runs directory if not given."""
    storage: WorkspaceOptions = field(default_factory=WorkspaceOptions)


@dataclass(frozen=True)
class Import(CommandOptions):
    """Take measurements made elsewhere into the record: our JSON or CSV, an Xcode report (.mlperf), or numbers of the
    ModelBench app, typed in (--modelbench --low 0.5 --average 0.6). --formats prints what JSON and CSV hold.

    Everything is checked first; nothing is written if anything is wrong. Files are stored unchanged.
    """

    files: tyro.conf.Positional[Files] = ()  # Files: .json, .csv or .mlperf.
    models: Models = field(default_factory=Models)
    device: str = ""  # Device, as "iPhone 12", for files that do not name it.
    os: str = ""  # Operating system with its version, as "iOS 17.4".
    units: ComputeUnits | None = None  # Compute units that were allowed.
    protocol: str = ""  # modelbench, xcode-report, remote-device, mac-interleaved or other:NAME.
    date: str = ""  # Day of the measurement, YYYY-MM-DD; today for numbers that are typed in or confirmed.
    n: int | None = None  # Predictions; an Xcode report does not say it reliably.
    modelbench: bool = False  # Numbers of the ModelBench app, typed in: --low and --average in milliseconds.
    low: float | None = None  # The app's low.
    average: float | None = None  # The app's average.
    rounds: int = 20  # Rounds of the app.
    calls: int = 50  # Predictions per round of the app.
    median_ms: float | None = None  # The prediction median of an Xcode report, as a person read it.
    unit: Literal["ms", "s", "us"] | None = None  # Unit of an Xcode report's times if its keys do not name it.
    yes: bool = False  # Take the one prediction median of an Xcode report without asking.
    again: bool = False  # Record once more what the record already holds.
    formats: bool = False  # Print what our JSON and CSV hold, and end.
    storage: WorkspaceOptions = field(default_factory=WorkspaceOptions)


@dataclass(frozen=True)
class Latency(CommandOptions):
    """Latencies on a Mac or an iPhone: measured, or imported."""
