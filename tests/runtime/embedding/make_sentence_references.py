"""Writes tiny random embedding models and the vectors that sentence-transformers makes with them.

    pip install "sentence-transformers==6.2.0" "transformers==5.23.0" torch
    python tests/runtime/embedding/make_sentence_references.py

Under data/sentence_models, `transformers/<name>` holds a transformer that several models share, and each other folder
what one model has besides: its modules, its settings, `reference.json` (token ids) and `vectors.npz`.
`sentence_models.py` puts both together.
"""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModel,
    BertConfig,
    BertTokenizer,
    Gemma3TextConfig,
    GemmaTokenizer,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2Tokenizer,
    Qwen3Config,
)

ROOT = Path(__file__).parent / "data" / "sentence_models"
MAX_TOKENS = 24
HIDDEN = 32
TRUNCATED = 8
PROMPT = "find: "
TRAINING_TEXTS = [
    "The quick brown fox jumps over the lazy dog, and the dog sleeps on.",
    "How do I reset my password? Ask the person who runs the server.",
    "def add(first, second):\n    return first + second",
    "Zażółć gęślą jaźń. Straße, café, naïve, Ångström.",
    "東京 北京 你好 世界 привет мир 42 1234567890",
    "search query: passage: find: title: none | text: represent this sentence",
    "A B C D E F G H I J K L M N O P Q R S T U V W X Y Z a b c d e f g h i j k l m n o p q r s t u v w x y z",
    "THE QUICK FOX. Password. QUERY. Fox. Dog. Server.",
]
TEXTS = [
    "",
    "x",
    "🙂👩‍👩‍👧",
    "你好,世界",
    "def add(first, second):\n    return first + second\n",
    "The quick brown fox jumps over the lazy dog.",
    "THE QUICK FOX asks: Password?",
    "  many   spaces\tand\n\nlines  ",
    "Zażółć gęślą jaźń, Straße, café",
    "東京 привет mixed scripts 42",
    "a [SEP] b </s> c",
    " ".join(["the dog sleeps on the server"] * 30),
    "reset\u00a0my\u200bpassword",
    "search",
    "12 34 567, 8.9!",
]


def word_piece(*, lowercase: bool) -> Any:
    """A BERT tokenizer of characters and words, these also in lower case; the cased one has the same vocabulary."""
    normalizer, splitter = normalizers.BertNormalizer(lowercase=False), pre_tokenizers.BertPreTokenizer()
    plain = [normalizer.normalize_str(text) for text in TRAINING_TEXTS]
    both = plain + [normalizers.BertNormalizer(lowercase=True).normalize_str(text) for text in TRAINING_TEXTS]
    words = sorted({word for text in both for word, _ in splitter.pre_tokenize_str(text)})
    characters = sorted({character for word in words for character in word})
    pieces = [piece for character in characters for piece in (character, f"##{character}")]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = dict.fromkeys(special + pieces + words)
    vocabulary = {token: token_id for token_id, token in enumerate(tokens)}
    return BertTokenizer(vocab=vocabulary, do_lower_case=lowercase, model_max_length=MAX_TOKENS)


def byte_level(kind: str) -> Any:
    """A byte-level BPE tokenizer: `qwen` ends texts with a token, `llama` begins them with one, `mistral` does both."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    words = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    pattern = words + r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_only])
    tokenizer.decoder = decoders.ByteLevel()
    begin, end = "<|begin|>", "<|endoftext|>"
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=340, special_tokens=[end, begin], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TRAINING_TEXTS, trainer)
    template = {"qwen": f"$A {end}", "llama": f"{begin} $A", "mistral": f"{begin} $A {end}"}[kind]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=[(end, 0), (begin, 1)])
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=end,
        pad_token=end,
        bos_token=None if kind == "qwen" else begin,
        padding_side="left",
        model_max_length=MAX_TOKENS,
    )
    if kind != "qwen":
        return made
    with tempfile.TemporaryDirectory() as folder:
        made.save_pretrained(folder)
        return Qwen2Tokenizer.from_pretrained(folder)


def gemma_tokenizer() -> Any:
    """BPE over characters, with bytes for those it does not know."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    trained.train_from_iterator(TRAINING_TEXTS, trainers.BpeTrainer(vocab_size=370, special_tokens=special + bytes_))
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    made = GemmaTokenizer(vocab=model["vocab"], merges=merges, model_max_length=MAX_TOKENS)
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 2), ("<eos>", 1)]
    )
    return made


