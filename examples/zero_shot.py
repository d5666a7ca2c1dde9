"""Classify recordings in eight languages, with labels that the model was not trained on.

python examples/zero_shot.py quickstart dog.wav rain.flac
python examples/zero_shot.py quickstart dog.wav --languages fr ja
"""

import argparse

from transformers import pipeline

from modeling_atri import AtriZeroShotAudioClassificationPipeline
from modeling_atri.languages_atri import language_name, resolve_languages


# The same five sounds in each language. Any nouns will do, because the pipeline puts a template around them.
LABELS = {
    "eng_Latn": ["a barking dog", "rain", "a siren", "a ticking clock", "a crowing rooster"],
    "fra_Latn": ["chien qui aboie", "pluie", "sirène", "pendule qui fait tic-tac", "coq qui chante"],
    "deu_Latn": ["einem bellenden Hund", "Regen", "einer Sirene", "einer tickenden Uhr", "einem krähenden Hahn"],
    "spa_Latn": ["un perro que ladra", "lluvia", "una sirena", "un reloj que hace tictac", "un gallo que canta"],
    "nld_Latn": ["een blaffende hond", "regen", "een sirene", "een tikkende klok", "een kraaiende haan"],
    "cat_Latn": ["gos que borda", "pluja", "sirena", "rellotge que fa tic-tac", "gall que canta"],
    "jpn_Jpan": ["吠える犬", "雨", "サイレン", "時を刻む時計", "鳴く雄鶏"],
    "zho_Hans": ["狗叫", "下雨", "警笛", "时钟滴答", "公鸡打鸣"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or Hub id of an AtriModel")
    parser.add_argument("sounds", nargs="+", help="sound files")
    parser.add_argument(
        "--languages",
        nargs="+",
        default=list(LABELS),
        help="(default: the eight of the paper)",
    )
    args = parser.parse_args()
    languages = resolve_languages(args.languages)
    if unknown := sorted(set(languages) - set(LABELS)):
        parser.error(f"there are no labels in {', '.join(unknown)}; add them to LABELS in this file")

    # 1. Make a pipeline for the task of transformers. This class adds `language`, and reads files without ffmpeg
    classify = pipeline(
        "zero-shot-audio-classification", model=args.model, pipeline_class=AtriZeroShotAudioClassificationPipeline
    )

    # 2. Ask the same question in each language. A consistent model gives the same answer
    for language in languages:
        answers = classify(args.sounds, candidate_labels=LABELS[language], language=language, top_k=1)
        for sound, (best,) in zip(args.sounds, answers, strict=True):
            print(f"{language_name(language):21} {best['score']:.2f}  {best['label']}  ({sound})")


if __name__ == "__main__":
    main()
