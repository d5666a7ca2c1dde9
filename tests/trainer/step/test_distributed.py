"""Two and three processes on the CPU (gloo) do what one does on the union of their batches."""

import numpy as np
import pytest
import torch

from modeling_atri.trainer.data.batches import EpochBatchSampler
from modeling_atri.trainer.step.distributed import batch_shard
from tests.helpers.forks import check_call
from tests.helpers.processes import (
    BATCH_SIZE,
    CASES,
    NUM_CLIPS,
    SHARED_ROWS,
    TEN_STEPS,
    WORLDS,
    run_case,
    run_diagnostics,
    run_evaluation,
    run_shared_rows,
    run_worlds,
)
from tests.helpers.tiny import tiny_model
from tests.helpers.training import assert_same_gradients, assert_same_weights


pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def worlds(tmp_path_factory) -> dict[int, list[dict]]:
    """What each of two, and each of three processes found; all are started once, for all tests."""
    folder = tmp_path_factory.mktemp("worlds")
    check_call(run_worlds, folder)
    return {
        size: [torch.load(folder / str(size) / f"rank{rank}.pt", weights_only=False) for rank in range(size)]
        for size in WORLDS
    }


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process found in a case, for the tests of all worlds."""
    found = {}

    def run(case: str) -> dict:
        if case not in found:
            found[case] = run_case(CASES[case], tmp_path_factory.mktemp("alone"), world_size=1)
        return found[case]

    return run


@pytest.mark.parametrize(("world_size", "case"), [(size, case) for size, cases in WORLDS.items() for case in cases])
def test_training_equals_one_process(alone, worlds, case, world_size):
    options, expected = CASES[case], alone(case)
    assert len(expected["gradients"]) == (10 if options.items() >= TEN_STEPS.items() else 4) / (
        options.get("gradient_accumulation_steps", 1)
    )
    tolerance = 2e-2 if "bf16" in options else 1e-5
    for found in (rank[case] for rank in worlds[world_size]):
        assert found["losses"] == pytest.approx(expected["losses"], rel=tolerance)
        for step, (ours, theirs) in enumerate(zip(found["gradients"], expected["gradients"], strict=True)):
            # After a step the weights differ by rounding, and so the next gradients by more.
            if step == 0 or "bf16" not in options:
                assert_same_gradients(ours, theirs, tolerance=tolerance * (1 if step == 0 else 5))
        for name, embeddings in expected["embeddings"].items():
            np.testing.assert_allclose(found["embeddings"][name], embeddings, atol=tolerance, err_msg=name)
        # Adam makes a whole step of a gradient that is but rounding; such weights are those without an effect.
        if "optim" not in options:
            assert_same_weights(found["weights"], expected["weights"], tolerance=tolerance)


@pytest.mark.parametrize(("world_size", "case"), [(size, case) for size, cases in WORLDS.items() for case in cases])
def test_all_processes_end_with_one_model(worlds, case, world_size):
    first, *others = (rank[case] for rank in worlds[world_size])
    for other in others:
        assert_same_weights(first["weights"], other["weights"])
        assert first["losses"] == other["losses"]


@pytest.mark.parametrize("case", [case for case in CASES if "adapter" not in case and case != "from scratch"])
def test_training_leaves_the_mel_statistics_as_they_were(worlds, case):
    given = tiny_model().state_dict()
    names = [name for name in given if "mel_norm.running" in name]
    assert len(names) == 2
    for found in worlds[3 if case in WORLDS[3] else 2]:
        assert all(torch.equal(found[case]["weights"][name], given[name]) for name in names)


@pytest.mark.parametrize("world_size", WORLDS)
def test_evaluation_equals_one_process(tmp_path, worlds, world_size):
    alone = run_evaluation(tmp_path, world_size=1)
    for found in (rank["evaluation"] for rank in worlds[world_size]):
        np.testing.assert_allclose(found["audio"], alone["audio"], atol=1e-6)
        np.testing.assert_allclose(found["one clip"], alone["one clip"], atol=1e-6)
        for language, text in alone["text"].items():
            np.testing.assert_allclose(found["text"][language], text, atol=1e-6)
        assert found["metrics"].keys() == alone["metrics"].keys()
        for name, value in alone["metrics"].items():
            if "runtime" not in name:
                assert found["metrics"][name] == pytest.approx(value, abs=1e-6), name


@pytest.mark.parametrize("world_size", WORLDS)
def test_diagnostics_are_written_once_and_equal_one_process(tmp_path, worlds, world_size):
    alone = run_diagnostics(tmp_path, world_size=1)
    assert [line["kind"] for line in alone] == ["distribution", "alignment"] * 2
    for found in (rank["diagnostics"] for rank in worlds[world_size]):
        assert len(found) == len(alone)
        for ours, theirs in zip(found, alone, strict=True):
            if ours["kind"] == "distribution":
                assert ours == pytest.approx(theirs)
            else:
                assert (ours["step"], ours["audio"]) == (theirs["step"], pytest.approx(theirs["audio"], abs=1e-2))


@pytest.mark.parametrize("world_size", WORLDS)
def test_what_would_go_wrong_is_refused(worlds, world_size):
    for refused in (rank["refused"] for rank in worlds[world_size]):
        assert "FSDP of version 1 is not supported" in refused["fsdp"]
        assert "This does not work with a ParallelismConfig." in refused["tensor parallel"]
        assert "This does not work with a ParallelismConfig." in refused["replicated"]
        assert f"{world_size} processes were started, but this one would train alone" in refused["alone"]


@pytest.mark.parametrize("num_clips", range(12, 19))
@pytest.mark.parametrize("world_size", [2, 3])
def test_all_processes_together_draw_the_batches_of_one(num_clips, world_size):
    """But for a last step of fewer clips than processes, which several leave out."""
    alone = list(EpochBatchSampler(num_clips, 6, seed=0))
    parts = [list(EpochBatchSampler(num_clips, 6 // world_size, 0, rank, world_size)) for rank in range(world_size)]
    together = [[draw for part in step for draw in part] for step in zip(*parts, strict=True)]
    rest = num_clips % 6
    assert len(alone) == num_clips // 6 + (rest >= 2)
    assert together == (alone[:-1] if (rest, world_size) == (2, 3) else alone)
    sizes = [len(part) for step in zip(*parts, strict=True) for part in step]
    assert min(sizes) >= 1
    assert max(sizes) <= 6 // world_size


def test_rows_are_gathered_and_their_gradients_go_back(worlds):
    first, second = (rank["primitives"] for rank in worlds[2])
    assert first["place"] == (0, 2)
    assert second["place"] == (1, 2)
    expected = torch.tensor([[0.0, 1.0], [10.0, 11.0], [12.0, 13.0], [14.0, 15.0]])
    for found in (first, second):
        assert torch.equal(found["gathered"], expected)
        assert found["ids"].tolist() == [0, 10, 11, 12]
    # Each process weighs the rows by (rank + 1) * (1 ... 8); the owner gets the sum over both.
    weights = 3 * torch.arange(1.0, 9.0).view(4, 2)
    assert torch.equal(first["gradient"], weights[:1])
    assert torch.equal(second["gradient"], weights[1:])


@pytest.mark.parametrize(
    ("case", "messages"),
    [
        # Row counts and ids; nine views and their gradients; which gradients there are, and their mean.
        ("akcl", 1 + 1 + 9 + 9 + 2),
        ("akcl in chunks", 1 + 1 + 9 + 9 + 2),
        ("kcl", 1 + 1 + 9 + 9 + 2),
        ("akcl at once", 1 + 1 + 9 + 9),  # DDP averages the gradients by itself
        ("teach", 1 + 1 + 9 + 2 + 9 + 2),  # also two kinds of targets, which have no gradients
    ],
)
@pytest.mark.parametrize("world_size", WORLDS)
def test_each_view_is_exchanged_once(worlds, world_size, case, messages):
    for found in (rank["counted"][case] for rank in worlds[world_size]):
        assert found == [messages]


@pytest.mark.parametrize("world_size", [1, *WORLDS])
@pytest.mark.parametrize("case", SHARED_ROWS)
def test_gradients_of_shared_rows_are_those_of_the_whole_batch(worlds, world_size, case):
    found = [run_shared_rows(0, 1)] if world_size == 1 else [rank["shared rows"] for rank in worlds[world_size]]
    for values in (rank[case] for rank in found):
        for name in ("scale", "rows 0", "rows 1"):
            torch.testing.assert_close(values[name], values[f"expected {name}"], atol=1e-6, rtol=0)
            assert values[name].abs().max() > 1e-4


def test_gradients_are_averaged_also_where_one_process_has_none(worlds):
    """What no process has a gradient of gets none: an optimizer would decay it."""
    for found in (rank["primitives"]["averaged"] for rank in worlds[2]):
        for gradient, value in zip(found, (1.5, 2.0, 2.0, None, None), strict=True):
            assert gradient is None if value is None else torch.equal(gradient, torch.full((2, 2), value))


def test_layers_that_processes_leave_out_do_not_stop_them(worlds):
    first, second = (rank["layer drop"] for rank in worlds[2])
    assert first == second
    assert len(first) == 8
    assert np.isfinite(first).all()


def test_one_process_has_no_shard():
    assert batch_shard(4, torch.device("cpu")) is None
    assert NUM_CLIPS % BATCH_SIZE == 5, "the last step must be uneven, or the tests above test less than they say"
