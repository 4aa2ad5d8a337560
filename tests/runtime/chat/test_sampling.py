"""Where sampling values come from: the request, the model's own file, the neutral value."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_integrations.errors import ContextOverflowError, InvalidRequestError
from mlx_integrations.runtime.chat.sampling import Sampling, resolve_sampling
from mlx_integrations.types import SamplingParams


def resolve(params: SamplingParams | None = None, model: dict[str, Any] | None = None, **options: int) -> Sampling:
    numbers = {"vocabulary_size": 100, "prompt_tokens": 10, "context_window": 50, "default_max_tokens": 20, **options}
    return resolve_sampling(params or SamplingParams(), generation_config=model or {}, **numbers)


def test_without_anything_it_is_greedy_and_neutral() -> None:
    sampling = resolve()
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (0.0, 1.0, 0, 0.0)
    assert (sampling.repetition_penalty, sampling.presence_penalty, sampling.max_tokens) == (1.0, 0.0, 20)


def test_the_models_own_values_count_only_when_it_samples() -> None:
    own = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 20, "repetition_penalty": 1.05}
    sampling = resolve(model=own)
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.repetition_penalty) == (0.6, 0.9, 20, 1.05)
    assert resolve(model={**own, "do_sample": False}).temperature == 0.0
    assert resolve(model={"do_sample": True}).temperature == 1.0  # transformers' default


def test_the_request_wins_over_the_model_field_by_field() -> None:
    own = {"do_sample": True, "temperature": 0.6, "top_p": 0.9}
    sampling = resolve(SamplingParams(temperature=0.0), model=own)
    assert (sampling.temperature, sampling.top_p) == (0.0, 0.9)


def test_a_broken_value_of_the_model_is_ignored() -> None:
    own = {"do_sample": True, "temperature": "warm", "top_p": 7}
    assert resolve(model=own).top_p == 1.0


def test_max_tokens_stays_within_the_window() -> None:
    assert resolve(SamplingParams(max_tokens=1000)).max_tokens == 40
    assert resolve(default_max_tokens=1000).max_tokens == 40
    with pytest.raises(ContextOverflowError) as caught:
        resolve(prompt_tokens=50)
    assert (caught.value.prompt_tokens, caught.value.limit_tokens) == (50, 50)


def test_top_k_of_the_whole_vocabulary_is_off() -> None:
    assert resolve(SamplingParams(top_k=100)).top_k == 0
    with pytest.raises(InvalidRequestError, match="top_k"):
        resolve(SamplingParams(top_k=101))


def test_a_bias_may_name_its_tokens_as_strings() -> None:
    bias: Any = {"7": 1, 3: -2.5}
    assert resolve(SamplingParams(logit_bias=bias)).logit_bias == ((3, -2.5), (7, 1.0))


def test_top_logprobs_switch_logprobs_on() -> None:
    assert resolve(SamplingParams(top_logprobs=2)).logprobs


@given(
    params=st.builds(
        SamplingParams,
        temperature=st.none() | st.floats() | st.text(),
        top_p=st.none() | st.floats(),
        top_k=st.none() | st.integers() | st.floats(),
        min_p=st.none() | st.floats(),
        xtc_threshold=st.none() | st.floats(),
        repetition_penalty=st.none() | st.floats() | st.booleans(),
        logit_bias=st.none() | st.dictionaries(st.integers(), st.floats()),
        seed=st.none() | st.integers(),
        max_tokens=st.none() | st.integers() | st.floats(),
        top_logprobs=st.integers(),
    )
)
def test_whatever_is_asked_is_either_in_range_or_refused(params: SamplingParams) -> None:
    try:
        sampling = resolve(params)
    except InvalidRequestError as error:
        named = error.field
        sampling = None
    if sampling is None:
        assert named in SamplingParams.__dataclass_fields__
        return
    assert 0 <= sampling.temperature < float("inf")
    assert 0 < sampling.top_p <= 1
    assert 0 <= sampling.top_k < 100
    assert 0 <= sampling.xtc_threshold <= 0.5
    assert 1 <= sampling.max_tokens <= 40
    assert all(0 <= token_id < 100 for token_id, _ in sampling.logit_bias)
