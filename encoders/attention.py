"""The one attention: boolean masks, grouped key/value heads, causal windows, memory linear in time.

Masks are boolean and say what *may* be attended to. Scores and their softmax are float32 whatever
the inputs' type. Three evaluations of the same function are chosen by shape alone:

* dense, for at most `DENSE_LIMIT` queries, and where a bias or dropout needs all scores;
* banded, for a causal window: blocks of queries against the keys of their band only;
* blocked, above `DENSE_LIMIT` queries: blocks of queries and keys joined by an online softmax
  (Milakov & Gimelshein 2018, arXiv 1805.02867; Rabe & Staats 2021, arXiv 2112.05682). The backward pass
  computes the weights again from each row's sum (Dao et al. 2022, arXiv 2205.14135, appendix B.2), so that
  peak memory grows linearly with the number of queries. It has no forward-mode derivative.
"""

import functools
import math

import jax
import jax.numpy as jnp


DENSE_LIMIT = 1024
_BLOCK = 256
_MASKED = -1e30


def attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    *,
    mask: jax.Array | None = None,
    bias: jax.Array | None = None,
    causal: bool = False,
    window: int | None = None,
    dropout: float = 0.0,
    dropout_key: jax.Array | None = None,
) -> jax.Array:
    """Scaled dot-product attention (Vaswani et al. 2017, section 3.2.1).

    Args:
      query: `[..., T, H, D]`.
      key: `[..., S, K, D]`; K divides H, and each key head serves H / K query heads in a row.
      value: `[..., S, K, D]`.
      mask: boolean, broadcastable to `[..., T, S]`; True where attention is allowed.
      bias: added to the scaled scores, `[H, T, S]` with any leading axes that broadcast. Like dropout it needs all
        scores at once, so it is for few queries.
      causal: query t sees keys up to t. Needs T = S.
      window: with `causal`, query t sees the `window` keys t - window + 1 … t. None means all.
      dropout: probability with which an attention weight is dropped.
      dropout_key: needed when `dropout` is above 0.

    Returns:
      `[..., T, H, D]` in the query's type. A query that may attend to nothing gets zeros.

    Raises:
      ValueError: for shapes or options that do not go together.
    """
    _check(query, key, value, causal, window, dropout, dropout_key)
    length = query.shape[-3]
    if window is not None and window >= length:
        window = None
    whole = bool(dropout) or bias is not None
    if mask is None and window is not None and not whole:
        # Queries and keys added behind the end are seen by nobody that is kept.
        pad = [(0, 0)] * (query.ndim - 3) + [(0, -length % _band_block(window)), (0, 0), (0, 0)]
        band = _banded if length <= 4 * DENSE_LIMIT else _banded_in_turn
        out = band(jnp.pad(query, pad), jnp.pad(key, pad), jnp.pad(value, pad), window)
        return jax.lax.slice_in_dim(out, 0, length, axis=query.ndim - 3)
    if length > DENSE_LIMIT and not whole:
        return _blocked(query, key, value, mask, causal, window)
    return _dense(query, key, value, mask, causal, window, dropout, dropout_key, bias)


def attend_to_cache(query: jax.Array, keys: jax.Array, values: jax.Array, valid: jax.Array) -> jax.Array:
    """Attention of one query to a cache.

    Args:
      query: `[H, D]`.
      keys: `[S, K, D]`.
      values: `[S, K, D]`.
      valid: boolean `[S]`.

    Returns:
      `[H, D]`.
    """
    return _dense(query[None], keys, values, valid[None], False, None, 0.0, None)[0]


def _check(query, key, value, causal, window, dropout, dropout_key):
    heads, key_heads = query.shape[-2], key.shape[-2]
    if key.shape != value.shape:
        raise ValueError(f"Keys {key.shape} and values {value.shape} must have one shape.")
    if query.shape[-1] != key.shape[-1] or heads % key_heads:
        raise ValueError(
            f"Queries {query.shape} and keys {key.shape}: head sizes must be equal and the number of "
            "key/value heads must divide the number of query heads."
        )
    if causal and query.shape[-3] != key.shape[-3]:
        raise ValueError(
            f"Causal attention needs as many queries as keys, got {query.shape} and {key.shape}."
        )
    if window is not None and (not causal or window < 1):
        raise ValueError(f"A window must be positive and causal, got window={window}, causal={causal}.")
    if dropout and dropout_key is None:
        raise ValueError("Attention dropout needs a key.")


