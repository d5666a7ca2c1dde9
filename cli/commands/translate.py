"""`atri translate`: captions into other languages with a translation model."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeling_atri.bounds import option
from modeling_atri.languages_atri import language_name, resolve_languages
from modeling_atri.pretrained.loading import load_model
from modeling_atri.sources import path_advice

from ..loading import check_device, data_name
from ..options import parse_options
from ..outputs import check_output_folder


if TYPE_CHECKING:
    from modeling_atri.corpora.rows.bad_rows import BadRow
    from modeling_atri.corpora.translation.models import TranslationModel
    from modeling_atri.corpora.translation.quality import Scorer
    from modeling_atri.corpora.translation.translate import TranslationSummary


DESCRIPTION = """\
Translate the captions of DATA, a folder of sound files with a metadata.jsonl, into other languages, and write a data
set that `atri train` reads to OUTPUT: metadata.jsonl with parallel captions (recordings stay where they are),
translations.jsonl with how each translation was made, flagged.jsonl with translations that may be wrong, and a card.

Models are NLLB-200 (cc-by-nc-4.0) and MADLAD-400 (apache-2.0). The command can be stopped at any time, even with
kill -9: the same command continues, and nothing is lost or translated twice. Call it again with other --languages to
add them; languages that OUTPUT has are kept. A caption without a translation in one language is left out in all.

examples:
  atri translate clips/train clips/train_8 --model facebook/nllb-200-distilled-600M --languages fr de es nl ca ja zh
  atri translate clips/train clips/train_8 --model google/madlad400-3b-mt --languages fr ja --device cuda \\
      --dtype bfloat16 --batch_size 128 --batch_tokens 8192 --quality round_trip --drop_flagged

