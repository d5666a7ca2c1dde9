"""PyTorch CED, the audio tower of the paper."""

import logging
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, auto_docstring
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .base_model_atri import MODEL_OPTIONS, AtriPreTrainedModel, check_inputs, masked_mean
from .ced_layers_atri import AtriAudioEmbeddings, AtriAudioLayer, AtriMelNorm
from .configuration_atri import IS_REMOTE_CODE, AtriAudioConfig


logger = logging.getLogger(__name__)


@auto_docstring(custom_intro="CED: a vision transformer over log-mel patches with mean pooling and no projection.")
class AtriAudioModel(AtriPreTrainedModel):
    config: AtriAudioConfig  # type: ignore[assignment]
    base_model_prefix = "audio_model"  # its name in AtriModel, so that it also loads from such a checkpoint
    main_input_name = "input_features"
    input_modalities = ["audio"]
    _input_embed_layer = "patch_projection"

    def __init__(self, config: AtriAudioConfig):
        super().__init__(config)
        self.mel_norm = AtriMelNorm(config.num_mel_bins)
        self.embeddings = AtriAudioEmbeddings(config)
        rates = torch.linspace(0, float(config.drop_path_rate), config.num_hidden_layers, device="cpu").tolist()
        self.layers = nn.ModuleList([AtriAudioLayer(config, rate) for rate in rates])
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.gradient_checkpointing = False
        self._checks_to_do = ["mel statistics"]  # a list, because replicas of `nn.DataParallel` share its content
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    @auto_docstring
    def forward(
        self,
        input_features: Tensor,
        input_features_mask: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        r"""
        input_features (`torch.Tensor` of shape `(batch_size, num_frames, num_mel_bins)`):
            Log-mel spectrograms in decibels, from [`AtriFeatureExtractor`].
        input_features_mask (`torch.Tensor` of shape `(batch_size, num_frames)`, *optional*):
            1 on a clip's own frames, 0 on padding, which must come last. Default: no padding.

        Returns:
            `BaseModelOutputWithPooling`: `last_hidden_state`, of shape
            `(batch_size, chunks * patches, hidden_size)` and zero where a clip has no patch, and `pooler_output`, of
            shape `(batch_size, hidden_size)`. A clip of up to `config.max_frames` frames is one chunk, and its padding
            is masked. A longer clip is cut into chunks of `max_frames` frames. The last chunk is filled with zeros
            after the normalisation; this filling is attended to and counts in the mean. The means of the chunks are
            averaged with equal weights. CED was defined and trained in this way.
        """
        check_inputs(kwargs, MODEL_OPTIONS, "`input_features` and `input_features_mask`")
        num_frames = self._num_frames(input_features, input_features_mask)
        if self.training and not torch.compiler.is_exporting():
            self._check_mel_statistics()
        features = self.mel_norm(input_features)
        chunks, chunk_frames, is_used = self._cut(features, num_frames)
        hidden_states, patch_mask = self._embed(chunks, chunk_frames)
        attention_mask = create_bidirectional_mask(
            config=self.config, inputs_embeds=hidden_states, attention_mask=patch_mask
        )
        for layer in self.layers:
            hidden_states = layer(hidden_states, attention_mask, **kwargs)
        hidden_states = self.layer_norm(hidden_states)
        return self._pool(hidden_states, patch_mask, is_used)

    @torch.compiler.assume_constant_result  # calls the method while a compiled model is traced, outside of its graph
    def _check_mel_statistics(self) -> None:
        """Warn once of a tower that is trained without statistics."""
        is_checked = not self._checks_to_do
        self._checks_to_do.clear()
        if not is_checked and not self.mel_norm.running_mean.is_meta and not self.mel_norm.is_set:
            logger.warning(
                "The mel statistics of this audio tower were never set, so it is trained on raw decibels, far from "
                "zero mean and unit variance. Before training, call "
                "`model.audio_model.mel_norm.set_statistics(mean, variance)` with the mean (dB) and variance (dB²) of "
                "each mel bin over training clips. `AtriTrainer` does so, and pretrained towers "
                "(`from_audio_text_pretrained`) have their statistics."
            )

    def _num_frames(self, input_features: Tensor, mask: Tensor | None) -> Tensor:
        """Number of frames of each clip, `(batch_size,)`, after a check of the inputs."""
        if input_features.ndim != 3 or input_features.shape[-1] != self.config.num_mel_bins:
            raise ValueError(
                f"`input_features` must have shape (batch_size, num_frames, {self.config.num_mel_bins}); got "
                f"{tuple(input_features.shape)}."
            )
        batch_size, longest, _ = input_features.shape
        if longest < self.config.patch_size[1]:
            raise ValueError(
                f"The clips have {longest} frames, fewer than one patch ({self.config.patch_size[1]} frames, "
                f"{self.config.patch_size[1] * 10} ms). Use longer clips, or pad_short=True in the processor."
            )
        if mask is None:
            return torch.full((batch_size,), longest, device=input_features.device)
        if mask.shape != input_features.shape[:2]:
            raise ValueError(
                f"`input_features_mask` must have shape {tuple(input_features.shape[:2])} like the clips' frames; got "
                f"{tuple(mask.shape)}."
            )
        num_frames = mask.sum(dim=1)
        too_short, has_gap = num_frames < self.config.patch_size[1], (mask[:, 1:] > mask[:, :-1]).any(dim=1)
        if torch.compiler.is_compiling() or not bool((too_short | has_gap).any()):
            return num_frames
        if bool(has_gap.any()):
            raise ValueError(
                "`input_features_mask` must be 1 on a clip's frames and 0 after them. Pad clips on the right."
            )
        raise ValueError(
            f"`input_features_mask` leaves clips of {num_frames.tolist()} frames; each needs at least one patch "
            f"({self.config.patch_size[1]} frames)."
        )

    def _cut(self, features: Tensor, num_frames: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Cut normalised clips, `(batch_size, frames, mel bins)`, into chunks of `max_frames`.

        Returns the chunks, `(chunks, chunk length, mel bins)`; the number of frames of each chunk that count,
        `(chunks,)`; and the places of the chunks, a bool mask of `(batch_size, chunks per clip)`, or None if every
        clip is one chunk.
        """
        size = self.config.max_frames
        if torch.compiler.is_exporting():
            return self._cut_any_length(features, num_frames)
        if features.shape[1] <= size:
            return features, num_frames, None
        chunks_per_clip = -(-features.shape[1] // size)
        inside = torch.arange(features.shape[1], device=features.device)[None, :, None] < num_frames[:, None, None]
        features = torch.where(inside, features, 0.0)
        features = F.pad(features, (0, 0, 0, chunks_per_clip * size - features.shape[1]))
        starts = torch.arange(chunks_per_clip, device=features.device) * size
        is_used = starts[None, :] < num_frames[:, None]
        # Padding of short clips is masked; in the chunks of long clips, the zeros count.
        frames = torch.where(num_frames[:, None] <= size, num_frames[:, None], size).expand_as(is_used)
        chunks = features.unflatten(1, (chunks_per_clip, size))
        if torch.compiler.is_compiling():  # shapes must be static, so unused chunks are computed too
            return chunks.flatten(0, 1), frames.flatten(), is_used
        return chunks[is_used], frames[is_used], is_used

    def _cut_any_length(self, features: Tensor, num_frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`_cut` for `torch.export`: sizes are values in the graph, not branches, so one graph serves all lengths.

        Clips, chunks and frames are selected by index. Frames after the last whole patch are left out.
        """
        size, width = self.config.max_frames, self.config.patch_size[1]
        rows, most = self.config.patch_grid
        fewest = min(most, 2) if rows == 1 else 1  # attention in transformers branches on a single token
        longest = torch.scalar_tensor(features.shape[1], dtype=torch.long)
        columns = (longest // width).clamp(fewest, most).item()
        chunks_per_clip = (-(-longest // size)).item()
        torch._check(columns >= fewest)  # noqa: SLF001
        torch._check(columns <= most)  # noqa: SLF001
        torch._check(chunks_per_clip >= 1)  # noqa: SLF001
        starts = torch.arange(chunks_per_clip, device=features.device) * size
        is_used = starts[None, :] < num_frames[:, None]
        clip, chunk = is_used.nonzero(as_tuple=True)
        frame = starts[chunk][:, None] + torch.arange(columns * width, device=features.device)
        inside = frame < num_frames[clip][:, None]
        chunks = features[clip[:, None], torch.where(inside, frame, 0)]
        return torch.where(inside[..., None], chunks, 0.0), num_frames[clip].clamp(max=size), is_used

    def _embed(self, chunks: Tensor, chunk_frames: Tensor) -> tuple[Tensor, Tensor]:
        """Patch tokens, `(chunks, tokens, hidden_size)`, and a bool mask of those that count, `(chunks, tokens)`."""
        hidden_states = self.embeddings(chunks)
        rows, _ = self.config.patch_grid
        columns = hidden_states.shape[1] // rows
        used_columns = chunk_frames // self.config.patch_size[1]
        patch_mask = torch.arange(columns, device=chunks.device)[None, :] < used_columns[:, None]
        patch_mask = patch_mask.repeat(1, rows)  # frequency-major, like the tokens
        if self.training and self.config.patch_dropout > 0:
            return self._drop_patches(hidden_states, patch_mask)
        return hidden_states, patch_mask

    def _drop_patches(self, hidden_states: Tensor, patch_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Keep a random share `1 - patch_dropout` of the patches of each clip."""
        kept = ((1 - self.config.patch_dropout) * patch_mask.sum(dim=1)).ceil().long()  # (chunks,)
        draw = torch.rand(patch_mask.shape, device=patch_mask.device).masked_fill(~patch_mask, 2.0)
        if torch.compiler.is_compiling():  # sizes must not depend on values, so the largest possible one is used
            longest = math.ceil((1 - self.config.patch_dropout) * patch_mask.shape[1])
        else:
            longest = int(kept.max())
        order = draw.argsort(dim=1)[:, :longest]
        hidden_states = hidden_states.gather(1, order[..., None].expand(-1, -1, hidden_states.shape[-1]))
        return hidden_states, torch.arange(order.shape[1], device=order.device)[None, :] < kept[:, None]

    def _pool(self, hidden_states: Tensor, patch_mask: Tensor, is_used: Tensor | None) -> BaseModelOutputWithPooling:
        """Mean over the patches of each chunk, then over the chunks of each clip."""
        pooled = masked_mean(hidden_states, patch_mask)
        hidden_states = hidden_states * patch_mask[..., None]
        if is_used is not None:
            shape = (*is_used.shape, *hidden_states.shape[1:])
            if torch.compiler.is_exporting() or not torch.compiler.is_compiling():
                pooled = pooled.new_zeros(*is_used.shape, pooled.shape[-1]).index_put((is_used,), pooled)
                hidden_states = hidden_states.new_zeros(shape).index_put((is_used,), hidden_states)
            else:  # unused chunks were computed too
                hidden_states = hidden_states.view(shape) * is_used[..., None, None]
            pooled = masked_mean(pooled.view(*is_used.shape, -1), is_used)
            hidden_states = hidden_states.flatten(1, 2)
        return BaseModelOutputWithPooling(last_hidden_state=hidden_states, pooler_output=pooled)


AtriAudioModel.register_for_auto_class("AutoModel")
if not IS_REMOTE_CODE:
    AutoModel.register(AtriAudioConfig, AtriAudioModel, exist_ok=True)

__all__ = ["AtriAudioModel"]