def transformer(config: Any, tokenizer: Any, folder: Path) -> None:
    """Save a transformer with weights large enough that every part of it shows in its output."""
    torch.manual_seed(sum(map(ord, config.model_type)))
    config.vocab_size = len(tokenizer)
    model = AutoModel.from_config(config).eval()
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.ndim > 1:
                scale = 1.0 if "embed" in name else 1.5 * weights.shape[1] ** -0.5
                weights.copy_(torch.randn_like(weights) * scale)
            else:
                weights.add_(torch.randn_like(weights) * 0.1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def small(kind: Callable[..., Any], **options: Any) -> Any:
    """A configuration with two layers unless said otherwise."""
    return kind(
        **{
            "hidden_size": HIDDEN,
            "intermediate_size": 40,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "max_position_embeddings": 128,
            "pad_token_id": 0,
            "bos_token_id": None,
            "eos_token_id": None,
            **options,
        }
    )


def make_transformers(root: Path) -> None:
    """Every transformer that the models below share."""
    bert = {"num_key_value_heads": None, "head_dim": None, "max_position_embeddings": MAX_TOKENS + 16}
    transformer(small(BertConfig, **bert), word_piece(lowercase=True), root / "bert")
    transformer(small(Qwen3Config, rope_theta=1_000_000.0), byte_level("qwen"), root / "qwen3")
    both_ways = {"is_causal": False, "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}
    transformer(small(Qwen2Config, **both_ways), byte_level("qwen"), root / "qwen2")
    llama3 = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 4.0, "low_freq_factor": 1.0}
    llama3 |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 16}
    llama = small(LlamaConfig, rope_parameters=llama3, attention_bias=True, mlp_bias=True)
    transformer(llama, byte_level("llama"), root / "llama")
    transformer(small(MistralConfig, sliding_window=7), byte_level("mistral"), root / "mistral")
    layers = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"], "num_hidden_layers": 3}
    gemma = small(
        Gemma3TextConfig, use_bidirectional_attention=True, sliding_window=8, query_pre_attn_scalar=12, **layers
    )
    transformer(gemma, gemma_tokenizer(), root / "gemma3")


def dense(inner: int, outer: int, **options: Any) -> Any:
    """A Dense module with seeded weights."""
    torch.manual_seed(inner * 1000 + outer)
    module = modules.Dense(inner, outer, **options)
    with torch.no_grad():
        for weights in module.parameters():
            weights.copy_(torch.randn_like(weights) * 0.3)
    return module


def layer_norm(size: int) -> Any:
    """A LayerNorm module with seeded weights."""
    torch.manual_seed(size)
    module = modules.LayerNorm(size)
    with torch.no_grad():
        for weights in module.parameters():
            weights.add_(torch.randn_like(weights) * 0.3)
    return module


