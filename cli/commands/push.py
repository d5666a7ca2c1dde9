"""`atri push`: push a saved model, or the page of an index, to the Hugging Face Hub."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeling_atri.bounds import Positive, check_options, option
from modeling_atri.hub_cards.tables import counted

from ..options import parse_options


if TYPE_CHECKING:
    from modeling_atri.hub_cards.repositories import Publication


DESCRIPTION = """\
Push a saved model to the Hugging Face Hub: weights, configuration, processor, results and a model card, in one
commit. Checkpoints, optimizer states, logs, caches and sounds are not pushed. If the folder has no card, one is made
from the results.

With --space, push the page of an index of sounds, as a Space: a copy of the index, its sounds, and a card. Everyone
who sees the Space can search the index and hear the sounds, so check that you may publish them.

`folder` is the output of `atri train`, `atri quickstart` or `save_pretrained`, or with --space that of `atri index`.
`repo_id` is owner/name, or name in your own account. The access token is that of `hf auth login`, or HF_TOKEN.

examples:
  atri push runs/first me/atri-first --private
  atri push runs/first me/atri-first --dry_run           # list the files only
  atri push sounds.index me/my-sounds --space --model me/atri-first
"""


@dataclass
class PushArguments:
    """Options of `atri push`."""

    folder: str = field(
        metadata={"help": "Folder of the saved model, or with --space of the index.", "positional": True}
    )
    repo_id: str = field(metadata={"help": "Name on the Hub, owner/name.", "positional": True})
    private: bool = option(False, "Make the repository private if it is created.")
    revision: str | None = option(None, "Branch to push to. Default: main.")
    message: str | None = option(
        None, "First line of the commit. Default: Upload model, or with --space Upload search page."
    )
    pull_request: bool = option(False, "Open a pull request instead of a commit.")
    base_model: str | None = option(None, "Hub id of the base model, for an adapter that was made on a local folder.")
    dry_run: bool = option(False, "List the files that would be pushed, and push nothing.")
    space: bool = option(False, "Push the page of an index, as a Space.")
    model: str | None = option(
        None, "With --space: Hub id of the model, which the Space loads. Default: the model that the index notes."
    )
    title: str | None = option(None, "With --space: title of the Space. Default: its name.")
    without_sounds: bool = option(False, "With --space: leave the sounds here. The page then plays nothing.")
    sounds: str | None = option(
        None, "With --space: folder of the sounds, if they are not where they were when they were indexed."
    )
    follow_links: bool = option(
        False, "With --space: also push sounds outside the indexed folder that links in it lead to."
    )
    max_gb: Positive | None = option(
        None, "With --space: largest size of index and sounds, in gigabytes. Default: 1, which the Hub allows."
    )

    def __post_init__(self) -> None:
        check_options(self)
        of_space = ("model", "title", "without_sounds", "sounds", "follow_links", "max_gb")
        wrong = [name for name in of_space if getattr(self, name)] if not self.space else []
        if wrong:
            raise ValueError(f"`{wrong[0]}` is for the page of an index. Add --space, or leave it out.")
        if self.space and self.base_model:
            raise ValueError("`base_model` is for an adapter, and --space pushes an index. Leave one of them out.")


def main(argv: list[str]) -> None:
    """Run the command."""
    (options,) = parse_options(argv, (PushArguments,), DESCRIPTION, "atri push")
    if options.space:
        push_space(options)
    else:
        push(options)


def push(options: PushArguments) -> None:
    """Push the model, or list its files, and print the outcome."""
    from modeling_atri.hub_cards.publish import collect_files, publish

    if options.dry_run:
        files = collect_files(options.folder, options.repo_id, base_model=options.base_model)
        _list(options, files)
        left_out = sorted(entry.name for entry in Path(options.folder).iterdir() if not _is_in(entry.name, files))
        if left_out:
            print(f"Stays here: {', '.join(left_out)}")
        return
    _report(
        publish(
            options.folder,
            options.repo_id,
            private=options.private or None,
            revision=options.revision,
            commit_message=options.message or "Upload model",
            create_pr=options.pull_request,
            base_model=options.base_model,
        )
    )


def push_space(options: PushArguments) -> None:
    """Push the page of an index, or list its files, and print the outcome."""
    from modeling_atri.search.page.space import MAX_GB, publish_space, space_files

    chosen: dict[str, Any] = {
        "model": options.model,
        "title": options.title or options.repo_id.rpartition("/")[2],
        "with_sounds": not options.without_sounds,
        "sounds": options.sounds,
        "follow_links": options.follow_links,
        "max_gb": options.max_gb or MAX_GB,
    }
    if options.dry_run:
        with space_files(options.folder, **chosen) as files:
            _list(options, files)
        return
    _report(
        publish_space(
            options.folder,
            options.repo_id,
            **chosen,
            private=options.private or None,
            revision=options.revision,
            commit_message=options.message or "Upload search page",
            create_pr=options.pull_request,
        )
    )


def _list(options: PushArguments, files: Mapping[str, Path | bytes]) -> None:
    sizes = {name: len(file) if isinstance(file, bytes) else file.stat().st_size for name, file in files.items()}
    print(f"Would push to {options.repo_id}, {sum(sizes.values()) / 1e6:.1f} MB:")
    print("\n".join(f"  {name}  ({_readable(size)})" for name, size in sizes.items()))


def _report(done: "Publication") -> None:
    if done.changed:
        print(f"Pushed {counted(len(done.files), 'file')}: {done.url}")
    else:
        print(f"Nothing has changed since the last push: {done.url}")


def _readable(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def _is_in(entry: str, files: dict) -> bool:
    return any(name == entry or name.startswith(f"{entry}/") for name in files)
