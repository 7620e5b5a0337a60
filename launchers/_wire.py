"""Messages on a socket: a msgpack value, and the bytes of the NumPy arrays in it after it, never a pickle.

A message is a head of 12 bytes (the size of the msgpack value, uint32, and of all arrays, uint64, big endian), the
value, and the arrays' bytes in the order in which they stand in it. An array stands in the value as an extension
of type 1 that holds its dtype and shape, so that its bytes are read straight into its own memory.
"""

import math
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np


MAX_BYTES = 1 << 30  # Of one message. Longer ones are sent in parts, or through a file.

_HEAD = struct.Struct(">IQ")
_ARRAY = 1
_KINDS = "biufcSUMm"  # What NumPy writes as plain bytes.
_TOGETHER = 1 << 16  # Arrays below this are sent with what stands before them.


class MessageError(ValueError):
    """A value cannot be sent, or what came is no message of ours. One clear line."""


class Ended(ConnectionError):
    """The other side closed the connection."""


def send(sock: socket.socket, value: Any, deadline: float, max_bytes: int = MAX_BYTES) -> None:
    """Sends a message.

    Args:
      sock: connected.
      value: None, bool, int, float, str, bytes, lists, tuples (they arrive as lists), mappings, and NumPy arrays or
        what NumPy makes one of (JAX arrays) of numbers, strings or dates.
      deadline: in seconds of `time.monotonic()`.
      max_bytes: most of one message.

    Raises:
      MessageError: the value cannot be sent. Nothing was sent.
      TimeoutError: the deadline passed.
      OSError: the connection broke.
    """
    body, arrays = encode(value)
    total = sum(array.nbytes for array in arrays)
    if len(body) + total > max_bytes:
        raise MessageError(
            f"a message of {(len(body) + total) / 1e6:,.1f} MB was to be sent; {max_bytes / 1e6:,.1f} MB are the most "
            "that one may have: send it in parts"
        )
    together = bytearray(_HEAD.pack(len(body), total) + body)
    for array in arrays:
        if not array.nbytes:
            continue
        if array.nbytes < _TOGETHER:
            together += array.tobytes()
            continue
        _send_all(sock, together, deadline)
        _send_all(sock, _bytes_of(array), deadline)
        together = bytearray()
    _send_all(sock, together, deadline)


def receive(sock: socket.socket, deadline: float | None, max_bytes: int = MAX_BYTES) -> Any:
    """Receives a message; arrays in it are writable and own their memory.

    Args:
      sock: connected.
      deadline: in seconds of `time.monotonic()`; None waits for ever.
      max_bytes: most of one message.

    Raises:
      MessageError: it is too long or damaged.
      TimeoutError: the deadline passed.
      Ended: the other side closed the connection.
      OSError: the connection broke.
    """
    size, total = _HEAD.unpack(exactly(sock, _HEAD.size, deadline))
    if size + total > max_bytes:
        raise MessageError(
            f"a message of {(size + total) / 1e6:,.1f} MB came; {max_bytes / 1e6:,.1f} MB are the most that one may "
            "have"
        )
    value, arrays = decode(exactly(sock, size, deadline), total)
    for array in arrays:
        if array.nbytes:
            _fill(sock, _bytes_of(array), deadline)
    return value


def encode(value: Any) -> tuple[bytes, list[np.ndarray]]:
    """A value as msgpack, and the arrays that follow it. Raises `MessageError`."""
    arrays: list[np.ndarray] = []

    def other(found: Any) -> Any:
        if isinstance(found, np.generic) and found.dtype.kind in "biuf":
            return found.item()
        if isinstance(found, Mapping):
            return dict(found)
        if not hasattr(found, "__array__"):
            raise MessageError(
                f"a value of type {type(found).__name__} cannot be sent: only numbers, strings, bytes, None, lists, "
                "dictionaries and arrays can"
            )
        array = np.asarray(found, order="C")
        arrays.append(array)
        return msgpack.ExtType(_ARRAY, msgpack.packb((_dtype_name(array.dtype), array.shape)))

    try:
        return msgpack.Packer(default=other).pack(value), arrays
    except MessageError:
        raise
    except (ValueError, OverflowError, TypeError) as error:
        raise MessageError(f"a value cannot be sent: {error}") from error


def decode(body: bytes | bytearray, total: int) -> tuple[Any, list[np.ndarray]]:
    """The value, and the empty arrays in it which `total` bytes are to fill in turn. Raises `MessageError`."""
    arrays: list[np.ndarray] = []
    left = total

    def extension(code: int, data: bytes) -> np.ndarray:
        nonlocal left
        if code != _ARRAY:
            raise ValueError(f"unknown extension {code}")
        name, shape = msgpack.unpackb(data)
        dtype = _dtype(name)
        if any(not isinstance(size, int) or size < 0 for size in shape):
            raise ValueError(f"shape {shape}")
        left -= math.prod(shape) * dtype.itemsize
        if left < 0:
            raise ValueError("its arrays are longer than was said")
        arrays.append(np.empty(shape, dtype))
        return arrays[-1]

    try:
        value = msgpack.unpackb(body, ext_hook=extension, strict_map_key=False)
        if left:
            raise ValueError("its arrays are shorter than was said")
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise MessageError(f"a damaged message came: {error}") from error
    return value, arrays


def exactly(sock: socket.socket, size: int, deadline: float | None) -> bytearray:
    """That many bytes; see `receive` for what it raises."""
    data = bytearray(size)
    _fill(sock, memoryview(data), deadline)
    return data


def _dtype_name(dtype: np.dtype) -> str:
    if dtype.kind in _KINDS:
        return dtype.str
    # bfloat16 and the 8-bit floats are no types of NumPy's own; to it they are bytes without a meaning.
    if dtype.kind == "V" and dtype.names is None and dtype.type.__module__ == "ml_dtypes":
        return dtype.name
    raise MessageError(
        f"an array of dtype {dtype} cannot be sent: only numbers, strings and dates can; no objects, no records"
    )


def _dtype(name: str) -> np.dtype:
    if name[:1] in "<>|=":
        dtype = np.dtype(name)
        # NumPy reads a width of 0 as 1: more memory than the shape says.
        if dtype.kind not in _KINDS or not dtype.itemsize:
            raise ValueError(f"dtype {name}")
        return dtype
    import ml_dtypes

    scalar = getattr(ml_dtypes, name, None)
    if not isinstance(scalar, type) or not issubclass(scalar, np.generic):
        raise ValueError(f"dtype {name}")
    return np.dtype(scalar)


def _bytes_of(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _send_all(sock: socket.socket, data: bytearray | memoryview, deadline: float) -> None:
    if len(data):
        sock.settimeout(_left(deadline))
        sock.sendall(data)


def _fill(sock: socket.socket, view: memoryview, deadline: float | None) -> None:
    while len(view):
        sock.settimeout(None if deadline is None else _left(deadline))
        count = sock.recv_into(view)
        if not count:
            raise Ended("the connection was closed")
        view = view[count:]


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
