"""Runs transformers' common tests on our classes, under `make test-common` alone.

They need what `fetch.py` downloads; without `ATRI_COMMON_TESTS` nothing here is collected. Many of these tests apply
to some models only and skip the others: `SKIPS` says why they skip ours. A skip without an entry there fails, and a
summary by reason stands at the end of the run.
"""

import os
import re
from collections import Counter
from collections.abc import Generator

import pytest

from tests.common.fetch import PACKAGE, folder
from tests.common.stand_ins import make_importable


IS_ASKED_FOR = bool(os.environ.get("ATRI_COMMON_TESTS"))
collect_ignore_glob = [] if IS_ASKED_FOR else ["test_*.py"]

# What transformers' files mark their tests with; an unknown mark would be an error here.
MARKS = ("accelerate_tests", "flash_attn_test", "flash_attn_3_test", "flash_attn_4_test", "torch_compile_test")

# Part of the reason that transformers' test gives -> why it is right for our class.
SKIPS = {
    "test requires (multiple )?accelerator": "needs a GPU; tests/modeling_atri/test_execution_modes.py runs on a CPU",
    "test requires MPS": "needs a Mac",
    "test requires Flash Attention": "needs flash-attn and a GPU",
    "test requires the kernels library": "needs the kernels package and a GPU",
    "test requires deepspeed": "needs DeepSpeed",
    "test requires (librosa|Torchcodec)": "decodes files with packages that this project does without",
    "chat template": "the processor takes captions, not chats",
    "(image|video)_processor attribute not present": "no images and no videos",
    "doesn't support images with text": "no images",
    "_get_num_multimodal_tokens": "for generation: no token of a caption stands for a clip",
    "No (decoder-only|sequence-to-sequence) language modeling head": "an encoder generates nothing",
    "does not support grouped_mm|has no sparse experts|has no `output_router_logits`": "no mixture of experts",
    "does not support sliding window mask": "attention over all patches and tokens",
    "has no `base_model_class` defined": "tests of rotary position embeddings, which the audio tower has not",
    "doesn't use `inputs_embeds`": "inputs are spectrograms and token ids",
    "does not have position embeddings": "positions are not resized: longer clips are cut into chunks",
    "test_resize_embeddings is set to `False`": "the audio tower has no token embeddings",
    "does not have a TP plan": "no plan of tensor parallelism: the towers fit one device",
    "No conversion found": "no older checkpoint layout that would be converted while loading",
    "AtriAudioModel (class )?has no _keep_in_fp32_modules": "nothing in the audio tower needs float32",
    "[Mm]odel is not (a )?composite|No subconfigs|AtriAudioModel does not support SDPA": (
        "for models of several towers; the same is tested on AtriModel"
    ),
    "AtriModel does not support SDPA": "for models of one tower; its twin for composite models runs",
    "the dual encoder has no states of its own": (
        "the output holds the towers' outputs: AtriAudioModelTest and the tests of get_text_features and "
        "get_audio_features look at those"
    ),
}

_skipped: Counter[str] = Counter()


def pytest_configure(config: pytest.Config) -> None:
    if IS_ASKED_FOR and not (folder() / PACKAGE).is_dir():
        raise pytest.UsageError(f"There is no {folder() / PACKAGE}: run `make test-common`, which fetches it.")
    if IS_ASKED_FOR:
        make_importable(folder())
    for mark in MARKS:
        config.addinivalue_line("markers", f"{mark}: set by transformers' common tests")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple):
        given = report.longrepr[2]
        reasons = [reason for pattern, reason in SKIPS.items() if re.search(pattern, given)]
        if reasons:
            _skipped[reasons[0]] += 1
        else:
            report.outcome = "failed"
            report.longrepr = f"Skipped for a reason that SKIPS in {__file__} does not explain: {given}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _skipped:
        terminalreporter.section("common tests that do not apply, and why")
        for reason, count in _skipped.most_common():
            terminalreporter.line(f"{count:4d}  {reason}")
