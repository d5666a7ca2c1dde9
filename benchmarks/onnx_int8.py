"""Measure size, time and recall of the exported ONNX graphs, in float32 and int8.

There are four ways to run one model:

- `torch`: the model itself.
- `onnx`: `export_onnx`, run by onnxruntime.
- `int8`: `export_onnx(int8=True)`, with a scale for each row of activations and weights of 7 bits.
- `stock_int8`: `onnxruntime.quantization.quantize_dynamic` on the graphs of `onnx`, per channel, with a scale for each
  batch of activations and weights of 8 bits.

Time is measured with random weights of CED-Base and of four of SONAR's 24 layers, on 4 clips of 10 s and 16 captions
of 24 tokens. The ways take turns in one process on one thread, and their CPU time is measured. Recall is measured with
a trained model (`--model`) on scenes that it has not heard (`--data`, the folder with dev/ of benchmarks/README.md).
No setting of the quantisation was chosen on dev.

    python benchmarks/onnx_int8.py --data $ATRI_SCENES --model runs/esc10/dev/akcl

Without `--data`, only time and size are measured. It prints one JSON line.
"""

from shared.measuring import medians, print_report, seconds_in_turns  # first: it sets one thread


# isort: split
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from shared.options import ROUNDS, option_parser

from modeling_atri import AtriConfig, AtriModel, AtriProcessor
from modeling_atri.onnx import AUDIO_FILE, TEXT_FILE, OnnxAtriModel, export_onnx
from modeling_atri.trainer import load_rows
from modeling_atri.trainer.evaluation import RetrievalEmbeddings, RetrievalSet, embed_retrieval_set, retrieval_table


SHOWN = ("text_to_audio_R@1", "text_to_audio_R@10", "text_to_audio_mAP@10")
SHOWN += ("audio_to_text_R@1", "audio_to_text_mAP@10")


def main() -> None:
    """Run the command."""
    parser = option_parser(__doc__, rounds=(7, ROUNDS))
    parser.add_argument("--model", type=Path, required=True, help="folder of a trained model")
    parser.add_argument("--data", type=Path, help="folder with dev/")
    options = parser.parse_args()
    processor = AtriProcessor.from_pretrained(options.model)
    figures = {"speed": measure_speed(random_model(), processor, options.rounds)}
    if options.data is not None:
        figures["recall"] = measure_recall(AtriModel.from_pretrained(options.model), processor, options.data / "dev")
    print_report(
        "onnx_int8",
        **figures,
        seed=0,
        rounds=options.rounds,
        onnxruntime=onnxruntime.__version__,
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
    )


def random_model() -> AtriModel:
    """Make a model of random weights, of CED-Base's size and with four of SONAR's layers."""
    torch.manual_seed(0)
    model = AtriModel(AtriConfig(text_config={"vocab_size": 5000, "encoder_layers": 4}))
    num_mel_bins = model.config.audio_config.num_mel_bins
    model.audio_model.mel_norm.set_statistics(torch.full((num_mel_bins,), -20.0), torch.full((num_mel_bins,), 300.0))
    return model.eval()


def make_ways(model: AtriModel, processor: AtriProcessor, folder: Path) -> dict[str, Any]:
    """Export the model: all ways have `get_audio_features` and `get_text_features`."""
    export_onnx(model, processor, folder / "onnx")
    export_onnx(model, processor, folder / "int8", int8=True)
    shutil.copytree(folder / "onnx", folder / "stock_int8")
    for name in (AUDIO_FILE, TEXT_FILE):
        quantize_dynamic(
            folder / "onnx" / name,
            folder / "stock_int8" / name,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            weight_type=QuantType.QInt8,
        )
    exported = ("onnx", "int8", "stock_int8")
    return {"torch": model} | {way: OnnxAtriModel.from_pretrained(folder / way, num_threads=1) for way in exported}


