"""Fine-tune a model on your own sound files, and evaluate it before and after.

A folder has sound files beside a metadata.jsonl with one line for each clip. Captions are parallel: the c-th caption
of a clip has the same meaning in every language.
  {"file_name": "dog.wav", "captions": {"eng_Latn": ["a dog barks"], "fra_Latn": ["un chien aboie"]}}

python examples/finetune_on_folder.py quickstart clips/train clips/dev --languages en fr --output_dir runs/first
"""

import argparse

from modeling_atri import AtriModel, AtriProcessor
from modeling_atri.trainer import AtriTrainer, AtriTrainingArguments, load_rows


SHOWN = ("mean_text_to_audio_R@1", "mean_audio_to_text_R@1", "mrv")  # recall should rise, rank variance fall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or Hub id of an AtriModel to start from")
    parser.add_argument("train", help="folder of clips to train on")
    parser.add_argument("dev", help="folder of clips to evaluate on, with no clip of the first folder")
    parser.add_argument("--languages", nargs="+", default=["en", "fr"], help="languages of the captions")
    parser.add_argument("--objective", default="akcl", choices=["akcl", "kcl", "cacl", "mlclap"])
    parser.add_argument("--learning_rate", type=float, default=1e-4, help="5e-6 in the paper, for a model 280x larger")
    parser.add_argument("--epochs", type=float, default=10)
    parser.add_argument("--output_dir", default="runs/finetuned")
    options = parser.parse_args()

    # 1. Load the rows. All errors in them are reported now, with their line numbers, and not during training
    train = load_rows(options.train, languages=options.languages)
    dev = load_rows(options.dev, languages=options.languages)

    # 2. Load the model to start from. To start from the published CED and SONAR instead:
    #    AtriModel.from_audio_text_pretrained("mispeech/ced-base", "cointegrated/SONAR_200_text_encoder")
    model, processor = AtriModel.from_pretrained(options.model), AtriProcessor.from_pretrained(options.model)

    # 3. Set the arguments: those of transformers.TrainingArguments, and those that ATRI adds
    args = AtriTrainingArguments(
        output_dir=options.output_dir,
        objective=options.objective,
        languages=options.languages,
        learning_rate=options.learning_rate,
        num_train_epochs=options.epochs,
        per_device_train_batch_size=min(24, len(train)),
        lr_scheduler_type="cosine",
        warmup_steps=0.05,  # a fraction of all steps
        logging_steps=10,
        save_strategy="epoch",
        save_total_limit=1,
        report_to="none",
    )
    trainer = AtriTrainer(model, args, processor, train, dev)

    # 4. Evaluate, train, and evaluate again
    before = trainer.evaluate(metric_key_prefix="before")
    trainer.train()
    after = trainer.evaluate(metric_key_prefix="after")
    trainer.save_model(options.output_dir)
    trainer.create_model_card()  # with the last results; push_to_hub.py uploads it, too
    for name in SHOWN:
        if f"after_{name}" in after:  # with one language there is no rank variance
            print(f"{name:25}{before[f'before_{name}']:8.3f} -> {after[f'after_{name}']:.3f}")


if __name__ == "__main__":
    main()
