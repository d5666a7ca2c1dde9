"""Base of the feature extractors for sounds: features of clips in any form, and batches of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor
from transformers.feature_extraction_utils import BatchFeature
from transformers.utils import TensorType, logging

from .audio_inputs_atri import AudioInput, is_recording, lacks_rate, name_of_sound, read_sound, too_short
from .long_sounds_atri import LongSound, read_or_scan, too_loud
from .threads_atri import map_in_threads


logger = logging.get_logger(__name__)


class AtriClipExtractor(SequenceFeatureExtractor):
    """Base of the feature extractors that read sounds."""

    model_input_names = ["input_features", "input_features_mask"]

    min_num_samples: int

    def extract_clip(
        self, clip: AudioInput, pad_short: bool = False, name: str = "the clip", source_rate: int | None = None
    ) -> torch.Tensor:
        """Features of one clip, checked.

        Args:
            clip: a sound in any form that [`~audio_io.load_audio`] takes: a waveform, a file, a dict, ...
            pad_short (`bool`, *optional*, defaults to `False`): zero-pad a clip below `min_num_samples` instead of
                raising.
            name (`str`, *optional*): what error messages call a clip that has no path.
            source_rate (`int`, *optional*): sampling rate in Hz of a clip that does not carry its own. Default for
                waveforms: the extractor's.

        Returns:
            `torch.Tensor` of shape `(frames, columns)`, float32.

        Raises:
            ValueError: the clip cannot be read, is empty or too short, or holds NaN, infinity or samples as large as
                1e17.
        """
        if source_rate is None and not is_recording(clip):
            source_rate = self.sampling_rate
        waveform = torch.from_numpy(read_sound(clip, self.sampling_rate, source_rate, name))
        name = name_of_sound(clip, name)
        return extract_checked(self, long_enough(self, waveform, pad_short, name), name)

    def read_clip(
        self, clip: AudioInput, pad_short: bool = False, name: str = "the clip", source_rate: int | None = None
    ) -> torch.Tensor | LongSound:
        """Features of one clip as `extract_clip` returns them, or a [`LongSound`] for one of more than two minutes.

        The arguments and errors are those of `extract_clip`, but `source_rate` has no default for waveforms.
        """
        read = read_or_scan(self, clip, source_rate, name)
        if isinstance(read, LongSound):
            return read
        name = name_of_sound(clip, name)
        return extract_checked(self, long_enough(self, read, pad_short, name), name)

    def extract_waveform(self, waveform: torch.Tensor) -> torch.Tensor:
        """Features of a waveform of shape `(num_samples,)`, which was checked, as `(frames, columns)`, float32."""
        raise NotImplementedError

    def __call__(
        self,
        raw_speech: AudioInput | Callable[[], AudioInput] | Sequence[AudioInput | Callable[[], AudioInput]],
        sampling_rate: int | None = None,
        padding: bool | str = True,
        pad_short: bool = False,
        return_tensors: str | TensorType | None = None,
        return_attention_mask: bool | None = None,
        **kwargs,
    ) -> BatchFeature:
        """
        Features of one or several clips.

        Args:
            raw_speech: one clip, or a list of clips of any lengths, in any form that
                [`~audio_io.load_audio`] takes. Waveforms must have the extractor's sampling rate; files and
                other forms that carry their own rate are resampled. Clips are never cut. A function without arguments
                stands for the clip that it returns. Several files are read, and functions called, at the same time, in
                as many threads as torch may use.
            sampling_rate (`int`, *optional*): sampling rate of the waveforms, in Hz. Always pass it with waveforms.
                A mismatch is then an error; without it, a clip at another rate gives wrong features silently.
            padding (`bool`, *optional*, defaults to `True`): pad the clips to the longest (`True` or `"longest"`) and
                stack them. `False` returns lists.
            pad_short (`bool`, *optional*, defaults to `False`): zero-pad clips below `min_num_samples` samples instead
                of raising.
            return_tensors (`str`, *optional*): `"pt"` or `"np"`. Default: NumPy arrays (lists with `padding=False`).
            return_attention_mask (`bool`, *optional*, defaults to `True`): return `input_features_mask`.

        Returns:
            `BatchFeature` with `input_features`, float32 of shape `(clips, frames, feature_size)`, and
            `input_features_mask`, int64 of shape `(clips, frames)`, which is 1 on a clip's own frames.

        Raises:
            ValueError: a sampling rate other than the extractor's; a clip that cannot be read, is empty or too short,
                or holds NaN, infinity or samples as large as 1e17. The message says which clip.
        """
        if kwargs:
            raise ValueError(
                f"Unknown arguments {sorted(kwargs)}: {type(self).__name__} takes sampling_rate, padding, pad_short, "
                "return_tensors and return_attention_mask. The mask of clips is made here and called "
                "`input_features_mask`."
            )
        if padding not in (True, False, "longest"):
            raise ValueError(
                f"`padding` must be True, 'longest' or False, got {padding!r}: clips are padded to the longest."
            )
        if padding is False and return_tensors is not None:
            raise ValueError("`return_tensors` needs clips of one length: pass padding=True with it.")
        clips = as_list_of_clips(raw_speech)
        self._check_sampling_rate(sampling_rate, clips)
        rate = None if sampling_rate is None else self.sampling_rate  # 16000.0 becomes 16000

        def extract(index: int) -> torch.Tensor:
            clip = clips[index]() if callable(clips[index]) else clips[index]
            return self.extract_clip(clip, pad_short, f"Clip {index}", rate)

        # For waveforms in memory the steps are so short that threads would mostly wait for Python's lock.
        indices = range(len(clips))
        has_files = any(callable(clip) or is_recording(clip) for clip in clips)
        features = map_in_threads(extract, indices) if has_files else [extract(index) for index in indices]
        batch: dict[str, Any]
        if not padding:
            masks = [np.ones(len(item), dtype=np.int64) for item in features]
            batch = {"input_features": [item.numpy() for item in features], "input_features_mask": masks}
        else:
            batch = dict(zip(("input_features", "input_features_mask"), self.pad_features(features), strict=True))
            if TensorType(return_tensors or "np") is TensorType.NUMPY:
                batch = {name: value.numpy() for name, value in batch.items()}
        if not (self.return_attention_mask if return_attention_mask is None else return_attention_mask):
            del batch["input_features_mask"]
        return BatchFeature(batch)

    def pad(
        self,
        processed_features: Any,
        padding: bool | str = True,
        max_length: int | None = None,
        truncation: bool = False,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | TensorType | None = None,
    ) -> BatchFeature:
        """
        Stack the features of single clips, as collators of transformers do.

        Args:
            processed_features: dicts with the `input_features` of a clip, of shape `(frames, feature_size)`, or one
                dict with a list of them. Their `input_features_mask`, of shape `(frames,)`, marks frames that are
                padding already. Other keys, such as `labels`, are only stacked.
            padding (`bool` or `str`, *optional*, defaults to `True`): pad to the longest (`True` or `"longest"`), to
                `max_length` frames (`"max_length"`), or not at all (`False`). Clips that are longer than
                `max_length` keep their length. If several lengths are left, the values are lists, as in transformers.
            max_length (`int`, *optional*): number of frames for `padding="max_length"` and `truncation`.
            truncation (`bool`, *optional*, defaults to `False`): cut longer clips to `max_length` frames.
            pad_to_multiple_of (`int`, *optional*): round `max_length` and the padded length up to a multiple of it.
            return_attention_mask (`bool`, *optional*, defaults to `True`): return `input_features_mask`. Without it,
                the model takes padding for sound.
            return_tensors (`str`, *optional*): `"pt"` or `"np"`. Default: as the features that are given.

        Returns:
            `BatchFeature` as of a call.

        Raises:
            ValueError: there are no `input_features`, they have another shape, a mask does not fit, keys belong to
                captions, or clips of several lengths are wanted as one tensor (`"pt"`).
        """
        columns = as_columns(processed_features)
        clips = columns.pop("input_features", None)
        if clips is None or len(clips) == 0:
            raise ValueError(f"There are no `input_features` to pad, only {sorted(columns) or 'nothing'}.")
        if of_captions := sorted(columns.keys() & {"input_ids", "attention_mask"}):
            raise ValueError(
                f"{of_captions} belong to captions, and the mask of clips is `input_features_mask`. Pad clips and "
                "captions together with `processor.pad`, or pass only the keys of clips."
            )
        masks = columns.pop("input_features_mask", [None] * len(clips))
        features = [self._own_frames(*item, index) for index, item in enumerate(zip(clips, masks, strict=True))]
        if truncation and max_length is not None:
            features = [item[: _round_up(max_length, pad_to_multiple_of)] for item in features]
        return_tensors = TensorType(return_tensors or ("pt" if torch.is_tensor(clips[0]) else "np"))
        width = _padded_length([len(item) for item in features], padding, max_length, truncation, pad_to_multiple_of)
        if width is not None:
            batch = self._stacked(features, width)
        elif return_tensors is TensorType.NUMPY:
            single = [self._stacked([item], len(item)) for item in features]
            batch = {name: [item[name][0].numpy() for item in single] for name in single[0]}
        else:
            raise ValueError(
                f"Clips of {min(map(len, features))} to {max(map(len, features))} frames cannot be stacked to one "
                "tensor. Pass padding=True, or padding='max_length' with `max_length` and truncation=True."
            )
        if not (self.return_attention_mask if return_attention_mask is None else return_attention_mask):
            del batch["input_features_mask"]
        if width is not None and return_tensors is TensorType.NUMPY:
            batch = {name: value.numpy() for name, value in batch.items()}
        return BatchFeature(batch | columns, tensor_type=return_tensors)

    def _stacked(self, features: Sequence[torch.Tensor], width: int) -> dict[str, Any]:
        """Features and mask of clips, padded to a number of frames."""
        stacked, mask = (
            torch.nn.functional.pad(item, (0, 0) * (item.ndim - 2) + (0, width - item.shape[1]), value=value)
            for item, value in zip(self.pad_features(features), (self.padding_value, 0), strict=True)
        )
        return {"input_features": stacked, "input_features_mask": mask}

    def _own_frames(self, clip: Any, mask: Any, index: int) -> torch.Tensor:
        """The features of a clip without its padding, `(frames, feature_size)`."""
        clip = torch.as_tensor(clip if torch.is_tensor(clip) else np.asarray(clip)).float()
        clip = clip[0] if clip.ndim == 3 and len(clip) == 1 else clip  # a batch of one clip
        if clip.ndim != 2 or clip.shape[1] != self.feature_size:
            raise ValueError(
                f"The `input_features` of clip {index} have the shape {tuple(clip.shape)}, but must have the shape "
                f"(frames, {self.feature_size}). Pass the features of one clip in each dict."
            )
        mask = torch.ones(len(clip)) if mask is None else torch.as_tensor(mask).flatten()
        if len(mask) != len(clip):
            raise ValueError(
                f"The `input_features_mask` of clip {index} needs one value for each of the {len(clip)} frames; it "
                f"has {len(mask)}."
            )
        return self.own_frames(clip, mask.bool(), index)

    def own_frames(self, clip: torch.Tensor, mask: torch.Tensor, index: int) -> torch.Tensor:
        """The frames that `extract_clip` gave, from those of a clip in a batch, `(frames, feature_size)`, and mask."""
        num_frames = int(mask.sum())
        if not mask[:num_frames].all():
            raise ValueError(
                f"The `input_features_mask` of clip {index} must be 1 on its first frames and 0 on its padding."
            )
        return clip[:num_frames]

    def pad_features(self, features: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Stack log-mel spectrograms of shape `(frames, feature_size)` and several lengths.

        Returns `input_features` of shape `(clips, longest, feature_size)` and `input_features_mask`, int64 of shape
        `(clips, longest)`.
        """
        lengths = torch.tensor([len(item) for item in features])
        stacked = torch.nn.utils.rnn.pad_sequence(list(features), batch_first=True, padding_value=self.padding_value)
        mask = (torch.arange(stacked.shape[1])[None, :] < lengths[:, None]).long()
        return stacked, mask

    def _check_sampling_rate(self, sampling_rate: int | None, clips: Sequence[Any]) -> None:
        if sampling_rate is None and any(lacks_rate(clip) for clip in clips):
            logger.warning_once(
                f"Pass `sampling_rate` to {type(self).__name__}: without it, a clip that is not at "
                f"{self.sampling_rate} Hz gives wrong features without an error."
            )
        elif sampling_rate not in (None, self.sampling_rate):
            raise ValueError(
                f"The waveforms come with a sampling rate of {sampling_rate} Hz, but the model was trained at "
                f"{self.sampling_rate} Hz. Pass each as `{{'array': waveform, 'sampling_rate': {sampling_rate}}}` to "
                "have it resampled."
            )


