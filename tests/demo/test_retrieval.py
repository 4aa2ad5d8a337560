"""The prose of Markdown pages in passages, and this project's documentation as such a folder."""

from pathlib import Path

from mlx_integrations.demo.retrieval import docs_folder, read_passages, split_markdown

PAGE = """Before any heading.

# Title

First **sentence**, with [a link](page.md). Second
sentence, on two lines.

```python
# not a heading
code()
```

| a | table |
|---|---|

<!-- a remark
of two lines -->

## Empty

### `Last`

- one
- two
"""


def test_prose_is_kept_and_code_tables_and_remarks_are_not() -> None:
    assert list(split_markdown(PAGE)) == [
        ("", "Before any heading."),
        ("Title", "First sentence, with a link. Second sentence, on two lines."),
        ("Last", "- one - two"),
    ]


def test_passages_end_with_a_sentence_and_are_short() -> None:
    text = "# Heading\n\n" + " ".join(f"This is sentence number {number}." for number in range(40))
    passages = [passage for _, passage in split_markdown(text, max_characters=100)]
    assert len(passages) > 10
    assert all(passage.endswith(".") and len(passage) <= 100 for passage in passages)
    assert "# Heading\n\n" + " ".join(passages) == text


def test_a_sentence_that_is_too_long_stays_whole() -> None:
    sentence = "word " * 30 + "end."
    assert list(split_markdown(f"Short. {sentence} Short.", max_characters=50)) == [
        ("", "Short."),
        ("", sentence),
        ("", "Short."),
    ]


def test_a_folder_is_read_with_its_subfolders(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "b.md").write_text("# B\n\nText of b.")
    (tmp_path / "a.md").write_text("# A\n\nText of a.")
    (tmp_path / "c.txt").write_text("Not Markdown.")
    assert [(one.page_content, one.metadata) for one in read_passages(tmp_path)] == [
        ("Text of a.", {"source": "a.md", "heading": "A"}),
        ("Text of b.", {"source": "inner/b.md", "heading": "B"}),
    ]


def test_the_documentation_is_found() -> None:
    passages = read_passages(docs_folder())
    assert {"explanation/questions.md", "index.md", "how-to/install.md"} <= {one.metadata["source"] for one in passages}
    assert not any("```" in one.page_content or "](" in one.page_content for one in passages)


def test_common_questions_are_answered_by_their_first_sentence() -> None:
    """In at most twelve words, so that a reader, or a tiny model, finds the answer at once."""
    page = (docs_folder() / "explanation" / "questions.md").read_text(encoding="utf-8")
    answers = dict(reversed(list(split_markdown(page))))
    assert len(answers) > 20
    for heading, answer in answers.items():
        assert heading.endswith("?")
        assert 3 <= len(answer.partition(". ")[0].split()) <= 12, heading
