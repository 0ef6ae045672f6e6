"""How every property is tried: for as long as it takes. No test is about time."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "saccade", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("saccade")
