"""Torsos: networks from one observation, an array or a dictionary, to features.

A torso is a plain function that is called inside `hk.transform` and makes its parameters there; a head
(policy, value, Q) goes on from its features. `make_torso` builds one by name.
"""

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from dm_env import specs

from ._labels import label_matches
from ._present_flags import present_flags
from ._symbol_sizes import channel_sizes
from .goal_torso import goal
from .networks import encoder
from .zorro_torso import zorro


Torso = Callable[[Any], jax.Array]

_AUDIO_FRAME = 256


class TorsoEntry(NamedTuple):
    """A torso: `constructor(observation_spec, **settings) -> Torso`, and a line of description."""

    constructor: Callable[..., Torso]
    description: str


def _relu_layer(width: int, name: str) -> Callable[[jax.Array], jax.Array]:
    linear = hk.Linear(width, w_init=hk.initializers.Orthogonal(2**0.5), name=name)
    return lambda x: jax.nn.relu(linear(x))


def mlp(observation_spec: specs.Array, *, hidden: tuple[int, ...] = (128,)) -> Torso:
    """ReLU layers on one flat array; bounded integers are shown as one one-hot vector per entry.

    Args:
      observation_spec: of one array `[*shape]`.
      hidden: widths of the layers.

    Returns:
      A function from observations `[..., *shape]` to features `[..., hidden[-1]]`.

    Raises:
      ValueError: not the spec of one array, or one with too many one-hot features.
    """
    encode = encoder(observation_spec)

    def torso(observation: Any) -> jax.Array:
        net = hk.nets.MLP(hidden, activate_final=True, w_init=hk.initializers.Orthogonal(2**0.5))
        return net(encode(observation))

    return torso


def _symbols(spec: specs.Array, deep: bool) -> Torso:
    """Integers [..., H, W, C] -> [..., 64]: a learned vector per cell, laid end to end, then a layer.

    A view of 7x7 cells in the agent's own frame has little that a convolution would share, and on a CPU
    these matrix products are several times faster than convolutions of this size.
    """
    del deep
    sizes = channel_sizes(spec)

    def torso(symbols: Any) -> jax.Array:
        bits = [symbols[..., c : c + 1] == np.arange(n, dtype=spec.dtype) for c, n in enumerate(sizes)]
        x = jnp.concatenate(bits, axis=-1).astype(jnp.float32)
        x = hk.Linear(8, name="symbols_cells")(x)
        return _relu_layer(64, "symbols")(x.reshape(*x.shape[:-3], -1))

    return torso


def _image(spec: specs.Array, deep: bool) -> Torso:
    """Pixels [..., H, W, C] -> [..., F]: scaled to [0, 1], then one of the two networks of IMPALA."""
    if len(spec.shape) != 3:
        raise ValueError(f"image must have the shape [height, width, channels], got {spec!r}.")
    scale = 1 / 255 if spec.dtype == np.uint8 else 1.0

    def shallow(x: jax.Array) -> jax.Array:
        x = jax.nn.relu(hk.Conv2D(16, 8, 4, name="image_0")(x))
        return jax.nn.relu(hk.Conv2D(32, 4, 2, name="image_1")(x))

    def residual(x: jax.Array) -> jax.Array:
        for i, width in enumerate((16, 32, 32)):
            x = hk.Conv2D(width, 3, name=f"image_{i}")(x)
            x = hk.max_pool(x, (3, 3, 1), (2, 2, 1), "SAME", channel_axis=None)
            for j in range(2):
                y = hk.Conv2D(width, 3, name=f"image_{i}_{j}_0")(jax.nn.relu(x))
                x = x + hk.Conv2D(width, 3, name=f"image_{i}_{j}_1")(jax.nn.relu(y))
        return jax.nn.relu(x)

    def torso(image: Any) -> jax.Array:
        x = jnp.asarray(image).astype(jnp.float32) * scale
        leading = x.shape[:-3]
        x = (residual if deep else shallow)(x.reshape(-1, *x.shape[-3:]))
        return x.reshape(*leading, -1)

    return torso


