"""Loads rlax without TensorFlow.

Rlax brings distrax, which brings TensorFlow Probability, whose JAX part loads TensorFlow where it is installed and
works as well without. That takes seconds of every command's start, and nothing here needs it. Imported before
anything that imports rlax; TensorFlow itself can be imported afterwards as ever.
"""

import sys


if "rlax" not in sys.modules and "tensorflow" not in sys.modules:
    sys.modules["tensorflow"] = None  # pyright: ignore[reportArgumentType]  # As if it were not installed.
    try:
        import rlax as rlax
    finally:
        del sys.modules["tensorflow"]
