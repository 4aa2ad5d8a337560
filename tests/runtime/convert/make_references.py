"""Write tiny models in other programs' formats, and what those programs make of them, as test data.

Run by hand, with torch, transformers 5, gguf 0.19 and sentencepiece installed:
`python tests/runtime/convert/make_references.py`. Under data/ come

    blocks.npz            blocks of every GGUF type, random bits, and the numbers that gguf makes of them
    gguf/<name>.gguf      models of transformers, written with gguf's own writer and table of names
    gguf/references.npz   <name>_ids and, for the last four of them, the <name>_logits of transformers
    tokenizers.json       texts, and their ids by sentencepiece or by the tokenizer whose vocabulary is in the file
    pytorch/              a Llama as transformers once saved it (pytorch_model.bin), with the tokens it generates
    tensors*.pt           tensors of all kinds, saved by torch in both formats, and the same numbers as tensors.npz
    hostile*.pt           checkpoints that would run something
    bert/                 an embedding model with pytorch_model.bin files only
"""

import collections
import json
import os
import random
import shutil
import textwrap
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import sentencepiece
import torch
import transformers
from gguf import GGMLQuantizationType, quants
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

DATA = Path(__file__).parent / "data"
BLOCK_TYPES = "F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS".split()
TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
BLANKS = ["▁▁", "▁▁▁", "▁▁▁▁"]
MARKS = ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
CORPUS = [doc for module in (collections, json, os, textwrap) for doc in [module.__doc__ or ""]] + [
    value.__doc__
    for module in (collections, json, os, textwrap)
    for value in vars(module).values()
    if isinstance(getattr(value, "__doc__", None), str)
]
TEXTS = [
    "Hello there, how are you?",
    "  two blanks first, and    more inside   ",
    "\n\n\tA tab, then\r\nlines.\n",
    "It's the user's 12345 items; I'LL see, we've 3.14159.",
    "naïve café — Žluťoučký кůň 日本語のテキスト",
    "e\u0301 composed or not: é",
    "emoji 👩‍👩‍👧 and 🇨🇭, ½ and Ⅻ",
    "def f(x):\n    return x**2  # squared",
    "CamelCase HTTPServer snake_case",
    "a",
    " ",
    "",
    "<|user|>marks<|end|> in   text <table> x",
    "aaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbb",
]
_rng = random.Random(11)
TEXTS += [
    text[start : start + 70]
    for text in _rng.choices([one for one in CORPUS if len(one) > 200], k=25)
    for start in [_rng.randrange(len(text) - 70)]
]
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = QWEN2.replace(r"\p{N}|", r"\p{N}{1,3}|")


