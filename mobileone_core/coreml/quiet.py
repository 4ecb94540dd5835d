"""coremltools, and silence while it works: it warns of versions it was not tried with, and draws progress bars."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What a converter warns of and draws is of no use to a person; what it raises still comes through."""
    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def import_coremltools() -> Any:  # noqa: ANN401
    """The package; it takes seconds."""
    with quiet():
        import coremltools

        return coremltools
