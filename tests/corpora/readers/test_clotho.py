import pytest

from modeling_atri.corpora.clips.clip import AMBIGUOUS_RECORDING, DUPLICATE_LINE
from modeling_atri.corpora.readers.clotho import read_clotho
from modeling_atri.corpora.rows.bad_rows import EMPTY_CAPTION, MISSING_RECORDING
from tests.helpers.corpora import write_clotho, write_csv


NAMES = [
    "Santa Motor.wav",
    "VA State Fair # 10 (Quieter Crowd Noise).wav",
    "Scops owl's call, in  night.silence.wav",  # a comma, two spaces, a dot
    "451__mikejedw__bong2_variant#2.wav",
    "Été à la plage.wav",
]


def texts(name: str, language: str) -> list[str]:
    return [f"{name}, {number} in {language}" for number in range(1, 6)]


def write(tmp_path, names=NAMES, languages=("eng_Latn", "fra_Latn"), **changes):
    return {
        language: write_clotho(
            tmp_path / f"{language}.csv",
            {name: changes.get(language, {}).get(name) or texts(name, language) for name in names},
        )
        for language in languages
    }


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_odd_names_are_found(tmp_path):
    # As an archive made on another system, or another tool, leaves them.
    on_disk = [*NAMES[:2], "Scops owl's call, in night.silence.wav", NAMES[3], "E\u0301te\u0301 a\u0300 la plage.flac"]
    touch(tmp_path / "evaluation", *on_disk)
    corpus = read_clotho(write(tmp_path), tmp_path)
    assert [clip.sound.name for clip in corpus.clips] == on_disk
    assert corpus.left_out == corpus.lost_captions == []
    assert corpus.clips[0].captions == {language: texts(NAMES[0], language) for language in ("eng_Latn", "fra_Latn")}


def test_names_that_are_in_two_folders_or_none(tmp_path):
    touch(tmp_path / "development", NAMES[0])
    touch(tmp_path / "evaluation", NAMES[0], NAMES[1])
    corpus = read_clotho(write(tmp_path, NAMES[:3]), tmp_path)
    assert [clip.audio_id for clip in corpus.clips] == [NAMES[1]]
    assert [row.kind for row in corpus.left_out] == [AMBIGUOUS_RECORDING, MISSING_RECORDING]
    assert [clip.audio_id for clip in read_clotho(write(tmp_path), tmp_path / "evaluation").clips] == NAMES[:2]


def test_an_empty_caption_is_lost_in_every_language(tmp_path):
    touch(tmp_path / "wav", *NAMES[:2])
    changed = texts(NAMES[0], "fra_Latn")
    changed[2] = ""
    corpus = read_clotho(write(tmp_path, NAMES[:2], fra_Latn={NAMES[0]: changed}), tmp_path / "wav")
    kept = [text for number, text in enumerate(texts(NAMES[0], "eng_Latn")) if number != 2]
    assert corpus.clips[0].captions["eng_Latn"] == kept
    assert [(row.place, row.audio_id, row.kind) for row in corpus.lost_captions] == [
        (f"caption {NAMES[0]} caption_3", NAMES[0], EMPTY_CAPTION)
    ]


def test_ids_at_the_source(tmp_path):
    touch(tmp_path / "wav", *NAMES[:4])
    columns = ("file_name", "keywords", "sound_id", "sound_link", "start_end_samples", "manufacturer", "license")
    numbers = {NAMES[0]: "80399", NAMES[1]: "Not found", NAMES[4]: "7"}
    metadata = write_csv(
        tmp_path / "metadata.csv",
        columns,
        [(name, "k", number, "", "", "Zoë", "") for name, number in numbers.items()],
    )
    metadata.write_bytes(metadata.read_text("utf-8").encode("latin-1"))  # as published
    captions = write(tmp_path, NAMES[:4], languages=("eng_Latn",))
    expected = [f"clotho:{NAMES[0]}"], [f"clotho:{NAMES[3]}", "freesound:451"]
    bare, with_metadata = (read_clotho(captions, tmp_path / "wav", file).clips for file in (None, metadata))
    assert [list(bare[index].source_ids) for index in (0, 3)] == list(expected)
    assert with_metadata[0].source_ids == (f"clotho:{NAMES[0]}", "freesound:80399")
    assert with_metadata[1].source_ids == (f"clotho:{NAMES[1]}",)


def test_faulty_files(tmp_path):
    touch(tmp_path / "wav", NAMES[0])
    path = write_csv(tmp_path / "a.csv", ("file_name", "caption_1"), [("a.wav", "x")])
    with pytest.raises(ValueError, match="lacks caption_2, .*, caption_5; it has file_name, caption_1"):
        read_clotho({"eng_Latn": path}, tmp_path / "wav")
    path = tmp_path / "twice.csv"
    write_clotho(path, {NAMES[0]: texts("a", "x")})
    line = path.read_text().splitlines()[1]
    path.write_text(f"{path.read_text()}{line}\n")
    corpus = read_clotho({"eng_Latn": path}, tmp_path / "wav")
    assert [clip.captions["eng_Latn"] for clip in corpus.clips] == [texts("a", "x")]
    assert [row.kind for row in corpus.lost_captions] == 5 * [DUPLICATE_LINE]
    path.write_text(f"{path.read_text()}{line}y\n".replace('in x"y', 'in y"'))
    with pytest.raises(ValueError, match="line 4: the `file_name` 'Santa Motor.wav' is there twice, with other capt"):
        read_clotho({"eng_Latn": path}, tmp_path / "wav")
    with pytest.raises(ValueError, match="There is no file '.*none.csv'"):
        read_clotho({"eng_Latn": tmp_path / "none.csv"}, tmp_path / "wav")
    with pytest.raises(ValueError, match="There is no folder"):
        read_clotho(write(tmp_path), tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="There is no sound file below"):
        read_clotho(write(tmp_path), tmp_path / "empty")