def write_old_files(folder: Path) -> None:
    """Turn a saved model into what sentence-transformers 2 wrote: older type names, flags, limits in their own file."""
    rows = json.loads((folder / "modules.json").read_text())
    for row in rows:
        row["type"] = "sentence_transformers.models." + row["type"].rpartition(".")[2]
    write_json(folder / "modules.json", rows)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": MAX_TOKENS, "do_lower_case": False})
    pooling = json.loads((folder / "1_Pooling" / "config.json").read_text())
    modes = pooling["pooling_mode"]
    flags = {
        "pooling_mode_cls_token": "cls",
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_max_tokens": "max",
        "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    }
    old = {"word_embedding_dimension": pooling["embedding_dimension"]}
    chosen = [modes] if isinstance(modes, str) else modes
    write_json(folder / "1_Pooling" / "config.json", old | {flag: mode in chosen for flag, mode in flags.items()})


def use_cased_tokenizer(folder: Path) -> None:
    """Lower-casing as a setting of the model, with a tokenizer that keeps capitals."""
    write_old_files(folder)
    word_piece(lowercase=False).save_pretrained(folder)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": MAX_TOKENS, "do_lower_case": True})


def remove_modules(folder: Path) -> None:
    """A plain transformer."""
    for name in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
        (folder / name).unlink()
    shutil.rmtree(folder / "1_Pooling")


def write_json(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def pooled(mode: Any, **options: Any) -> Any:
    return modules.Pooling(HIDDEN, mode, **options)


PROMPTS = {"query": "search query: ", "document": "passage: ", "topic": "title: none | text: "}
ALL_MODES = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
# Name: transformer, modules after it, settings, and what is done to the saved folder.
MODELS: dict[str, tuple[str, Callable[[], list[Any]], dict[str, Any], Callable[[Path], None] | None]] = {
    "bert-mean-normalize": ("bert", lambda: [pooled("mean"), modules.Normalize()], {}, None),
    "bert-cls": ("bert", lambda: [pooled("cls")], {}, write_old_files),
    "bert-max": ("bert", lambda: [pooled("max"), modules.Normalize()], {}, None),
    "bert-mean-sqrt": ("bert", lambda: [pooled("mean_sqrt_len_tokens")], {}, write_old_files),
    "bert-weightedmean": ("bert", lambda: [pooled("weightedmean")], {}, None),
    "bert-lasttoken": ("bert", lambda: [pooled("lasttoken")], {}, None),
    "bert-concatenated": ("bert", lambda: [pooled(["cls", "max", "mean"])], {}, write_old_files),
    "bert-dense": (
        "bert",
        lambda: [
            pooled("mean"),
            dense(HIDDEN, 24),
            modules.Dropout(0.5),
            dense(24, 24, bias=False, activation_function=torch.nn.GELU(), use_residual=True),
            dense(24, 16, activation_function=torch.nn.Identity(), use_residual=True),
        ],
        {},
        None,
    ),
    "bert-layernorm": ("bert", lambda: [pooled("mean"), modules.Normalize(), layer_norm(HIDDEN)], {}, None),
    "bert-prompts": (
        "bert",
        lambda: [pooled("mean"), modules.Normalize()],
        {"prompts": PROMPTS, "default_prompt_name": "topic", "similarity_fn_name": "dot"},
        None,
    ),
    "bert-without-prompt": ("bert", lambda: [pooled(ALL_MODES, include_prompt=False)], {"prompts": PROMPTS}, None),
    "bert-lower-case": ("bert", lambda: [pooled("mean"), modules.Normalize()], {}, use_cased_tokenizer),
    "bert-plain": ("bert", lambda: [pooled("mean")], {}, remove_modules),
    "qwen3-lasttoken": (
        "qwen3",
        lambda: [pooled("lasttoken"), modules.Normalize()],
        {"prompts": {"query": "Instruct: find\nQuery:"}},
        None,
    ),
    "qwen2-both-ways": ("qwen2", lambda: [pooled("mean", include_prompt=False), modules.Normalize()], {}, None),
    "llama-weightedmean": ("llama", lambda: [pooled("weightedmean", include_prompt=False)], {}, None),
    "mistral-lasttoken": ("mistral", lambda: [pooled("lasttoken"), modules.Normalize()], {}, None),
    "gemma3-two-dense": (
        "gemma3",
        lambda: [
            pooled("mean"),
            dense(HIDDEN, 48, bias=False, activation_function=torch.nn.Identity()),
            dense(48, HIDDEN, bias=False, activation_function=torch.nn.Identity()),
            modules.Normalize(),
        ],
        {"prompts": {"query": "task: search result | query: ", "document": "title: none | text: "}},
        None,
    ),
}


def reference(model: SentenceTransformer, texts: list[str], prompt: str) -> tuple[Any, dict[str, Any]]:
    """Vectors, and the token ids without padding. Texts go one by one: padding would shift the last digits."""
    vectors = np.concatenate([model.encode([text], prompt=prompt) for text in texts])
    ids = []
    for text in texts:
        row = model[0].preprocess([text], prompt=prompt or None)
        ids.append(row["input_ids"][0].tolist())
        length = row.get("prompt_length", 0)
    return vectors.astype(np.float32), {"prompt": prompt, "ids": ids, "prompt_tokens": length}


def make_model(name: str, transformers: Path, folder: Path) -> None:
    """One model: saved, rewritten if need be, loaded again and asked for vectors."""
    kind, parts, settings, rewrite = MODELS[name]
    first = modules.Transformer(str(transformers / kind))
    SentenceTransformer(modules=[first, *parts()], device="cpu", **settings).save(str(folder), create_model_card=False)
    if rewrite is not None:
        rewrite(folder)
    model = SentenceTransformer(str(folder), device="cpu")
    # A text without any token breaks torch's attention when it is alone.
    texts = [text for text in TEXTS if model[0].preprocess([text])["input_ids"].numel()]
    target = ROOT / name
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        shared = transformers / kind / file.relative_to(folder)
        if not shared.is_file() or shared.read_bytes() != file.read_bytes():
            own = target / file.relative_to(folder)
            own.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, own)
    arrays, cases = {}, {}
    for case, prompt in {
        "plain": "",
        "query": model.prompts.get("query", ""),
        "document": model.prompts.get("document", ""),
        "custom": PROMPT,
    }.items():
        if case == "plain" or prompt:
            arrays[case], cases[case] = reference(model, texts, prompt)
    truncated = [model.encode([text], prompt="", truncate_dim=TRUNCATED, normalize_embeddings=True) for text in texts]
    arrays["truncated"] = np.concatenate(truncated).astype(np.float32)
    for side, encode in (("query", model.encode_query), ("document", model.encode_document)):
        expected = arrays.get(side, arrays["plain"])
        assert np.allclose(encode(texts, batch_size=1), expected, atol=1e-6), (name, side)
    np.savez_compressed(target / "vectors.npz", **arrays)
    written = {
        "cases": cases,
        "default_prompt_name": model.default_prompt_name,
        "dimensions": model.get_embedding_dimension(),
        "max_tokens": model.max_seq_length,
        "prompts": model.prompts,
        "similarity": model.similarity_fn_name,
        "texts": texts,
        "transformer": kind,
    }
    lines = [f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in written.items()]
    (target / "reference.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def main() -> None:
    torch.set_num_threads(1)
    shutil.rmtree(ROOT, ignore_errors=True)
    make_transformers(ROOT / "transformers")
    for name in MODELS:
        with tempfile.TemporaryDirectory() as folder:
            make_model(name, ROOT / "transformers", Path(folder))


if __name__ == "__main__":
    main()