def file_megabytes(ways: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Sizes of the exported graphs."""
    return {
        way: {name: round((model.folder / name).stat().st_size / 1e6, 2) for name in (AUDIO_FILE, TEXT_FILE)}
        for way, model in ways.items()
        if isinstance(model, OnnxAtriModel)
    }


def measure_speed(model: AtriModel, processor: AtriProcessor, rounds: int) -> dict[str, Any]:
    """Measure the time of each way, and the least cosine of its embeddings to those of torch."""
    inputs = {
        "audio": {"input_features": 17 * torch.randn(4, 1001, model.config.audio_config.num_mel_bins) - 20},
        "text": {"input_ids": torch.randint(4, model.config.text_config.vocab_size, (16, 24))},
    }
    with tempfile.TemporaryDirectory() as folder:
        ways = make_ways(model, processor, Path(folder))
        result: dict[str, Any] = {"file_megabytes": file_megabytes(ways)}
        for tower, batch in inputs.items():
            runs = {way: partial(getattr(item, f"get_{tower}_features"), **batch) for way, item in ways.items()}
            with torch.inference_mode():
                embeddings = {way: run().pooler_output.numpy() for way, run in runs.items()}
                seconds = medians(seconds_in_turns(runs, rounds))
            result[tower] = {
                "cpu_seconds": {way: round(value, 3) for way, value in seconds.items()},
                "times_faster_than_torch": {
                    way: round(seconds["torch"] / seconds[way], 2) for way in seconds if way != "torch"
                },
                "least_cosine_to_torch": {way: least_cosine(embeddings["torch"], embeddings[way]) for way in seconds},
            }
    return result


def measure_recall(model: AtriModel, processor: AtriProcessor, data: Path) -> dict[str, Any]:
    """Measure the recall of each way, and how much its embeddings depend on the rest of the batch."""
    rows = load_rows(str(data))
    retrieval_set = RetrievalSet.from_rows(rows, list(rows[0]["captions"]))
    with tempfile.TemporaryDirectory() as folder:
        ways = make_ways(model.eval(), processor, Path(folder))
        result: dict[str, Any] = {
            "num_clips": len(retrieval_set.audios),
            "num_captions_per_language": len(retrieval_set.positives),
            "num_parameters": model.num_parameters(),
            "file_megabytes": file_megabytes(ways),
        }
        embeddings = {way: embed_retrieval_set(item, processor, retrieval_set) for way, item in ways.items()}
        for way, item in ways.items():
            alone = embed_retrieval_set(item, processor, retrieval_set, batch_size=1)
            result[way] = compare(embeddings["torch"], embeddings[way], alone, retrieval_set.positives)
    return result


def compare(
    reference: RetrievalEmbeddings, ours: RetrievalEmbeddings, alone: RetrievalEmbeddings, positives: list[list[int]]
) -> dict[str, Any]:
    """Compare a way with torch, and with itself when it encodes one clip or caption at a time."""
    table = retrieval_table(ours, positives)
    shown = {
        language: {name: round(table[f"{language}_{name}"], 4) for name in SHOWN} for language in ("mean", *ours.text)
    }
    changed = [
        (reference.text[language] @ reference.audio.T).argmax(axis=1) != (text @ ours.audio.T).argmax(axis=1)
        for language, text in ours.text.items()
    ]
    return {
        "recall": shown,
        "mrv": round(table["mrv"], 4),
        "first_hits_changed": round(float(np.mean(changed)), 4),
        "least_cosine_to_torch": least_cosines(reference, ours),
        "least_cosine_alone_to_in_batch": least_cosines(alone, ours),
    }


def least_cosines(first: RetrievalEmbeddings, second: RetrievalEmbeddings) -> dict[str, float]:
    """The least cosine of clips, and of captions in all languages."""
    texts = [np.concatenate(list(item.text.values())) for item in (first, second)]
    return {"audio": least_cosine(first.audio, second.audio), "text": least_cosine(*texts)}


def least_cosine(first: np.ndarray, second: np.ndarray) -> float:
    """The least cosine between rows of the same number, which are normalised."""
    return round(float((first.astype(np.float64) * second).sum(axis=1).min()), 6)


if __name__ == "__main__":
    main()
