"""Ray: started on this machine or joined as a cluster, without its noise, and divided among workers."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from modeling_atri.cores_atri import usable_cores


_OBJECTS = 256 * 2**20  # bytes of shared memory for the objects of Ray, beside the model
_CORES_PER_WORKER = 4  # of a worker that computes on cores
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # it warns that this will be the default
}


class Share(NamedTuple):
    """What each worker has of a cluster."""

    num_workers: int
    num_cores: int  # threads that it computes or decodes with
    reserved: dict[str, float]  # as `map_batches` takes it: `num_cpus` and `num_gpus`


@contextmanager
def ray_cluster(address: str | None, num_workers: int | None, model_bytes: int) -> Iterator[Any]:
    """Join a cluster, or start Ray on this machine, and yield the module `ray`.

    Ray is ended afterwards, unless it ran in this process before. On this machine, it listens on loopback only, has no
    dashboard, and sends no statistics of its use.

    Args:
        address: of a cluster, as `ray.init` takes it. Default: this machine.
        num_workers: workers on this machine, which may be more than its cores.
        model_bytes: size of the model that all workers share.

    Raises:
        ImportError: the extra `ray` is not installed.
        ConnectionError: Ray could not be started, or there is no cluster at `address`.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import lance_ray  # noqa: F401 - workers need it
        import ray.data
    except ImportError as error:
        raise ImportError(
            "Indexing with Ray needs the packages ray and lance-ray, which are not installed. Run "
            '`pip install "modeling_atri[ray]"`.'
        ) from error
    for logger in ("ray", "ray.data"):
        for handler in logging.getLogger(logger).handlers:
            if isinstance(handler, logging.StreamHandler):
                handler.setLevel(logging.ERROR)
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {
        "address": address or "local"
    }  # without an address, Ray would join any cluster it finds
    if address is None:
        options |= {
            "num_cpus": max(usable_cores(), num_workers or 1),
            "include_dashboard": False,
            "object_store_memory": _OBJECTS + 2 * model_bytes,
            "_node_ip_address": "127.0.0.1",
        }
    try:
        with _without_noise():
            ray.init(**options, logging_level=logging.ERROR, log_to_driver=False)
    except Exception as error:  # Ray raises errors of any class
        raise ConnectionError(f"Ray could not be started or reached: {error}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def _without_noise() -> Iterator[None]:
    """Discard what libraries write to standard error themselves. Errors that they raise are not affected.

    Ray tells its level of logs. Lance warns of processes that are forked, but those of Ray start other programs.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    discarded = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(discarded, 2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(discarded)


def share_of(ray: Any, num_workers: int | None, device: str) -> Share:
    """Divide a cluster among workers: one for each GPU, or one for every four cores, unless their number is given.

    Raises:
        ValueError: there are no GPUs, or fewer cores than workers.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores = [int(node.get("CPU", 0)) for node in nodes]
    if device == "cpu":
        num_workers = num_workers or max(1, sum(cores) // _CORES_PER_WORKER)
        each = _largest_share(cores, num_workers)
        if each == 0:
            raise ValueError(f"The cluster has {sum(cores)} cores for {num_workers} workers. Ask for fewer workers.")
        return Share(num_workers, each, {"num_cpus": each})
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    if gpus == 0:
        raise ValueError(
            f"The device is {device!r}, but Ray finds no GPU. Compute on `cpu`, or add machines with GPUs."
        )
    num_workers = num_workers or gpus
    per_gpu = -(-num_workers // gpus)
    return Share(num_workers, max(1, sum(cores) // num_workers), {"num_cpus": 1, "num_gpus": 1 / per_gpu})


def _largest_share(cores: list[int], num_workers: int) -> int:
    """The most cores that each worker can have, since those of a worker are on one machine; 0 if there are too few."""
    return max(
        (each for each in range(1, max(cores, default=0) + 1) if sum(of // each for of in cores) >= num_workers),
        default=0,
    )