Flags are: empty, cut off (by --max_new_tokens), source too long, unknown token, copied source, wrong script,
repetition, length, and with --quality also low score. Flagged captions are kept unless --drop_flagged is given or
their translation is empty. Translations into another language with the right script are not detected.
"""


@dataclass
class TranslateArguments:
    """Options of `atri translate`."""

    data: str = field(metadata={"help": "Folder with metadata.jsonl, or a JSON lines file.", "positional": True})
    output: str = field(metadata={"help": "Folder for the translated data set.", "positional": True})
    model: str = field(metadata={"help": "Folder or Hub id of the translation model."})
    languages: list[str] = field(
        metadata={"help": "Languages to translate into, e.g. fr de ja zh. Others that OUTPUT has are kept."}
    )
    source: str = option("eng_Latn", "Language to translate from.")
    split: str | None = option(None, "Subfolder of DATA.")
    revision: str | None = option(None, "Branch, tag or commit of the model.")
    num_beams: int = option(4, "Number of beams. 1 is greedy decoding, which is faster.")
    max_new_tokens: int = option(200, "Tokens after which translations are cut off.")
    batch_size: int = option(32, "Largest number of captions in a batch.")
    batch_tokens: int = option(2048, "Largest number of source tokens in a batch.")
    device: str | None = option(
        None,
        "Device to compute on, e.g. cpu or cuda. Default: cpu; of several processes that `torchrun` or `accelerate "
        "launch` starts, each has a GPU of its own if there are GPUs.",
    )
    dtype: str = option("float32", "Dtype of the model's weights.", choices=["float32", "bfloat16", "float16"])
    quality: str = option(
        "none",
        "How to score translations: round_trip compares the source with the translation back (chrF), "
        "embedding compares embeddings from --quality_model, none gives no scores.",
        choices=["none", "round_trip", "embedding"],
    )
    quality_model: str | None = option(
        None, "Model for --quality embedding: folder or Hub id of ATRI or sentence-transformers."
    )
    min_score: float | None = option(
        None,
        "Flag translations with a lower score. A later run can change it. Default: 0.3 for round_trip, "
        "0.5 for embedding.",
    )
    drop_flagged: bool = option(False, "Leave captions that are flagged in one language out in all languages.")
    retranslate: bool = option(
        False, "Translate again the captions that were made with another model or other settings."
    )
    license: str | None = option(None, "License of a translation model whose model card does not say it.")
    source_license: str | None = option(None, "License of the captions. Default: that of a README.md in DATA.")
    on_bad_row: str = option(
        "raise",
        "What to do with rows that cannot be used: raise an error that names them, or skip them.",
        choices=["raise", "skip"],
    )

    def __post_init__(self):
        if (self.quality == "embedding") != (self.quality_model is not None):
            raise ValueError("--quality embedding and --quality_model must be given together.")
        if self.min_score is not None and self.quality == "none":
            raise ValueError("--min_score is a limit for scores: pass --quality round_trip or embedding too.")


def main(argv: list[str]) -> None:
    """Run the command."""
    (args,) = parse_options(argv, (TranslateArguments,), DESCRIPTION, "atri translate")
    from modeling_atri.processes import launched_processes

    with launched_processes():
        translate(args)


def translate(args: TranslateArguments) -> "TranslationSummary":
    """Load the model, translate new captions, and print a summary. Launched processes share the work."""
    from modeling_atri.processes import device_of_process, main_first, process_rank

    args.device = device_of_process(args.device)
    check_device(args.device)
    if not Path(args.data).exists():  # before the model is loaded
        raise ValueError(f"There is no folder or file {args.data!r}. {path_advice(args.data)}".rstrip())
    check_output_folder(args.output)
    languages = resolve_languages(args.languages)
    from modeling_atri.corpora.translation.licenses import read_licenses, translation_license
    from modeling_atri.corpora.translation.models import load_translation_model
    from modeling_atri.corpora.translation.translate import translate_captions

    license = translation_license(args.model, args.license, args.revision)
    options = (args.model, args.revision, args.device, args.dtype, args.num_beams, args.max_new_tokens)
    model = main_first(lambda: load_translation_model(*options))
    left_out: list[BadRow] | None = [] if args.on_bad_row == "skip" else None
    folder = Path(args.data).parent if Path(args.data).is_file() else Path(args.data)
    source_license = args.source_license or read_licenses(folder)
    summary = translate_captions(
        args.data,
        args.output,
        model,
        languages,
        args.source,
        split=args.split,
        scorer=_make_scorer(args, model),
        min_score=args.min_score,
        batch_size=args.batch_size,
        batch_tokens=args.batch_tokens,
        drop_flagged=args.drop_flagged,
        retranslate=args.retranslate,
        license=license,
        source_license=source_license,
        left_out=left_out,
        progress=True,
    )
    if process_rank() != 0:
        return summary
    if left_out is not None:
        _list_left_out(left_out, Path(args.output))
    _print_summary(summary, Path(args.output), has_license=bool(source_license))
    return summary


def _list_left_out(left_out: "list[BadRow]", output: Path) -> None:
    """Write and print the rows that were left out. The file keeps those of `atri prepare check --drop`."""
    from modeling_atri.corpora.clips.clip import OVERLAP
    from modeling_atri.corpora.rows.bad_rows import LEFT_OUT_NAME, read_bad_rows, write_bad_rows

    from ..printing.report import print_left_out

    path = output / LEFT_OUT_NAME
    overlaps = [row for row in read_bad_rows(path) if row.kind == OVERLAP]
    write_bad_rows(path, left_out + overlaps)
    print_left_out(left_out, "source", path)


def _print_summary(summary: "TranslationSummary", output: Path, has_license: bool) -> None:
    from modeling_atri.corpora.folders.prepared import OVERLAP_FILE
    from modeling_atri.corpora.translation.translated_rows import FLAGGED_NAME
    from modeling_atri.hub_cards.tables import counted

    print(summary_table(summary))
    rate = summary.num_translated / summary.seconds
    print(f"\n{counted(summary.num_translated, 'text')} translated in {summary.seconds:.0f} s ({rate:.1f}/s).")
    if not has_license:
        print("The license of the captions is unknown, so the card has no license. Give it with --source_license.")
    if any(summary.num_flagged.values()):
        print(f"Flagged captions are listed in {output / FLAGGED_NAME}.")
    if summary.num_dropped_captions:
        print(
            f"Left out in all languages: {counted(summary.num_dropped_captions, 'caption')}, and "
            f"{counted(summary.num_dropped_clips, 'clip')} without others."
        )
    if summary.num_overlaps:
        print(f"Clips left out because {output / OVERLAP_FILE} lists them as test data: {summary.num_overlaps}.")


def summary_table(summary: "TranslationSummary") -> str:
    """Table of the captions of each language: all, flagged, kept, and flagged for each reason."""
    from modeling_atri.hub_cards.tables import text_table

    reasons = sorted({flag for counts in summary.flags.values() for flag in counts})
    total = summary.num_captions + summary.num_dropped_captions
    rows = [
        [language_name(code), total, summary.num_flagged[code], summary.num_captions, *(counts[r] for r in reasons)]
        for code, counts in summary.flags.items()
    ]
    return text_table(["language", "total", "flagged", "kept", *reasons], rows)


def _make_scorer(args: TranslateArguments, model: "TranslationModel") -> "Scorer | None":
    from modeling_atri.corpora.translation.quality import EmbeddingScorer, RoundTripScorer

    if args.quality == "none":
        return None
    if args.quality == "round_trip":
        return RoundTripScorer(model)
    path = str(args.quality_model)
    encode, fingerprint = _load_encoder(path, str(args.device))
    return EmbeddingScorer(encode, data_name(path), fingerprint)


def _load_encoder(path: str, device: str) -> tuple[Any, str]:
    """Load a function that embeds texts in a language, and its fingerprint."""
    from transformers.utils import cached_file

    from modeling_atri.encode.encoding import encode_text
    from modeling_atri.encode.fingerprints import model_fingerprint, weights_fingerprint

    # Models of sentence-transformers have this file.
    if cached_file(path, "modules.json", _raise_exceptions_for_missing_entries=False) is None:
        model, processor = load_model(path)
        model.to(device)
        return (
            lambda texts, language: encode_text(model, processor, texts, language),
            model_fingerprint(model, processor),
        )
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(path, device=device)
    return lambda texts, language: encoder.encode(list(texts)), weights_fingerprint(encoder, {})
