"""Who may read whom in Zorro (Recasens et al. 2023, arXiv 2301.09595).

Every token has a type: `FUSION`, or 1, 2, … for the modalities in the order of a configuration. Rows of a mask are
the tokens that read (queries), columns those that are read (keys), and True allows. With audio A, fusion F, video V:

    trunk   A F V        readout   A F V
      A     1 0 0          audio   1 0 0
      F     1 1 1         fusion   0 1 0
      V     0 0 1          video   0 0 1
                          global   1 1 1

Fusion tokens read everything and no other token reads them, so that what comes out of a modality depends on that
modality alone, however many layers there are. Were the rule turned round, so that everybody reads fusion, the fusion
tokens would see no input; were it used both ways, each modality would reach the others in two layers.

The functions take NumPy arrays and JAX arrays, and give what they were given.
"""

from typing import Any


FUSION = 0
# A readout's type only: no token has it.
GLOBAL = -1


def allow(query_types: Any, key_types: Any) -> Any:
    """The trunk's mask.

    Args:
      query_types: integers `[..., Q]`.
      key_types: integers `[..., S]`.

    Returns:
      bool `[..., Q, S]`.
    """
    query, key = query_types[..., :, None], key_types[..., None, :]
    return (query == FUSION) | (query == key)


def readout_allow(readout_types: Any, key_types: Any) -> Any:
    """The readouts' mask: of a modality or of `FUSION` its own tokens, of `GLOBAL` all.

    Args:
      readout_types: integers `[..., R]`.
      key_types: integers `[..., S]`.

    Returns:
      bool `[..., R, S]`.
    """
    readout, key = readout_types[..., :, None], key_types[..., None, :]
    return (readout == GLOBAL) | (readout == key)


def present_columns(present: Any, key_types: Any) -> Any:
    """Which keys an example has.

    Args:
      present: bool `[..., M]`, whether the example has the modalities 1 … M.
      key_types: integers `[S]`.

    Returns:
      bool `[..., S]`; a fusion token is always there.
    """
    # The last modality's flag is taken for fusion tokens, and is not asked.
    return present[..., key_types - 1] | (key_types == FUSION)


def with_columns(allowed: Any, columns: Any) -> Any:
    """A mask whose columns are False where a key is not there.

    Args:
      allowed: bool `[..., Q, S]`, or None where everything is allowed.
      columns: bool `[..., S]`, or None where every key is there.

    Returns:
      bool, what broadcasting the two gives, or None.
    """
    if allowed is None or columns is None:
        return allowed if columns is None else columns[..., None, :]
    return allowed & columns[..., None, :]
