"""How GGUF packs numbers, and how they become float32 again, exactly as ggml computes them.

Layouts: https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h (`block_q4_0` and so on), arithmetic:
ggml-quants.c (`dequantize_row_*`). A function takes (blocks, bytes of a block) and gives (blocks, elements of a block).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCKS", "UNREAD_TYPES", "Block", "unpacked_rows"]

_SUPER = 256
_CHUNK_ELEMENTS = 4 * 1024**2
# The codebook of IQ4_NL and IQ4_XS (`kvalues_iq4nl`).
_IQ4_VALUES: Final = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32)

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A way to pack numbers.

    Attributes:
        name: ggml's name of it.
        elements: Numbers of a block.
        size_bytes: Bytes of a block.
        unpack: Blocks to numbers.
        dtype: The type's name in safetensors, if the numbers are not packed.
    """

    name: str
    elements: int
    size_bytes: int
    unpack: Callable[[Bytes], Floats]
    dtype: str | None = None


def unpacked_rows(rows: Bytes, type_id: int, order: NDArray[np.intp] | None = None) -> Iterator[Floats]:
    """The numbers of packed rows, some rows at a time.

    Args:
        rows: (rows, bytes of a row).
        type_id: A key of `BLOCKS`.
        order: Which row comes when, if not as they lie.
    """
    block = BLOCKS[type_id]
    columns = rows.shape[1] // block.size_bytes * block.elements
    step = max(_CHUNK_ELEMENTS // max(columns, 1), 1)
    for start in range(0, len(rows), step):
        some = rows[start : start + step] if order is None else rows[order[start : start + step]]
        yield block.unpack(some.reshape(-1, block.size_bytes)).reshape(len(some), columns)


def _plain(dtype: str) -> Callable[[Bytes], Floats]:
    return lambda blocks: blocks.view(dtype).astype(np.float32)


def _bfloat16(blocks: Bytes) -> Floats:
    return (blocks.view("<u2").astype(np.uint32) << 16).view(np.float32)


def _half(blocks: Bytes, start: int) -> Floats:
    """The float16 at a place of every block: (blocks, 1)."""
    return np.ascontiguousarray(blocks[:, start : start + 2]).view("<f2").astype(np.float32)


def _nibbles(packed: Bytes) -> NDArray[np.uint8]:
    """Low halves of all bytes, then their high halves, along the last axis."""
    return np.concatenate([packed & 15, packed >> 4], axis=-1)


def _fifth_bits(blocks: Bytes, start: int) -> NDArray[np.uint8]:
    """The 32 bits at a place of every block, each as 16 or 0."""
    bits: NDArray[np.uint8] = np.unpackbits(blocks[:, start : start + 4], axis=1, bitorder="little")
    return bits * np.uint8(16)


def _q4_0(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * (_nibbles(blocks[:, 2:]).astype(np.float32) - 8)


def _q4_1(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * _nibbles(blocks[:, 4:]).astype(np.float32) + _half(blocks, 2)


def _q5_0(blocks: Bytes) -> Floats:
    numbers = _nibbles(blocks[:, 6:]) | _fifth_bits(blocks, 2)
    return _half(blocks, 0) * (numbers.astype(np.float32) - 16)


def _q5_1(blocks: Bytes) -> Floats:
    numbers = _nibbles(blocks[:, 8:]) | _fifth_bits(blocks, 4)
    return _half(blocks, 0) * numbers.astype(np.float32) + _half(blocks, 2)


def _q8_0(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * blocks[:, 2:].view(np.int8).astype(np.float32)


def _q2_k(blocks: Bytes) -> Floats:
    """Sixteen groups of 16 numbers of 2 bits, each with a scale and a minimum of 4 bits."""
    scales, packed = blocks[:, :16], blocks[:, 16:80].reshape(-1, 2, 1, 32)
    shifts = np.array([0, 2, 4, 6], np.uint8).reshape(1, 1, 4, 1)
    numbers = ((packed >> shifts) & 3).reshape(-1, 16, 16).astype(np.float32)
    scale = _half(blocks, 80) * (scales & 15).astype(np.float32)
    least = _half(blocks, 82) * (scales >> 4).astype(np.float32)
    return (scale[..., None] * numbers - least[..., None]).reshape(-1, _SUPER)


def _q3_k(blocks: Bytes) -> Floats:
    """Sixteen groups of 16 numbers of 3 bits: two bits beside each other, the third (inverted) in a mask."""
    mask, packed, scales = blocks[:, :32], blocks[:, 32:96], blocks[:, 96:108]
    shifts = np.array([0, 2, 4, 6], np.uint8).reshape(1, 1, 4, 1)
    low = (packed.reshape(-1, 2, 1, 32) >> shifts) & 3
    bits = np.arange(8, dtype=np.uint8).reshape(1, 2, 4, 1)
    is_low = ((mask.reshape(-1, 1, 1, 32) >> bits) & 1) == 0
    numbers = low.astype(np.float32) - 4 * is_low.astype(np.float32)
    low_scales = np.concatenate([scales[:, :8] & 15, scales[:, :8] >> 4], axis=1)
    high_shifts = np.array([0, 2, 4, 6], np.uint8).reshape(1, 4, 1)
    high_scales = ((scales[:, 8:].reshape(-1, 1, 4) >> high_shifts) & 3).reshape(-1, 16)
    signed = (low_scales | (high_scales << 4)).astype(np.float32) - 32
    scale = _half(blocks, 108) * signed
    return _grouped(scale, numbers)


def _grouped(scale: Floats, numbers: Floats) -> Floats:
    """Numbers times the scale of their group: (blocks, groups) and (blocks, elements) in any shape."""
    groups = scale.shape[1]
    values: Floats = scale[..., None] * numbers.reshape(-1, groups, _SUPER // groups)
    return values.reshape(-1, _SUPER)


def _six_bit_pairs(packed: Bytes) -> tuple[Floats, Floats]:
    """Eight scales and eight minima of 6 bits each, out of 12 bytes (`get_scale_min_k4`)."""
    first, second, rest = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = np.concatenate([first & 63, (rest & 15) | ((first >> 6) << 4)], axis=1)
    least = np.concatenate([second & 63, (rest >> 4) | ((second >> 6) << 4)], axis=1)
    return scales.astype(np.float32), least.astype(np.float32)


def _scaled_k(blocks: Bytes, numbers: NDArray[np.uint8]) -> Floats:
    """What Q4_K and Q5_K share: (blocks, 8, 32) numbers, each group of 32 with a scale and a minimum."""
    scales, least = _six_bit_pairs(blocks[:, 4:16])
    scale, low = _half(blocks, 0) * scales, _half(blocks, 2) * least
    return (scale[..., None] * numbers.astype(np.float32) - low[..., None]).reshape(-1, _SUPER)


def _q4_k(blocks: Bytes) -> Floats:
    return _scaled_k(blocks, _nibbles(blocks[:, 16:].reshape(-1, 4, 32)).reshape(-1, 8, 32))


def _q5_k(blocks: Bytes) -> Floats:
    low = _nibbles(blocks[:, 48:].reshape(-1, 4, 32)).reshape(-1, 8, 32)
    bits = np.arange(8, dtype=np.uint8).reshape(1, 8, 1)
    high = (blocks[:, 16:48].reshape(-1, 1, 32) >> bits) & 1
    return _scaled_k(blocks, (low | (high << 4)).astype(np.uint8))


def _q6_k(blocks: Bytes) -> Floats:
    """Sixteen groups of 16 numbers of 6 bits, each with a scale of 8 bits."""
    low = _nibbles(blocks[:, :128].reshape(-1, 2, 64)).reshape(-1, 2, 4, 32)
    shifts = np.array([0, 2, 4, 6], np.uint8).reshape(1, 1, 4, 1)
    high = (blocks[:, 128:192].reshape(-1, 2, 1, 32) >> shifts) & 3
    numbers = (low | (high << 4)).astype(np.float32) - 32
    scales = np.ascontiguousarray(blocks[:, 192:208]).view(np.int8).astype(np.float32)
    scale = _half(blocks, 208) * scales
    return _grouped(scale, numbers)


def _iq4_nl(blocks: Bytes) -> Floats:
    values: Floats = _half(blocks, 0) * _IQ4_VALUES[_nibbles(blocks[:, 2:])]
    return values


def _iq4_xs(blocks: Bytes) -> Floats:
    """Eight groups of 32 numbers from a codebook, each with a scale of 6 bits."""
    packed = np.ascontiguousarray(blocks[:, 2:4]).view("<u2").astype(np.uint16)
    high = (packed >> np.arange(0, 16, 2, dtype=np.uint16)) & 3
    low = np.stack([blocks[:, 4:8] & 15, blocks[:, 4:8] >> 4], axis=-1).reshape(-1, 8)
    scale = _half(blocks, 0) * ((low | (high << 4)).astype(np.float32) - 32)
    return _grouped(scale, _IQ4_VALUES[_nibbles(blocks[:, 8:].reshape(-1, 8, 16))])


def _of(name: str, elements: int, size_bytes: int, unpack: Callable[[Bytes], Any], dtype: str | None = None) -> Block:
    return Block(name=name, elements=elements, size_bytes=size_bytes, unpack=unpack, dtype=dtype)


BLOCKS: Final[Mapping[int, Block]] = {
    0: _of("F32", 1, 4, _plain("<f4"), "F32"),
    1: _of("F16", 1, 2, _plain("<f2"), "F16"),
    2: _of("Q4_0", 32, 18, _q4_0),
    3: _of("Q4_1", 32, 20, _q4_1),
    6: _of("Q5_0", 32, 22, _q5_0),
    7: _of("Q5_1", 32, 24, _q5_1),
    8: _of("Q8_0", 32, 34, _q8_0),
    10: _of("Q2_K", _SUPER, 84, _q2_k),
    11: _of("Q3_K", _SUPER, 110, _q3_k),
    12: _of("Q4_K", _SUPER, 144, _q4_k),
    13: _of("Q5_K", _SUPER, 176, _q5_k),
    14: _of("Q6_K", _SUPER, 210, _q6_k),
    20: _of("IQ4_NL", 32, 18, _iq4_nl),
    23: _of("IQ4_XS", _SUPER, 136, _iq4_xs),
    30: _of("BF16", 1, 2, _bfloat16, "BF16"),
}
"""The ways that are read, by the numbers that files give them."""

UNREAD_TYPES: Final[Mapping[int, str]] = {
    9: "Q8_1",
    15: "Q8_K",
    16: "IQ2_XXS",
    17: "IQ2_XS",
    18: "IQ3_XXS",
    19: "IQ1_S",
    21: "IQ3_S",
    22: "IQ2_S",
    24: "I8",
    25: "I16",
    26: "I32",
    27: "I64",
    28: "F64",
    29: "IQ1_M",
    34: "TQ1_0",
    35: "TQ2_0",
    39: "MXFP4",
    40: "NVFP4",
}
"""Names of the others, for errors."""
