"""A tokenizer trained from captions, for models that do not start from SONAR's weights.

The result is a real `NllbTokenizer`: the class, special tokens, language codes and normalisation of SONAR's tokenizer
with a small vocabulary of its own. It is saved, loaded and pushed like any other.
"""

import json
import string
from collections.abc import Iterable, Iterator, Sequence

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import NllbTokenizer

from modeling_atri.languages_atri import ATRI_LANGUAGES, LANGUAGES, resolve_language

from .charsmap import nfkc_charsmap


_SPECIAL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>"]  # ids 0 to 3, as in NLLB; NllbTokenizer adds <mask> at the end
_MAX_TOKEN_LENGTH = 16  # characters
# Written without spaces, a clause would become one token: new combinations of known words would then be unknown.
_MAX_HAN_TOKEN_LENGTH = 4
# Merges beyond the vocabulary's size make up for those that the rule above drops.
_MERGE_RESERVE = 2

# Characters that are known even if no caption has them, so that a letter of a query is seldom `<unk>`.
_COMMON_ALPHABET = string.ascii_letters + string.digits + string.punctuation
_LATIN_ALPHABET = "".join(chr(code) for code in range(0xC0, 0x180) if chr(code).isalpha())
_KANA_ALPHABET = "".join(map(chr, [*range(0x3041, 0x3097), *range(0x30A1, 0x30FB)])) + "ー、。"
_ALPHABET_OF_SCRIPT = {"Latn": _LATIN_ALPHABET, "Jpan": _KANA_ALPHABET, "Hans": "、。", "Hant": "、。"}

# Runs of one script are the nearest thing to words where there are no spaces.
_SCRIPT_RUNS = Regex(r"\p{Han}+|\p{Hiragana}+|[\p{Katakana}ー]+")


def train_tokenizer(
    captions: Iterable[str],
    languages: Sequence[str] = ATRI_LANGUAGES,
    vocab_size: int = 4_000,
    model_max_length: int = 512,
) -> NllbTokenizer:
    """Trains byte-pair encoding on captions of all languages together.

    Text is normalised to NFKC with single plain spaces, before training and in the tokenizer. Tokens never cross white
    space, punctuation or a change of script (Han, Hiragana, Katakana). The same captions in the same order give
    the same tokenizer.

    Args:
        captions: the texts, of any language, in any order; they are read once.
        languages: languages to hold a code for, in any writing that `resolve_language` takes; the first is the
            tokenizer's `src_lang`. Their codes follow the vocabulary in this order.
        vocab_size (`int`, defaults to 4000): upper limit of `len(tokenizer)`, special tokens and languages included.
            Few or uniform captions give fewer tokens.
        model_max_length (`int`, defaults to 512): length in tokens that longer texts are cut to, if asked to truncate.

    Returns:
        `NllbTokenizer`: ids 0 to 3 are `<s> <pad> </s> <unk>`.

    Raises:
        ValueError: if there are no captions, one is no text, a language is unknown or named twice, or `vocab_size` is
            too small for the characters of the captions.
    """
    codes = [resolve_language(language) for language in languages]
    if not codes or len(set(codes)) < len(codes):
        raise ValueError(f"`languages` must name at least one language and none twice, but is {list(languages)}.")
    charsmap = nfkc_charsmap()
    learned = _learn_merges(captions, codes, charsmap, vocab_size)
    vocab, merges = _select_merges(learned, num_tokens=vocab_size - len(codes) - 1)
    return NllbTokenizer(
        vocab=vocab,
        merges=merges,
        _spm_precompiled_charsmap=charsmap,
        extra_special_tokens=codes,
        src_lang=codes[0],
        model_max_length=model_max_length,
    )


def _learn_merges(captions: Iterable[str], codes: list[str], charsmap: bytes, vocab_size: int) -> dict:
    """The state of a trained BPE model: `vocab` (special tokens, characters, merged tokens) and `merges`."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Precompiled(charsmap), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    # NllbTokenizer itself splits at white space alone. The other two splits are for learning only: a merge that was
    # never learned across them is never applied across them.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True),
            pre_tokenizers.Punctuation("isolated"),
            pre_tokenizers.Split(_SCRIPT_RUNS, "isolated"),
        ]
    )
    alphabet = set(_COMMON_ALPHABET).union(*(_ALPHABET_OF_SCRIPT.get(LANGUAGES[code].script, "") for code in codes))
    trainer = trainers.BpeTrainer(
        vocab_size=_MERGE_RESERVE * vocab_size,
        special_tokens=_SPECIAL_TOKENS,
        initial_alphabet=sorted(alphabet),
        max_token_length=_MAX_TOKEN_LENGTH,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_checked(captions), trainer)
    return json.loads(tokenizer.to_str())["model"]


def _checked(captions: Iterable[str]) -> Iterator[str]:
    number = -1
    for number, caption in enumerate(captions):
        if not isinstance(caption, str):
            raise ValueError(
                f"Captions must be strings, but caption {number} is a {type(caption).__name__}: {caption!r}."
            )
        yield caption
    if number < 0:
        raise ValueError("A tokenizer cannot be trained without captions: `captions` is empty.")


def _select_merges(learned: dict, num_tokens: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The characters and the first merges that are short enough, up to `num_tokens` tokens, ids without gaps."""
    merged_tokens = {left + right for left, right in learned["merges"]}
    base_tokens = [token for token in sorted(learned["vocab"], key=learned["vocab"].get) if token not in merged_tokens]
    if num_tokens < len(base_tokens):
        raise ValueError(
            f"`vocab_size` is too small: it leaves {num_tokens} tokens beside the language codes, but special tokens "
            f"and single characters alone are {len(base_tokens)}. Please raise it by at least "
            f"{len(base_tokens) - num_tokens}, or clean the captions of rare characters."
        )
    vocab = {token: index for index, token in enumerate(base_tokens)}
    merges = []
    for left, right in learned["merges"]:
        token = left + right
        if token not in vocab and (len(vocab) == num_tokens or _is_long_han(token)):
            continue
        if left in vocab and right in vocab:
            vocab.setdefault(token, len(vocab))
            merges.append((left, right))
    return vocab, merges


def _is_long_han(token: str) -> bool:
    # Learning splits at changes of script: one Han character means that all are, kana being in other tokens.
    return len(token) > _MAX_HAN_TOKEN_LENGTH and "\u3400" <= token[0] <= "\u9fff"


__all__ = ["train_tokenizer"]
