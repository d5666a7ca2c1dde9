"""What `test_bad_data.py` runs in two processes, as a script: `bad_data_processes.py DATA OUTPUT`."""

import os
import socket
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing

from modeling_atri.corpora.rows.load import load_rows
from tests.helpers.bad_data import LANGUAGES
from tests.helpers.training import make_arguments, make_trainer


def run(rank: int, port: int, data: Path, output: Path) -> None:
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in ranks.items()} | {"MASTER_ADDR": "127.0.0.1"}
    rows = load_rows(data, languages=LANGUAGES, left_out=[])
    options = {"on_bad_row": "skip", "max_audio_seconds": 1.0, "num_train_epochs": 2, "dataloader_num_workers": 1}
    trainer = make_trainer(make_arguments(output, per_device_train_batch_size=2, **options), rows, rows)
    if trainer.accelerator.num_processes != 2:
        raise RuntimeError(f"{trainer.accelerator.num_processes} processes run, not 2.")
    trainer.train()
    found = {"weights": trainer.model.state_dict(), "metrics": trainer.evaluate()}
    found["left_out"] = trainer.training_facts()["left_out"]
    torch.save(found, output / f"rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        arguments = (free.getsockname()[1], Path(sys.argv[1]), Path(sys.argv[2]))
    torch.multiprocessing.start_processes(run, arguments, 2, start_method="fork")
