"""The work of `atri evaluate --moments`: find the moments of queries in long recordings, and compare them."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from modeling_atri.pretrained.loading import load_model

from .loading import check_device, data_name
from .outputs import check_output_file


if TYPE_CHECKING:
    from modeling_atri.hub_cards.results import Results
    from modeling_atri.search.moments import MomentQuery, RecordingSource


_OF_CLIPS = ("split", "audio_embeddings", "embedding_columns", "group_column")  # options that moments do not have


def evaluate_moment_file(args: Any) -> "Results":
    """Read the queries, load or encode the recordings, evaluate, print and write the results, and return them.

    Args:
        args: The options of `atri evaluate`, with `moments`.

    Raises:
        ValueError: Queries, recordings, model or device are missing or wrong, or an option is not one of moments.
    """
    from modeling_atri.encode import encode_text
    from modeling_atri.hub_cards.environment import describe_environment
    from modeling_atri.hub_cards.results import ModelFacts, MomentResults, Results, write_results
    from modeling_atri.hub_cards.tables import counted, moments_table
    from modeling_atri.processes import device_of_process
    from modeling_atri.search.moments import evaluate_moments

    if wrong := [f"--{name}" for name in _OF_CLIPS if getattr(args, name) is not None]:
        raise ValueError(f"{', '.join(wrong)} cannot be used with --moments. Leave out what is for clips.")
    args.device = device_of_process(args.device)
    check_device(args.device)
    known = _known_results(args.output, data_name(args.model)) if args.output else {}
    queries = _queries(args)
    model, processor = load_model(args.model)
    model.to(args.device).eval()
    source = _recordings(args, queries, model, processor)
    texts = [(query.text, query.language) for query in queries]
    vectors = encode_text(model, processor, texts, batch_size=args.batch_size, progress=True)
    metrics = evaluate_moments(queries, vectors, source.recordings)
    used = [query for query in queries if query.vid not in source.failures]
    moments = MomentResults(
        metrics=metrics,
        languages=list(Counter(query.language for query in used)),
        num_recordings=len({query.vid for query in used}),
        num_queries=len(used),
        queries=data_name(args.moments),
        sounds=data_name(args.data),
        window_s=source.window_s,
        hop_s=source.hop_s,
    )
    if source.failures:
        moments["left_out"] = len(source.failures)
        vid, reason = next(iter(source.failures.items()))
        print(
            f"\nLeft out {counted(len(source.failures), 'recording')} with their queries. The first one is {vid}: "
            f"{reason}."
        )
    results = Results(
        moments=moments,
        model=ModelFacts(name=data_name(args.model), projection_dim=model.config.projection_dim),
        environment=describe_environment(args.device),
    )
    if args.output:
        everything = cast("Results", {**results, **known, "moments": moments})
        write_results(everything, Path(args.output))
    size = f"{counted(moments['num_recordings'], 'recording')}, {moments['num_queries']} queries"
    print(
        f"\nMoments in {size}; windows of {source.window_s:g} s, every {source.hop_s:g} s (percent; the t of R1@t and "
        "mAP@t is the least intersection over union)\n"
    )
    print(moments_table(metrics, moments["languages"]))
    return results


def _queries(args: Any) -> "list[MomentQuery]":
    """The queries in the languages of `--languages`. One language is also that of lines that do not name theirs."""
    from modeling_atri.languages_atri import resolve_languages
    from modeling_atri.search.moments import read_moment_queries

    asked = None if args.languages is None else resolve_languages(args.languages)
    queries = read_moment_queries(str(args.moments), asked[0] if asked is not None and len(asked) == 1 else "eng_Latn")
    if asked is None:
        return queries
    present = dict.fromkeys(query.language for query in queries)
    if missing := [code for code in asked if code not in present]:
        raise ValueError(
            f"{args.moments} has no queries in {', '.join(missing)}, but in {', '.join(present)}. Choose among these "
            "with --languages. A line names its language as `language`; lines without it are in the language of "
            "--languages if that is only one, and otherwise in English."
        )
    return [query for query in queries if query.language in asked]


def _recordings(args: Any, queries: "Sequence[MomentQuery]", model: Any, processor: Any) -> "RecordingSource":
    """The recordings of an index, or of a folder of sounds."""
    from modeling_atri.search.moments import folder_recordings, index_recordings

    vids = [query.vid for query in queries]
    skip = args.on_bad_row == "skip"
    if _is_index(args.data):
        from modeling_atri.search import SoundIndex

        index = SoundIndex.open(args.data, model, processor, args.window_s, args.hop_s)
        return index_recordings(index, vids, skip, progress=True)
    return folder_recordings(
        model, processor, args.data, vids, args.window_s, args.hop_s, args.batch_size, skip, progress=True
    )


def _is_index(place: str) -> bool:
    """Whether there is an index at a place. LanceDB is needed only if it may be one."""
    if "://" not in place and not (Path(place) / "facts.lance").exists():
        return False
    from modeling_atri.search.index.tables import IndexTables

    return IndexTables.exist(place)


def _known_results(output: str, model: str | None) -> dict[str, Any]:
    """The results that the output file has already, such as those of a model, to which moments are added.

    Raises:
        ValueError: The file cannot be written, or holds no results, or those of another model.
    """
    check_output_file(output)
    path = Path(output)
    if not path.exists():
        return {}
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} exists, and is not JSON: {error}. Name another file.") from error
    if not isinstance(known, dict):
        raise ValueError(f"{path} exists, and does not hold results. Name another file.")
    if "metrics" not in known:  # moments of an earlier evaluation
        return {}
    if (other := known.get("model", {}).get("name")) not in (None, model):
        raise ValueError(f"{path} holds results of another model, {other!r}. Name another file.")
    return known
