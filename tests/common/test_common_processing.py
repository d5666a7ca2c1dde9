"""transformers' common tests of processors and feature extractors."""

import unittest

import numpy as np
from transformers_tests.test_processing_common import ProcessorTesterMixin
from transformers_tests.test_sequence_feature_extraction_common import SequenceFeatureExtractionTestMixin

from modeling_atri import AtriFeatureExtractor, AtriProcessor
from tests.helpers.tiny import tiny_tokenizer


class FeatureExtractionTester:
    """Arguments of the extractor, and clips already turned into features, of lengths that grow step by step."""

    batch_size = 4
    feature_size = 16
    min_seq_length = 40
    seq_length_diff = 40
    max_seq_length = 120  # the tests pad to this plus the step, the longest clip
    padding_value = 0.0
    sampling_rate = 16000

    def prepare_feat_extract_dict(self) -> dict[str, float]:
        return {"feature_size": 16, "padding_value": 0.5, "sampling_rate": 16000, "top_db": 80.0}

    def prepare_inputs_for_common(self, equal_length: bool = False, numpify: bool = False) -> list:
        lengths = [self.min_seq_length + row * self.seq_length_diff for row in range(self.batch_size)]
        if equal_length:
            lengths = [max(lengths)] * self.batch_size
        features = [np.random.rand(length, self.feature_size).astype(np.float32) for length in lengths]
        return features if numpify else [item.tolist() for item in features]


class ExtractorWithUsualMask(AtriFeatureExtractor):
    """Names the mask of clips as the tests expect it. `AtriModel` has `attention_mask` for captions."""

    def pad(self, *arguments, **options):
        batch = super().pad(*arguments, **options)
        batch["attention_mask"] = batch.pop("input_features_mask")
        return batch


class AtriFeatureExtractorTest(SequenceFeatureExtractionTestMixin, unittest.TestCase):
    feature_extraction_class = ExtractorWithUsualMask

    def setUp(self):
        self.feat_extract_tester = FeatureExtractionTester()


class AtriProcessorTest(ProcessorTesterMixin, unittest.TestCase):
    processor_class = AtriProcessor

    @classmethod
    def _setup_feature_extractor(cls) -> AtriFeatureExtractor:
        return AtriFeatureExtractor()

    @classmethod
    def _setup_tokenizer(cls):
        return tiny_tokenizer()

    @staticmethod
    def prepare_processor_dict() -> dict:
        return {"normalize_text": True, "max_text_length": 300}

    def prepare_audio_inputs(self, batch_size: int | None = None) -> list[np.ndarray]:
        return [0.1 * np.random.randn(4000).astype(np.float32)] * (batch_size or 1)
