"""What an encoder's embeddings depend on, as one hash."""

import hashlib
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


def fingerprint(
    arrays: Iterable[tuple[str, np.ndarray]], settings: Mapping[str, Any], vocabulary: pathlib.Path | None
) -> str:
    """SHA-256, in hexadecimal, of weights and of what is done with them.

    Args:
      arrays: weights by name, in any order.
      settings: JSON values: configuration, preprocessing, precision, …
      vocabulary: the tokenizer's file, where the model has one of its own.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    if vocabulary is not None:
        digest.update(hashlib.sha256(vocabulary.read_bytes()).digest())
    for name, array in sorted(arrays, key=lambda item: item[0]):
        digest.update(f"\n{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
