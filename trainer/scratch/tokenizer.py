"""A tokenizer trained from captions, for models that do not start from SONAR's weights.

The result is an `NllbTokenizer` with the special tokens, language codes and normalisation of SONAR's tokenizer, but
with a small vocabulary of its own. It is saved, loaded and pushed like every other tokenizer.
"""

import json
import string
from collections.abc import Iterable, Iterator, Sequence

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import NllbTokenizer

from modeling_atri.languages_atri import ATRI_LANGUAGES, find_language, resolve_languages

from .charsmap import nfkc_charsmap


_SPECIAL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>"]  # ids 0 to 3, as in NLLB; NllbTokenizer adds <mask> at the end
_MAX_TOKEN_LENGTH = 16  # characters
# Without spaces between words, a whole clause could become one token, and new combinations of words would be unknown.
_MAX_HAN_TOKEN_LENGTH = 4
# More merges than the vocabulary needs are learned, as replacements for those that the rule above drops.
_MERGE_RESERVE = 2

# Characters that are in the vocabulary even if no caption has them, so that letters of a query are seldom `<unk>`.
_COMMON_ALPHABET = string.ascii_letters + string.digits + string.punctuation
_LATIN_ALPHABET = "".join(chr(code) for code in range(0xC0, 0x180) if chr(code).isalpha())
_KANA_ALPHABET = "".join(map(chr, [*range(0x3041, 0x3097), *range(0x30A1, 0x30FB)])) + "ー、。"
_ALPHABET_OF_SCRIPT = {"Latn": _LATIN_ALPHABET, "Jpan": _KANA_ALPHABET, "Hans": "、。", "Hant": "、。"}

# In languages without spaces, runs of one script are the closest approximation to words.
_SCRIPT_RUNS = Regex(r"\p{Han}+|\p{Hiragana}+|[\p{Katakana}ー]+")


def train_tokenizer(
    captions: Iterable[str],
    languages: Sequence[str] = ATRI_LANGUAGES,
    vocab_size: int = 4_000,
    model_max_length: int = 512,
) -> NllbTokenizer:
    """Train byte-pair encoding on the captions of all languages together.

    Text is normalised to NFKC with single plain spaces, both for training and in the tokenizer. Tokens never cross
    white space, punctuation or a change of script (Han, Hiragana, Katakana). The same captions in the same order give
    the same tokenizer.

    Args:
        captions: texts in any language and order; they are read once.
        languages: languages that get a code, as in `resolve_languages`. The codes follow the
            vocabulary in this order, and the first is the `src_lang` of the tokenizer.
        vocab_size (`int`, *optional*, defaults to 4000): upper limit of `len(tokenizer)`, special tokens and language
            codes included. Few or similar captions give fewer tokens.
        model_max_length (`int`, *optional*, defaults to 512): number of tokens to which texts are truncated, if
            truncation is requested.

    Returns:
        `NllbTokenizer`: ids 0 to 3 are `<s> <pad> </s> <unk>`.

    Raises:
        ValueError: there are no captions, one of them is not a string, a language is unknown or named twice, or
            `vocab_size` is too small for the characters of the captions.
    """
    codes = resolve_languages(languages)
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
    # NllbTokenizer itself only splits at white space. The other two splits are needed only for training: merges across
    # them are never learned, so they are never applied.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True),
            pre_tokenizers.Punctuation("isolated"),
            pre_tokenizers.Split(_SCRIPT_RUNS, "isolated"),
        ]
    )
    alphabet = set(_COMMON_ALPHABET).union(
        *(_ALPHABET_OF_SCRIPT.get(find_language(code).script, "") for code in codes)
    )
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
    """Select the characters and the first merges that are short enough, up to `num_tokens` tokens."""
    merged_tokens = {left + right for left, right in learned["merges"]}
    base_tokens = [token for token in sorted(learned["vocab"], key=learned["vocab"].get) if token not in merged_tokens]
    if num_tokens < len(base_tokens):
        raise ValueError(
            f"`vocab_size` is too small: it leaves {num_tokens} tokens beside the language codes, but there are "
            f"{len(base_tokens)} special tokens and single characters. Raise it by at least "
            f"{len(base_tokens) - num_tokens}, or remove rare characters from the captions."
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
    # Training splits at changes of script, so if the first character is Han, all are.
    return len(token) > _MAX_HAN_TOKEN_LENGTH and "\u3400" <= token[0] <= "\u9fff"


__all__ = ["train_tokenizer"]
