"""What a study's cells are: recipe, images, and what every level costs to train and to deploy. No torch here."""

from mobileone_core.model.cost import model_cost
from mobileone_core.reporting.result import Result, level_text


def recipe_words(result: Result) -> str:
    """The base's recipe and images in a line."""
    recipe, data = result.plan.base.recipe, result.plan.base.data
    tested = sorted({row.metrics["test/images"] for row in result.rows.values() if "test/images" in row.metrics})
    images = "".join(f" on {count:,.0f} images" for count in tested)
    averaged = f"averaged weights (EMA {recipe.ema_decay:g})" if recipe.ema_decay else "last weights"
    return (
        f"Trained for {recipe.epochs} epochs, batch {recipe.batch_size}, {recipe.optimizer} at {recipe.lr:g}, "
        f"augmentation {recipe.augmentation}; {data.image_size} px, {data.num_classes} classes; "
        f"the {averaged} are tested{images}, in train form"
    )


def cost_rows(result: Result) -> list[tuple[str, ...]]:
    """A header and a row a level: parameters in train and deployed form, multiply-adds of the deployed form."""
    factors = [factor.name for factor in result.plan.study.factors]
    rows: list[tuple[str, ...]] = [(*factors, "parameters, trained", "parameters, deployed", "multiply-adds, deployed")]
    for cell in (cell for cell in result.plan.cells if cell.seed == 0):
        data = cell.spec.data
        cost = model_cost(cell.spec.model, data.image_size, data.num_classes)
        counts = (cost.train.params, cost.deployed.params, cost.deployed.macs)
        rows.append((*(level_text(cell.factors[name]) for name in factors), *(f"{count:,}" for count in counts)))
    return rows