def main() -> None:
    """Write everything anew."""
    shutil.rmtree(DATA, ignore_errors=True)
    (DATA / "gguf").mkdir(parents=True)
    write_blocks()
    references: dict[str, Any] = {}
    texts: dict[str, Any] = {}
    spm = train_sentencepiece(["<table>"])
    gemma_spm = train_sentencepiece(["<table>", *BLANKS], add_dummy_prefix=False)
    byte_level = {name: train_byte_level(name) for name in ("qwen2", "llama-bpe", "gpt-2", "smollm")}
    for name, (model, arch) in build_models(len(byte_level["qwen2"].get_vocab()), spm.get_piece_size()).items():
        writer = gguf.GGUFWriter(DATA / "gguf" / f"{name}.gguf", arch)
        add_settings(writer, model, arch)
        if name in ("qwen2", "qwen3", "llama3", "packed"):
            kind = "llama-bpe" if name == "llama3" else "qwen2"
            add_byte_level(writer, byte_level[kind], kind)
        else:
            is_gemma = name.startswith("gemma")
            add_sentencepiece(writer, gemma_spm if is_gemma else spm, add_space_prefix=not is_gemma)
        packed = {"attn": "Q4_0", "ffn": "Q8_0"} if name == "packed" else {}
        add_tensors(writer, model, arch, packed)
        finish(writer)
        ids = torch.randint(5, 250, (1, 12), generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            references[f"{name}_ids"] = ids[0].numpy()
            references[f"{name}_logits"] = model(ids).logits[0, -4:].numpy()
    np.savez_compressed(DATA / "gguf" / "references.npz", **references)
    texts["sentencepiece"] = {"file": "llama", "ids": [spm.encode(text) for text in TEXTS]}
    for name, tokenizer in byte_level.items():
        texts[name] = {"ids": [tokenizer.encode(text).ids for text in TEXTS]}
        texts[name] |= vocabulary_of(tokenizer)
    texts["sentencepiece, no space first"] = {"file": "gemma", "ids": [gemma_spm.encode(text) for text in TEXTS]}
    written = {"texts": TEXTS, "kinds": texts}
    (DATA / "tokenizers.json").write_text(json.dumps(written, ensure_ascii=False), encoding="utf-8")
    write_pytorch_model(byte_level["qwen2"])
    write_tensors()
    write_hostile()
    write_bert()


def write_blocks() -> None:
    rng = np.random.default_rng(7)
    found: dict[str, Any] = {}
    for name in BLOCK_TYPES:
        elements, size = gguf.GGML_QUANT_SIZES[GGMLQuantizationType[name]]
        blocks = rng.integers(0, 256, (4, size * (32 if elements == 1 else 1)), dtype=np.uint8)
        found[f"{name}_blocks"] = blocks
        found[f"{name}_values"] = quants.dequantize(blocks, GGMLQuantizationType[name])
    np.savez_compressed(DATA / "blocks.npz", **found)


def build_models(words: int, pieces: int) -> dict[str, tuple[Any, str]]:
    """Models of transformers with random weights that give every token a clear favourite."""
    small: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "max_position_embeddings": 256,
        "initializer_range": 0.3,
        "rms_norm_eps": 1e-5,
        "attn_implementation": "eager",
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    rope = {"rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0}}
    llama3 = {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 500_000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }
    }
    wide = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    gemma = {**small, **rope, "vocab_size": pieces, "tie_word_embeddings": True}
    tf = transformers
    torch.manual_seed(0)
    made = {
        "llama": tf.LlamaForCausalLM(tf.LlamaConfig(**{**small, **rope, "vocab_size": pieces})),
        "llama3": tf.LlamaForCausalLM(
            tf.LlamaConfig(**{**small, **llama3, "vocab_size": words, "tie_word_embeddings": True})
        ),
        "mistral": tf.MistralForCausalLM(tf.MistralConfig(**{**small, **rope, "vocab_size": pieces})),
        "qwen2": tf.Qwen2ForCausalLM(tf.Qwen2Config(**{**small, **rope, "vocab_size": words})),
        "qwen3": tf.Qwen3ForCausalLM(
            tf.Qwen3Config(**{**small, **rope, "vocab_size": words, "tie_word_embeddings": True})
        ),
        "packed": tf.Qwen2ForCausalLM(tf.Qwen2Config(**{**small, **rope, **wide, "vocab_size": words})),
        "phi3": tf.Phi3ForCausalLM(tf.Phi3Config(**{**small, **rope, "vocab_size": pieces})),
        "gemma": tf.GemmaForCausalLM(tf.GemmaConfig(**gemma)),
        "gemma2": tf.Gemma2ForCausalLM(tf.Gemma2Config(**gemma, query_pre_attn_scalar=8, sliding_window=64)),
        "gemma3": tf.Gemma3ForCausalLM(
            tf.Gemma3TextConfig(
                **{
                    **gemma,
                    "num_hidden_layers": 6,
                    "rope_parameters": {
                        "full_attention": {"rope_type": "linear", "rope_theta": 1_000_000.0, "factor": 8.0},
                        "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
                    },
                },
                query_pre_attn_scalar=8,
                sliding_window=4,
            )
        ),
    }
    archs = {"llama3": "llama", "mistral": "llama", "packed": "qwen2"}
    for layer in made["gemma"].model.layers:
        layer.mlp.act_fn = torch.nn.GELU()  # mlx-lm computes it by erf, transformers by its approximation with tanh
    for model in made.values():
        model.eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim == 1:  # norms and biases are all ones or zeros otherwise
                    parameter += torch.randn_like(parameter) * 0.2
                    assert parameter.std() > 0, name
    return {name: (model, archs.get(name, name)) for name, model in made.items()}


def add_settings(writer: Any, model: Any, arch: str) -> None:
    config = model.config
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    rope = config.rope_parameters
    full = rope.get("full_attention", rope)
    writer.add_rope_freq_base(full["rope_theta"])
    if arch in ("llama", "phi3"):
        writer.add_rope_dimension_count(config.head_dim)
        writer.add_vocab_size(config.vocab_size)
    if full["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(full["factor"])
    if full["rope_type"] == "llama3":
        # `generate_extra_tensors` in llama.cpp's convert_hf_to_gguf.py.
        factors = []
        low, high = 8192 / full["low_freq_factor"], 8192 / full["high_freq_factor"]
        for index in range(0, config.head_dim, 2):
            wavelength = 2 * np.pi * full["rope_theta"] ** (index / config.head_dim)
            smooth = (8192 / wavelength - full["low_freq_factor"]) / (
                full["high_freq_factor"] - full["low_freq_factor"]
            )
            middle = 1 / ((1 - smooth) / full["factor"] + smooth)
            factors.append(1.0 if wavelength < high else full["factor"] if wavelength > low else middle)
        writer.add_tensor("rope_freqs.weight", np.array(factors, np.float32))
    if arch == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    if arch in ("gemma2", "gemma3"):
        writer.add_sliding_window(config.sliding_window)


def add_tensors(writer: Any, model: Any, arch: str, packed: dict[str, str]) -> None:
    """Write tensors as llama.cpp's converter does; those that are packed are unpacked in the model as well."""
    config = model.config
    number = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == arch)
    names = gguf.get_tensor_name_map(number, config.num_hidden_layers)
    state = model.state_dict()
    for name, tensor in state.items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = tensor.numpy().astype(np.float32)
        if arch == "llama" and ".q_proj." in name:
            values = permuted(values, config.num_attention_heads)
        if arch == "llama" and ".k_proj." in name:
            values = permuted(values, config.num_key_value_heads)
        if arch.startswith("gemma") and name.endswith("norm.weight"):
            values = values + 1
        theirs = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert theirs is not None, name
        kind = next((value for part, value in packed.items() if f".{part}" in theirs), None)
        if kind is None or values.ndim == 1:
            writer.add_tensor(theirs, values)
            continue
        blocks = quants.quantize(values, GGMLQuantizationType[kind])
        writer.add_tensor(theirs, blocks, raw_dtype=GGMLQuantizationType[kind])
        with torch.no_grad():
            state[name].copy_(torch.from_numpy(quants.dequantize(blocks, GGMLQuantizationType[kind])))


def permuted(values: np.ndarray, heads: int) -> np.ndarray:
    """`LlamaModel.permute` in llama.cpp's converter."""
    shape = (heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return values.reshape(shape).swapaxes(1, 2).reshape(values.shape)


def finish(writer: Any) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def train_sentencepiece(own: list[str], **options: Any) -> Any:
    """Llama's kind: BPE with byte tokens, no normalisation; some tokens are defined by the user, as Gemma's blanks."""
    model = Path("/tmp/tiny-spm")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in CORPUS for line in text.splitlines() if line.strip()]),
        model_prefix=str(model),
        vocab_size=420,
        model_type="bpe",
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        split_digits=True,
        control_symbols=MARKS,
        user_defined_symbols=own,
        minloglevel=2,
        **options,
    )
    return sentencepiece.SentencePieceProcessor(model_file=f"{model}.model")


