"""Recommendations on recorded machines: what fits where, in which order, and why."""

from dataclasses import replace
from typing import Any

import pytest

from mlx_integrations.registry import ModelEntry, ModelRegistry, Recommendation, recommend
from mlx_integrations.registry.entry import Use
from mlx_integrations.registry.selection import estimate_entry, memory_needs, weights_in_memory
from mlx_integrations.types import Chip, Machine

GIB = 1024**3
REGISTRY = ModelRegistry.embedded()


def mac(family: str, variant: Any, memory_gib: int, usable_gib: float | None) -> Machine:
    return Machine(
        backend="metal",
        device_name=f"Apple {family} {variant}".strip(),
        memory_bytes=memory_gib * GIB,
        usable_bytes=None if usable_gib is None else int(usable_gib * GIB),
        cores=8,
        chip=Chip(family=family, variant=variant),
    )


# What Metal recommends on machines of these sizes, as people reported it.
M1 = mac("M1", "", 8, 5.33)
M2_PRO = mac("M2", "Pro", 16, 10.67)
M3_MAX = mac("M3", "Max", 64, 48.0)
ULTRA = mac("M2", "Ultra", 192, 147.0)
CUDA = Machine(backend="cuda", device_name="RTX 4090", memory_bytes=24 * GIB, usable_bytes=21 * GIB, cores=16)
CPU = Machine(backend="cpu", device_name="AMD EPYC", memory_bytes=32 * GIB, usable_bytes=24 * GIB, cores=8)
MACHINES = {"M1": M1, "M2 Pro": M2_PRO, "M3 Max": M3_MAX, "Ultra": ULTRA, "24 GB card": CUDA, "CPU": CPU}
USES: tuple[Use, ...] = ("chat", "code", "reasoning", "embedding")


def first(machine: Machine, use: Use, **options: Any) -> str:
    return recommend(REGISTRY, machine, use=use, **options)[0].entry.id


@pytest.mark.parametrize(
    ("machine", "chat", "code", "reasoning"),
    [
        ("M1", "qwen3-4b", "qwen2.5-coder-7b", "deepseek-r1-distill-qwen-7b"),
        ("M2 Pro", "qwen3-14b", "qwen2.5-coder-7b", "qwen3-14b"),
        ("M3 Max", "llama-3.3-70b", "llama-3.3-70b", "gpt-oss-20b"),
        ("Ultra", "llama-3.3-70b", "llama-3.3-70b", "gpt-oss-20b"),
        ("24 GB card", "qwen3-30b-a3b", "qwen3-30b-a3b", "gpt-oss-20b"),
    ],
)
def test_each_machine_gets_the_best_that_fits_it(machine: str, chat: str, code: str, reasoning: str) -> None:
    uses: tuple[Use, ...] = ("chat", "code", "reasoning")
    assert [first(MACHINES[machine], use) for use in uses] == [chat, code, reasoning]


def test_on_a_cpu_the_small_ones_come_first() -> None:
    found = [one for one in recommend(REGISTRY, CPU, use="chat") if one.is_usable]
    assert found[0].entry.id == "llama-3.2-3b", "the smallest of those that the catalogue recommends"
    assert found[0].estimate is not None and found[0].entry.parameters is not None
    assert found[0].estimate.weight_bytes == 4 * found[0].entry.parameters, "widened to float32"
    assert "A CPU is slow with it." in found[0].reason
    assert not any(one.entry.id == "llama-3.3-70b" for one in found)


def test_where_nothing_fits_the_one_that_misses_by_the_least_comes_first() -> None:
    small = replace(CPU, memory_bytes=4 * GIB, usable_bytes=2 * GIB)
    needed = [one.fit.needed_bytes for one in recommend(REGISTRY, small, use="code") if one.fit]
    assert needed[0] > 2 * GIB and needed == sorted(needed)


def test_a_text_whose_limit_is_not_known_is_not_as_long_as_a_conversation() -> None:
    known = REGISTRY.get("bge-small-en-v1.5")
    assert known is not None and known.max_tokens == 512
    both = [estimate_entry(one, backend="cpu", context_tokens=8192) for one in (known, replace(known, max_tokens=None))]
    assert both[0] == both[1] is not None


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
@pytest.mark.parametrize("use", USES)
def test_what_fits_comes_before_what_does_not_and_every_place_has_a_reason(machine: Machine, use: Use) -> None:
    found = recommend(REGISTRY, machine, use=use)
    assert {one.entry.id for one in found} == {entry.id for entry in REGISTRY.search(use=use)}
    order = ["fits", "tight", "unknown", "too large"]
    places = [order.index(one.fit.verdict) for one in found if one.fit]
    assert places == sorted(places)
    assert all(one.reason.endswith(".") for one in found)
    assert found[0].is_usable, "something for everybody"
    for one in found:
        assert one.fit and one.estimate
        assert (one.fit.verdict != "too large") == (one.fit.needed_bytes <= machine.budget_bytes)


def test_the_demo_is_never_recommended() -> None:
    assert all(one.entry.id != "demo" for use in USES for one in recommend(REGISTRY, CPU, use=use))


