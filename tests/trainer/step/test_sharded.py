"""Two processes whose parameters FSDP2 shards train as one process does, and go on from each other's checkpoints."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from modeling_atri import AtriModel, AtriProcessor
from modeling_atri.trainer.evaluation.retrieval import RetrievalSet
from tests.helpers.forks import check_call
from tests.helpers.fsdp_runs import FSDP_CASES, run_exact, run_fsdp
from tests.helpers.processes import CASES, run_case
from tests.helpers.tiny import tiny_model
from tests.helpers.training import (
    LANGUAGES,
    assert_same_gradients,
    assert_same_weights,
    losses,
    make_arguments,
    make_rows,
    make_trainer,
)


pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where one process, and two with FSDP2, wrote what they found; they are started once, for all tests."""
    folder = tmp_path_factory.mktemp("fsdp")
    check_call(run_fsdp, folder, timeout=580.0)
    return folder


@pytest.fixture(scope="module")
def ranks(folder) -> list[dict]:
    return found_by_ranks(folder)


def found_by_ranks(folder) -> list[dict]:
    return [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(2)]


def test_an_exact_step_equals_one_process(tmp_path):
    """One case of the next test, which is slow."""
    check_call(run_exact, tmp_path)
    check_case("exact", found_by_ranks(tmp_path), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", FSDP_CASES)
def test_training_equals_one_process(tmp_path, ranks, case):
    check_case(case, ranks, tmp_path)


def check_case(case: str, ranks: list[dict], folder) -> None:
    """Both processes found what one does."""
    expected = run_case(FSDP_CASES[case], folder, world_size=1)
    tolerance = 2e-2 if case == "bf16" else 1e-5
    for found in (rank[case] for rank in ranks):
        assert found["losses"] == pytest.approx(expected["losses"], rel=tolerance)
        for step, (ours, theirs) in enumerate(zip(found["gradients"], expected["gradients"], strict=True)):
            # After a step the weights differ by rounding, and so the next gradients by more.
            if step == 0 or case != "bf16":
                assert_same_gradients(ours, theirs, tolerance=tolerance * (1 if step == 0 else 5))
        if case != "bf16":  # Adam makes a whole step of a gradient that is only rounding
            assert_same_weights(found["weights"], expected["weights"], tolerance=tolerance)
        for name, embeddings in expected["embeddings"].items():
            np.testing.assert_allclose(found["embeddings"][name], embeddings, atol=tolerance, err_msg=name)
    assert_same_weights(*(rank[case]["weights"] for rank in ranks))


@pytest.mark.slow
def test_the_main_cases_have_ten_steps(ranks):
    for case in ("exact", "at once", "in chunks", "teach"):
        assert len(ranks[0][case]["losses"]) == 10


@pytest.mark.slow
def test_a_process_without_fsdp_is_not_sharded_by_an_earlier_run(tmp_path, ranks):
    expected = run_case(CASES["akcl"], tmp_path, world_size=1)
    assert_same_weights(ranks[0]["plain"]["weights"], expected["weights"], tolerance=1e-5)


@pytest.mark.slow
def test_each_process_has_a_part_of_every_layer(ranks):
    for found in (rank["shards"] for rank in ranks):
        assert found["is sharded"]
        assert found["own"] == found["own again"]
    total = ranks[0]["shards"]["all"]
    assert sum(rank["shards"]["own"] for rank in ranks) == total == sum(p.numel() for p in tiny_model().parameters())
    assert max(rank["shards"]["own"] for rank in ranks) < 0.6 * total


@pytest.mark.slow
def test_processes_may_evaluate_different_numbers_of_batches(ranks):
    for found in (rank["shards"] for rank in ranks):
        assert found["embeddings"].shape == (3, 12)
        np.testing.assert_array_equal(found["embeddings"], found["again"])


@pytest.mark.slow
def test_the_first_process_decides_about_the_first_weights(folder, ranks):
    first, second = (rank["different starts"] for rank in ranks)
    assert_same_weights(first, second)
    saved = AtriModel.from_pretrained(folder / "starts" / "saved").state_dict()
    assert_same_weights(first, saved)


# Checkpoints


@pytest.mark.slow
def test_a_run_that_is_saved_and_evaluated_equals_one_process(folder, ranks):
    one = torch.load(folder / "one.pt", weights_only=False)
    for found in (rank["saved"] for rank in ranks):
        assert found["losses"] == pytest.approx(one["losses"], rel=1e-5)
        assert len(found["evaluated"]) == 4
        for ours, theirs in zip(found["evaluated"], one["evaluated"], strict=True):
            assert ours == pytest.approx(theirs, abs=1e-5)
        assert found["best"] == one["best"]
        assert_best_model(found["weights"], folder / "saved" / found["best"])


def assert_best_model(weights: dict, checkpoint) -> None:
    """The best model was loaded in the end."""
    saved = AtriModel.from_pretrained(checkpoint).state_dict()
    assert_same_weights(weights, saved)


@pytest.mark.slow
def test_a_resumed_run_equals_one_without_a_stop(ranks):
    for found in ranks:
        assert found["resumed"]["losses"] == found["saved"]["losses"]
        assert found["resumed"]["evaluated"] == found["saved"]["evaluated"]


@pytest.mark.slow
def test_checkpoints_of_one_process_are_continued_with_fsdp_and_back(folder, ranks):
    one = torch.load(folder / "one.pt", weights_only=False)
    continued = torch.load(folder / "continued.pt", weights_only=False)
    for found in (*(rank["from one"] for rank in ranks), continued):
        assert len(found["losses"]) == 4
        assert found["losses"] == pytest.approx(one["losses"], rel=1e-5)


@pytest.mark.slow
def test_a_checkpoint_has_the_files_of_one_process(folder):
    names = {
        run: {path.name for path in (folder / run / "checkpoint-2").iterdir() if "_1." not in path.name}
        for run in ("one", "saved")
    }
    assert {name.replace("_0.", ".") for name in names["saved"]} == {name.replace("_0.", ".") for name in names["one"]}
    configs = [json.loads((folder / run / "config.json").read_text()) for run in ("one", "saved")]
    assert configs[0] == configs[1]
    assert configs[0]["architectures"] == ["AtriModel"]
    states = [
        torch.load(folder / run / "checkpoint-2" / "optimizer.pt", weights_only=True) for run in ("one", "saved")
    ]
    assert [group["params"] for group in states[0]["param_groups"]] == [
        group["params"] for group in states[1]["param_groups"]
    ]
    for number, entry in states[0]["state"].items():
        assert entry.keys() == states[1]["state"][number].keys()
        for name, value in entry.items():
            other = states[1]["state"][number][name]
            assert type(other) is type(value)
            torch.testing.assert_close(other, value, atol=1e-5, rtol=1e-3)


@pytest.mark.slow
def test_the_saved_model_embeds_like_the_trained_one(folder, ranks, tmp_path):
    model = AtriModel.from_pretrained(folder / "saved")
    AtriProcessor.from_pretrained(folder / "saved")
    assert_same_weights(model, ranks[0]["saved"]["weights"])
    trainer = make_trainer(make_arguments(tmp_path), None, make_rows(3), model)
    assert trainer.embed(RetrievalSet.from_rows(make_rows(3), LANGUAGES)).audio.shape == (3, 12)


@pytest.mark.slow
@pytest.mark.skipif("adapter" not in CASES, reason="needs the extra peft")
def test_a_resumed_adapter_equals_one_without_a_stop(ranks):
    for found in ranks:
        assert_same_weights(found["adapter resumed"], found["adapter saved"])
        assert any("lora" in name for name in found["adapter saved"])


# Streams


@pytest.mark.slow
def test_a_stream_trains_as_with_plain_processes(ranks):
    for found in ranks:
        ours, theirs = found["stream, fsdp"], found["stream"]
        assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-5)
        assert_same_weights(ours["weights"], theirs["weights"], tolerance=1e-5)
        for one, other in zip(ours["batches"], theirs["batches"], strict=True):
            assert one["item_ids"].tolist() == other["item_ids"].tolist()


