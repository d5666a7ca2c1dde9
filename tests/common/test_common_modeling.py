"""transformers' common tests of models, on the audio tower and on the dual encoder with two kinds of text tower."""

import unittest
from typing import ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedConfig, XLMRobertaConfig
from transformers_tests.test_configuration_common import ConfigTester
from transformers_tests.test_modeling_common import ModelTesterMixin

from modeling_atri import AtriAudioConfig, AtriAudioModel, AtriConfig, AtriModel
from tests.helpers.tiny import tiny_config


BATCH_SIZE = 3
NUM_FRAMES = 70  # 4 columns of patches, and 6 frames that no patch covers
NUM_TOKENS = 7
IN_THE_TOWERS = "the dual encoder has no states of its own"


class AudioTester:
    """Sizes, configuration and inputs of the audio tower."""

    is_training = True
    batch_size = BATCH_SIZE
    num_hidden_layers = 2
    num_attention_heads = 3
    hidden_size = 24
    seq_length = 16  # 4 rows by 4 columns of patches

    def get_config(self) -> AtriAudioConfig:
        return tiny_config().audio_config

    def prepare_config_and_inputs_for_common(self) -> tuple[AtriAudioConfig, dict[str, Tensor]]:
        mask = torch.ones(BATCH_SIZE, NUM_FRAMES, dtype=torch.long)
        mask[1, 40:] = 0
        features = 0.5 * torch.randn(BATCH_SIZE, NUM_FRAMES, 64)
        return self.get_config(), {"input_features": features, "input_features_mask": mask}


class TextTester:
    """Sizes and inputs of the text towers."""

    is_training = True
    batch_size = BATCH_SIZE
    num_hidden_layers = 2
    num_attention_heads = 2
    hidden_size = 16
    seq_length = NUM_TOKENS
    vocab_size = 600

    def prepare_config_and_inputs_for_common(self) -> tuple[PreTrainedConfig, dict[str, Tensor]]:
        mask = torch.ones(BATCH_SIZE, NUM_TOKENS, dtype=torch.long)
        mask[1, 4:] = 0
        input_ids = torch.randint(5, self.vocab_size, (BATCH_SIZE, NUM_TOKENS))
        return tiny_config().text_config, {"input_ids": input_ids, "attention_mask": mask}


class DualTester:
    """Both towers; `text_config` is None for the usual one, an M2M100 encoder."""

    is_training = True
    batch_size = BATCH_SIZE

    def __init__(self, text_config: PreTrainedConfig | None = None):
        self.text_tower = text_config
        self.audio_model_tester = AudioTester()
        self.text_model_tester = TextTester()

    def get_config(self) -> AtriConfig:
        config = tiny_config()
        if self.text_tower is not None:
            config.text_config = type(self.text_tower)(**self.text_tower.to_dict())
        return config

    def prepare_config_and_inputs_for_common(self) -> tuple[AtriConfig, dict[str, Tensor]]:
        audio_inputs = self.audio_model_tester.prepare_config_and_inputs_for_common()[1]
        text_inputs = self.text_model_tester.prepare_config_and_inputs_for_common()[1]
        return self.get_config(), {**audio_inputs, **text_inputs, "return_loss": True}


class AtriAudioModelTest(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (AtriAudioModel,)
    test_resize_embeddings = False
    test_can_init_all_missing_weights_before_2023 = True

    def setUp(self):
        self.model_tester = AudioTester()

    def check_training_gradient_checkpointing(self, gradient_checkpointing_kwargs: dict | None = None):
        """The tower has no loss of its own: trained by a gradient from outside, as the dual encoder gives it one."""
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        model = AtriAudioModel(config).train()
        model.activation_checkpointing_enable(gradient_checkpointing_kwargs)
        model(**inputs).pooler_output.square().sum().backward()
        assert [name for name, weight in model.named_parameters() if weight.grad is None] == []

    def test_training(self):
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        model = AtriAudioModel(config).train()
        model(**inputs).pooler_output.square().sum().backward()
        assert [name for name, weight in model.named_parameters() if weight.grad is None] == []

    def test_model_get_set_embeddings(self):
        """As transformers has it for vision models: the input layer is a convolution, no table of tokens."""
        model = AtriAudioModel(self.model_tester.get_config())
        assert isinstance(model.get_input_embeddings(), torch.nn.Conv2d)
        replacement = torch.nn.Conv2d(1, 24, 16, stride=16)
        model.set_input_embeddings(replacement)
        assert model.get_input_embeddings() is model.embeddings.patch_projection is replacement
        assert model.get_output_embeddings() is None

    def test_config(self):
        properties = ["hidden_size", "num_attention_heads", "num_hidden_layers", "num_mel_bins", "max_frames"]
        tester = ConfigTester(
            self, AtriAudioConfig, has_text_modality=False, common_properties=properties, hidden_size=48
        )
        tester.run_common_tests()


class AtriModelTest(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (AtriModel,)
    additional_model_inputs: ClassVar[list[str]] = ["input_ids"]
    test_can_init_all_missing_weights_before_2023 = True
    _is_composite = True
    text_config: ClassVar[PreTrainedConfig | None] = None

    def setUp(self):
        self.model_tester = DualTester(self.text_config)

    @unittest.skip(IN_THE_TOWERS)
    def test_attention_outputs(self):
        pass

    @unittest.skip(IN_THE_TOWERS)
    def test_hidden_states_output(self):
        pass

    @unittest.skip(IN_THE_TOWERS)
    def test_retain_grad_hidden_states_attentions(self):
        pass

    def test_config(self):
        ConfigTester(self, AtriConfig, has_text_modality=False, projection_dim=48).run_common_tests()


class AtriModelWithXLMRobertaTest(AtriModelTest):
    text_config = XLMRobertaConfig(
        vocab_size=600,
        hidden_size=16,
        num_attention_heads=2,
        num_hidden_layers=2,
        intermediate_size=32,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=1,
    )
