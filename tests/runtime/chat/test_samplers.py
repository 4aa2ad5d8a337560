"""Samplers against distributions computed by hand."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from mlx_integrations.runtime.chat.sampling import Sampling
from mlx_integrations.runtime.worker import get_worker

PROBABILITIES = np.array([0.5, 0.25, 0.15, 0.06, 0.04])
DRAWS = 4000


def sampling(**changes: Any) -> Sampling:
    neutral: dict[str, Any] = {
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "xtc_probability": 0.0,
        "xtc_threshold": 0.1,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "logit_bias": (),
        "seed": 7,
        "max_tokens": 1,
        "logprobs": False,
        "top_logprobs": 0,
    }
    return Sampling(**{**neutral, **changes})


def frequencies(settings: Sampling) -> np.ndarray[Any, Any]:
    def draw() -> list[int]:
        from mlx_integrations.runtime._mlx import mx
        from mlx_integrations.runtime.chat.samplers import make_row_sampler

        sampler = make_row_sampler(settings)
        rows = mx.broadcast_to(mx.log(mx.array(PROBABILITIES, dtype=mx.float32)), (DRAWS, len(PROBABILITIES)))
        tokens: list[int] = sampler(rows).tolist()
        return tokens

    counts = Counter(get_worker().call(draw).result())
    return np.array([counts[token] / DRAWS for token in range(len(PROBABILITIES))])


def normal(values: list[float]) -> np.ndarray[Any, Any]:
    array = np.array(values)
    return np.asarray(array / array.sum())


EXPECTED: list[tuple[dict[str, Any], np.ndarray[Any, Any]]] = [
    ({}, PROBABILITIES),
    ({"temperature": 2.0}, normal(list(PROBABILITIES**0.5))),
    ({"temperature": 0.5}, normal(list(PROBABILITIES**2))),
    ({"top_k": 2}, normal([0.5, 0.25, 0, 0, 0])),
    ({"top_p": 0.7}, normal([0.5, 0.25, 0, 0, 0])),
    ({"min_p": 0.2}, normal([0.5, 0.25, 0.15, 0, 0])),
    ({"temperature": 0.0}, np.array([1.0, 0, 0, 0, 0])),
    # 0.5, 0.25 and 0.15 are above the threshold: the two strongest go, the weakest of them stays.
    ({"xtc_probability": 1.0, "xtc_threshold": 0.1}, normal([0, 0, 0.15, 0.06, 0.04])),
    ({"xtc_probability": 0.0, "xtc_threshold": 0.1}, PROBABILITIES),
]


@pytest.mark.parametrize(("changes", "expected"), EXPECTED, ids=[str(changes) for changes, _ in EXPECTED])
@pytest.mark.parametrize("seed", [7, None])
def test_draws_follow_the_distribution(changes: dict[str, Any], expected: Any, seed: int | None) -> None:
    found = frequencies(sampling(seed=seed, **changes))
    # Four standard deviations of a frequency over 4,000 draws are at most 0.032.
    assert np.abs(found - expected).max() < 0.032
    assert found[expected == 0].sum() == 0


def test_every_row_throws_its_own_coin_for_excluding_top_choices() -> None:
    found = frequencies(sampling(xtc_probability=0.5))
    half = (PROBABILITIES + normal([0, 0, 0.15, 0.06, 0.04])) / 2
    assert np.abs(found - half).max() < 0.04


def test_a_seed_of_any_size_is_taken() -> None:
    for seed in (0, -1, 2**63, 2**80):
        assert frequencies(sampling(seed=seed)).sum() == pytest.approx(1)


def test_unseeded_rows_of_equal_settings_share_one_sampler() -> None:
    def same() -> tuple[bool, bool]:
        from mlx_integrations.runtime.chat.samplers import make_row_sampler

        shared = make_row_sampler(sampling(seed=None)) is make_row_sampler(sampling(seed=None))
        greedy = make_row_sampler(sampling(temperature=0.0, seed=1)) is make_row_sampler(sampling(temperature=0.0))
        return shared, greedy

    assert get_worker().call(same).result() == (True, True)
