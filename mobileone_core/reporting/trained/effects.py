"""For measured/ and search/ until they give documents."""

from mobileone_core.reporting.document import joined

__all__ = ["joined"]
