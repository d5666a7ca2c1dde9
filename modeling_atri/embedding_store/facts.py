"""What is known about the model that made stored embeddings."""

from typing import NamedTuple


FACTS_KEY = b"modeling_atri"  # of a parquet file's metadata: JSON with `model` and `fingerprint`


class StoreFacts(NamedTuple):
    """Facts of the model that made stored embeddings, as far as they are known.

    Args:
        model: name of the model, for people; None if it is not known.
        fingerprint: `fingerprints.audio_fingerprint` of the model; None if it is not known.
    """

    model: str | None = None
    fingerprint: str | None = None

    @property
    def name(self) -> str:
        """The model as messages name it."""
        named = repr(self.model) if self.model else "a model without a name"
        return named if self.fingerprint is None else f"{named} (fingerprint {self.fingerprint})"
