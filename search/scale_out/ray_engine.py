"""Indexing with Ray Data: workers on one or many machines encode files and write parts of the table."""

import os
import pickle
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from tqdm.auto import tqdm

from modeling_atri import AtriModel, AtriProcessor
from modeling_atri.audio_io.discovery import FoundSound

from ..index.indexing import EncodeOptions, FolderResult, FolderWork, LoadModel, batches, encoded_files
from ..index.tables import IndexTables
from ..object_storage import is_address, lance_options
from ..windows import WindowPlan
from .cluster import Share, ray_cluster, share_of
from .fragments import WindowsTable


_FILES_PER_PART = 1000  # at most; what a worker does at once, and does again if it was killed
_PARTS_PER_WORKER = 4  # at least, so that the workers end at about the same time
_FILES_PER_COMMIT = 100_000
_MAX_RESTARTS = 3  # of a worker that was killed: a file that kills each worker is not tried forever
_MAX_DECODING_THREADS = 16


@dataclass(frozen=True)
class RayEngine:
    """Encodes and writes the files of a folder with Ray. [`SoundIndex.add`] takes it as `engine`.

    What the workers have written is committed at once, or after every 100,000 files. If the run fails, what was
    written until then is committed. If it is killed, the files of the last commit are encoded again by the next run.

    Args:
        num_workers: workers. Default: one for each GPU if `device` is `cuda`, otherwise one for every four cores.
        address: of a cluster that runs, as `ray.init` takes it, such as `auto` or `10.0.0.1:6379`. Default: Ray is
            started on this machine, and ended afterwards.
        device: what each worker computes on, `cpu` or `cuda`.
    """

    num_workers: int | None = None
    address: str | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.device not in ("cpu", "cuda"):
            raise ValueError(f"With Ray, the device is `cpu` or `cuda`, and Ray chooses the GPU; got {self.device!r}.")
        if self.num_workers is not None and self.num_workers < 1:
            raise ValueError(f"`num_workers` must be at least 1 with Ray, got {self.num_workers}.")

    def __call__(
        self, tables: IndexTables, load: LoadModel, plan: WindowPlan, work: FolderWork, options: EncodeOptions
    ) -> FolderResult:
        """Encode and write files.

        Raises:
            ImportError: the extra `ray` is not installed.
            ConnectionError: there is no cluster at the address.
            ChildProcessError: workers died again and again.
            ValueError: the cluster has too few cores, or no GPU; with `on_error="raise"`, a file cannot be read.
        """
        result = FolderResult()
        if not work.files:
            return result
        model, processor = load()
        model_bytes = sum(values.nbytes for values in model.state_dict().values())
        with ray_cluster(self.address, self.num_workers, model_bytes) as ray:
            share = share_of(ray, self.num_workers, self.device)
            table = WindowsTable.of(tables)
            home = model.device
            # Other machines do not have the variables of this one.
            is_stored = is_address(work.folder)
            options_of_sounds = lance_options(work.folder, tables.storage_options) if is_stored else None
            job = _Job(
                model=model.cpu(),
                processor=processor,
                plan=plan,
                folder=work.folder,
                table=table,
                storage_options=options_of_sounds,
                device=self.device,
                num_cores=share.num_cores,
                options=replace(options, num_workers=_decoding_threads(share.num_cores), progress=False),
            )
            shared = ray.put(job)
            moved: Any = model
            moved.to(home)
            with tqdm(total=len(work.files), desc="files", disable=not options.progress) as bar:
                paths = iter(work.files)
                while some := list(islice(paths, _FILES_PER_COMMIT)):
                    _run(ray, shared, table, share, work, some, result, bar)
        return result


@dataclass(frozen=True)
class _Job:
    """What all workers share."""

    model: AtriModel
    processor: AtriProcessor
    plan: WindowPlan
    folder: str
    table: WindowsTable
    storage_options: Mapping[str, str] | None
    device: str
    num_cores: int
    options: EncodeOptions


@dataclass
class _Part:
    """What a worker did."""

    num_files: int
    result: FolderResult = field(default_factory=FolderResult)
    encoded: list[str] = field(default_factory=list)
    fragments: list[bytes] = field(default_factory=list)
    error: str | None = None