@pytest.mark.slow
def test_a_stream_trains_as_one_process_on_the_clips_of_both(tmp_path, ranks):
    batches = [both(*parts) for parts in zip(*(rank["stream, fsdp"]["batches"] for rank in ranks), strict=True)]
    assert [len(batch["item_ids"]) for batch in batches] == [6, 5, 6, 5, 6]
    options = {"objective": "akcl", "max_steps": 5, "per_device_train_batch_size": 6, "learning_rate": 0.01}
    trainer = make_trainer(make_arguments(tmp_path, **options), make_rows(11, num_captions=1))
    trainer.get_train_dataloader = lambda: torch.utils.data.DataLoader(batches, batch_size=None)
    trainer.train()
    assert losses(trainer) == pytest.approx(ranks[0]["stream, fsdp"]["losses"], rel=1e-5)
    assert_same_weights(ranks[0]["stream, fsdp"]["weights"], trainer.model.state_dict(), tolerance=1e-5)


def both(first: dict, second: dict) -> dict:
    """The batches of two processes as one."""
    joined = {name: torch.cat([first[name], second[name]]) for name in ("item_ids", "group_ids")}
    for name, clips, length, filling in (
        ("input_features", 0, 1, 0.0),
        ("input_features_mask", 0, 1, 0),
        ("input_ids", 1, 2, 1),
        ("attention_mask", 1, 2, 0),
    ):
        parts = [part[name].transpose(0, clips).transpose(1, length) for part in (first, second)]
        rows = torch.nn.utils.rnn.pad_sequence(
            [row for part in parts for row in part], batch_first=True, padding_value=filling
        )
        joined[name] = rows.transpose(1, length).transpose(0, clips)
    languages = zip(first["languages"], second["languages"], strict=True)
    return joined | {"languages": [[*one, *other] for one, other in languages]}


