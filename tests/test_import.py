"""Importing the package costs nothing and says nothing."""

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


def test_every_module_is_imported_in_silence(repository_root):
    """Third parties may warn of deprecations; nothing may be printed, and nobody may open a connection."""
    program = (
        "import importlib, pkgutil, socket, modeling_atri\n"
        "def refuse(*arguments): raise AssertionError('a connection is opened at import')\n"
        "socket.socket.connect = refuse\n"
        "for module in pkgutil.walk_packages(modeling_atri.__path__, 'modeling_atri.'):\n"
        "    importlib.import_module(module.name)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=180, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
