"""What a loss of a study is."""

from torch import Tensor, nn


class OwnLoss(nn.Module):
    """A loss of all languages together. Its parameters, if it has any, are trained with the model's."""

    def forward(
        self, audio_embeds: Tensor, text_embeds: Tensor, scale: Tensor, group_ids: Tensor | None, step: int
    ) -> Tensor:
        """The loss of a batch.

        Args:
            audio_embeds: `(clips, width)`, of length 1.
            text_embeds: `(languages, clips, width)`, of length 1, in the languages that the objective draws.
            scale: the inverse temperature.
            group_ids: `(clips,)`; clips with equal ids are positives of one another.
            step: the number of the step.

        Returns:
            A scalar.
        """
        raise NotImplementedError

    def figures(self) -> dict[str, float]:
        """What the loss has learnt, as further metrics of the run."""
        return {}
