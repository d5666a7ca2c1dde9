"""Settings of the threads that torch computes with. They only have an effect before torch is loaded."""

import sys
from collections.abc import MutableMapping

from modeling_atri.cores_atri import usable_cores, visible_cores


# By default, a thread of OpenMP that waits for the others keeps its core busy for a while. If other processes need the
# cores, this slows down the very threads that it waits for. With these settings it sleeps at once.
_WAITING = {
    "OMP_WAIT_POLICY": "PASSIVE",  # every OpenMP; enough for GNU's, which torch has on Linux
    "KMP_BLOCKTIME": "0",  # LLVM's and Intel's, which torch has on macOS and Windows, wait 200 ms otherwise
}
_WAITING_CHOICES = {*_WAITING, "GOMP_SPINCOUNT", "KMP_LIBRARY"}
_COUNT_CHOICES = {"OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "MKL_NUM_THREADS", "KMP_ALL_THREADS"}


def set_thread_defaults(environment: MutableMapping[str, str]) -> None:
    """Set how threads of OpenMP wait, and how many there are, for this process and those that it starts.

    Waiting threads sleep. In a container whose quota allows fewer cores than it sees, there are as many threads as the
    quota allows; without a quota, the choice is left to torch. A setting that the environment already has is kept,
    with the others of its kind. Nothing is set if torch is already loaded.

    Args:
        environment: Variables by name; `os.environ` changes those of this process.
    """
    if "torch" in sys.modules:
        return
    if not _WAITING_CHOICES & environment.keys():
        environment.update(_WAITING)
    if usable_cores() < visible_cores() and not _COUNT_CHOICES & environment.keys():
        environment["OMP_NUM_THREADS"] = str(usable_cores())
