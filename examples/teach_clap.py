"""Teach languages to a CLAP from captions alone, and show that its audio embeddings stay the same.

The captions are parallel: the c-th caption of a line has the same meaning in every language. No sound is needed.
  {"captions": {"eng_Latn": ["a dog barks"], "fra_Latn": ["un chien aboie"]}}

python examples/teach_clap.py laion/larger_clap_general cointegrated/SONAR_200_text_encoder captions.jsonl \\
    --languages en fr --sounds dog.wav --output_dir runs/clap
"""

import argparse

from transformers import set_seed

from modeling_atri import AtriModel, AtriProcessor, encode_audio, encode_text
from modeling_atri.pretrained import from_clap_pretrained, make_processor
from modeling_atri.trainer import AtriTrainer, AtriTrainingArguments, load_rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clap", help="folder or Hub id of a ClapModel, the teacher")
    parser.add_argument("text", help="folder or Hub id of a text encoder that knows the languages")
    parser.add_argument("captions", help="file of parallel captions")
    parser.add_argument("--languages", nargs="+", default=["en", "fr"], help="English, and the languages to teach")
    parser.add_argument("--sounds", nargs="*", default=[], help="sound files to compare before and after")
    parser.add_argument("--learning_rate", type=float, default=1e-3, help="of the new head")
    parser.add_argument("--max_steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0, help="of the new head, and of training")
    parser.add_argument("--output_dir", default="runs/clap")
    options = parser.parse_args()

    # 1. Load the rows; they need no sounds
    rows = load_rows(options.captions, languages=options.languages, needs_sound=False)

    # 2. Make the student: the audio side of CLAP, and the text encoder under a new head
    set_seed(options.seed)
    model = from_clap_pretrained(options.clap, options.text)
    processor = make_processor(options.text, audio=options.clap)
    processor.limit_text_length(model.max_text_tokens)
    before = encode_audio(model, processor, options.sounds) if options.sounds else None

    # 3. Teach. The text encoder is frozen, so each caption is encoded once, into text_cache_dir
    args = AtriTrainingArguments(
        output_dir=options.output_dir,
        objective="teach",
        teacher=options.clap,
        languages=options.languages,
        freeze_text=True,
        text_cache_dir=f"{options.output_dir}/text_states",
        learning_rate=options.learning_rate,
        per_device_train_batch_size=min(64, len(rows)),
        max_steps=options.max_steps,
        seed=options.seed,
        save_strategy="no",
        report_to="none",
    )
    trainer = AtriTrainer(model, args, processor, rows)
    trainer.train()
    trainer.save_model(options.output_dir)
    trainer.create_model_card()

    # 4. Load it again, and compare: captions across languages, and sounds before and after
    model = AtriModel.from_pretrained(options.output_dir)
    processor = AtriProcessor.from_pretrained(options.output_dir)
    captions = {language: texts[0] for language, texts in rows[0]["captions"].items()}
    texts = encode_text(model, processor, list(captions.values()), language=list(captions))
    for language, caption, cosine in zip(captions, captions.values(), texts @ texts[0], strict=True):
        print(f"{cosine:.3f}  {language}  {caption}")
    if before is not None:
        same = (encode_audio(model, processor, options.sounds) == before).all()
        print("audio embeddings before and after:", "equal bit for bit" if same else "different")


if __name__ == "__main__":
    main()
