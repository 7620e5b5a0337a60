"""Texts to the tokens of a CLIP model, checked: open_clip's tokenizer cuts what is too long without a word."""

from collections.abc import Callable, Sequence
from types import ModuleType

import numpy as np

from ._clip_files import bpe_file
from ._clip_names import ClipSource


Tokenize = Callable[[Sequence[str]], np.ndarray]


def make_tokenizer(source: ClipSource, open_clip: ModuleType) -> Tokenize:
    """The tokenizer of a model: texts -> int32 `[G, T]`, T the model's length of a text.

    A relative `bpe_path` among the configuration's `tokenizer_kwargs` is one in the model's folder.

    Raises:
      OSError: its files cannot be had.
      ValueError: it cannot be made. The function that is returned raises it for texts that the model cannot read.
    """
    text = source.config.get("text_cfg", {})
    bpe = bpe_file(source.config, source.directory)
    # open_clip would look for a relative path in the current directory.
    changes = {} if bpe is None else {"bpe_path": str(bpe)}
    try:
        tokenizer = open_clip.get_tokenizer(source.tokenizer, **changes)
    except OSError as error:
        raise OSError(f"The tokenizer of {source.model} cannot be read: {error}") from error
    # Transformers, where the tokenizer is its, is not among Limbeck's extras.
    except Exception as error:
        raise ValueError(f"The tokenizer of {source.model} cannot be made: {error}") from error
    vocab_size = text.get("vocab_size", 49408)
    length = tokenizer.context_length
    counts = hasattr(tokenizer, "encode") and getattr(tokenizer, "reduction_fn", None) is None

    def tokenize(texts: Sequence[str]) -> np.ndarray:
        check_texts(texts)
        for one in texts:
            # The marks of beginning and end are two more.
            if counts and len(tokenizer.encode(one)) + 2 > length:
                raise ValueError(
                    f"This text has {len(tokenizer.encode(one)) + 2} tokens and the model reads {length}; shorten it: "
                    f"{one!r}"
                )
        if not len(texts):
            return np.zeros((0, length), np.int32)
        tokens = tokenizer(list(texts)).numpy().astype(np.int32)
        if not text.get("hf_model_name") and tokens.max() >= vocab_size:
            raise ValueError(
                f"The tokenizer gives the token {tokens.max()} and the model's vocabulary has {vocab_size}: the "
                "configuration's tokenizer_kwargs or vocab_size is another model's."
            )
        return tokens

    return tokenize


def check_texts(texts: Sequence[str]) -> None:
    """Refuses what is not a sequence of texts with something in them.

    Raises:
      ValueError: saying what was given.
    """
    if isinstance(texts, str) or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(f"Goals are a list of texts that are not empty, got {texts!r}.")