@pytest.mark.slow
def test_a_resumed_stream_equals_one_without_a_stop(ranks):
    for found in ranks:
        assert found["stream, resumed"]["losses"] == found["stream, fsdp"]["losses"]
        assert len(found["stream, resumed"]["batches"]) == 2
        assert_same_weights(found["stream, resumed"]["weights"], found["stream, fsdp"]["weights"])


# Models of PEFT


@pytest.mark.slow
@pytest.mark.skipif("adapter" not in CASES, reason="needs the extra peft")
def test_a_peft_model_trains_as_in_one_process(folder, ranks):
    expected = torch.load(folder / "peft alone.pt", weights_only=False)
    for found in (rank[name] for rank in ranks for name in ("peft", "peft resumed", "peft from one")):
        assert found["losses"] == pytest.approx(expected["losses"], rel=1e-5)
        assert found["best"] == expected["best"]
        trained = [name for name in found["weights"] if "lora" in name]
        assert trained
        assert_same_weights(compared(found["weights"]), compared(expected["weights"]), tolerance=1e-4)
    for found in ranks:
        assert_same_weights(found["peft resumed"]["weights"], found["peft"]["weights"])


def compared(weights: dict) -> dict:
    """Without biases whose gradient is rounding alone, of which Adam makes whole steps."""
    return {name: weight for name, weight in weights.items() if "k_proj" not in name or "bias" not in name}


@pytest.mark.slow
@pytest.mark.skipif("adapter" not in CASES, reason="needs the extra peft")
def test_a_saved_peft_model_is_that_of_one_process(folder, ranks):
    for place in ("", "checkpoint-2"):
        ours, theirs = (
            load_file(folder / run / place / "adapter_model.safetensors") for run in ("peft", "peft alone")
        )
        assert_same_weights(compared(ours), compared(theirs), tolerance=1e-4)
        assert not (folder / "peft" / place / "model.safetensors").exists()


@pytest.mark.slow
def test_what_would_go_wrong_is_refused(ranks):
    for refused in (rank["refused"] for rank in ranks):
        assert "`text_cache_dir` is not supported with FSDP, because the processes run" in refused["text cache"]
        assert "LayerDrop is not supported with FSDP" in refused["layerdrop"]
        assert "Set `model.text_model.layerdrop` to 0; it is 0.1." in refused["layerdrop"]
