"""An index whose answers are known, and its page on a port of this machine."""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile

from modeling_atri import encode_audio, encode_text
from modeling_atri.search import SoundIndex
from modeling_atri.search.index.tables import IndexedSound
from tests.helpers.tiny import CAPTIONS, tiny_model, tiny_processor


RATE = 16_000
HEARD = "heard/chirp.wav"  # lies where the audio tower places it
LONG, LONG_S, MOMENT_S = "long/recording.flac", 60.0, (20.0, 30.0)
# Each sound lies where the question of a language is in the space of the model.
ANSWERS = {
    "eng_Latn": "tones/english.wav",
    "fra_Latn": "tones/français.ogg",
    "deu_Latn": "tones/deutsch.mp3",
    "spa_Latn": "tones/español.aiff",
    "nld_Latn": "tones/nederlands.flac",
    "cat_Latn": LONG,
    "jpn_Jpan": "tones/日本語.wav",
    "zho_Hans": "<script>alert(1)<script> 中文.wav",
}
LICENCES = ("cc0", "cc-by", "l'auteur")
TYPES = {"licence": pa.string(), "tags": pa.list_(pa.string()), "year": pa.int64(), "checked": pa.bool_()}


def tone(seconds: float, hertz: float = 440.0) -> np.ndarray:
    """A sine of amplitude 0.5, shape `(samples,)`, float32."""
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def chirp(seconds: float) -> np.ndarray:
    """A tone that rises from 200 to 4000 Hz, shape `(samples,)`, float32."""
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.5 * np.sin(2 * np.pi * (200 + 1900 * time / seconds) * time)).astype(np.float32)


def known_index(folder: Path, num_others: int = 24) -> SoundIndex:
    """An index of sounds in `folder/sounds`, in which each caption of the tests finds the sound of its language.

    The rest are sounds without files, at random places. The `cat_Latn` one is a recording of 60 s, of which the part
    from 20 to 30 s fits.
    """
    model, processor = tiny_model(), tiny_processor()
    index = SoundIndex.open(folder / "index", model=model, processor=processor)
    vectors = {code: encode_text(model, processor, [text], code)[0] for code, text in CAPTIONS.items()}
    center = np.mean(list(vectors.values()), axis=0)  # random models place all texts close to one another
    random = np.random.default_rng(0)
    rows = []
    for number, (code, path) in enumerate(ANSWERS.items()):
        seconds = LONG_S if path == LONG else 1.0 + number
        soundfile.write(_new_file(folder, path), tone(seconds, 300.0 * (number + 1)), RATE)
        rows.append(_row(folder, path, seconds, vectors[code], center, _columns(number)))
    soundfile.write(heard := _new_file(folder, HEARD), chirp(2.0), RATE)
    rows.append(_row(folder, HEARD, 2.0, encode_audio(model, processor, [heard])[0], center, _columns(len(rows))))
    for number in range(len(rows), len(rows) + num_others):
        vector = random.normal(size=center.size) - 3 * center / np.linalg.norm(center)
        rows.append(_row(folder, f"others/{number:05d}.wav", 5.0, _unit(vector), center, _columns(number)))
    with index.tables.writing():
        index.tables.ensure_columns(TYPES)
        index.tables.append(rows)
    return index


def _new_file(folder: Path, path: str) -> Path:
    file = folder / "sounds" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def _columns(number: int) -> dict[str, Any]:
    tags = ["bird", "dog"] if number % 2 else ['rain "heavy"', "<b>dog</b>"]
    return {"licence": LICENCES[number % 3], "tags": tags, "year": 2000 + number, "checked": number % 4 == 0}


def _row(
    folder: Path,
    path: str,
    seconds: float,
    vector: np.ndarray,
    center: np.ndarray,
    columns: Mapping[str, Any],
) -> IndexedSound:
    spans, parts = [(0.0, seconds)], vector[None]
    if path == LONG:
        spans = [(start, start + 10.0) for start in np.arange(0.0, LONG_S - 9, 10.0).tolist()]
        parts = np.stack([vector if span == MOMENT_S else _unit(-center) for span in spans])
    sounds = str(folder / "sounds")
    return IndexedSound(path, sounds, seconds, spans, _unit(parts), _unit(vector), columns=columns)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


@contextlib.contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve an application on loopback in a thread of this process, and yield its URL."""
    import uvicorn

    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("The server has ended while it started.")
        thread.join(0.05)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
