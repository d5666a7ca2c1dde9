"""Errors about sounds that cannot be used."""


class MissingAudioError(FileNotFoundError, ValueError):
    """There is no file at a path. This is a `ValueError`, as for every wrong input, and a `FileNotFoundError`."""


class MissingDecoderError(ValueError):
    """A file is in a format that needs the extra `av`, which is not installed. The message says how to install it."""


class BrokenStreamError(ValueError):
    """A stream of a file cannot be used. The message is the reason, without the name of the file."""


class UndecodableStreamError(BrokenStreamError):
    """A stream of a file cannot be decoded, or is no sound."""
