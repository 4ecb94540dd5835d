"""For measured/ and search/ until they give documents."""

from mobileone_core.reporting.environment import DEVICE_TAGS as HEAD
from mobileone_core.reporting.environment import TOLERANCE as LIMIT
from mobileone_core.reporting.environment import names_device as has_place

__all__ = ["HEAD", "LIMIT", "has_place"]
