"""The file of translations, cut off anywhere."""

import pytest

from modeling_atri.corpora.translation.journal import JOURNAL_NAME, Entry, TranslationJournal, hash_text


def entry(number: int, language: str = "fra_Latn", text: str = "été 犬", **made) -> Entry:
    made = {"source_language": "eng_Latn", "model": "m", "decoding": {"num_beams": 1}} | made
    return Entry(language, hash_text(str(number)), text, 0.25 * number, ("cut off",) if number % 2 else (), made)


def test_what_was_added_is_read(tmp_path):
    journal = TranslationJournal(tmp_path)
    assert journal.read() == {}
    batches = [entry(0), entry(1)], [entry(0, "jpn_Jpan", text="")]
    for batch in batches:
        journal.append(batch)
    entries = TranslationJournal(tmp_path).read()
    assert list(entries.values()) == [*batches[0], *batches[1]]
    assert list(entries) == [item.key for batch in batches for item in batch]


def test_the_last_of_a_key_counts(tmp_path):
    journal = TranslationJournal(tmp_path)
    for model in ("first", "second"):
        journal.append([entry(0, model=model)])
    assert [item.made["model"] for item in journal.read().values()] == ["second"]


def test_cut_off_anywhere_whole_batches_are_left(tmp_path):
    journal = TranslationJournal(tmp_path)
    batches = [[entry(0), entry(1)], [entry(2)], [entry(3), entry(4), entry(5)]]
    ends = [0]
    for batch in batches:
        journal.append(batch)
        ends.append(journal.path.stat().st_size)
    content = journal.path.read_bytes()
    near_ends = {end + step for end in ends for step in (-1, 0, 1)} & set(range(len(content) + 1))
    for size in sorted({*range(0, len(content), 31), *near_ends}):
        journal.path.write_bytes(content[:size])
        num_whole = sum(end <= size for end in ends) - 1
        assert len(journal.read()) == sum(map(len, batches[:num_whole])), size
        assert journal.path.read_bytes() == content[: ends[num_whole]]
        for batch in batches[num_whole:]:
            journal.append(batch)
        assert journal.path.read_bytes() == content


@pytest.mark.parametrize("line", [b"no JSON\n", b"{}\n", b"[]\n", b'{"place": 3}\n', b"\xff\n"])
def test_a_line_of_somebody_else_is_an_error(tmp_path, line):
    journal = TranslationJournal(tmp_path)
    journal.append([entry(0)])
    content = journal.path.read_bytes()
    journal.path.write_bytes(content + line + content)
    with pytest.raises(ValueError, match=f"Line 2 of .*{JOURNAL_NAME} is not a translation"):
        journal.read()
    assert journal.path.read_bytes() == content + line + content