def _band_mask(rows: jax.Array, columns: jax.Array, window: int | None) -> jax.Array:
    """`[T, S]`: column at most the row and, with a window, less than `window` behind it."""
    behind = rows[:, None] - columns[None, :]
    return (behind >= 0) if window is None else (behind >= 0) & (behind < window)


def _group(query: jax.Array, key_heads: int) -> jax.Array:
    """`[..., T, H, D]` scaled and split into `[..., K, H / K, T, D]`."""
    *lead, length, heads, size = query.shape
    query = (query / math.sqrt(size)).reshape(*lead, length, key_heads, heads // key_heads, size)
    return jnp.moveaxis(query, -4, -2)


def _ungroup(out: jax.Array, dtype) -> jax.Array:
    """`[..., K, H / K, T, D]` back to `[..., T, H, D]`."""
    out = jnp.moveaxis(out, -2, -4)
    return out.reshape(*out.shape[:-3], -1, out.shape[-1]).astype(dtype)


def _scores(query: jax.Array, key: jax.Array) -> jax.Array:
    """`[..., K, G, T, S]` from grouped queries and `[..., S, K, D]`."""
    return jnp.einsum("...kgtd,...skd->...kgts", query, key, preferred_element_type=jnp.float32)


def _weigh(weights: jax.Array, value: jax.Array) -> jax.Array:
    return jnp.einsum(
        "...kgts,...skd->...kgtd", weights.astype(value.dtype), value, preferred_element_type=jnp.float32
    )


def _softmax(scores: jax.Array, mask: jax.Array, rows_may_be_empty: bool = True) -> jax.Array:
    """Softmax over the last axis, zeros where nothing is allowed."""
    # Added rather than selected: the gradient of what is masked is zero either way, one pass less.
    weights = jax.nn.softmax(scores + jnp.where(mask, 0.0, _MASKED), axis=-1)
    if rows_may_be_empty:
        weights = weights * jnp.any(mask, axis=-1, keepdims=True)
    return weights


def _dense(query, key, value, mask, causal, window, dropout: float, dropout_key, bias=None):
    if causal:
        positions = jnp.arange(query.shape[-3])
        band = _band_mask(positions, positions, window)
        mask = band if mask is None else mask & band
    scores = _scores(_group(query, key.shape[-2]), key)
    if bias is not None:
        scores += bias.reshape(*bias.shape[:-3], *scores.shape[-4:-2], *bias.shape[-2:])
    if mask is None:
        weights = jax.nn.softmax(scores, axis=-1)
    else:
        weights = _softmax(scores, mask[..., None, None, :, :])
    if dropout:
        kept = jax.random.bernoulli(dropout_key, 1.0 - dropout, weights.shape)
        weights = jnp.where(kept, weights / (1.0 - dropout), 0.0)
    return _ungroup(_weigh(weights, value), query.dtype)


def _band_block(window: int) -> int:
    """The query block of a band: a third of the window keeps the masked share of the work near a quarter."""
    return max(16, 8 * round(window / 24))


def _banded(query, key, value, window):
    """All query blocks at once against the keys of their bands; T is a multiple of the block."""
    block = _band_block(window)
    length = query.shape[-3]
    blocks = length // block
    before = -(-(window - 1) // block)

    def split(x):
        return x.reshape(*x.shape[:-3], blocks, block, *x.shape[-2:])

    def bands(x):
        """`[..., blocks, (before + 1) * block, K, D]`: each block behind its `before` predecessors."""
        x = split(x)
        padded = jnp.concatenate([jnp.zeros_like(x[..., :1, :, :, :])] * before + [x], axis=-4)
        shifted = [
            jax.lax.slice_in_dim(padded, j, j + blocks, axis=padded.ndim - 4) for j in range(before + 1)
        ]
        return jnp.concatenate(shifted, axis=-3)

    rows = jnp.arange(block) + before * block
    columns = jnp.arange((before + 1) * block)
    exists = columns[None, :] + (jnp.arange(blocks)[:, None] - before) * block >= 0
    mask = _band_mask(rows, columns, window)[None] & exists[:, None, :]
    weights = _softmax(_scores(_group(split(query), key.shape[-2]), bands(key)), mask[:, None, None], False)
    out = _ungroup(_weigh(weights, bands(value)), query.dtype)
    return out.reshape(query.shape)


def _banded_in_turn(query, key, value, window):
    """One query block after the other, recomputed in the backward pass: memory linear in T with a small constant."""
    block = _band_block(window)
    before = -(-(window - 1) // block) * block
    pad = [(0, 0)] * (key.ndim - 3) + [(before, 0), (0, 0), (0, 0)]
    keys, values = jnp.pad(key, pad), jnp.pad(value, pad)
    rows, columns = jnp.arange(block) + before, jnp.arange(before + block)
    band = _band_mask(rows, columns, window)

    @jax.checkpoint
    def one(start):
        take = functools.partial(jax.lax.dynamic_slice_in_dim, start_index=start, axis=query.ndim - 3)
        mask = band & (columns[None, :] + start >= before)
        weights = _softmax(
            _scores(
                _group(take(query, slice_size=block), key.shape[-2]), take(keys, slice_size=before + block)
            ),
            mask,
            False,
        )
        return _ungroup(_weigh(weights, take(values, slice_size=before + block)), query.dtype)

    return _join(jax.lax.map(one, jnp.arange(query.shape[-3] // block) * block), query.shape)


def _join(blocks: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """`[blocks, ..., block, H, D]` to `[..., T, H, D]`, cut to T."""
    joined = jnp.moveaxis(blocks, 0, -4)
    joined = joined.reshape(*joined.shape[:-4], -1, *joined.shape[-2:])
    return jax.lax.slice_in_dim(joined, 0, shape[-3], axis=len(shape) - 3)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _blocked(query, key, value, mask, causal, window):
    """Blocks of queries, and for each the blocks of keys in turn, joined by an online softmax."""
    return _blocked_forward(query, key, value, mask, causal, window)[0]


def _blocked_forward(query, key, value, mask, causal, window):
    """The attention, and for the backward pass the logarithm of each row's sum of exponentials."""
    keys = key.shape[-3]
    mask = _mask_rows(mask, query.shape[-3], keys)
    blocks = (_starts(key), _heads_first(key), _heads_first(value))

    def one(rows):
        query_start, grouped, mask_rows = rows

        def fold(carry, columns):
            key_start, key_block, value_block = columns

            def visible(carry):
                total, norm, peak = carry
                allowed = _tile(query_start, key_start, keys, causal, window, mask_rows)
                scores = jnp.where(allowed, _tile_scores(grouped, key_block), _MASKED)
                higher = jnp.maximum(peak, jnp.max(scores, axis=-1))
                weights = jnp.where(allowed, jnp.exp(scores - higher[..., None]), 0.0)
                shrink = jnp.exp(peak - higher)
                total = total * shrink[..., None] + _tile_weigh(weights, value_block)
                return total, norm * shrink + jnp.sum(weights, axis=-1), higher

            return _if_reached(
                visible, lambda carry: carry, query_start, key_start, causal, window, carry
            ), None

        empty = (
            jnp.zeros(grouped.shape, jnp.float32),
            jnp.zeros(grouped.shape[:-1], jnp.float32),
            jnp.full(grouped.shape[:-1], _MASKED, jnp.float32),
        )
        (total, norm, peak), _ = jax.lax.scan(fold, empty, blocks)
        norm = jnp.maximum(norm, 1e-30)
        return _ungroup(total / norm[..., None], query.dtype), peak + jnp.log(norm)

    grouped = _group(_blocks(query), key.shape[-2])
    out, log_sums = jax.lax.map(one, (_starts(query), grouped, mask))
    out = _join(out, query.shape)
    return out, (query, key, value, mask, out, log_sums)


def _blocked_backward(causal, window, residuals, gradient):
    query, key, value, mask, out, log_sums = residuals
    keys, key_heads, scale = key.shape[-3], key.shape[-2], math.sqrt(query.shape[-1])
    blocks = (_starts(key), _heads_first(key), _heads_first(value))

    def one(carry, rows):
        query_start, grouped, mask_rows, log_sum, out_gradient, shared = rows

        def fold(query_gradient, columns):
            key_start, key_block, value_block = columns

            def visible(query_gradient):
                allowed = _tile(query_start, key_start, keys, causal, window, mask_rows)
                scores = _tile_scores(grouped, key_block)
                weights = jnp.where(allowed, jnp.exp(scores - log_sum[..., None]), 0.0)
                of_weights = _tile_scores(out_gradient, value_block)
                of_scores = weights * (of_weights - shared[..., None])
                query_gradient += _tile_weigh(of_scores, key_block)
                return query_gradient, (_gather(of_scores, grouped), _gather(weights, out_gradient))

            def hidden(query_gradient):
                zeros = jnp.zeros(key_block.shape, jnp.float32)
                return query_gradient, (zeros, zeros)

            return _if_reached(visible, hidden, query_start, key_start, causal, window, query_gradient)

        query_gradient, found = jax.lax.scan(fold, jnp.zeros(grouped.shape, jnp.float32), blocks)
        return jax.tree.map(jnp.add, carry, found), _ungroup(query_gradient / scale, query.dtype)

    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), blocks[1:])
    gradient = gradient.astype(query.dtype)
    # What the softmax subtracts: each row's gradient along its own output.
    shared = jnp.sum(gradient.astype(jnp.float32) * out.astype(jnp.float32), axis=-1, keepdims=True)
    rows = (
        _starts(query),
        _group(_blocks(query), key_heads),
        mask,
        log_sums,
        _group(_blocks(gradient) * scale, key_heads),
        _group(_blocks(shared), key_heads)[..., 0],
    )
    (key_gradient, value_gradient), query_gradient = jax.lax.scan(one, zeros, rows)
    return (
        _join(query_gradient, query.shape),
        _join(jnp.moveaxis(key_gradient, -3, -2), key.shape).astype(key.dtype),
        _join(jnp.moveaxis(value_gradient, -3, -2), value.shape).astype(value.dtype),
        None,
    )


_blocked.defvjp(_blocked_forward, _blocked_backward)


def _blocks(x: jax.Array) -> jax.Array:
    """`[..., T, H, D]` to `[blocks, ..., block, H, D]`, zeros behind the end."""
    *lead, length, heads, size = x.shape
    padded = jnp.pad(x, [(0, 0)] * len(lead) + [(0, -length % _BLOCK), (0, 0), (0, 0)])
    return jnp.moveaxis(padded.reshape(*lead, -1, _BLOCK, heads, size), -4, 0)


def _starts(x: jax.Array) -> jax.Array:
    """The place of each block's first row."""
    return jnp.arange(-(-x.shape[-3] // _BLOCK)) * _BLOCK


def _mask_rows(mask: jax.Array | None, queries: int, keys: int) -> jax.Array | None:
    """`[..., T, S]` to `[blocks of queries, ..., block, padded S]`, False behind the ends."""
    if mask is None:
        return None
    lead = mask.shape[:-2]
    pad = [(0, 0)] * len(lead) + [(0, -queries % _BLOCK), (0, -keys % _BLOCK)]
    padded = jnp.pad(jnp.broadcast_to(mask, (*lead, queries, keys)), pad)
    return jnp.moveaxis(padded.reshape(*lead, -1, _BLOCK, padded.shape[-1]), -3, 0)


def _tile(query_start, key_start, keys: int, causal: bool, window: int | None, mask_rows) -> jax.Array:
    """Which pairs of a block of queries and a block of keys are allowed, bool `[..., block, block]`."""
    rows, columns = query_start + jnp.arange(_BLOCK), key_start + jnp.arange(_BLOCK)
    allowed = jnp.broadcast_to(columns[None, :] < keys, (_BLOCK, _BLOCK))
    if causal:
        allowed &= _band_mask(rows, columns, window)
    if mask_rows is not None:
        here = jax.lax.dynamic_slice_in_dim(mask_rows, key_start, _BLOCK, axis=mask_rows.ndim - 1)
        allowed = allowed & here[..., None, None, :, :]
    return allowed


def _if_reached(visible, hidden, query_start, key_start, causal: bool, window: int | None, carry):
    """`visible(carry)` unless the causal band leaves the tile out."""
    if not causal:
        return visible(carry)
    reached = key_start <= query_start
    if window is not None:
        reached &= key_start + _BLOCK > query_start - window + 1
    return jax.lax.cond(reached, visible, hidden, carry)


def _gather(weights: jax.Array, rows: jax.Array) -> jax.Array:
    """`[..., S, K, D]`: each key's sum over the queries `[..., K, G, T, D]`, weighed."""
    return jnp.einsum(
        "...kgts,...kgtd->...ksd", weights.astype(rows.dtype), rows, preferred_element_type=jnp.float32
    )


def _heads_first(x: jax.Array) -> jax.Array:
    """`[..., S, K, D]` to `[blocks, ..., K, block, D]`, in which no tile has to be turned again."""
    return jnp.moveaxis(_blocks(x), -2, -3)


def _tile_scores(query: jax.Array, key: jax.Array) -> jax.Array:
    """`[..., K, G, T, S]` from `[..., K, G, T, D]` and `[..., K, S, D]`."""
    return jnp.einsum("...kgtd,...ksd->...kgts", query, key, preferred_element_type=jnp.float32)


def _tile_weigh(weights: jax.Array, value: jax.Array) -> jax.Array:
    """`[..., K, G, T, D]` from `[..., K, G, T, S]` and `[..., K, S, D]`."""
    return jnp.einsum(
        "...kgts,...ksd->...kgtd", weights.astype(value.dtype), value, preferred_element_type=jnp.float32
    )
