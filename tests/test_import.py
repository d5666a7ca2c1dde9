"""Importing the package costs nothing and says nothing; test_packaging.py imports every module of it."""

import subprocess
import sys

import pytest


HEAVY_MODULES = ("torch", "transformers", "datasets", "numpy", "soundfile", "matplotlib")


def run_python(program: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("package", ["modeling_atri", "modeling_atri.trainer", "modeling_atri.hub_cards"])
def test_a_package_is_imported_in_silence_and_without_heavy_modules(package):
    program = f"import sys, {package}; sys.exit(str([name for name in {HEAVY_MODULES} if name in sys.modules] or ''))"
    result = run_python(program)
    assert result.stdout == ""
    assert result.stderr.strip() == ""
