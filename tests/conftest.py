"""Hypothesis profiles: quick by default, ``HYPOTHESIS_PROFILE=ci`` or ``long`` for more."""

import os

from hypothesis import HealthCheck, settings

# No deadline: the machine may be busy, and a slow example is not a wrong one.
_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("quick", max_examples=100, **_COMMON)
settings.register_profile("ci", max_examples=400, print_blob=True, **_COMMON)
settings.register_profile("long", max_examples=20_000, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
