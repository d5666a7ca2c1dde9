"""What property-based tests share."""

from hypothesis import HealthCheck, settings


def property_settings(max_examples: int) -> settings:
    """The same examples in every run, however slow the machine is."""
    return settings(
        max_examples=max_examples,
        derandomize=True,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
