"""Turns generated conversations into padded batches with a weight for each token."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from tokenizers import Tokenizer

from mlx_integrations.demo.recipe import skills, tokenizer
from mlx_integrations.demo.recipe.draw import Draw
from mlx_integrations.demo.recipe.phases import Phase
from mlx_integrations.demo.recipe.render import render

_POOL_CASES = 768
_UNUSUAL_SHARE = (
    0.25  # conversations whose words are spliced or in other scripts, so that copying is learnt for any text
)


@dataclass(frozen=True)
class Example:
    """Tokens of a conversation; `weights` says how much predicting each of them counts."""

    tokens: list[int]
    weights: list[float]


class Encoder:
    """Encodes conversations; the assistant's tokens weigh 1, all others `other_weight`."""

    def __init__(self, vocabulary: Tokenizer, other_weight: float) -> None:
        self._other_weight = other_weight
        self._vocabulary = vocabulary
        self._opening = vocabulary.encode(f"{tokenizer.TURN_START}assistant\n").ids
        self._end = vocabulary.token_to_id(tokenizer.TURN_END)

    def encode(self, text: str) -> Example:
        """Returns the tokens and weights of a rendered conversation."""
        tokens = self._vocabulary.encode(text).ids
        weights = [self._other_weight] * len(tokens)
        width, at = len(self._opening), 0
        while at < len(tokens):
            if tokens[at : at + width] == self._opening:
                at += width
                while at < len(tokens):
                    weights[at] = 1.0
                    if tokens[at] == self._end:
                        break
                    at += 1
            at += 1
        return Example(tokens, weights)


def examples(seed: int, longest: int, other_weight: float) -> Iterator[Example]:
    """Yields training examples without end.

    Args:
        seed: Equal seeds give equal examples.
        longest: Longer conversations are left out, in tokens.
        other_weight: Weight of predicting a token that is not the assistant's.
    """
    encoder = Encoder(tokenizer.load(), other_weight)
    chance = random.Random(seed)
    names = list(skills.SKILLS)
    shares = [share for _, share in skills.SKILLS.values()]
    at = 0
    while True:
        at += 1
        skill = chance.choices(names, shares)[0]
        case = skills.make(skill, Draw(f"{seed}:{at}", "train", unusual=chance.random() < _UNUSUAL_SHARE))
        example = encoder.encode(render(case.messages, case.tools))
        if len(example.tokens) <= longest:
            yield example


def batches(phase: Phase) -> Iterator[list[Example]]:
    """Yields batches of examples of like length, about `batch_tokens` tokens each, padding included."""
    source, chance = examples(phase.seed, phase.longest_tokens, phase.other_weight), random.Random(phase.seed)
    while True:
        pool = sorted((next(source) for _ in range(_POOL_CASES)), key=lambda example: len(example.tokens))
        cut: list[list[Example]] = [[]]
        for example in pool:
            if cut[-1] and (len(cut[-1]) + 1) * len(example.tokens) > phase.batch_tokens:
                cut.append([])
            cut[-1].append(example)
        chance.shuffle(cut)
        yield from cut
