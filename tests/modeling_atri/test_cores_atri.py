"""The quota of a container limits the cores that count, in both versions of control groups."""

import os
import sys

import pytest

from modeling_atri.cores_atri import quota_cores, usable_cores


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),  # one core and a half
        ("0::/\n", {"cpu.max": "max 100000\n"}, sys.maxsize),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/a/b\n", {"a/b/cpu.max": "800000 100000\n", "a/cpu.max": "300000 100000\n"}, 3),  # the outer one is lower
        ("0::/not/mounted/here\n", {"cpu.max": "400000 100000\n"}, 4),  # the host's name of a container's root
        ("0::/\n", {}, sys.maxsize),
        (
            "7:memory:/x\n3:cpu,cpuacct:/docker/1\n1:name=systemd:/\n",
            {
                "cpu,cpuacct/docker/1/cpu.cfs_quota_us": "500000\n",
                "cpu,cpuacct/docker/1/cpu.cfs_period_us": "100000\n",
            },
            5,
        ),
        ("3:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, sys.maxsize),
        ("3:cpuset:/\n", {"cpuset/cpu.max": "100000 100000\n"}, sys.maxsize),  # not a controller of time
    ],
)
def test_the_lowest_quota_counts(tmp_path, own, files, expected):
    write(tmp_path / "groups", files)
    write(tmp_path, {"own": own})
    assert quota_cores(tmp_path / "groups", tmp_path / "own") == expected


def test_without_control_groups_there_is_no_quota(tmp_path):
    assert quota_cores(tmp_path / "none", tmp_path / "missing") == sys.maxsize


@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux has an affinity that Python can set.")
def test_affinity_and_quota_both_limit_the_cores(tmp_path, monkeypatch):
    before = os.sched_getaffinity(0)
    assert 1 <= usable_cores() <= len(before)
    monkeypatch.setattr("modeling_atri.cores_atri.os.sched_getaffinity", lambda process: set(range(64)))
    write(tmp_path, {"cpu.max": "600000 100000\n", "own": "0::/\n"})
    monkeypatch.setattr("modeling_atri.cores_atri._CGROUPS", tmp_path)
    monkeypatch.setattr("modeling_atri.cores_atri._OWN_CGROUPS", tmp_path / "own")
    assert usable_cores() == 6
