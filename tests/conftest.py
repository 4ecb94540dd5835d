"""Shared by all tests: hypothesis draws the same examples every time, so that no result depends on luck."""

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")