def add_sentencepiece(writer: Any, spm: Any, *, add_space_prefix: bool) -> None:
    """`_create_vocab_sentencepiece` in llama.cpp's converter."""
    from sentencepiece import sentencepiece_model_pb2

    messages: Any = sentencepiece_model_pb2
    proto = messages.ModelProto()
    proto.ParseFromString(spm.serialized_model_proto())
    tokens, scores, kinds = [], [], []
    for index in range(spm.get_piece_size()):
        token, kind = spm.id_to_piece(index), gguf.TokenType.NORMAL
        if spm.is_unknown(index):
            kind = gguf.TokenType.UNKNOWN
        elif spm.is_control(index):
            kind = gguf.TokenType.CONTROL
        elif spm.is_byte(index):
            kind = gguf.TokenType.BYTE
        elif proto.pieces[index].type == proto.SentencePiece.USER_DEFINED:
            kind, token = gguf.TokenType.USER_DEFINED, token.replace("▁", " ")
        tokens.append(token)
        scores.append(spm.get_score(index))
        kinds.append(kind)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(spm.bos_id())
    writer.add_eos_token_id(spm.eos_id())
    writer.add_unk_token_id(spm.unk_id())
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(add_space_prefix)
    writer.add_chat_template(TEMPLATE)


def train_byte_level(name: str) -> Any:
    """A tokenizer whose texts are split as those of a known family are."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=name == "llama-bpe"))
    split = {"qwen2": QWEN2, "llama-bpe": LLAMA3}.get(name)
    if name == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if name == "smollm" else []
    if split:
        steps.append(pre_tokenizers.Split(Regex(split), "isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split is None))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<|endoftext|>", "<|begin|>", *MARKS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    if name == "llama-bpe":
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|begin|> $A", special_tokens=[("<|begin|>", 1)]
        )
    return tokenizer


def vocabulary_of(tokenizer: Any) -> dict[str, Any]:
    model = json.loads(tokenizer.to_str())["model"]
    tokens = [token for token, _ in sorted(model["vocab"].items(), key=lambda item: item[1])]
    return {"tokens": tokens, "merges": [" ".join(pair) for pair in model["merges"]]}


def add_byte_level(writer: Any, tokenizer: Any, pre: str) -> None:
    found = vocabulary_of(tokenizer)
    marks = {"<|endoftext|>", "<|begin|>", *MARKS}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(found["tokens"])
    writer.add_token_merges(found["merges"])
    kinds = [gguf.TokenType.CONTROL if token in marks else gguf.TokenType.NORMAL for token in found["tokens"]]
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)


def write_pytorch_model(tokenizer: Any) -> None:
    """A Llama as it was saved before safetensors, whole and in parts, and what it says."""
    folder = DATA / "pytorch"
    folder.mkdir()
    torch.manual_seed(3)
    config = transformers.LlamaConfig(
        vocab_size=420,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    model.config.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>", "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    state = model.state_dict()
    torch.save(state, folder / "pytorch_model.bin")
    prompt = tokenizer.encode("<|user|>hello there<|end|><|assistant|>").ids
    with torch.no_grad():
        made = model.generate(torch.tensor([prompt]), max_new_tokens=20, do_sample=False, eos_token_id=2)
    reference = {"question": "hello there", "prompt": prompt, "answer": made[0, len(prompt) :].tolist()}
    (DATA / "pytorch.json").write_text(json.dumps(reference), encoding="utf-8")
    writer = gguf.GGUFWriter(DATA / "gguf" / "chat.gguf", "llama")
    add_settings(writer, model, "llama")
    add_byte_level(writer, tokenizer, "qwen2")
    add_tensors(writer, model, "llama", {})
    finish(writer)


def write_tensors() -> None:
    torch.manual_seed(5)
    base = torch.randn(4, 6)
    tensors = collections.OrderedDict(
        {
            "f32": base,
            "transposed": base.t(),
            "slice": base[1:3, ::2],
            "expanded": torch.randn(3, 1).expand(3, 4),
            "same": base,
            "scalar": torch.tensor(2.5),
            "empty": torch.zeros(0, 3),
            "f64": torch.randn(3, dtype=torch.float64),
            "f16": torch.randn(5).half(),
            "bf16": torch.randn(2, 3).bfloat16(),
            "i64": torch.arange(5),
            "i32": torch.arange(4, dtype=torch.int32),
            "i16": torch.arange(3, dtype=torch.int16),
            "i8": torch.tensor([-1, 2], dtype=torch.int8),
            "u8": torch.tensor([1, 255], dtype=torch.uint8),
            "bool": torch.tensor([True, False, True]),
            "parameter": torch.nn.Parameter(torch.randn(2, 2)),
        }
    )
    torch.save(tensors, DATA / "tensors.pt")
    torch.save(tensors, DATA / "tensors-legacy.pt", _use_new_zipfile_serialization=False)
    torch.save({"epoch": 3, "state_dict": dict(tensors)}, DATA / "tensors-wrapped.pt")
    torch.save({"u16": torch.arange(3).to(torch.uint16), "f8": base.to(torch.float8_e4m3fn)}, DATA / "tensors-new.pt")
    arrays = {
        name: (value.view(torch.int16) if value.dtype == torch.bfloat16 else value).detach().contiguous().numpy()
        for name, value in tensors.items()
    }
    np.savez_compressed(DATA / "tensors.npz", **arrays)


class Hostile:
    """Would run a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/mlxi-was-run",)