def of(found: list[Recommendation], model_id: str) -> Recommendation:
    return next(one for one in found if one.entry.id == model_id)


def test_what_is_too_large_says_by_how_much_and_what_would_fit() -> None:
    one = of(recommend(REGISTRY, M2_PRO, use="chat", context_tokens=40_960), "qwen3-14b")
    assert one.fit is not None and one.fit.verdict == "too large"
    assert one.fit.largest_context_tokens and one.fit.largest_context_tokens < 40_960
    assert one.reason.startswith("It needs 14.3 GiB at 40,960 tokens (weights 7.7 GiB, cache 6.2 GiB, margin")
    assert "more than the 10.7 GiB that models may use here." in one.reason
    assert one.reason.endswith(f"It fits with {one.fit.largest_context_tokens:,} tokens.")


def test_a_longer_context_is_a_larger_demand() -> None:
    short, long = (first(M2_PRO, "chat", context_tokens=tokens) for tokens in (2_048, 100_000))
    assert short == "qwen3-14b"
    assert long != short


def test_no_model_is_asked_for_more_than_its_window() -> None:
    entry = REGISTRY.get("phi-3-mini")
    assert entry is not None
    estimate = estimate_entry(entry, backend="metal", context_tokens=1_000_000)
    assert estimate is not None and estimate.context_tokens == 4096


def test_the_model_that_is_replaced_gives_its_memory() -> None:
    full = mac("M1", "", 8, 1.0)
    assert not recommend(REGISTRY, full, use="chat")[0].is_usable or first(full, "chat") == "gemma-3-1b"
    assert first(full, "chat", freed_bytes=4 * GIB) == "qwen3-4b"


def test_a_download_that_does_not_fit_the_disk_comes_last() -> None:
    found = recommend(REGISTRY, M3_MAX, use="chat", free_disk_bytes=3 * GIB)
    assert found[0].entry.id == "qwen3-4b"
    large = of(found, "llama-3.3-70b")
    assert not large.has_disk and not large.is_usable
    assert large.reason == "Its download of 37.0 GiB does not fit the free disk."


def test_while_mlx_was_not_asked_nothing_is_promised() -> None:
    found = recommend(REGISTRY, mac("M3", "Max", 64, None), use="chat")
    assert {one.fit.verdict for one in found if one.fit} == {"unknown"}
    assert "unknown until MLX is asked" in found[0].reason
    small = recommend(REGISTRY, mac("M1", "", 8, None), use="chat")
    assert of(small, "llama-3.3-70b").fit.verdict == "too large"  # type: ignore[union-attr]


def test_a_model_gives_way_to_its_successor_where_that_fits() -> None:
    order = [one.entry.id for one in recommend(REGISTRY, M3_MAX, use="chat")]
    assert order.index("qwen3-8b") < order.index("qwen2.5-7b")
    assert order.index("gemma-3-1b") < order.index("gemma-2-2b"), "replaced by gemma-3-4b"


def unknown(**values: Any) -> ModelEntry:
    return ModelEntry(id="unknown", name="Unknown", kind="chat", best_for=("chat",), **values)


def test_of_an_architecture_that_is_not_known_the_weights_are_said_and_the_caches_are_not() -> None:
    registry = ModelRegistry(entries=(unknown(weight_bytes=4 * GIB, parameters=8 * 10**9),))
    (one,) = recommend(registry, M2_PRO, use="chat")
    assert one.fit is not None and one.fit.verdict == "unknown"
    assert one.reason == (
        "It needs 4.5 GiB at 8,192 tokens (weights 4.0 GiB, margin 0.5 GiB) and its caches, whose size is not known "
        "for this architecture."
    )
    assert memory_needs(registry.entries[0]) is None


def test_of_a_model_whose_size_is_not_known_nothing_is_estimated() -> None:
    (one,) = recommend(ModelRegistry(entries=(unknown(),)), M2_PRO, use="chat")
    assert (one.estimate, one.fit, one.is_usable) == (None, None, False)
    assert one.reason == "The catalogue does not know how large its weights are."


def test_weights_are_widened_on_a_cpu_and_stay_as_they_are_on_a_gpu() -> None:
    entry = unknown(weight_bytes=10, size_bytes=12, parameters=5)
    assert [weights_in_memory(entry, backend) for backend in ("metal", "cuda", "cpu")] == [10, 10, 20]
    assert weights_in_memory(unknown(size_bytes=12), "metal") == 12
    assert weights_in_memory(unknown(size_bytes=12), "cpu") is None


@pytest.mark.parametrize("entry", REGISTRY.entries, ids=lambda entry: entry.id)
def test_what_a_model_needs_grows_with_its_context(entry: ModelEntry) -> None:
    needs = memory_needs(entry)
    assert needs is not None and entry.weight_bytes is not None
    assert entry.weight_bytes < needs.minimum_bytes <= needs.recommended_bytes


def test_a_publishers_own_figures_count() -> None:
    entry = unknown(minimum_memory_bytes=GIB, recommended_memory_bytes=2 * GIB)
    needs = memory_needs(entry)
    assert needs is not None and (needs.minimum_bytes, needs.recommended_bytes) == (GIB, 2 * GIB)
