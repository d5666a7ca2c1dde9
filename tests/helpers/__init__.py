"""What several tests share: tiny models, made-up data, a local hub, and scripts that tests start as processes."""

from pathlib import Path


SCRIPTS = Path(__file__).parent
