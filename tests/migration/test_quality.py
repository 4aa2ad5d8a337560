"""Measures against what they mean, worked out the long way."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mlx_integrations.migration.records import Metric
from mlx_integrations.migration.report.quality import (
    NearnessCounts,
    Neighbours,
    Search,
    chance_overlap,
    interpolated,
    mean_reciprocal_rank,
    name_of,
    nearness,
    overlap,
    ranks,
    share_within,
)

METRICS: tuple[Metric, ...] = ("cosine", "dot", "euclidean", "manhattan", "unknown")


def normal(count: int, dimensions: int, seed: int = 0) -> NDArray[np.float32]:
    made: NDArray[np.float32] = np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)
    return made


def names(count: int) -> NDArray[np.uint64]:
    return np.array([name_of(f"text {number}") for number in range(count)], np.uint64)


def near(a: NDArray[np.float32], b: NDArray[np.float32], metric: Metric) -> float:
    """One pair at a time, in double precision."""
    left, right = a.astype(np.float64), b.astype(np.float64)
    if metric == "dot":
        return float(left @ right)
    if metric == "euclidean":
        return -float(np.linalg.norm(left - right) ** 2)
    if metric == "manhattan":
        return -float(np.abs(left - right).sum())
    lengths = np.linalg.norm(left) * np.linalg.norm(right)
    return float(left @ right / lengths) if lengths else 0.0


def searched(
    queries: NDArray[np.float32],
    found: NDArray[np.uint64],
    vectors: NDArray[np.float32],
    *,
    k: int = 10,
    metric: Metric = "cosine",
    own: NDArray[np.uint64] | None = None,
    block: int = 97,
    counts: NearnessCounts | None = None,
) -> Neighbours:
    search = Search(queries, metric, k, own=own, counts=counts)
    for first in range(0, len(vectors), block):
        search.feed(found[first : first + block], vectors[first : first + block])
    return search.found()


class TestNearness:
    @pytest.mark.parametrize("metric", METRICS)
    def test_it_is_what_the_metric_says(self, metric: Metric) -> None:
        queries, vectors = normal(7, 5), normal(11, 5, seed=1)
        vectors[3] = 0
        found = nearness(queries, vectors, metric)
        expected = [[near(query, vector, metric) for vector in vectors] for query in queries]
        assert np.allclose(found, expected, atol=1e-5)

    @pytest.mark.parametrize("metric", METRICS)
    def test_nothing_is_nearer_than_itself(self, metric: Metric) -> None:
        vectors = normal(9, 5)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        found = nearness(vectors, vectors, metric)
        assert (found.argmax(axis=1) == np.arange(9)).all()
        assert metric not in ("euclidean", "manhattan") or (found <= 0).all()


class TestSearch:
    @given(st.data())
    @settings(max_examples=120, deadline=None)
    def test_it_finds_what_sorting_everything_finds(self, data: st.DataObject) -> None:
        metric = data.draw(st.sampled_from(METRICS))
        count, asked = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 6))
        k, block = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 41))
        texts = data.draw(st.lists(st.integers(0, 15), min_size=count, max_size=count))
        seed = data.draw(st.integers(0, 1000))
        vectors, queries = normal(count, 4, seed), normal(asked, 4, seed + 1)
        own = np.array(data.draw(st.lists(st.integers(0, 15), min_size=asked, max_size=asked)), np.uint64)
        found = searched(queries, np.array(texts, np.uint64), vectors, k=k, metric=metric, own=own, block=block)
        for place in range(asked):
            best: dict[int, float] = {}
            for text, vector in zip(texts, vectors, strict=True):
                if text != own[place]:
                    best[text] = max(best.get(text, -np.inf), near(queries[place], vector, metric))
            expected = sorted(best.items(), key=lambda pair: -pair[1])[:k]
            there = np.isfinite(found.nearness[place])
            assert there.sum() == len(expected)
            assert found.names[place][there].tolist() == [text for text, _ in expected]
            assert np.allclose(found.nearness[place][there], [value for _, value in expected], atol=1e-4)

    def test_rows_of_one_text_are_found_once(self) -> None:
        vectors = np.repeat(normal(20, 6), 5, axis=0)
        found = searched(normal(3, 6, seed=1), np.repeat(names(20), 5), vectors, block=7)
        for row in found.names:
            assert len(set(row.tolist())) == 10

    def test_nothing_is_found_in_nothing(self) -> None:
        found = Search(normal(2, 3), "cosine", 4).found()
        assert not np.isfinite(found.nearness).any()
        Search(normal(0, 3), "cosine", 4).feed(names(2), normal(2, 3))


class TestOverlap:
    """Synthetic cases whose answers are known."""

    COUNT, ASKED = 3_000, 200

    def found(self, vectors: NDArray[np.float32], k: int = 10) -> Neighbours:
        own = names(self.COUNT)
        return searched(vectors[: self.ASKED], own, vectors, k=k, own=own[: self.ASKED], block=512)

    def test_the_same_model_agrees_with_itself(self) -> None:
        vectors = normal(self.COUNT, 64)
        turn = np.linalg.qr(normal(64, 64, seed=1).astype(np.float64))[0].astype(np.float32)
        for k in (1, 5, 10):
            assert overlap(self.found(vectors), self.found(vectors), k).mean() == 1
            # Turned in space every vector is another one, and every neighbour the same.
            assert overlap(self.found(vectors), self.found(vectors @ turn), k).mean() > 0.99

    def test_vectors_of_other_rows_agree_by_chance(self) -> None:
        vectors = normal(self.COUNT, 64)
        shifted = np.roll(vectors, 1, axis=0)
        shares = overlap(self.found(vectors), self.found(shifted), 10)
        assert shares.mean() < 0.02
        assert chance_overlap(10, self.COUNT - 1) == pytest.approx(10 / 2999)

    def test_a_quarter_of_wrong_rows_shows(self) -> None:
        vectors = normal(self.COUNT, 64)
        partly = vectors.copy()
        wrong = np.random.default_rng(5).permutation(self.COUNT)[: self.COUNT // 4]
        partly[wrong] = np.roll(vectors[wrong], 1, axis=0)
        share = overlap(self.found(vectors), self.found(partly), 10).mean()
        # Three of four queries keep the neighbours that are not wrong themselves: 0.75 * 0.75 of all.
        assert 0.4 < share < 0.65

    def test_another_model_of_the_same_meaning_agrees_in_part(self) -> None:
        meaning = normal(self.COUNT, 16)
        models = [meaning @ normal(16, 64, seed) + 1.5 * normal(self.COUNT, 64, seed + 10) for seed in (1, 2)]
        share = overlap(self.found(models[0]), self.found(models[1]), 10).mean()
        assert 0.2 < share < 0.9

    @given(st.integers(3, 12), st.integers(1, 8), st.integers(0, 500))
    @settings(max_examples=60, deadline=None)
    def test_it_is_the_share_of_common_names(self, count: int, k: int, seed: int) -> None:
        own = names(count)
        old, new = (
            searched(normal(3, 3, each), own, normal(count, 3, each), k=k, own=own[:3]) for each in (seed, seed + 1)
        )
        for place, share in enumerate(overlap(old, new, k)):
            one, other = (set(side.names[place][np.isfinite(side.nearness[place])].tolist()) for side in (old, new))
            assert share == pytest.approx(len(one & other) / len(one))

    def test_chance_is_what_random_searches_have(self) -> None:
        one, other = (self.found(normal(self.COUNT, 8, seed)) for seed in (1, 2))
        assert overlap(one, other, 10).mean() == pytest.approx(chance_overlap(10, self.COUNT - 1), abs=0.004)
        assert chance_overlap(10, 5) == 1
        assert chance_overlap(10, 0) == 0


class TestRanks:
    def test_places_count_from_one(self) -> None:
        found = Neighbours(
            names=np.array([[5, 6, 7], [5, 6, 7], [5, 6, 0]], np.uint64),
            nearness=np.array([[3, 2, 1], [3, 2, 1], [3, 2, -np.inf]], np.float32),
        )
        places = ranks(found, np.array([5, 7, 0], np.uint64))
        assert places.tolist() == [1, 3, 0]
        assert [share_within(places, k) for k in (1, 2, 3)] == pytest.approx([1 / 3, 1 / 3, 2 / 3])
        assert mean_reciprocal_rank(places, 3) == pytest.approx((1 + 1 / 3) / 3)
        assert mean_reciprocal_rank(places, 2) == pytest.approx(1 / 3)

    def test_no_questions_find_nothing(self) -> None:
        none = np.zeros(0, np.intp)
        assert (share_within(none, 1), mean_reciprocal_rank(none, 10)) == (0, 0)


class TestNearnessCounts:
    @given(st.integers(0, 1000), st.sampled_from(METRICS))
    @settings(max_examples=40, deadline=None)
    def test_shares_are_exceeded_as_when_everything_is_sorted(self, seed: int, metric: Metric) -> None:
        vectors = normal(300, 6, seed)
        own = names(300)
        counts = NearnessCounts.for_queries(vectors[:50], metric)
        searched(vectors[:50], own, vectors, metric=metric, own=own[:50], counts=counts)
        found = nearness(vectors[:50], vectors, metric)
        everything = np.sort(found[~np.eye(50, 300, dtype=bool)])[::-1]
        assert counts.total == len(everything) == 50 * 299
        for share in (0.001, 0.01, 0.1, 0.3):
            expected = everything[int(np.ceil(share * len(everything))) - 1]
            assert counts.exceeded_by([share])[0] == pytest.approx(expected, abs=counts.resolution + 1e-4)

    def test_they_take_no_more_memory_for_more_pairs(self) -> None:
        counts = NearnessCounts(-1, 1)
        before = counts.__dict__["_counts"].nbytes
        for seed in range(5):
            counts.feed(np.clip(normal(100, 100, seed) / 4, -1, 1))
        assert counts.__dict__["_counts"].nbytes == before
        assert counts.total == 50_000

    def test_what_is_not_finite_is_no_pair(self) -> None:
        counts = NearnessCounts(0, 1)
        counts.feed(np.array([[0.5, -np.inf, np.nan]], np.float32))
        assert counts.total == 1


@pytest.mark.parametrize(
    ("froms", "tos"), [((1.0, 2.0, 4.0), (10.0, 20.0, 30.0)), ((4.0, 2.0, 1.0), (30.0, 20.0, 10.0))]
)
def test_values_between_known_points_lie_on_the_line(froms: Sequence[float], tos: Sequence[float]) -> None:
    assert [interpolated(value, froms, tos) for value in (0, 1, 1.5, 3, 4, 9)] == [10, 10, 15, 25, 30, 30]


def test_equal_texts_have_one_name() -> None:
    assert name_of("a text") == name_of("a text") != name_of("another text")
    assert 0 <= name_of("\ud800") < 2**64
