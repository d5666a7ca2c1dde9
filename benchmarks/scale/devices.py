"""Measure what several processes cost: memory of DDP and FSDP2, and messages of an exact step.

Two processes on the CPU train a model of random weights with AKCL in two languages for three steps, once with DDP and
once with FSDP2, by Adam.

- `ddp_peak_mb`, `fsdp_peak_mb`: highest memory of the first process within the second and third step, without what
  it had before the model was built.
- `fsdp_over_ddp`: their quotient.
- `messages_per_step`: collectives that Python code starts in an exact step of AKCL in eight languages.

The benchmark fails if the losses of the two ways differ by more than 1e-5. It prints one JSON line.
"""

import sys
from pathlib import Path


sys.path.insert(0, str(Path(__file__).parents[1]))
from shared.measuring import print_scale_report  # first: it sets one thread


# isort: split
import ctypes
import os
import socket
import tempfile
from unittest import mock

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing
from shared.options import SEED, option_parser
from shared.processes import peak_memory, resident_memory
from transformers import TrainerCallback

from modeling_atri import AtriConfig, AtriFeatureExtractor, AtriModel, AtriProcessor
from modeling_atri.languages_atri import ATRI_LANGUAGES
from modeling_atri.trainer import AtriTrainer, AtriTrainingArguments
from modeling_atri.trainer.scratch.tokenizer import train_tokenizer


LAYERS, WIDTH = 12, 512  # of the text tower: 38 million parameters, besides the audio tower
BARS = {"fsdp_over_ddp": 0.75, "messages_per_step": 22}
MESSAGES = ("all_gather", "all_reduce", "all_gather_into_tensor", "reduce_scatter_tensor", "broadcast", "barrier")


def main() -> None:
    """Run the command."""
    options = option_parser(
        __doc__, "a minute and a half", part=(1.0, "part of the 12 layers"), seed=(0, SEED)
    ).parse_args()
    layers = max(1, round(LAYERS * options.part))
    found = {}
    with tempfile.TemporaryDirectory() as name:
        for way in ("ddp", "fsdp", "messages"):
            arguments = (free_port(), way, layers, options.seed, Path(name))
            torch.multiprocessing.start_processes(run_rank, arguments, 2, start_method="fork")
            found[way] = torch.load(Path(name) / f"{way}.pt")
    np.testing.assert_allclose(found["fsdp"]["losses"], found["ddp"]["losses"], rtol=1e-5)
    ddp, fsdp = found["ddp"]["peak_mb"], found["fsdp"]["peak_mb"]
    figures = {"ddp_peak_mb": round(ddp), "fsdp_peak_mb": round(fsdp), "fsdp_over_ddp": round(fsdp / ddp, 3)}
    figures |= {"messages_per_step": max(found["messages"]["messages"])}
    print_scale_report(
        "devices", figures, BARS, {"parameters": found["ddp"]["parameters"], "processes": 2, "layers": layers}
    )


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def run_rank(rank: int, port: int, way: str, layers: int, seed: int, folder: Path) -> None:
    """Train in one of the two processes. The first writes the figures to `WAY.pt`."""
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in ranks.items()} | {"MASTER_ADDR": "127.0.0.1"}
    os.dup2(2, 1)  # Trainer prints its logs, and standard output is for the report alone
    torch.set_num_threads(1)
    return_freed_memory()
    languages = list(ATRI_LANGUAGES)[: 8 if way == "messages" else 2]
    rows = make_rows(12, languages)
    texts = [text for row in rows for captions in row["captions"].values() for text in captions]
    tokenizer = train_tokenizer(texts * 3, vocab_size=600)
    processor = AtriProcessor(AtriFeatureExtractor(), tokenizer)
    args = AtriTrainingArguments(
        output_dir=str(folder / way),
        languages=languages,
        objective="akcl",
        per_device_train_batch_size=2,
        num_train_epochs=1,
        use_cpu=True,
        fsdp=way == "fsdp" or None,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        dataloader_pin_memory=False,
        disable_tqdm=True,
        seed=seed,
    )
    before = resident_memory() / 2**20
    torch.manual_seed(seed)
    model = AtriModel(make_config(1 if way == "messages" else layers))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    peak = PeakOfSteps()
    trainer = AtriTrainer(model, args, processor, rows, callbacks=[peak])
    messages = count_messages(trainer) if way == "messages" else []
    trainer.train()
    if rank == 0:
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        figures = {"peak_mb": peak.mb - before, "losses": losses, "parameters": parameters, "messages": messages}
        torch.save(figures, folder / f"{way}.pt")
    dist.destroy_process_group()


def return_freed_memory() -> None:
    """Let glibc give freed tensors back to the system, so that the memory of the process is that of its tensors."""
    libc = ctypes.CDLL(None)
    for parameter, value in ((-3, 2**18), (-8, 1)):  # M_MMAP_THRESHOLD in bytes, M_ARENA_MAX
        if libc.mallopt(parameter, value) != 1:
            raise OSError(f"mallopt({parameter}, {value}) failed; this benchmark needs glibc.")


class PeakOfSteps(TrainerCallback):
    """The highest memory of the process from the second step on, when the optimizer has its states."""

    mb = 0.0

    def on_step_end(self, args, state, control, **kwargs):
        self.mb = peak_memory() / 2**20
        if state.global_step == 1:
            Path("/proc/self/clear_refs").write_text("5")  # the highest memory is that of now


def count_messages(trainer: AtriTrainer) -> list[int]:
    """A list to which each training step adds its number of messages."""
    counts, sent, step = [], [], trainer.training_step

    def counting(name: str):
        send = getattr(dist, name)
        return lambda *args, **kwargs: sent.append(name) or send(*args, **kwargs)

    def counted_step(*args, **kwargs):
        sent.clear()
        with mock.patch.multiple(dist, **{name: counting(name) for name in MESSAGES}):
            loss = step(*args, **kwargs)
        counts.append(len(sent))
        return loss

    trainer.training_step = counted_step
    return counts


def make_rows(number: int, languages: list[str]) -> list[dict]:
    """Clips of noise of half a second, with captions that tell them apart."""
    rng = np.random.default_rng(0)
    return [
        {
            "audio": {"array": rng.normal(scale=0.1, size=8000).astype(np.float32), "sampling_rate": 16000},
            "audio_id": f"clip {index}",
            "captions": {code: [f"sound number {index} in {code}"] for code in languages},
        }
        for index in range(number)
    ]


def make_config(layers: int) -> AtriConfig:
    """A small CED, and a text tower of the given number of layers."""
    audio = {"hidden_size": 96, "intermediate_size": 384, "num_hidden_layers": 2, "num_attention_heads": 3}
    text = {"vocab_size": 600, "d_model": WIDTH, "encoder_layers": layers, "encoder_attention_heads": 8}
    text |= {"encoder_ffn_dim": 4 * WIDTH, "max_position_embeddings": 514, "encoder_layerdrop": 0.0}
    text |= {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
    return AtriConfig(audio_config=audio, text_config=text, projection_dim=256)


if __name__ == "__main__":
    main()
