"""The processor cores that this process may use, which can be fewer than the machine has."""

import math
import os
import sys
from pathlib import Path, PurePosixPath


_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Number of cores that this process may use: by its CPU affinity, and on Linux by the quota of its container.

    A container that may use 2 cores of 64 (`docker run --cpus 2`, or a CPU limit in Kubernetes) sees all 64. If more
    threads compute than the quota allows, the kernel stops all of them for part of the time.
    """
    return min(visible_cores(), quota_cores(_CGROUPS, _OWN_CGROUPS))


def visible_cores() -> int:
    """Number of cores that this process may be scheduled on, whatever its quota of their time is."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def quota_cores(cgroups: Path, own_cgroups: Path) -> int:
    """Cores that the CPU quotas of a process's control groups allow, rounded up; `sys.maxsize` without a quota.

    A quota of a group holds for the groups inside it too, so all groups from the process's own up to the root count.
    Source: https://docs.kernel.org/admin-guide/cgroup-v2.html, and sched-bwc for version 1.

    Args:
        cgroups (`Path`): Where the control groups are mounted.
        own_cgroups (`Path`): The file that names the groups of the process.
    """
    lines = own_cgroups.read_text().splitlines() if own_cgroups.exists() else []
    quotas: list[int] = []
    for _, controllers, group in (line.split(":", 2) for line in lines):
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = cgroups / controllers  # version 2 names no controllers, and its groups are in `cgroups` itself
        own = PurePosixPath(group.lstrip("/"))
        for folder in (root / part for part in (own, *own.parents)):
            quotas += _quota(folder)
    return min(quotas, default=sys.maxsize)


def _quota(folder: Path) -> list[int]:
    """Cores that the quota of one control group allows, rounded up; empty without a quota."""
    if (folder / "cpu.max").exists():
        quota, period = (folder / "cpu.max").read_text().split()
    elif (folder / "cpu.cfs_quota_us").exists():
        quota, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
    else:
        return []
    return [] if quota in ("max", "-1") else [math.ceil(int(quota) / int(period))]
