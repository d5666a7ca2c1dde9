"""Fine-tune a model on sound files of your own, and measure it before and after.

A folder holds sound files beside a metadata.jsonl, one line a clip; the c-th caption says the same in every language:
  {"file_name": "dog.wav", "captions": {"eng_Latn": ["a dog barks"], "fra_Latn": ["un chien aboie"]}}

python examples/finetune_on_folder.py quickstart clips/train clips/dev --languages en fr --output_dir runs/first
"""

import argparse

from modeling_atri import AtriModel, AtriProcessor
from modeling_atri.trainer import AtriTrainer, AtriTrainingArguments, load_rows


SHOWN = ("mean_text_to_audio_R@1", "mean_audio_to_text_R@1", "mrv")  # recall up, rank variance down


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or Hub id of an AtriModel to start from")
    parser.add_argument("train", help="folder of clips to train on")
    parser.add_argument("dev", help="folder of clips to measure on; none of them should be in the other")
    parser.add_argument("--languages", nargs="+", default=["en", "fr"], help="languages that the captions are in")
    parser.add_argument("--objective", default="akcl", choices=["akcl", "kcl", "cacl", "mlclap"])
    parser.add_argument("--learning_rate", type=float, default=1e-4, help="5e-6 in the paper, for a model 280x larger")
    parser.add_argument("--epochs", type=float, default=10)
    parser.add_argument("--output_dir", default="runs/finetuned")
    options = parser.parse_args()

    # 1. Rows: every fault in them is reported now, with its line, not in the third epoch
    train = load_rows(options.train, languages=options.languages)
    dev = load_rows(options.dev, languages=options.languages)

    # 2. The model to start from. For CED and SONAR as they were published:
    #    AtriModel.from_audio_text_pretrained("mispeech/ced-base", "cointegrated/SONAR_200_text_encoder")
    model, processor = AtriModel.from_pretrained(options.model), AtriProcessor.from_pretrained(options.model)

    # 3. Everything that transformers.TrainingArguments knows, and what ATRI adds
    args = AtriTrainingArguments(
        output_dir=options.output_dir,
        objective=options.objective,
        languages=options.languages,
        learning_rate=options.learning_rate,
        num_train_epochs=options.epochs,
        per_device_train_batch_size=min(24, len(train)),
        lr_scheduler_type="cosine",
        warmup_steps=0.05,  # a share of all steps
        logging_steps=10,
        save_strategy="epoch",
        save_total_limit=1,
        report_to="none",
    )
    trainer = AtriTrainer(model, args, processor, train, dev)

    # 4. Before, training, after
    before = trainer.evaluate(metric_key_prefix="before")
    trainer.train()
    after = trainer.evaluate(metric_key_prefix="after")
    trainer.save_model(options.output_dir)
    trainer.create_model_card()  # of the last figures; push_to_hub.py takes it along
    for name in SHOWN:
        if f"after_{name}" in after:  # no rank variance with one language
            print(f"{name:25}{before[f'before_{name}']:8.3f} -> {after[f'after_{name}']:.3f}")


if __name__ == "__main__":
    main()
