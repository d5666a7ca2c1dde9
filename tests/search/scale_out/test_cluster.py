"""How a cluster of Ray is divided among workers."""

import sys
from types import SimpleNamespace

import pytest

from modeling_atri.search.scale_out.cluster import Share, ray_cluster, share_of


def cluster(*nodes: dict[str, float]) -> SimpleNamespace:
    dead = {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}
    return SimpleNamespace(nodes=lambda: [dead, *({"Alive": True, "Resources": node} for node in nodes)])


@pytest.mark.parametrize(
    ("cores", "num_workers", "expected"),
    [
        ([8], None, (2, 4)),
        ([3], None, (1, 3)),
        ([8], 3, (3, 2)),
        ([8, 8], 3, (3, 4)),  # with five each, the third would fit nowhere
        ([16, 2], 2, (2, 8)),
        ([2], 2, (2, 1)),
    ],
)
def test_cores(cores, num_workers, expected):
    share = share_of(cluster(*({"CPU": float(count)} for count in cores)), num_workers, "cpu")
    assert share == Share(*expected, {"num_cpus": expected[1]})


@pytest.mark.parametrize(
    ("num_workers", "expected"),
    [(None, (4, 8, 1.0)), (2, (2, 16, 1.0)), (8, (8, 4, 0.5)), (9, (9, 3, 1 / 3))],
)
def test_gpus(num_workers, expected):
    nodes = [{"CPU": 16.0, "GPU": 2.0}, {"CPU": 16.0, "GPU": 2.0}]
    workers, cores, gpus = expected
    assert share_of(cluster(*nodes), num_workers, "cuda") == Share(workers, cores, {"num_cpus": 1, "num_gpus": gpus})


def test_too_few():
    with pytest.raises(ValueError, match="has 3 cores for 4 workers"):
        share_of(cluster({"CPU": 2.0}, {"CPU": 1.0}), 4, "cpu")
    with pytest.raises(ValueError, match="Ray finds no GPU"):
        share_of(cluster({"CPU": 2.0}), None, "cuda")


def test_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "lance_ray", None)
    with pytest.raises(ImportError, match=r'pip install "modeling_atri\[ray\]"'), ray_cluster(None, 1, 0):
        pass
