"""Short keys of frames: equal frames, equal keys."""

from collections.abc import Iterable

import numpy as np
import xxhash


KEY_BYTES = 16


def frame_keys(frames: Iterable[np.ndarray]) -> list[bytes]:
    """16 bytes of XXH3 over the shape and the pixels of each frame.

    Among a million different frames two share a key with a probability of about 10^-27. The hash is not made against
    people who look for such frames, who would spoil rewards of their own; in return it is many times as fast as one
    that is, which would cost as much as a small network.

    Args:
      frames: any arrays of numbers, `[H, W, 3]` uint8 as a rule.
    """
    keys, shape, seed = [], None, 0
    for frame in frames:
        if frame.shape != shape:
            shape = frame.shape
            seed = xxhash.xxh3_64_intdigest(repr(shape).encode())
        keys.append(xxhash.xxh3_128_digest(np.ascontiguousarray(frame).data, seed))
    return keys
