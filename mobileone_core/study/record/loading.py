"""A finished run's network, ready for inference."""

import tempfile
from pathlib import Path
from typing import Any, Literal, cast

from safetensors.torch import load_file

from mobileone_core.data.preprocessing import Preprocessing
from mobileone_core.errors import require, require_choice
from mobileone_core.model.network import MobileOne
from mobileone_core.model.weights import load_weights
from mobileone_core.study.record.reading import FinishedRun, read_run
from mobileone_core.study.workspace import Workspace, runs_directory
from mobileone_core.training.cell import CellSpec
from mobileone_core.training.evaluate import cell_network


class RunNetwork(MobileOne):
    """The network of a finished run, with what its user needs besides weights.

    Attributes:
        transform: maps a PIL image to the input of the cell's evaluation, float32 (C, S, S).
        class_names: in the order of the outputs; empty if they are not known.
        run_id: the run's full id.
    """

    transform: Preprocessing
    class_names: tuple[str, ...]
    run_id: str


def load_run(
    run: str,
    form: Literal["deployed", "train"] = "deployed",
    *,
    which: Literal["auto", "ema", "model"] = "auto",
    runs: str | Path | None = None,
    tracking: str = "",
) -> RunNetwork:
    """Load the network of a finished run, with its final weights, in evaluation mode.

    Args:
        run: The run's id or an unambiguous beginning of it, as `mobileone status` and reports show.
        form: "deployed", one convolution per block, or "train", with branches.
        which: "auto", the final weights, averaged if the recipe averages; "ema", averaged ones; "model", the others.
        runs: Directory of the record; runs/ of this workspace if not given. It may have been moved or copied.
        tracking: MLflow tracking URI; mlflow.db in the runs directory if not given.

    A network by name has these attributes, too. Raises InputError for an unknown or ambiguous run, and one that is not
    finished, has no weights, or is a detector's or segmenter's.

    Example:
        model = load_run("3f2a")
        probabilities = model(model.transform(Image.open("cat.jpg"))[None]).softmax(1)
    """
    require_choice("form", form, ("deployed", "train"))
    require_choice("which", which, ("auto", "ema", "model"))
    workspace = Workspace.at(Path(runs) if runs is not None else runs_directory(), tracking=tracking)
    with tempfile.TemporaryDirectory() as directory:
        return run_network(read_run(workspace.tracking, run, Path(directory), which), form)


def run_network(run: FinishedRun, form: Literal["deployed", "train"]) -> RunNetwork:
    """The network of a run that was read, in evaluation mode."""
    cell = run.card.cell
    allowed = f"a classifier's: `mobileone evaluate`, `predict` and `export` read those of {cell.task}"
    require(cell.task == CellSpec.task, "run", run.run_id, allowed)
    if cell.backbone:
        network: Any = cell_network(cell, load_file(run.weights), form)
    else:
        network = RunNetwork(cell.model, cell.data.num_classes, deployed=form == "deployed")
        load_weights(network, run.weights)
    network.transform, network.class_names, network.run_id = run.card.preprocessing, run.card.class_names, run.run_id
    return cast("RunNetwork", network.eval())