def write_hostile() -> None:
    torch.save({"weight": torch.zeros(2), "extra": Hostile()}, DATA / "hostile.pt")
    torch.save({"extra": Hostile()}, DATA / "hostile-legacy.pt", _use_new_zipfile_serialization=False)
    scripted = torch.jit.script(torch.nn.Linear(2, 2))
    scripted.save(str(DATA / "program.pt"))


def write_bert() -> None:
    """An embedding model of sentence-transformers with a Dense module, as it was saved before safetensors."""
    folder = DATA / "bert"
    torch.manual_seed(9)
    config = transformers.BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=32,
        initializer_range=0.3,
    )
    model = transformers.BertModel(config).eval()
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "2_Dense").mkdir()
    config.save_pretrained(folder)
    words = [*"abcdefghijklmnopqrstuvwxyz", "the", "cat", "dog", "sat", "##s"]
    vocabulary = {token: index for index, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "model_max_length": 32}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    rows = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense")]
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (path, kind) in enumerate(rows)
    ]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 32, "do_lower_case": false}')
    pooling = {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    dense = {
        "in_features": 16,
        "out_features": 8,
        "bias": True,
        "activation_function": "torch.nn.modules.activation.Tanh",
    }
    (folder / "2_Dense" / "config.json").write_text(json.dumps(dense))
    layer = torch.nn.Linear(16, 8)
    state = {f"linear.{name}": value.detach() for name, value in layer.named_parameters()}
    torch.save(state, folder / "2_Dense" / "pytorch_model.bin")
    torch.save(model.state_dict(), folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    texts = ["the cat sat", "a dog"]
    vectors = []
    for text in texts:
        ids = torch.tensor([tokenizer.encode(text).ids])
        with torch.no_grad():
            pooled = model(ids).last_hidden_state.mean(dim=1)
            vectors.append(torch.tanh(layer(pooled))[0].tolist())
    (DATA / "bert.json").write_text(json.dumps({"texts": texts, "vectors": vectors}), encoding="utf-8")


if __name__ == "__main__":
    main()
