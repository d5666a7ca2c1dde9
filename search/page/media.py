"""The sounds that the page plays: named by a token, only files of the index, in a form that browsers can play."""

import io
import os
import secrets
from collections import OrderedDict
from hashlib import blake2b
from pathlib import Path
from threading import Lock

from modeling_atri.files import existing_path
from modeling_atri.sound_files_atri import open_sound

from ..index.tables import SoundKey


# Formats of libsndfile that all common browsers play, with the encodings in them that they play.
_PCM = {"PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "ULAW", "ALAW"}
_PLAYABLE = {
    "WAV": ("audio/wav", _PCM),
    "WAVEX": ("audio/wav", _PCM),
    "FLAC": ("audio/flac", {"PCM_S8", "PCM_16", "PCM_24"}),
    "OGG": ("audio/ogg", {"VORBIS", "OPUS"}),
    "MP3": ("audio/mpeg", {"MPEG_LAYER_III"}),
    "MPEG": ("audio/mpeg", {"MPEG_LAYER_III"}),
}
# Containers and codecs of FFmpeg, by a part of the container's name.
_PLAYABLE_BY_AV = {
    "mp4": ("audio/mp4", {"aac", "mp3", "flac", "opus"}),
    "webm": ("audio/webm", {"opus", "vorbis"}),
    "aac": ("audio/aac", {"aac"}),
    "ogg": ("audio/ogg", {"flac", "opus", "vorbis"}),
}
_MAX_CONVERTED_S = 3600.0  # a longer sound would need hundreds of megabytes of memory
_MAX_SHOWN = 100_000  # sounds that the page remembers to have shown


class UnavailableSoundError(ValueError):
    """A sound of the index cannot be played here. The message says why."""


class ShownSounds:
    """The sounds that were shown, by token. A browser asks for a sound by its token and never by a path.

    The token of a sound is a keyed digest, so that it can neither be guessed nor be made from a path. The last 100,000
    sounds are remembered.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(16)
        self._sounds: OrderedDict[str, SoundKey] = OrderedDict()
        self._lock = Lock()

    def token(self, sound: SoundKey) -> str:
        """The token of a sound, under which it can be asked for from now on."""
        text = f"{sound.folder}\0{sound.path}".encode("utf-8", errors="backslashreplace")
        token = blake2b(text, key=self._key, digest_size=16).hexdigest()
        with self._lock:
            self._sounds[token] = sound
            self._sounds.move_to_end(token)
            if len(self._sounds) > _MAX_SHOWN:
                self._sounds.popitem(last=False)
        return token

    def get(self, token: str) -> SoundKey | None:
        """The sound of a token, or None for a token that was not given out."""
        return self._sounds.get(token)


def local_file(sound: SoundKey, sounds_folder: str | None = None, follow_links: bool = False) -> Path:
    """The file of a sound on this machine.

    Args:
        sound: folder and path of a sound of the index.
        sounds_folder (`str`, *optional*): folder that holds the sounds now, in place of the one that was indexed.
        follow_links (`bool`, *optional*, defaults to `False`): whether the file may lie outside the folder, where a
            link in the folder leads to.

    Raises:
        UnavailableSoundError: the folder is not on this machine, the path leaves it, or there is no such file.
    """
    folder = sounds_folder or sound.folder
    if not folder or "://" in folder or not os.path.isdir(folder):
        raise UnavailableSoundError(f"The folder of {sound.path} is not on this machine.")
    if "\0" in sound.path or os.path.isabs(sound.path) or ".." in sound.path.split("/"):
        raise UnavailableSoundError(f"The path {sound.path!a} does not stay in its folder.")
    file = Path(os.path.realpath(existing_path(Path(folder, sound.path))))
    if not follow_links and not file.is_relative_to(os.path.realpath(folder)):
        raise UnavailableSoundError(
            f"{sound.path} is a link that leads out of its folder. `atri serve --follow_links` plays such sounds too."
        )
    if not file.is_file():
        raise UnavailableSoundError(f"{sound.path} does not exist any more.")
    return file


def browser_type(file: Path) -> str | None:
    """The media type of a file that browsers play as it is, or None if it must be converted."""
    import soundfile

    try:
        info = soundfile.info(str(file))
    except soundfile.LibsndfileError:
        return _browser_type_by_av(file)
    media_type, subtypes = _PLAYABLE.get(info.format, ("", set()))
    return media_type if info.subtype in subtypes else None


def _browser_type_by_av(file: Path) -> str | None:
    try:
        import av
    except ImportError:
        return None
    try:
        with av.open(str(file)) as container:
            names = container.format.name.split(",")
            codec = container.streams.audio[0].codec_context.name
    except (av.FFmpegError, IndexError):
        return None
    for name, (media_type, codecs) in _PLAYABLE_BY_AV.items():
        if name in names and codec in codecs:
            return media_type
    return None


def convert_to_flac(file: Path, max_s: float = _MAX_CONVERTED_S) -> bytes:
    """A sound as FLAC of 16 bits, mono, at its own rate.

    Raises:
        UnavailableSoundError: the sound cannot be decoded, or is longer than `max_s` seconds.
    """
    import soundfile

    converted = io.BytesIO()
    try:
        with open_sound(file, repr(file.name)) as sound:
            left = int(max_s * sound.samplerate)
            with soundfile.SoundFile(
                converted, "w", samplerate=min(sound.samplerate, 655_350), channels=1, format="FLAC", subtype="PCM_16"
            ) as out:
                for block in sound.mono_blocks():
                    if (left := left - len(block)) < 0:
                        raise UnavailableSoundError(
                            f"{file.name} is in a format that browsers do not play, and longer than "
                            f"{max_s / 60:.0f} minutes. Convert it to FLAC, MP3 or OGG."
                        )
                    out.write(block)
    except UnavailableSoundError:
        raise
    except ValueError as error:
        raise UnavailableSoundError(str(error)) from error
    return converted.getvalue()
