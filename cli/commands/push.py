"""`atri push`: push a saved model to the Hugging Face Hub."""

from dataclasses import dataclass, field
from pathlib import Path

from modeling_atri.bounds import option
from modeling_atri.hub_cards.tables import counted

from ..options import parse_options


DESCRIPTION = """\
Push a saved model to the Hugging Face Hub: weights, configuration, processor, results and a model card, in one
commit. Checkpoints, optimizer states, logs, caches and sounds are not pushed. If the folder has no card, one is made
from the results.

`folder` is the output of `atri train`, `atri quickstart` or `save_pretrained`. `repo_id` is owner/name, or name in
your own account. The access token is that of `hf auth login`, or HF_TOKEN.

examples:
  atri push runs/first me/atri-first --private
  atri push runs/first me/atri-first --dry_run           # list the files only
"""


@dataclass
class PushArguments:
    """Options of `atri push`."""

    folder: str = field(metadata={"help": "Folder of the saved model.", "positional": True})
    repo_id: str = field(metadata={"help": "Name on the Hub, owner/name.", "positional": True})
    private: bool = option(False, "Make the repository private if it is created.")
    revision: str | None = option(None, "Branch to push to. Default: main.")
    message: str = option("Upload model", "First line of the commit.")
    pull_request: bool = option(False, "Open a pull request instead of a commit.")
    base_model: str | None = option(None, "Hub id of the base model, for an adapter that was made on a local folder.")
    dry_run: bool = option(False, "List the files that would be pushed, and push nothing.")


def main(argv: list[str]) -> None:
    """Run the command."""
    (options,) = parse_options(argv, (PushArguments,), DESCRIPTION, "atri push")
    push(options)


def push(options: PushArguments) -> None:
    """Push the model, or list its files, and print the outcome."""
    from modeling_atri.hub_cards.publish import collect_files, publish

    if options.dry_run:
        files = collect_files(options.folder, options.repo_id, base_model=options.base_model)
        sizes = {name: len(file) if isinstance(file, bytes) else file.stat().st_size for name, file in files.items()}
        print(f"Would push to {options.repo_id}, {sum(sizes.values()) / 1e6:.1f} MB:")
        print("\n".join(f"  {name}  ({_readable(size)})" for name, size in sizes.items()))
        left_out = sorted(entry.name for entry in Path(options.folder).iterdir() if not _is_in(entry.name, files))
        if left_out:
            print(f"Stays here: {', '.join(left_out)}")
        return
    done = publish(
        options.folder,
        options.repo_id,
        private=options.private or None,
        revision=options.revision,
        commit_message=options.message,
        create_pr=options.pull_request,
        base_model=options.base_model,
    )
    if done.changed:
        print(f"Pushed {counted(len(done.files), 'file')}: {done.url}")
    else:
        print(f"Nothing has changed since the last push: {done.url}")


def _readable(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def _is_in(entry: str, files: dict) -> bool:
    return any(name == entry or name.startswith(f"{entry}/") for name in files)
