"""`atri translate`: captions into other languages with a translation model."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeling_atri.languages_atri import language_name, resolve_language

from ..loading import check_device, data_name, load_model
from ..options import parse_options


if TYPE_CHECKING:
    from modeling_atri.corpora.translation.models import TranslationModel
    from modeling_atri.corpora.translation.quality import Scorer
    from modeling_atri.corpora.translation.translate import TranslationSummary


DESCRIPTION = """\
Translate the captions of DATA, a folder of sound files beside a metadata.jsonl, into other languages, and write
OUTPUT, a data set that `atri train` reads: metadata.jsonl with parallel captions (recordings stay where they are),
translations.jsonl with how each translation was made, flagged.jsonl with those that may be wrong, and a card.

Models are NLLB-200 (cc-by-nc-4.0) and MADLAD-400 (apache-2.0). Stop it at any moment, also with kill -9, and give the
same command again: nothing is translated twice or lost. Give other --languages to add them: those that OUTPUT has
stay. A caption that has no translation in one language is left out in all.

examples:
  atri translate clips/train clips/train_8 --model facebook/nllb-200-distilled-600M --languages fr de es nl ca ja zh
  atri translate clips/train clips/train_8 --model google/madlad400-3b-mt --languages fr ja --device cuda \\
      --dtype bfloat16 --batch_size 128 --batch_tokens 8192 --quality round_trip --drop_flagged

