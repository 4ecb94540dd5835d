"""Ranges of weights and activations by layer, a line per network: why int8 loses what it loses."""

from collections import defaultdict
from statistics import fmean

from mobileone_core.reporting.figures import style
from mobileone_core.reporting.figures.panels import measured_text
from mobileone_core.reporting.trained.quantized import Int8Losses
from mobileone_core.reporting.trained.result import TrainedResult

PANELS = {"weights": {"weight": "-", "channel": "--"}, "input activations": {"input": "-"}}
LEFT = 0.08


def layer_means(losses: Int8Losses) -> dict[str, dict[str, list[float]]]:
    """Mean over seeds per layer, by network and quantity, of the first int8 setting that has activations in int8."""
    schemes = {setting: pairs[0][0].spec.quantization.scheme for (setting, _), pairs in losses.groups.items()}
    first = next((setting for setting, scheme in schemes.items() if scheme == "full"), next(iter(schemes)))
    values: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for (setting, network), pairs in losses.groups.items():
        for name, value in (item for _, row in pairs for item in row.metrics.items() if setting == first):
            if name.startswith("range/"):
                layer, _, quantity = name.removeprefix("range/").partition("_")
                values[network][quantity][layer].append(value)
    return {
        network: {name: [fmean(layers[layer]) for layer in sorted(layers)] for name, layers in quantities.items()}
        for network, quantities in values.items()
    }


def ranges_figure(result: TrainedResult) -> style.Figure:
    """Draw two panels, weights and activations, over the layers."""
    from matplotlib.ticker import MaxNLocator

    losses = Int8Losses(result)
    means = layer_means(losses)
    figure, grid = style.canvas(3.6, 1, 2, left=LEFT, right=0.98, bottom=0.14, top=0.72, wspace=0.18)
    for column, (title, dashes) in enumerate(PANELS.items()):
        axes = figure.add_subplot(grid[0, column])
        for index, (network, quantities) in enumerate(means.items()):
            for quantity, dash in dashes.items():
                layers = range(len(quantities[quantity]))
                label = network if dash == "-" else None
                color = style.level_color(index)
                axes.plot(layers, quantities[quantity], color=color, linestyle=dash, linewidth=1.2, label=label)
        if any(value > 0 for quantities in means.values() for name in dashes for value in quantities[name]):
            axes.set_yscale("log")
        axes.set_title(f"range of {title}", fontsize=10, loc="left")
        axes.set_xlabel("layer, from stem to classifier")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True))
    first = figure.axes[0]
    names = ", ".join(losses.others)
    style.heading(first, f"{measured_text(result)}; lines: {names}; dashed: median channel", style.MEASURED)
    style.title(figure, f"{result.plan.study.question} Ranges by layer", LEFT)
    first.legend(frameon=False, fontsize=8, ncols=len(means), loc="lower left", bbox_to_anchor=(0, 1.06))
    return figure
