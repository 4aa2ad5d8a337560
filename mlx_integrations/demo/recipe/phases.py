"""The phases of training: what changes over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Phase:
    """One phase of training.

    Attributes:
        name: Its name, also of its checkpoint.
        seed: Seed of its conversations.
        steps: Number of updates.
        batch_tokens: Tokens of a batch, padding included.
        longest_tokens: Longer conversations are left out.
        peak_rate: Highest learning rate.
        last_rate: Learning rate at the end.
        warm_up_steps: Updates over which the rate rises to the peak.
        decay_share: Last share of the phase over which the rate falls, 0 to 1.
        other_weight: Weight in the loss of tokens that are not the assistant's, whose own weigh 1.
    """

    name: str
    seed: int
    steps: int
    batch_tokens: int
    longest_tokens: int
    peak_rate: float
    last_rate: float
    warm_up_steps: int
    decay_share: float
    other_weight: float = 0.1


PHASES: Final = (
    Phase("first", 1, 400, 8192, 448, 5e-3, 5e-3, 60, 0.5),
    Phase("second", 2, 650, 8192, 1024, 5e-3, 5e-3, 20, 0.5),
    Phase("third", 3, 400, 8192, 1024, 5e-3, 5e-3, 20, 0.5),
    Phase("fourth", 4, 350, 8192, 1024, 5e-3, 5e-3, 20, 0.5, 0.0),
    Phase("fifth", 5, 800, 4096, 1024, 3.5e-3, 2.27e-03, 20, 1.0, 0.0),
    Phase("sixth", 6, 1450, 4096, 1024, 2.27e-03, 5.8e-04, 10, 1.0, 0.0),
    Phase("seventh", 7, 650, 4096, 1024, 1e-3, 3e-5, 10, 1.0, 0.0),
    Phase("eighth", 8, 480, 4096, 1024, 2e-3, 3e-5, 10, 1.0, 0.0),
    Phase("ninth", 9, 1500, 4096, 1024, 2.5e-3, 3e-5, 10, 1.0, 0.0),
    Phase("tenth", 10, 700, 4096, 1024, 1.5e-3, 2e-5, 10, 1.0, 0.0),
    Phase("eleventh", 11, 5000, 4096, 1024, 2.5e-3, 1e-3, 20, 1.0, 0.0),
    Phase("twelfth", 12, 4500, 4096, 1024, 1.2e-3, 2e-5, 10, 1.0, 0.0),
    Phase("thirteenth", 13, 2600, 4096, 1024, 1.1e-3, 1e-5, 10, 1.0, 0.0),
)
