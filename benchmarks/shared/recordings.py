"""Long recordings of noise, written without much memory."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile


def write(path: Path, seconds: int, rate: int = 16_000, num_channels: int = 1, seed: int = 0) -> Path:
    """Write noise whose loudness changes, a minute at a time."""
    generator = np.random.default_rng(seed)
    with soundfile.SoundFile(path, "w", rate, num_channels) as file:
        minute = generator.normal(scale=0.1, size=(min(60, seconds) * rate, num_channels)).astype(np.float32)
        for start in range(0, seconds, 60):
            file.write(minute[: (seconds - start) * rate] * generator.uniform(0.01, 1))
    return path


def write_mp3(path: Path, seconds: int, seed: int) -> Path:
    """Write MP3 without a Xing header: the frames of a minute again and again."""
    minute = write(path.with_name("minute.mp3"), 60, 44_100, 2, seed).read_bytes()
    kilobits = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)[minute[2] >> 4]
    first = 144 * 1000 * kilobits // 44_100 + (minute[2] >> 1 & 1)
    with path.open("wb") as file:
        for _ in range(0, seconds, 60):
            file.write(minute[first:])
    return path


def write_m4a(path: Path, seconds: int, seed: int) -> Path:
    """Write AAC in MP4: the packets of a minute again and again, with the places that follow each other."""
    import av

    packets, template = _packets_of_a_minute(path.with_name("minute.m4a"), seed)
    with av.open(str(path), "w", format="ipod") as target:
        track = target.add_stream_from_template(template)
        for number in range(seconds * 44_100 // 1024):
            packet = av.Packet(packets[number % len(packets)])
            packet.stream, packet.time_base, packet.duration = track, template.time_base, 1024
            packet.pts = packet.dts = 1024 * number
            target.mux(packet)
    return path


def _packets_of_a_minute(path: Path, seed: int) -> tuple[Sequence[bytes], "av.AudioStream"]:  # noqa: F821
    import av

    generator = np.random.default_rng(seed)
    with av.open(str(path), "w", format="ipod") as container:
        # Without bands of artificial noise, because a file with them is decoded from its beginning for every excerpt.
        stream = container.add_stream("aac", rate=44_100, layout="stereo", options={"aac_pns": "0"})
        for start in range(0, 60 * 44_100, 1024):
            samples = generator.normal(scale=0.1, size=(2, 1024)).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = 44_100, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    source = av.open(str(path))
    return [bytes(packet) for packet in source.demux(audio=0) if packet.size], source.streams.audio[0]
