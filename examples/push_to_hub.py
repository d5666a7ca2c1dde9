"""Put a trained model on the Hub, card and results included, and load it from there.

Needs a token that may write: `hf auth login`, or HF_TOKEN in the environment.

python examples/push_to_hub.py runs/first your-name/atri-first --private
"""

import argparse
import sys

from modeling_atri import AtriModel
from modeling_atri.hub_cards.publish import collect_files, publish


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="folder of a saved model and its processor")
    parser.add_argument("repo_id", help="owner/name on the Hub; made if there is none")
    parser.add_argument("--private", action="store_true", help="only you and your organisation can see it")
    args = parser.parse_args()

    try:
        # 1. What would go up: weights, code, processor, card, results; no checkpoints, no caches, no sounds
        for name in sorted(collect_files(args.folder, args.repo_id)):
            print(f"  {name}")

        # 2. All of it in one commit, or nothing
        publication = publish(args.folder, args.repo_id, private=args.private or None)
    except (ValueError, ConnectionError) as error:
        sys.exit(f"{error}")
    print(f"{'Pushed to' if publication.changed else 'Nothing had changed at'} {publication.url}")

    # 3. From anywhere: AtriModel.from_pretrained(repo_id), or without this package
    #    AutoModel.from_pretrained(repo_id, trust_remote_code=True)
    model = AtriModel.from_pretrained(args.repo_id)
    print(f"Loaded from there: {model.num_parameters() / 1e6:.1f} M parameters.")


if __name__ == "__main__":
    main()