Flags are: empty, cut off (by --max_new_tokens), source too long, unknown token, copied source, wrong script,
repetition, length, and with --quality also low score. Without --drop_flagged such captions stay, but for those
without a translation. Another language in the right script is not noticed.
"""


@dataclass
class TranslateArguments:
    """Options of `atri translate`."""

    data: str = field(metadata={"help": "Folder with metadata.jsonl, or JSON lines file.", "positional": True})
    output: str = field(metadata={"help": "Folder for the translated data set.", "positional": True})
    model: str = field(metadata={"help": "Folder or Hub id of the translation model."})
    languages: list[str] = field(
        metadata={"help": "Languages to translate into, e.g. fr de ja zh; others that OUTPUT has stay."}
    )
    source: str = field(default="eng_Latn", metadata={"help": "Language to translate from."})
    split: str | None = field(default=None, metadata={"help": "Subfolder of DATA."})
    revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of the model."})
    num_beams: int = field(default=4, metadata={"help": "Beams; 1 is greedy, and faster."})
    max_new_tokens: int = field(default=200, metadata={"help": "Translations are cut off after so many tokens."})
    batch_size: int = field(default=32, metadata={"help": "Most captions in a batch."})
    batch_tokens: int = field(default=2048, metadata={"help": "Most source tokens in a batch, padding included."})
    device: str = field(default="cpu", metadata={"help": "Where to compute, e.g. cpu or cuda."})
    dtype: str = field(
        default="float32",
        metadata={"help": "Of the model's weights.", "choices": ["float32", "bfloat16", "float16"]},
    )
    quality: str = field(
        default="none",
        metadata={
            "help": "How to score translations: round_trip translates them back and compares (chrF); embedding "
            "compares their embeddings with the sources', by --quality_model; none leaves the rules alone.",
            "choices": ["none", "round_trip", "embedding"],
        },
    )
    quality_model: str | None = field(
        default=None,
        metadata={"help": "For embedding: folder or Hub id of an ATRI model, or of one of sentence-transformers."},
    )
    min_score: float | None = field(
        default=None,
        metadata={
            "help": "Flag what scores less. Default: 0.3 for round_trip, 0.5 for embedding. It can be changed later: "
            "scores are kept."
        },
    )
    drop_flagged: bool = field(
        default=False, metadata={"help": "Leave out what is flagged in one language, in all languages."}
    )
    retranslate: bool = field(
        default=False,
        metadata={"help": "Make again what OUTPUT holds of another model, decoding or score. Default: an error."},
    )
    license: str | None = field(
        default=None, metadata={"help": "Licence of a translation model that does not say it itself."}
    )
    source_license: str | None = field(
        default=None, metadata={"help": "Licence of the captions. Default: what a README.md in DATA says."}
    )
    on_bad_row: str = field(
        default="raise",
        metadata={
            "help": "Rows that cannot be used: raise ends with an error that names them, skip leaves them out.",
            "choices": ["raise", "skip"],
        },
    )

    def __post_init__(self):
        if (self.quality == "embedding") != (self.quality_model is not None):
            raise ValueError("--quality embedding and --quality_model go together.")
        if self.min_score is not None and self.quality == "none":
            raise ValueError("--min_score is a limit for scores: pass --quality round_trip or embedding with it.")


def main(argv: list[str]) -> None:
    """Run the command."""
    (args,) = parse_options(argv, (TranslateArguments,), DESCRIPTION, "atri translate")
    translate(args)


def translate(args: TranslateArguments) -> "TranslationSummary":
    """Load the model, translate what is new, print what was done."""
    check_device(args.device)
    if not Path(args.data).exists():  # told before the model is loaded
        raise ValueError(f"There is no folder or file {args.data!r}.")
    languages = [resolve_language(language) for language in args.languages]
    from modeling_atri.corpora.clips.clip import OVERLAP
    from modeling_atri.corpora.folders.prepared import OVERLAP_FILE
    from modeling_atri.corpora.rows.bad_rows import LEFT_OUT_NAME, read_bad_rows, write_bad_rows
    from modeling_atri.corpora.translation.models import load_translation_model, read_licenses, translation_license
    from modeling_atri.corpora.translation.translate import FLAGGED_NAME, translate_captions

    from ..report import print_left_out

    license = translation_license(args.model, args.license, args.revision)
    model = load_translation_model(
        args.model, args.revision, args.device, args.dtype, args.num_beams, args.max_new_tokens
    )
    left_out = [] if args.on_bad_row == "skip" else None
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
    if left_out is not None:
        path = Path(args.output, LEFT_OUT_NAME)
        overlaps = [row for row in read_bad_rows(path) if row.kind == OVERLAP]  # of `atri prepare check --drop`
        write_bad_rows(path, left_out + overlaps)
        print_left_out(left_out, "source", path)
    print(summary_table(summary))
    rate = summary.num_translated / summary.seconds
    print(f"\n{summary.num_translated} texts translated in {summary.seconds:.0f} s ({rate:.1f}/s).")
    if not source_license:
        print("The captions' own licence is unknown, so the card gives the set none: say it with --source_license.")
    if any(summary.num_flagged.values()):
        print(f"{Path(args.output, FLAGGED_NAME)} lists what is flagged, and why.")
    if summary.num_dropped_captions:
        print(
            f"Left out in all languages: {summary.num_dropped_captions} captions, and {summary.num_dropped_clips} "
            "clips without others."
        )
    if summary.num_overlaps:
        count = "1 clip that is" if summary.num_overlaps == 1 else f"{summary.num_overlaps} clips that are"
        print(f"Left out: {count} in the test data too, by {Path(args.output, OVERLAP_FILE)}.")
    return summary


def summary_table(summary: "TranslationSummary") -> str:
    """One row a language: captions of the source, how many were flagged and how many kept, and why flagged."""
    reasons = sorted({flag for counts in summary.flags.values() for flag in counts})
    total = summary.num_captions + summary.num_dropped_captions
    rows = [["language", "total", "flagged", "kept", *reasons]]
    for code, counts in summary.flags.items():
        numbers = [total, summary.num_flagged[code], summary.num_captions, *(counts[flag] for flag in reasons)]
        rows.append([language_name(code), *map(str, numbers)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows
    )


def _make_scorer(args: TranslateArguments, model: "TranslationModel") -> "Scorer | None":
    from modeling_atri.corpora.translation.quality import EmbeddingScorer, RoundTripScorer

    if args.quality == "none":
        return None
    if args.quality == "round_trip":
        return RoundTripScorer(model)
    encode, fingerprint = _load_encoder(args.quality_model, args.device)
    return EmbeddingScorer(encode, data_name(args.quality_model), fingerprint)


def _load_encoder(path: str, device: str) -> tuple[Any, str]:
    """A function of texts and their language, and what tells it from others."""
    from transformers.utils import cached_file

    from modeling_atri.encode.encoding import encode_text
    from modeling_atri.encode.fingerprints import model_fingerprint, weights_fingerprint

    # What sentence-transformers saves, it lists there.
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
