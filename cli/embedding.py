"""Options of the commands that evaluate a saved model on data, and the embeddings they need."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from modeling_atri.bounds import option
from modeling_atri.pretrained.loading import load_model

from .loading import (
    DATA_HELP,
    EMBEDDING_COLUMNS_HELP,
    EMBEDDINGS_HELP,
    SPLIT_HELP,
    STREAMING_HELP,
    check_device,
    open_embeddings,
)


if TYPE_CHECKING:
    from modeling_atri import AtriModel
    from modeling_atri.corpora.rows.bad_rows import BadRow
    from modeling_atri.trainer.evaluation.retrieval import RetrievalEmbeddings, RetrievalSet


@dataclass
class EmbeddingArguments:
    """A model, and the data to embed."""

    model: str = field(metadata={"help": "Folder or Hub id of the model."})
    data: str = field(metadata={"help": DATA_HELP})
    split: str | None = option(None, f"{SPLIT_HELP}.")
    streaming: bool = option(False, f"{STREAMING_HELP} The rows are kept in a temporary file until the command ends.")
    audio_embeddings: str | None = option(None, EMBEDDINGS_HELP)
    embedding_columns: list[str] | None = option(None, EMBEDDING_COLUMNS_HELP)
    languages: list[str] | None = option(None, "Languages of captions. Default: those of the first row.")
    batch_size: int = option(16, "Clips or captions in each forward pass.")
    device: str | None = option(
        None,
        "Device to compute on, e.g. cpu or cuda. Default: cpu; of several processes that `torchrun` or `accelerate "
        "launch` starts, each has a GPU of its own if there are GPUs.",
    )
    on_bad_row: str = option(
        "raise",
        "What to do with rows that cannot be used (missing, broken or too short recordings, wrong "
        "captions). raise: end with an error that names them. skip: leave them out, and count them in the "
        "results.",
        choices=["raise", "skip"],
    )


def embed_data(
    args: EmbeddingArguments, group_column: str | None = None
) -> "tuple[AtriModel, RetrievalSet, RetrievalEmbeddings, list[BadRow]]":
    """Load model and data, and encode each clip and each caption once. Processes that were launched share the work.

    Returns:
        Model, set, embeddings, and the rows that were left out.

    Raises:
        ValueError: Model, data or device do not exist, or rows cannot be used.
    """
    from modeling_atri.corpora.rows.load import load_rows_together
    from modeling_atri.corpora.streams import open_streams
    from modeling_atri.processes import (
        device_of_process,
        made_by_all,
        main_first,
        num_processes,
        process_rank,
        told_by_main,
    )
    from modeling_atri.trainer.checks.embeddings import check_sounds
    from modeling_atri.trainer.data.feature_cache import FeatureCache
    from modeling_atri.trainer.data.streams.evaluation_rows import copy_stream
    from modeling_atri.trainer.evaluation.retrieval import (
        RetrievalSet,
        embed_retrieval_set,
        join_embeddings,
        leave_out_unreadable,
    )

    args.device = device_of_process(args.device)
    check_device(args.device)
    skips, left_out = args.on_bad_row == "skip", []
    taker = left_out if skips else None
    options: dict[str, Any] = {"languages": args.languages, "group_column": group_column}
    store = open_embeddings(args.audio_embeddings, args.embedding_columns)
    if args.streaming:
        rows = copy_stream(open_streams([args.data], args.split, audio_embeddings=store, **options), taker)
    else:
        rows = load_rows_together(args.data, args.split, audio_embeddings=store, left_out=taker, **options)
    model, processor = main_first(lambda: load_model(args.model))
    check_sounds(rows, model, processor)
    retrieval_set = RetrievalSet.from_rows(rows, list(rows[0]["captions"]))
    model = model.to(args.device).eval()

    def embed_share() -> "RetrievalEmbeddings":
        return embed_retrieval_set(
            model,
            processor,
            retrieval_set,
            batch_size=args.batch_size,
            read_features=FeatureCache(processor.feature_extractor).read,
            progress=process_rank() == 0,
            part=(process_rank(), num_processes()),
            skip_unreadable=skips,
        )

    parts = made_by_all(embed_share)
    embeddings = told_by_main(lambda: join_embeddings(cast("list[RetrievalEmbeddings]", parts)))
    retrieval_set, embeddings, unreadable = leave_out_unreadable(retrieval_set, embeddings)
    return model, retrieval_set, embeddings, [*left_out, *unreadable]