def long_enough(extractor: AtriClipExtractor, waveform: torch.Tensor, pad_short: bool, name: str) -> torch.Tensor:
    """A waveform that an extractor accepts: with `pad_short`, a short one is zero-padded.

    Raises:
        ValueError: it is too short.
    """
    if pad_short:
        waveform = torch.nn.functional.pad(waveform, (0, max(0, extractor.min_num_samples - len(waveform))))
    remedy = "Pass pad_short=True to pad it with silence."
    if fault := too_short(name, len(waveform), extractor.sampling_rate, extractor.min_num_samples, remedy):
        raise ValueError(fault)
    return waveform


def extract_checked(extractor: AtriClipExtractor, waveform: torch.Tensor, name: str) -> torch.Tensor:
    """Features of a waveform, or of a part of one, `(frames, columns)`.

    Raises:
        ValueError: the features are not finite, because samples are too large.
    """
    features = extractor.extract_waveform(waveform)
    # The sum shows NaN and infinity and takes a thirtieth of the time of looking at each number.
    if not torch.isfinite(features.sum()) and not torch.isfinite(features).all():
        raise ValueError(too_loud(name, waveform.abs().max().item()))
    return features


def _round_up(length: int, multiple: int | None) -> int:
    return -(-length // (multiple or 1)) * (multiple or 1)


def _padded_length(
    lengths: Sequence[int], padding: bool | str, max_length: int | None, truncation: bool, multiple: int | None
) -> int | None:
    """Number of frames of clips of these lengths after padding; None if they keep several lengths."""
    if max_length is None and (truncation or padding == "max_length"):
        raise ValueError("`truncation` and `padding='max_length'` need `max_length`, a number of frames.")
    if padding == "max_length" and max_length is not None and max(lengths) <= _round_up(max_length, multiple):
        return _round_up(max_length, multiple)
    if padding not in (False, "do_not_pad", "max_length"):
        return _round_up(max(lengths), multiple)
    return lengths[0] if len(set(lengths)) == 1 else None


def as_columns(items: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A dict of lists, from a list of dicts with the same keys or from such a dict."""
    if isinstance(items, Mapping):
        return dict(items)
    items = list(items)
    if any(item.keys() != items[0].keys() for item in items):
        raise ValueError(f"The dicts of a batch have different keys: {[sorted(item) for item in items]}.")
    return {name: [item[name] for item in items] for name in items[0]} if items else {}


def as_list_of_clips(audio: AudioInput | Sequence[AudioInput]) -> list[Any]:
    """One clip or several, as a list of clips."""
    if isinstance(audio, (np.ndarray, torch.Tensor)):
        if audio.ndim > 1:
            raise ValueError(
                f"An array of shape {tuple(audio.shape)} could be a batch or one clip with several channels. Pass a "
                "list: `list(batch)` for a batch of shape (clips, num_samples), `[clip]` for one clip of shape "
                "(num_channels, num_samples)."
            )
        return [audio]
    if is_recording(audio) or not isinstance(audio, Iterable):
        return [audio]
    audio = list(audio)
    if not audio:
        raise ValueError("No clip was given: the list of clips is empty.")
    return [audio] if isinstance(audio[0], (float, int, np.number)) else audio


__all__ = ["AtriClipExtractor", "as_columns", "as_list_of_clips", "extract_checked", "long_enough"]
