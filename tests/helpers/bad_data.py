"""A data set with every kind of bad row there is, on disk."""

import io
import json
from pathlib import Path

import numpy as np
import soundfile


RATE = 16_000
LANGUAGES = ["eng_Latn", "fra_Latn", "jpn_Jpan"]

# Recordings that can be trained on, however odd: as named, or not what their name says.
ODD = (
    "long.flac",
    "eight.wav",
    "fast.wav",
    "slow.wav",
    "deep.wav",
    "float.wav",
    "offset.wav",
    "clipped.wav",
    "byte.wav",
)
MISNAMED = ("flac.wav", "mp3.flac", "ogg.mp3")
GOOD = [f"good{number}.wav" for number in range(8)]

# What the header, or the line, shows: name of the row, and how it is counted.
SEEN_AT_ONCE = {
    "gone.wav": "missing recording",
    "nothing.wav": "unreadable recording",
    "no_samples.wav": "unreadable recording",
    "cut.wav": "unreadable recording",
    "page.wav": "unreadable recording",
    "video.mp4": "unreadable recording",
    "short.wav": "short recording",
    "no_french.wav": "missing language",
    "one_empty.wav": "empty caption",
    "all_empty.wav": "empty caption",
    "empty_list.wav": "empty caption",
    "unequal.wav": "unequal captions",
    "no_captions.wav": "wrong captions",
    "frensh.wav": "wrong captions",
}
# What only decoding shows.
SEEN_IN_TIME = {
    "silent.wav": "silent recording",
    "nan.wav": "unreadable recording",
    "huge.wav": "unreadable recording",
    "cut.flac": "unreadable recording",
}
EXTRA = {"duplicate id": 1, "wrong line": 2}


def noise(seconds: float, seed: int, rate: int = RATE) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=0.05, size=int(seconds * rate)).astype(np.float32)


def sound(samples: np.ndarray, rate: int = RATE, format: str = "WAV", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype)
    return file.getvalue()


def captions_of(name: str) -> dict[str, list[str]]:
    return {language: [f"{name} {language} {number}" for number in range(5)] for language in LANGUAGES}


def contents() -> dict[str, bytes]:
    """The files by name."""
    clip, whole = noise(0.5, 99), sound(noise(0.5, 98), format="FLAC")
    nan, huge = clip.copy(), clip.copy()
    nan[4000], huge[4000] = np.nan, 1e30
    files = {name: sound(noise(0.5, seed)) for seed, name in enumerate(GOOD)}
    files |= {
        "long.flac": sound(noise(3.0, 20), format="FLAC"),
        "eight.wav": sound(np.stack([noise(0.5, 30 + channel) for channel in range(8)], axis=1)),
        "fast.wav": sound(noise(0.5, 21, 192_000), 192_000),
        "slow.wav": sound(noise(0.5, 22, 8_000), 8_000),
        "deep.wav": sound(clip, subtype="PCM_24"),
        "float.wav": sound(clip, subtype="FLOAT"),
        "offset.wav": sound(clip + np.float32(0.5), subtype="FLOAT"),
        "clipped.wav": sound(np.clip(100 * clip, -1, 1)),
        "byte.wav": sound(clip, subtype="PCM_U8"),
        "flac.wav": sound(noise(0.5, 23), format="FLAC"),
        "mp3.flac": sound(noise(0.5, 24), format="MP3"),
        "ogg.mp3": sound(noise(0.5, 25), format="OGG"),
        "nothing.wav": b"",
        "no_samples.wav": sound(clip[:0]),
        "cut.wav": sound(clip)[:-5_000],
        "page.wav": b"<html><body>404 not found</body></html>\n" * 20,
        "video.mp4": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(2_000),
        "short.wav": sound(noise(0.1, 26)),
        "silent.wav": sound(np.zeros(8_000, dtype=np.float32)),
        "nan.wav": sound(nan, subtype="FLOAT"),
        "huge.wav": sound(huge, subtype="FLOAT"),
        "cut.flac": whole[: len(whole) // 2],
    }
    return files


def write_bad_data(folder: Path) -> Path:
    """A folder with `metadata.jsonl`: the good, the odd and the misnamed recordings amid bad rows of each kind."""
    folder.mkdir(parents=True)
    files = contents()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    wrong_captions = {
        "no_french.wav": {code: texts for code, texts in captions_of("x").items() if code != "fra_Latn"},
        "one_empty.wav": captions_of("x") | {"fra_Latn": ["a", " ", "c", "d", "e"]},
        "all_empty.wav": {code: [""] * 5 for code in LANGUAGES},
        "empty_list.wav": {code: [] for code in LANGUAGES},
        "unequal.wav": captions_of("x") | {"jpn_Jpan": ["a", "b"]},
        "no_captions.wav": None,
        "frensh.wav": captions_of("x") | {"frensh": ["a"] * 5},
    }
    names = [*GOOD, *ODD, *MISNAMED, *SEEN_AT_ONCE, *SEEN_IN_TIME]
    lines = []
    for name in np.random.default_rng(0).permutation(names).tolist():
        if name in wrong_captions:
            (folder / name).write_bytes(files["good0.wav"])
        captions = wrong_captions[name] if name in wrong_captions else captions_of(name)
        lines.append(json.dumps({"file_name": name, "audio_id": name, "captions": captions}))
    lines.insert(5, '{"file_name": "good0.wav", ')
    lines.insert(9, "[1, 2]")
    lines.append(json.dumps({"file_name": "good3.wav", "audio_id": "good0.wav", "captions": captions_of("y")}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def write_good_data(folder: Path, bad_folder: Path) -> Path:
    """The same without the rows whose faults are seen at once, taken out by hand; recordings stay where they are."""
    folder.mkdir(parents=True)
    lines = []
    for line in (bad_folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()[:-1]:
        if line.startswith("[") or line.endswith(", "):
            continue
        row = json.loads(line)
        if row["file_name"] not in SEEN_AT_ONCE:
            lines.append(json.dumps(row | {"file_name": str(bad_folder / row["file_name"])}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