def _text(spec: specs.Array, deep: bool) -> Torso:
    """Tokens [..., L], 0 = padding -> [..., 64]: the mean over tokens of a layer on word and place.

    The layer sees a word together with where it stands, so that "the key, then the door" and "the door,
    then the key" differ, at the cost of one matrix product and no recurrence.
    """
    del deep
    if len(spec.shape) != 1 or not isinstance(spec, specs.BoundedArray):
        raise ValueError(f"text must be bounded integers [length], the maximum the last token, got {spec!r}.")
    (length,), vocabulary = spec.shape, int(np.max(spec.maximum)) + 1

    def torso(tokens: Any) -> jax.Array:
        words = hk.Embed(vocabulary, 32, name="text_words")(jnp.asarray(tokens, jnp.int32))
        places = hk.Embed(length, 32, name="text_places")(np.arange(length))
        x = _relu_layer(64, "text")(words + places)
        present = (jnp.asarray(tokens) != 0)[..., None].astype(jnp.float32)
        return jnp.sum(x * present, axis=-2) / jnp.maximum(jnp.sum(present, axis=-2), 1.0)

    return torso


def _audio(spec: specs.Array, deep: bool) -> Torso:
    """A waveform [..., N] -> [..., 64]: log-magnitude spectra of windows of 256 samples, half overlapping,
    a layer on each, the mean over them."""
    del deep
    if len(spec.shape) != 1:
        raise ValueError(f"audio must be one waveform [samples], got {spec!r}.")
    hop = _AUDIO_FRAME // 2
    frames = max(1, -(-(spec.shape[0] - _AUDIO_FRAME) // hop) + 1)
    places = np.arange(frames)[:, None] * hop + np.arange(_AUDIO_FRAME)
    window = np.hanning(_AUDIO_FRAME).astype(np.float32)

    def torso(wave: Any) -> jax.Array:
        wave = jnp.asarray(wave, jnp.float32)
        missing = (frames - 1) * hop + _AUDIO_FRAME - wave.shape[-1]
        wave = jnp.pad(wave, [(0, 0)] * (wave.ndim - 1) + [(0, missing)])
        spectra = jnp.log1p(jnp.abs(jnp.fft.rfft(wave[..., places] * window, axis=-1)))
        return jnp.mean(_relu_layer(64, "audio")(spectra), axis=-2)

    return torso


def _matches(labels: specs.Array, text: Any) -> Callable[[Any, Any], jax.Array]:
    """Tokens [..., N, L] and [..., M], 0 = padding -> [..., N]: the cosine of each label with the text.

    A label that says what the text says matches it whether or not the words were ever met in training.
    """
    if not isinstance(text, specs.BoundedArray):
        raise ValueError(
            "labels are read by how well they match text: the observation needs `text` beside `labels`."
        )
    if len(labels.shape) != 2 or not isinstance(labels, specs.BoundedArray):
        raise ValueError(
            f"labels must be bounded integers [cells, length], the maximum the last token, not {labels!r}."
        )
    return label_matches


def _vector(spec: specs.Array, deep: bool) -> Torso:
    del deep
    return encoder(spec)


_BRANCHES: dict[str, Callable[[specs.Array, bool], Torso]] = {
    "image": _image,
    "symbols": _symbols,
    "text": _text,
    "audio": _audio,
}


def dictionary(observation_spec: Any, *, hidden: tuple[int, ...] = (128,), deep: bool = False) -> Torso:
    """A branch per key of a dictionary, laid end to end, then ReLU layers. Any key may be absent.

    | key | what is read |
    |---|---|
    | `image` | uint8 `[H, W, C]`, scaled to [0, 1]: the shallow convolutions of IMPALA, or its residual network |
    | `symbols` | integers `[H, W, C]`, MiniGrid's 7x7x3: one-hot per channel, a vector of 8 per cell, a layer |
    | `text` | tokens `[L]`, 0 = padding: embedded, a layer on word + place, mean over what is not padding |
    | `labels` | tokens `[N, L]`, 0 = padding: the cosine of each label with `text`, as sets of words |
    | `audio` | a waveform `[N]`: log-magnitude spectra, a layer on each, mean over time |
    | `<key>_present`, bool, beside a key | as any other, and where it is False the features of the key's branch are 0 |
    | `direction`, any other | flat: one-hot per bounded integer, scaled where bounded, else as it is |

    Source of the image networks: L. Espeholt et al., "IMPALA", arXiv 1802.01561, figure 3.

    Args:
      observation_spec: a dictionary of array specs, or one array `[H, W, C]`, which is read as `image`.
      hidden: widths of the layers after the branches.
      deep: the residual network for `image` instead of the shallow one.

    Returns:
      A function from observations `[..., *shape]` to features `[..., hidden[-1]]`.

    Raises:
      ValueError: an empty dictionary, a key that no branch reads (`graph`), `labels` without `text`, or a spec
        that its branch cannot read; when called, keys that are not the spec's.
    """
    bare = not isinstance(observation_spec, Mapping)
    parts = {"image": observation_spec} if bare else dict(observation_spec)
    if not parts:
        raise ValueError("The dictionary torso needs at least one key to read, got an empty dictionary.")
    if "graph" in parts:
        raise ValueError(
            "The dictionary torso does not read graphs, and no torso does yet. Leave `graph` out of the "
            "observation, or pass a torso of your own."
        )
    for name, spec in parts.items():
        if not isinstance(spec, specs.Array):
            raise ValueError(f"The dictionary torso reads array specs, got {spec!r} under {name!r}.")
    matches = _matches(parts["labels"], parts.get("text")) if "labels" in parts else None
    names = sorted(parts)
    branches = {name: _BRANCHES.get(name, _vector)(parts[name], deep) for name in names if name != "labels"}
    flags = present_flags(parts, names)

    def torso(observation: Any) -> jax.Array:
        given = {"image": observation} if bare else observation
        if not isinstance(given, Mapping) or set(given) != set(names):
            keys = sorted(given) if isinstance(given, Mapping) else type(given).__name__
            raise ValueError(f"This torso was built for the keys {names}, got {keys}.")
        features = [branch(given[name]) for name, branch in branches.items()]
        for i, name in enumerate(branches):
            if name in flags:
                features[i] *= jnp.asarray(given[flags[name]], jnp.float32)[..., None]
        if matches:
            features.append(matches(given["labels"], given["text"]))
        x = jnp.concatenate(features, axis=-1)
        for i, width in enumerate(hidden):
            x = _relu_layer(width, f"joint_{i}")(x)
        return x

    return torso


TORSOS: dict[str, TorsoEntry] = {
    "dictionary": TorsoEntry(
        dictionary, "A branch per key (image, symbols, text, labels, audio, vectors), then layers."
    ),
    "goal": TorsoEntry(goal, "Every cell of symbols compared with every word of the goal, for new goals."),
    "mlp": TorsoEntry(mlp, "Layers on one flat array, bounded integers one-hot."),
    "zorro": TorsoEntry(
        zorro, "Image, symbols, audio and text in one masked Transformer; any may be missing."
    ),
}


def make_torso(name: str, observation_spec: Any, **settings: Any) -> Torso:
    """Builds the torso `name` of `TORSOS`.

    Returns:
      A function from observations with any leading axes (`[T, B]`, none) to features `[..., F]`, to be
      called inside `hk.transform`. It makes its parameters where it is called: call it once in a
      transformed function, on stacked observations where there are several.

    Raises:
      ValueError: unknown name or setting, or an observation that this torso cannot read.
    """
    if name not in TORSOS:
        raise ValueError(
            f"Unknown torso {name!r}; known are {', '.join(sorted(TORSOS))}.{_hint(name, TORSOS)}"
        )
    constructor = TORSOS[name].constructor
    known = list(inspect.signature(constructor).parameters)[1:]
    for given in settings:
        if given not in known:
            raise ValueError(
                f"Unknown setting of the torso {name} {given!r}; known are {', '.join(known)}.{_hint(given, known)}"
            )
    return constructor(observation_spec, **settings)


def _hint(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f" Did you mean {close[0]!r}?" if close else ""


def default_torso(observation_spec: Any, hidden: tuple[int, ...] = (128,)) -> Torso:
    """`dictionary` for dictionaries and for one uint8 array `[H, W, C]`, `mlp` for any other array.

    Args:
      observation_spec: an array's spec or a dictionary of them.
      hidden: widths of the layers (`dictionary`: of those after the branches).
    """
    pixels = isinstance(observation_spec, specs.Array) and observation_spec.dtype == np.uint8
    image = pixels and len(observation_spec.shape) == 3
    name = "dictionary" if image or isinstance(observation_spec, Mapping) else "mlp"
    return make_torso(name, observation_spec, hidden=hidden)
