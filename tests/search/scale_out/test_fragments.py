"""Parts that workers write, and their commit, against sounds that are written by one process."""

import numpy as np
import pytest

from modeling_atri.search.index.tables import IndexedSound, IndexFacts, IndexTables, SoundKey


pytest.importorskip("lance_ray")
from modeling_atri.search.scale_out.fragments import WindowsTable


pytestmark = pytest.mark.heavy
WIDTH = 4


def sound(name: str, seed: int, num_windows: int = 1) -> IndexedSound:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(num_windows + 1, WIDTH)).astype(np.float32)
    spans = [(float(start), start + 2.0) for start in range(num_windows)]
    return IndexedSound(name, "/sounds", 1.0 + num_windows, spans, vectors[1:], vectors[0], seed, seed, f"{seed}")


@pytest.fixture
def both(tmp_path) -> list[IndexTables]:
    facts = IndexFacts(model="m", fingerprint="f", projection_dim=WIDTH)
    return [IndexTables.create(tmp_path / name, facts) for name in ("one", "parts")]


def rows(tables: IndexTables):
    return tables.rows().sort_by("id")


def test_parts_are_rows_once_they_are_committed(both):
    one, tables = both
    sounds = [sound("a.wav", 1), sound("it's.wav", 2, 3), sound("c.wav", 3, 2)]
    one.append(sounds)
    table = WindowsTable.of(tables)
    parts = table.write_part(sounds[:2]) + table.write_part(sounds[2:])
    assert tables.count_sounds() == 0
    before = tables.windows.version
    table.commit_parts(parts)
    assert rows(tables).equals(rows(one))
    assert tables.windows.version == before + 1


def test_rows_are_replaced_in_the_same_commit(both):
    one, tables = both
    old = [sound("a.wav", 1, 3), sound("it's.wav", 2, 2), sound("c.wav", 3)]
    for each in both:
        each.append(old[:1])
        each.append(old[1:])
    new = [sound("a.wav", 4), sound("it's.wav", 5, 3), sound("d.wav", 6)]
    one.replace(new)
    table, before = WindowsTable.of(tables), tables.windows.version
    parts = table.write_part(new)
    assert rows(tables)["size"].to_pylist() == [1] * 4 + [3] + [2] * 3
    table.commit_parts(parts, {SoundKey("/sounds", "a.wav"), SoundKey("/sounds", "it's.wav")})
    assert rows(tables).equals(rows(one))
    assert tables.windows.version == before + 1

    tables.compact()
    assert rows(tables).equals(rows(one))
    tables.replace([sound("d.wav", 7, 2)])
    assert tables.count_sounds() == 4


def test_others_may_commit_in_between(both):
    _, tables = both
    tables.append([sound("a.wav", 1), sound("b.wav", 2)])
    table = WindowsTable.of(tables)
    parts = table.write_part([sound("a.wav", 3)])
    tables.replace([sound("b.wav", 4)])
    table.commit_parts(parts, {SoundKey("/sounds", "a.wav")})
    assert [(row["path"], row["size"]) for row in rows(tables).to_pylist()] == [("a.wav", 3), ("b.wav", 4)]


def test_a_commit_that_loses_a_race_is_made_again(both, monkeypatch):
    """Another process removes the same row after this one has read the table."""
    import lance

    _, tables = both
    tables.append([sound("a.wav", 1), sound("b.wav", 2)])
    table = WindowsTable.of(tables)
    parts = table.write_part([sound("a.wav", 3)])
    commit, calls = lance.LanceDataset.commit, []

    def late(*args, **options):
        calls.append(1)
        if len(calls) == 1:
            tables.replace([sound("a.wav", 5), sound("b.wav", 6)])
        return commit(*args, **options)

    monkeypatch.setattr(lance.LanceDataset, "commit", late)
    table.commit_parts(parts, {SoundKey("/sounds", "a.wav")})
    assert len(calls) == 2
    assert [(row["path"], row["size"]) for row in rows(tables).to_pylist()] == [("a.wav", 3), ("b.wav", 6)]
