"""Push a trained model to the Hub with its card and results, and load it from there.

You need a token with write access: run `hf auth login`, or set HF_TOKEN in the environment.

python examples/push_to_hub.py runs/first your-name/atri-first --private
"""

import argparse
import sys

from modeling_atri import AtriModel
from modeling_atri.hub_cards.publish import collect_files, publish


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="folder of a saved model with its processor")
    parser.add_argument("repo_id", help="owner/name on the Hub; created if it does not exist")
    parser.add_argument("--private", action="store_true", help="create a repository that only you can see")
    args = parser.parse_args()

    try:
        # 1. List the files to upload: weights, code, processor, card, results; no checkpoints, caches or sounds
        for name in sorted(collect_files(args.folder, args.repo_id)):
            print(f"  {name}")

        # 2. Upload all of them in one commit
        publication = publish(args.folder, args.repo_id, private=args.private or None)
    except (ValueError, ConnectionError) as error:
        sys.exit(f"{error}")
    print(f"{'Pushed to' if publication.changed else 'Nothing had changed at'} {publication.url}")

    # 3. Load the model from the Hub. Without this package installed, use
    #    AutoModel.from_pretrained(repo_id, trust_remote_code=True)
    model = AtriModel.from_pretrained(args.repo_id)
    print(f"Loaded from there: {model.num_parameters() / 1e6:.1f} M parameters.")


if __name__ == "__main__":
    main()
