"""`atri serve`: a page to search an index of sounds in a browser."""

from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

from modeling_atri.bounds import Bounds, Positive, check_options, option

from ..loading import check_device
from ..options import parse_options


DESCRIPTION = """\
Serve a page to search INDEX in a browser: by words in any language of its model, by a sound that is dropped or
recorded, and with filters. Hits are played from the moment that was found. The page is also an API. Ctrl-C ends it.

It works without internet. Without --host, only this machine reaches it.

examples:
  atri serve index/
  atri serve index/ --port 8080 --device cuda
  atri serve index/ --host 0.0.0.0
"""


@dataclass
class ServeArguments:
    """Options of `atri serve`."""

    index: str = field(metadata={"help": "Folder or address of an index that `atri index` made.", "positional": True})
    model: str | None = option(None, "Folder or Hub id of the model. Default: the one that the index notes.")
    host: str = option(
        "127.0.0.1",
        "Address to listen on. The default is reached from this machine only, 0.0.0.0 from all others too.",
    )
    port: Annotated[int, Bounds("[0, 65535]")] = option(7860, "Port to listen on; 0 for any that is free.")
    device: str = option("cpu", "Device to compute on, such as cpu or cuda.")
    max_upload_mb: Positive = option(25.0, "Size of the largest sound that can be uploaded, in megabytes.")
    sounds: str | None = option(None, "Folder of the sounds, if they are not where they were when they were indexed.")
    follow_links: bool = option(
        False,
        "Also play sounds outside the indexed folder that links in it lead to. Without it, they are only listed.",
    )

    def __post_init__(self) -> None:
        check_options(self)


def main(argv: list[str]) -> None:
    """Run the command."""
    (args,) = parse_options(argv, (ServeArguments,), DESCRIPTION, "atri serve")
    serve_index(args)


def serve_index(args: ServeArguments) -> None:
    """Open the index, load its model, and serve the page until the process is interrupted."""
    from modeling_atri.search import SoundIndex
    from modeling_atri.search.page import serve
    from modeling_atri.search.question_language import begin_loading

    check_device(args.device)
    if args.sounds is not None and not Path(args.sounds).is_dir():
        raise ValueError(f"There is no folder {args.sounds!r}. --sounds names the folder of the sounds.")
    index = SoundIndex.open(args.index, model=args.model, device=args.device)
    begin_loading()
    index.model.load()  # before the first question

    def on_ready(url: str) -> None:
        print(f"Serving {index.tables.count_sounds():,} sounds at {url} (Ctrl-C ends it).", flush=True)
        if not is_loopback(args.host):
            print(
                f"Everyone who can reach port {url.rpartition(':')[2]} of this machine can search the index and hear "
                "its sounds.",
                flush=True,
            )

    serve(index, args.host, args.port, args.max_upload_mb, args.sounds, args.follow_links, on_ready)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"
