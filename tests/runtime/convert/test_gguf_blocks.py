"""Packed numbers come out as ggml's own package computes them, bit for bit."""

from pathlib import Path

import numpy as np
import pytest

from mlx_integrations.runtime.convert.gguf_blocks import BLOCKS, unpacked_rows

NUMBERS = {block.name: number for number, block in BLOCKS.items()}


@pytest.mark.parametrize("name", NUMBERS)
def test_blocks_of_random_bits_unpack_exactly(data: Path, name: str) -> None:
    reference = np.load(data / "blocks.npz")
    with np.errstate(all="ignore"):  # random bits make some infinite scales
        rows = list(unpacked_rows(reference[f"{name}_blocks"], NUMBERS[name]))
    assert np.array_equal(np.concatenate(rows), reference[f"{name}_values"], equal_nan=True)


def test_rows_come_in_the_order_asked_for_however_they_are_cut() -> None:
    values = np.arange(3 * 1024 * 1024, dtype=np.float32).reshape(-1, 1024)
    order = np.random.default_rng(0).permutation(len(values))
    pieces = list(unpacked_rows(values.view(np.uint8), 0, order))
    assert len(pieces) == 1
    assert np.array_equal(pieces[0], values[order])
    wide = np.zeros((4, 4 * 3 * 1024**2), np.uint8)
    assert [piece.shape[0] for piece in unpacked_rows(wide, 0)] == [1, 1, 1, 1]