class _Worker:
    """Encodes parts of a folder and writes them, in a process of Ray."""

    def __init__(self, shared: list[Any]):
        import ray

        self._job: _Job = ray.get(shared[0])
        torch.set_num_threads(self._job.num_cores)
        self._model = self._job.model.to(self._job.device).eval()

    def __call__(self, files: pa.Table) -> pa.Table:
        part = _Part(len(files))
        try:
            self._encode(files, part)
        except (ValueError, OSError) as error:
            part.error = str(error)
        return pa.table({"part": [pickle.dumps(part)]})

    def _encode(self, files: pa.Table, part: _Part) -> None:
        job = self._job
        work = _work_on(job.folder, files)
        model = (self._model, job.processor)
        sounds = encoded_files(lambda: model, job.plan, work, job.storage_options, part.result.failures, job.options)
        for batch in batches(sounds):
            part.fragments += job.table.write_part(batch)
            part.encoded += [sound.path for sound in batch]
            part.result.count(batch)


def _run(
    ray: Any,
    shared: Any,
    table: WindowsTable,
    share: Share,
    work: FolderWork,
    paths: Sequence[str],
    result: FolderResult,
    bar: "tqdm[Any]",
) -> None:
    """Encode some files with all workers, and commit what they wrote, even if there is an error."""
    from ray.data import ActorPoolStrategy

    tables = _tables_of(work, paths, share.num_workers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray has no other way yet to say how often a worker is restarted
        data = ray.data.from_arrow(tables).map_batches(
            _Worker,
            fn_constructor_args=([shared],),  # in a list, so that Ray hands over the reference
            batch_size=None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=min(share.num_workers, len(tables))),
            max_restarts=_MAX_RESTARTS,
            max_task_retries=_MAX_RESTARTS,
            **share.reserved,
        )
    fragments: list[bytes] = []
    encoded: set[str] = set()
    try:
        for part in _parts(ray, data):
            bar.update(part.num_files)
            fragments += part.fragments
            encoded.update(part.encoded)
            result.num_encoded += part.result.num_encoded
            result.hours += part.result.hours
            result.failures |= part.result.failures
            if part.error is not None:
                raise ValueError(part.error)
    finally:
        if fragments:
            table.commit_parts(fragments, {key for key in work.replaced if key.path in encoded})


def _parts(ray: Any, data: Any) -> Iterator[_Part]:
    """What workers did, part by part."""
    try:
        for batch in data.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield from map(pickle.loads, batch["part"].to_pylist())
    except ray.exceptions.RayError as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ChildProcessError(
            f"The workers could not finish: {reason} What they had encoded is in the index. Run the command again to "
            "go on. If workers die of too little memory, use fewer workers or a smaller batch size."
        ) from error


_FILES = pa.schema(
    {
        "path": pa.string(),
        "file": pa.binary(),
        "size": pa.int64(),
        "mtime_ns": pa.int64(),
        "columns": pa.binary(),  # a pickled mapping, because values are of any type
    }
)


def _tables_of(work: FolderWork, paths: Sequence[str], num_workers: int) -> list[pa.Table]:
    """Files in tables, one for each part."""
    size = min(_FILES_PER_PART, -(-len(paths) // (num_workers * _PARTS_PER_WORKER)))
    rows = [
        {
            "path": path,
            "file": os.fsencode(work.files[path].path),
            "size": work.files[path].size,
            "mtime_ns": work.files[path].mtime_ns,
            "columns": pickle.dumps(work.columns[path]),
        }
        for path in paths
    ]
    return [pa.Table.from_pylist(rows[start : start + size], _FILES) for start in range(0, len(rows), size)]


def _work_on(folder: str, files: pa.Table) -> FolderWork:
    """The files of a table as work."""
    rows = files.to_pylist()
    return FolderWork(
        folder=folder,
        files={row["path"]: FoundSound(Path(os.fsdecode(row["file"])), row["size"], row["mtime_ns"]) for row in rows},
        columns={row["path"]: pickle.loads(row["columns"]) for row in rows},
    )


def _decoding_threads(num_cores: int) -> int:
    return min(max(1, num_cores - 1), _MAX_DECODING_THREADS)
