"""Helpers of tests: tiny models, generated data, a local Hub, and scripts that tests start as processes."""

from pathlib import Path


SCRIPTS = Path(__file__).parent
