"""The command `benchmarks/consistency.py`. Its runs take hours, so no test does one."""

import json
from pathlib import Path

from tests.helpers.study import made_up_run


def test_a_run_of_other_options_is_not_done():
    from consistency import is_done
    from consistency_study.grid import CELLS

    cell = CELLS["kcl-2"]
    done = [made_up_run("kcl-2", 0, options=cell.options), made_up_run("kcl-2", 1, options={"learning_rate": 0.5})]
    assert [is_done(cell, seed, done) for seed in range(3)] == [True, False, False]


def test_the_first_seeds_come_first():
    from consistency import runs_in_order
    from consistency_study.grid import CELLS

    order = [(cell.name, seed) for cell, seed in runs_in_order([CELLS["kcl-2"], CELLS["kcl"]])]
    assert order == [
        *(("kcl-2", 0), ("kcl", 0), ("kcl-2", 1), ("kcl", 1), ("kcl-2", 2), ("kcl", 2)),
        *(("kcl", 3), ("kcl", 4)),  # kcl-2 has three seeds
    ]


def test_rates_are_compared_without_dev(tmp_path):
    from consistency import held_out

    clips = {"a": ["1-1.wav"], "b": ["3-1.wav"], "c": ["3-2.wav", "2-1.wav"], "d": ["3-3.wav"], "e": ["4-1.wav"]}
    rows = [
        {"file_name": f"{name}.wav", "triple": triple, "sources": [{"clip": clip} for clip in of_row]}
        for (name, of_row), triple in zip(clips.items(), "axcxe", strict=True)
    ]
    (tmp_path / "data" / "train").mkdir(parents=True)
    (tmp_path / "data" / "train" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    folder = held_out(tmp_path / "data", tmp_path / "held_out")
    found = {
        part: [Path(json.loads(line)["file_name"]) for line in (folder / part / "metadata.jsonl").open()]
        for part in ("train", "dev")
    }
    # c has clips of the held-out fold and of another; d has the same triple as b, of which one scene is enough.
    assert found == {
        "train": [tmp_path / "data" / "train" / name for name in ("a.wav", "e.wav")],
        "dev": [tmp_path / "data" / "train" / "b.wav"],
    }
