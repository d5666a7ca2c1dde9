"""Where the windows of a sound begin and end."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from modeling_atri import AtriModel, AtriProcessor


@dataclass(frozen=True)
class WindowPlan:
    """The length of windows, and the step from one to the next.

    Args:
        window_s (`float`): length of a window in seconds; 0 for a model that takes stored embeddings.
        hop_s (`float`): from the beginning of a window to that of the next, in seconds.
    """

    window_s: float
    hop_s: float

    def stretches(self, num_samples: int, sampling_rate: int, step: int = 1) -> list[tuple[int, int]]:
        """First and last (exclusive) step of each window of a sound.

        A window begins at every hop. The last one is moved back, so that it ends with the sound. A sound that is not
        longer than a window, to the precision of a step, has one window, which may be shorter.

        Args:
            num_samples: length of the sound.
            sampling_rate: in Hz.
            step: samples of one step.
        """
        length = num_samples // step
        window, hop = (max(1, round(seconds * sampling_rate / step)) for seconds in (self.window_s, self.hop_s))
        if length <= window:
            return [(0, length)]
        starts = [*range(0, length - window, hop), length - window]
        return [(start, start + window) for start in starts]


def plan_windows(
    model: "AtriModel", processor: "AtriProcessor", window_s: float | None = None, hop_s: float | None = None
) -> WindowPlan:
    """The windows of a model.

    Args:
        model (`AtriModel`): its audio tower sets the default length of a window. Any object with `config` works.
        processor (`AtriProcessor`): the processor of the model.
        window_s (`float`, *optional*): length of a window in seconds. Default: that of the audio tower (10.12 s with
            CED, 10 s with CLAP, 30 s with Whisper and wav2vec2).
        hop_s (`float`, *optional*): step in seconds. Default: half of `window_s`.

    Raises:
        ValueError: a length is not positive, a window is shorter than the shortest sound that the model takes, the
            step is longer than a window, which would leave parts of sounds out, or the model takes stored embeddings,
            which have no windows.
    """
    extractor: Any = processor.feature_extractor
    if extractor.sampling_rate is None:
        if window_s or hop_s:
            raise ValueError(
                f"`window_s` and `hop_s` are for models that encode sounds; got {window_s!r} and {hop_s!r}. "
                f"{extractor.takes} Leave them out."
            )
        return WindowPlan(0.0, 0.0)
    window_s = _window_s(model, extractor) if window_s is None else float(window_s)
    hop_s = window_s / 2 if hop_s is None else float(hop_s)
    shortest_s = extractor.min_num_samples / extractor.sampling_rate
    if not shortest_s <= window_s < float("inf"):
        raise ValueError(
            f"`window_s` must be at least {shortest_s:g} seconds, the shortest sound that the model takes; got "
            f"{window_s:g}."
        )
    finest_s = samples_per_row(extractor) / extractor.sampling_rate
    if not finest_s <= hop_s <= window_s:
        raise ValueError(
            f"`hop_s` must be from {finest_s:g} to {window_s:g} seconds, the length of a window (a longer step would "
            f"leave out parts of the sounds); got {hop_s:g}."
        )
    return WindowPlan(window_s, hop_s)


def samples_per_row(extractor: Any) -> int:
    """The step in samples of which windows begin: CED's windows are rows of the features of the whole sound."""
    return 1 if hasattr(extractor, "windows") else int(extractor.hop_length)


def _window_s(model: "AtriModel", extractor: Any) -> float:
    config: Any = model.config.audio_config
    if hasattr(extractor, "windows"):
        num_samples = extractor.num_window_samples
    else:
        num_samples = config.max_frames * extractor.hop_length
    return float(num_samples / extractor.sampling_rate)
