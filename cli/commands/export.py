"""`atri export`: a saved model to ONNX graphs."""

from dataclasses import dataclass, field
from pathlib import Path

from ..loading import load_model
from ..options import parse_options


DESCRIPTION = """\
Write both towers of a saved model as ONNX graphs, with configuration and processor, to a new folder OUT:

  audio.onnx   input_features, input_features_mask -> audio_embeds
  text.onnx    input_ids, attention_mask           -> text_embeds

Embeddings come out projected and L2-normalised, as the model's. Any number of clips and captions of any length goes
in; long clips are cut into chunks inside the graph.

examples:
  atri export runs/first exported/
  atri export runs/first exported_int8/ --int8

With --int8 weights and products are in 8 bits: about a quarter of the size and several times as fast on one CPU core,
at a small cost in recall; evaluate before you rely on it. In Python, `modeling_atri.onnx.OnnxAtriModel` runs the
graphs, in a model's place in encode_audio and encode_text. Needs the extra onnx: pip install 'modeling_atri[onnx]'
"""


@dataclass
class ExportArguments:
    """Options of `atri export`."""

    model: str = field(metadata={"help": "Folder or Hub id of the model.", "positional": True})
    out: str = field(metadata={"help": "New folder to write to.", "positional": True})
    int8: bool = field(default=False, metadata={"help": "Quantise: int8 weights, activations in 8 bits row by row."})


def main(argv: list[str]) -> None:
    """Run the command."""
    (args,) = parse_options(argv, (ExportArguments,), DESCRIPTION, "atri export")
    export(args)


def export(args: ExportArguments) -> None:
    """Load the model, write the graphs, print their sizes."""
    from modeling_atri.onnx.export import check_new_folder, export_onnx, import_extra

    check_new_folder(args.out)  # mistakes are told before the model is loaded
    import_extra("onnxscript")
    model, processor = load_model(args.model)
    export_onnx(model, processor, args.out, int8=args.int8)
    for path in sorted(Path(args.out).glob("*.onnx*")):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
