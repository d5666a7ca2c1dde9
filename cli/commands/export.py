"""`atri export`: write a saved model as ONNX graphs."""

from dataclasses import dataclass, field
from pathlib import Path

from modeling_atri.bounds import option
from modeling_atri.pretrained.loading import load_model

from ..options import parse_options
from ..outputs import check_output_folder


DESCRIPTION = """\
Write both towers of a saved model as ONNX graphs, with configuration and processor, to a new folder OUT:

  audio.onnx   input_features, input_features_mask -> audio_embeds
  text.onnx    input_ids, attention_mask           -> text_embeds

A model without an audio tower has text.onnx only. The embeddings are projected and L2-normalised, like those of the
model. The graphs accept any number of clips and captions. Long clips are cut into chunks inside the graph; long
captions are cut by the processor that is saved beside it. Before OUT appears, every graph is run and compared with the
model. If it computes something else, the command fails and writes nothing.

examples:
  atri export runs/first exported/
  atri export runs/first exported_int8/ --int8

With --int8, weights and matrix products are quantised to 8 bits. The graphs are about a quarter of the size and
several times as fast on one CPU core. Recall may change slightly, so evaluate them before you rely on them. In Python,
run the graphs with `modeling_atri.onnx.OnnxAtriModel`, which replaces the model in encode_audio and encode_text. The
command needs the extra onnx: pip install 'modeling_atri[onnx]'
"""


@dataclass
class ExportArguments:
    """Options of `atri export`."""

    model: str = field(metadata={"help": "Folder or Hub id of the model.", "positional": True})
    out: str = field(metadata={"help": "New folder to write to.", "positional": True})
    int8: bool = option(False, "Quantise weights to int8, and activations to 8 bits row by row.")


def main(argv: list[str]) -> None:
    """Run the command."""
    (args,) = parse_options(argv, (ExportArguments,), DESCRIPTION, "atri export")
    export(args)


def export(args: ExportArguments) -> None:
    """Load the model, write the graphs, print their sizes."""
    from modeling_atri.onnx.export import check_new_folder, export_onnx
    from modeling_atri.onnx.extra import AUDIO_FILE, import_extra

    check_new_folder(args.out)  # before the model is loaded, which takes time
    check_output_folder(args.out)
    import_extra("onnxscript")
    model, processor = load_model(args.model)
    export_onnx(model, processor, args.out, int8=args.int8)
    if not (Path(args.out) / AUDIO_FILE).exists():
        print(f"{processor.feature_extractor.takes} Only text.onnx was written.")
    for path in sorted(Path(args.out).glob("*.onnx*")):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
