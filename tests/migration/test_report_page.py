"""The page and the JSON of a report: nothing of a document becomes markup, and nothing is fetched."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_integrations.migration.checks import Check
from mlx_integrations.migration.engine.journal import DeadLetter
from mlx_integrations.migration.records import Finding, StoreLocation
from mlx_integrations.migration.report.markup import Markup, tag, text
from mlx_integrations.migration.report.notes import near_chance, notes_of
from mlx_integrations.migration.report.page import page_of
from mlx_integrations.migration.report.records import (
    Changed,
    Counts,
    CutRow,
    Found,
    KnownItems,
    MigrationReport,
    Miss,
    Moment,
    Note,
    Overlap,
    OverlapAt,
    ScaleMap,
    ScoreMap,
    Side,
)
from mlx_integrations.migration.report.style import STYLE
from mlx_integrations.migration.report.svg import Meter, Point, columns, line, meters, short_number, ticks
from mlx_integrations.migration.report.words import bytes_of, coded, duration, percent

EVIL = "<script src='https://example.com/x.js'>alert(1)</script> & \x00\x1b[31m \ud800 \" onload=\"x`<b>`"
SVG = "{http://www.w3.org/2000/svg}"


def side(**changed: Any) -> Side:
    known = Side(
        model="minilm-l6-v2",
        likely_model=None,
        count=1000,
        dimensions=(384,),
        metric="cosine",
        index="Flat",
        is_exact=True,
        bytes=34_000_000,
    )
    return replace(known, **changed)


def full(said: str = "said") -> MigrationReport:
    """A report that has something of everything, with one text wherever a text can be."""
    found = Found(id=said, text=said, score=0.25, is_common=True)
    return MigrationReport(
        made_at=1_795_000_000.0,
        version="0.1.0",
        store=StoreLocation(kind="langchain-faiss", address=said, name=said),
        run_id="0123456789ab",
        phase="published",
        in_use="new",
        long_texts="truncate",
        checks=(Check(name="count", is_passed=True, detail=said), Check(name="finite", is_passed=False, detail=said)),
        notes=(Note(code="near-chance", message=said, is_warning=True), Note(code="compressed", message=said)),
        old=side(model=None, likely_model=said, dimensions=(1536,), index=said, is_exact=False),
        new=side(model=said),
        counts=Counts(
            total=1001, embedded=1000, texts=990, shared=10, truncated=120, unembedded=2, passes=2, repeated=1
        ),
        embedding_seconds=250.0,
        events=(Moment(at=1_795_000_000.0, what="published", detail=said),),
        accepted=(Finding(code="not-held", message=said, count=12, examples=(said,), is_blocking=True),),
        unembedded=(DeadLetter(key="1", id=said, reason=said),),
        truncated=tuple(CutRow(id=said, characters=2000, tokens=400 + at, read_tokens=256) for at in range(120)),
        overlap=Overlap(
            documents=500,
            texts=990,
            at=tuple(OverlapAt(k=k, mean=0.6, chance=0.01, fifth=0.2, median=0.6, none=0.01) for k in (1, 5, 10)),
            distribution=(5, 5, 10, 20, 40, 60, 80, 100, 90, 60, 30),
        ),
        known_items=KnownItems(
            questions=500,
            whole=7,
            hits={1: 0.8, 5: 0.9, 10: 0.95},
            reciprocal_rank=0.85,
            misses=(
                Miss(question=said, id=said, place=0, found=found),
                Miss(question=said, id=said, place=3, found=None),
            ),
        ),
        scores=ScoreMap(
            per_question=(0.1, 1, 10, 100),
            scales=(
                ScaleMap(name=said, is_distance=True, old=(0.1, 0.2, 0.3, 0.4), new=(0.5, 0.8, 1.0, 1.4)),
                ScaleMap(name=said, is_distance=False, old=(0.9, 0.8, 0.7, 0.6), new=(0.5, 0.4, 0.3, 0.2)),
            ),
        ),
        changed=(Changed(id=said, text=said, overlap=0.0, old=(found,), new=(found, found)),),
    )


def bare() -> MigrationReport:
    """A report of which nothing could be measured."""
    return replace(
        full(), checks=(), notes=(), old=None, overlap=None, known_items=None, scores=None, changed=(),
        truncated=(), accepted=(), unembedded=(), events=(), embedding_seconds=0.0,
    )  # fmt: skip


def parsed(page: str) -> ET.Element:
    assert page.startswith("<!DOCTYPE html>\n")
    return ET.fromstring(page)


def words(page: str) -> str:
    return " ".join("".join(parsed(page).itertext()).split())


class TestPage:
    def test_it_has_everything(self) -> None:
        page = words(page_of(full()))
        for each in (
            "New vectors of said", "The new vectors are in use.", "A check failed", "1536 → 384", "60 %",
            "Neighbours, old and new", "Documents whose neighbours have changed most", "For 7 that is the whole",
            "Mean reciprocal rank among the first ten: 0.850", "Score thresholds", "Texts that are longer",
            "What was accepted", "Rows without a new vector", "a model said", "said, compresses", "34 MB",
            "4 min 10 s, 4 texts a second",
            "2026-11-18", "0123456789ab", "by chance: 1 %",
        ):  # fmt: skip
            assert each in page

    def test_words_of_narrow_columns_stay_whole(self) -> None:
        page = page_of(full())
        assert page.count('<div class="whole">') == 1 and "Before and after" in page.partition('<div class="whole">')[0]
        assert ".whole td { overflow-wrap: break-word; }" in STYLE

    def test_what_was_not_measured_is_left_out(self) -> None:
        page = words(page_of(bare()))
        assert "It is not verified yet." in page
        for each in ("Neighbours", "Score thresholds", "Sentences", "Texts that are longer", "Embedding took"):
            assert each not in page

    def test_lists_are_cut_and_say_so(self) -> None:
        assert "70 more are in the JSON of this report." in words(page_of(full()))
        assert "110 more" in words(page_of(full(), rows=120))
        assert "are in the JSON" not in words(page_of(full(), rows=120))
        few = page_of(full(), rows=3)
        assert "117 more are in the JSON" in words(few)
        assert few.count("<tr>") == page_of(full(), rows=120).count("<tr>") - 118  # 117 rows, and a second heading

    def test_those_that_were_cut_most_come_first(self) -> None:
        rows = (
            CutRow(id="half", characters=1, tokens=512, read_tokens=256),
            CutRow(id="not counted", characters=1, tokens=None, read_tokens=256),
            CutRow(id="a tenth", characters=1, tokens=2560, read_tokens=256),
        )
        page = words(page_of(replace(full(), truncated=rows)))
        assert page.index("a tenth") < page.index("half") < page.index("not counted")

    def test_no_text_becomes_markup(self) -> None:
        page = page_of(full(EVIL))
        assert "<script" not in page
        assert 'onload="x' not in page
        assert page.encode("utf-8").decode() == page
        assert "alert(1)" in words(page)
        tags = {element.tag for element in parsed(page).iter()}
        assert tags == {element.tag for element in parsed(page_of(full())).iter()}

    @pytest.mark.parametrize("said", ["said", EVIL])
    def test_it_needs_nothing_besides_itself(self, said: str) -> None:
        page = page_of(full(said))
        for element in parsed(page).iter():
            assert element.tag not in (
                "script",
                "link",
                "img",
                "iframe",
                "object",
                "embed",
                "base",
                "form",
                "image",
                "use",
            )
            for name, value in element.attrib.items():
                assert not name.startswith("on")
                assert name not in ("src", "href", "srcset", "action", "style", "{http://www.w3.org/1999/xlink}href")
                assert "://" not in value
        (style,) = parsed(page).iter("style")
        assert not re.search(r"url\(|@import|@font-face|https?:", style.text or "")
        policy = next(each for each in parsed(page).iter("meta") if each.get("http-equiv"))
        assert policy.get("content") == "default-src 'none'; style-src 'unsafe-inline'"

    def test_html_parsers_see_the_same(self) -> None:
        class Tags(HTMLParser):
            def __init__(self) -> None:
                super().__init__()
                self.open: list[str] = []
                self.seen: list[str] = []

            def handle_starttag(self, tag: str, attrs: object) -> None:
                self.seen.append(tag)
                self.open.append(tag)

            def handle_startendtag(self, tag: str, attrs: object) -> None:
                self.seen.append(tag)

            def handle_endtag(self, tag: str) -> None:
                assert self.open.pop() == tag

        page = page_of(full(EVIL))
        tags = Tags()
        tags.feed(page)
        tags.close()
        assert tags.open == []
        assert tags.seen == [element.tag.lower() for element in parsed(page).iter()]

    def test_it_is_for_phones_and_for_the_dark(self) -> None:
        page = page_of(full())
        assert 'name="viewport" content="width=device-width' in page
        assert "prefers-color-scheme: dark" in page
        named = set(re.findall(r"var\((--[\w-]+)\)", page))
        light, dark = re.findall(r":root \{(.*?)\}", page, re.DOTALL)
        for each in (light, dark):
            assert named <= set(re.findall(r"(--[\w-]+):", each))

    @pytest.mark.parametrize("scheme", [0, 1])
    def test_text_can_be_read_on_its_ground(self, scheme: int) -> None:
        # Contrast of at least 4.5, https://www.w3.org/TR/WCAG22/#contrast-minimum
        rule = re.findall(r":root \{(.*?)\}", page_of(full()), re.DOTALL)[scheme]
        colours = dict(re.findall(r"--([\w-]+): (#\w{6})", rule))
        pairs = [(ink, ground) for ink in ("ink", "soft", "good", "bad", "look") for ground in ("paper", "card")]
        for ink, ground in [*pairs, ("good", "good-back"), ("look", "look-back"), ("bad", "bad-back")]:
            light, dark = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


class TestJson:
    def test_it_is_strict_and_whole(self) -> None:
        made = json.loads(json.dumps(full().to_dict(), allow_nan=False))
        assert (made["format"], made["verdict"]) == (1, "failed")
        assert len(made["truncated"]) == 120
        assert made["known_items"]["hits"] == {"1": 0.8, "5": 0.9, "10": 0.95}

    def test_its_keys_stay(self) -> None:
        """Programs read them: add to this list, and take nothing from it."""
        known = (Path(__file__).parent / "report_keys.txt").read_text(encoding="utf-8").split()
        assert sorted(keys_of(full().to_dict())) == known

    @pytest.mark.parametrize(
        ("checks", "warns", "verdict"),
        [
            ((True, True), False, "passed"),
            ((True,), True, "look"),
            ((True, False), True, "failed"),
            ((), False, "look"),
        ],
    )
    def test_its_verdict_is_the_worst_of_all(self, checks: tuple[bool, ...], warns: bool, verdict: str) -> None:
        report = replace(
            full(),
            checks=tuple(Check(name="count", is_passed=each, detail="") for each in checks),
            notes=(Note(code="truncated", message="", is_warning=warns),),
        )
        assert report.verdict == verdict

    def test_thresholds_are_found_by_name_of_scale(self) -> None:
        scores = ScoreMap(
            per_question=(1.0, 10.0),
            scales=(
                ScaleMap(name="distance", is_distance=True, old=(0.2, 0.4), new=(1.0, 2.0)),
                ScaleMap(name="relevance", is_distance=False, old=(0.8, 0.6), new=(0.5, 0.1)),
            ),
        )
        assert scores.map_threshold(0.3) == pytest.approx(1.5)
        assert scores.map_threshold(0.7, "relevance") == pytest.approx(0.3)
        assert [scores.map_threshold(each) for each in (0.0, 9.0)] == [1.0, 2.0]


def keys_of(value: Any, before: str = "") -> set[str]:
    """Every path to a value, lists as `[]`."""
    if isinstance(value, dict):
        return {path for key, each in value.items() for path in keys_of(each, f"{before}.{key}".lstrip("."))}
    if isinstance(value, list | tuple):
        return {path for each in value for path in keys_of(each, f"{before}[]")}
    return {before}


class TestMarkup:
    @given(st.text())
    @settings(max_examples=200, deadline=None)
    def test_any_text_is_only_text(self, content: str) -> None:
        made = tag("p", content, title=content)
        element = ET.fromstring(made)
        assert list(element) == []
        clean = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", content)
        assert (element.text or "") == clean.replace("\r\n", "\n").replace("\r", "\n")

    def test_elements_hold_elements(self) -> None:
        made = tag("p", "a < b", None, [tag("b", "c"), " d"], class_="x", data_y=1.50, hidden=True, open=False, id=None)
        assert made == '<p class="x" data-y="1.5" hidden="">a &lt; b<b>c</b> d</p>'
        assert tag("meta", charset="utf-8") == '<meta charset="utf-8"/>'
        assert tag("div") == "<div></div>"
        assert isinstance(text("x"), Markup)


class TestPlots:
    @given(st.floats(-1e6, 1e6), st.floats(1e-4, 1e6), st.integers(2, 8))
    @settings(max_examples=200, deadline=None)
    def test_ticks_are_round_and_inside(self, least: float, span: float, count: int) -> None:
        most = least + span
        found = ticks(least, most, count)
        assert 0 < len(found) <= 2 * count + 1
        slack = 1e-6 * max(abs(least), abs(most), span)
        assert all(least - slack <= tick <= most + slack for tick in found)
        steps = [after - before for before, after in pairwise(found)]
        for step in steps:
            digits = f"{step:.1e}"
            assert digits[:3] in ("1.0", "2.0", "5.0", "9.9") or abs(step - steps[0]) < slack

    def test_columns_are_as_high_as_their_values(self) -> None:
        drawing = ET.fromstring(columns([0, 1, 2, 4], list("abcd"), title="t", across="x", upwards="y"))
        heights = [float(bar.get("height", "")) for bar in drawing.iter("rect")]
        assert heights[0] == 0
        assert [height / heights[3] for height in heights] == pytest.approx([0, 0.25, 0.5, 1], abs=0.01)
        assert "d: 4" in "".join(drawing.itertext())

    def test_meters_are_as_long_as_their_shares(self) -> None:
        rows = [
            Meter(label="a", value=0.5, mark=0.25, shown="50 %"),
            Meter(label="b", value=7.0),
            Meter(label="c", value=0),
        ]
        drawing = ET.fromstring(meters(rows, title="t"))
        tracks = [float(each.get("width", "")) for each in drawing.iter("rect") if each.get("class") == "track"]
        bars = [float(each.get("width", "")) for each in drawing.iter("rect") if each.get("class") == "bar"]
        assert bars == pytest.approx([tracks[0] / 2, tracks[0], 0], abs=0.01)
        (mark,) = drawing.iter("line")
        assert float(mark.get("x1", "")) == pytest.approx(4 + tracks[0] / 4, abs=0.01)

    @given(st.lists(st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)), min_size=1, max_size=12))
    @settings(max_examples=80, deadline=None)
    def test_lines_stay_in_their_drawing(self, points: list[tuple[float, float]]) -> None:
        made = line([Point(x=x, y=y, label="l") for x, y in points], title="t", across="x", upwards="y")
        drawing = ET.fromstring(made)
        _, _, width, height = map(float, drawing.get("viewBox", "").split())
        dots = [(float(dot.get("cx", "")), float(dot.get("cy", ""))) for dot in drawing.iter("circle")]
        assert len(dots) == len(points)
        assert all(0 <= x <= width and 0 <= y <= height for x, y in dots)
        assert dots == sorted(dots, key=lambda dot: dot[0])

    def test_nothing_is_a_plot_too(self) -> None:
        drawings = [
            columns([], [], title="t", across="x", upwards="y"),
            columns([0, 0], ["a", "b"], title="t", across="x", upwards="y"),
            meters([], title="t"),
        ]
        for drawing in map(ET.fromstring, drawings):
            assert drawing.findtext("title") == "t"
            bars = [float(bar.get("height", "")) for bar in drawing.iter("rect")]
            assert all(height == 0 for height in bars)


class TestWords:
    def test_numbers_are_short(self) -> None:
        assert [percent(share) for share in (0, 0.001, 0.0001, 0.41, 0.999, 1)] == [
            "0 %", "0.1 %", "0.1 %", "41 %", "99.9 %", "100 %",
        ]  # fmt: skip
        assert [duration(each) for each in (0.42, 42.4, 250, 3600 * 3 + 60)] == [
            "0.4 s",
            "42 s",
            "4 min 10 s",
            "3 h 1 min",
        ]
        assert [bytes_of(each) for each in (12, 3_400, 34_000_000, 2.5e12)] == ["12 bytes", "3.4 kB", "34 MB", "2.5 TB"]
        assert [short_number(each) for each in (0, 1e-12, 0.123456, 12.5, 12345.6)] == [
            "0",
            "0",
            "0.1235",
            "12.5",
            "12,346",
        ]

    def test_backticks_become_code(self) -> None:
        assert "".join(tag("p", coded("say `--yes <x>` now"))) == "<p>say <code>--yes &lt;x&gt;</code> now</p>"


class TestNotes:
    def known(self, **changed: Any) -> list[tuple[str, bool]]:
        values: dict[str, Any] = {
            "checks": (Check(name="count", is_passed=True, detail=""),),
            "counts": Counts(
                total=100, embedded=100, texts=100, shared=0, truncated=0, unembedded=0, passes=1, repeated=0
            ),
            "old": side(), "new": side(), "overlap": None, "known_items": None,
        }  # fmt: skip
        return [(note.code, note.is_warning) for note in notes_of(**{**values, **changed})]

    def overlap(self, mean: float, chance: float = 0.01, texts: int = 990) -> Overlap:
        at = OverlapAt(k=10, mean=mean, chance=chance, fifth=0, median=0, none=0)
        return Overlap(documents=100, texts=texts, at=(at,), distribution=())

    def test_nothing_is_said_where_nothing_is_to_be_said(self) -> None:
        assert self.known() == []
        assert self.known(overlap=self.overlap(0.3)) == []

    def test_only_what_is_near_chance_is_a_warning(self) -> None:
        assert [near_chance(self.overlap(mean)) for mean in (0.0, 0.012, 0.05, 0.08, 0.3, 1)] == [True] * 3 + [
            False
        ] * 3
        assert self.known(overlap=self.overlap(0.02)) == [("near-chance", True)]
        assert self.known(overlap=self.overlap(0.2, 0.2, 30)) == [("few-texts", False)]
        assert not near_chance(self.overlap(1, 1, 5))

    def test_warnings_come_first(self) -> None:
        failed = (Check(name="finite", is_passed=False, detail=""),)
        assert self.known(checks=failed, new=side(is_exact=False)) == [("failed-checks", True), ("compressed", False)]
        assert self.known(checks=()) == [("not-verified", True)]
        few = KnownItems(questions=10, whole=0, hits={1: 0.1, 10: 0.3}, reciprocal_rank=0.2, misses=())
        assert self.known(known_items=few, old=side(is_exact=False)) == [("few-found", True), ("compressed", False)]
