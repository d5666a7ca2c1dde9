"""`atri` sets how OpenMP's threads wait before torch is loaded, and keeps what the user chose."""

import os
import re
import subprocess
import sys

import pytest

from modeling_atri.cli import thread_settings
from modeling_atri.cli.thread_settings import set_thread_defaults


VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
RUN_ATRI = "from modeling_atri.cli.main import main; main(['--version']);"


def run_python(program: str, **variables: str) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES} | variables
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120, check=True
    )


LOAD_OPENMP = """
import ctypes, importlib.util, pathlib
for path in (pathlib.Path(importlib.util.find_spec("torch").origin).parent / "lib").glob("libgomp*"):
    ctypes.CDLL(path)
"""


def wait_of_gnu_openmp(shown: str) -> tuple[str, int]:
    """Policy and number of checks before a thread sleeps, from what GNU's OpenMP shows when it is loaded."""
    if "GOMP_SPINCOUNT" not in shown:
        pytest.skip("torch's OpenMP here is not GNU's.")
    policy, spin_count = (re.search(rf"{name} = '(\w+)'", shown) for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"))
    return policy.group(1), int(spin_count.group(1))


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, ("PASSIVE", 0)),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, ("ACTIVE", 30_000_000_000)),
        ({"GOMP_SPINCOUNT": "7"}, ("PASSIVE", 7)),  # what GNU's shows where no policy is set, and the user's count
    ],
)
def test_the_openmp_of_torch_waits_as_it_was_told(variables, expected):
    shown = run_python(RUN_ATRI + LOAD_OPENMP, OMP_DISPLAY_ENV="VERBOSE", **variables).stderr
    assert wait_of_gnu_openmp(shown) == expected


STOP_AT_TORCH = """
import os, sys

class StopAtTorch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print("torch is imported with", os.environ.get("OMP_WAIT_POLICY"))
            sys.exit()

sys.meta_path.insert(0, StopAtTorch())
from modeling_atri.cli.main import main
main(["evaluate", "--model", "x", "--data", "y"])
"""


def test_a_command_sets_it_before_it_imports_torch():
    assert run_python(STOP_AT_TORCH).stdout == "torch is imported with PASSIVE\n"


SHOW = 'import os, subprocess, sys; show = \'import os; print(os.environ.get("OMP_WAIT_POLICY"), end="")\';'
SHOW += "print(subprocess.run([sys.executable, '-c', show], capture_output=True, text=True).stdout)"


@pytest.mark.parametrize(
    ("program", "variables", "expected"),
    [
        (RUN_ATRI, {}, "PASSIVE"),
        (RUN_ATRI, {"OMP_WAIT_POLICY": "active"}, "active"),
        (RUN_ATRI, {"KMP_BLOCKTIME": "200"}, "None"),
        ("import modeling_atri, modeling_atri.cli.main;", {}, "None"),
        ("import sys; sys.modules['torch'] = None;" + RUN_ATRI, {}, "None"),  # too late to have an effect
    ],
    ids=["inherited", "user's", "user's other", "import only", "torch is loaded"],
)
def test_what_a_child_process_inherits(program, variables, expected):
    assert run_python(program + SHOW, **variables).stdout.split()[-1] == expected


@pytest.fixture
def without_torch(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(thread_settings, "visible_cores", lambda: 64)
    monkeypatch.setattr(thread_settings, "usable_cores", lambda: 3)


@pytest.mark.parametrize("chosen", ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_THREAD_LIMIT"])
def test_threads_follow_the_quota_of_a_container_unless_chosen(without_torch, chosen):
    environment: dict[str, str] = {}
    set_thread_defaults(environment)
    assert environment == {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0", "OMP_NUM_THREADS": "3"}
    environment = {chosen: "5"}
    set_thread_defaults(environment)
    assert environment == {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0", chosen: "5"}


def test_without_a_quota_torch_counts_the_threads_itself(without_torch, monkeypatch):
    monkeypatch.setattr(thread_settings, "usable_cores", lambda: 64)
    environment: dict[str, str] = {}
    set_thread_defaults(environment)
    assert "OMP_NUM_THREADS" not in environment
