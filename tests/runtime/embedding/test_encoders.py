"""Encoders give the hidden states of transformers' own models, row by row, whatever else is in the batch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mlx_integrations.errors import ContextOverflowError, ModelLoadError, UnsupportedArchitectureError
from tests.runtime.embedding.encoder_models import ENCODERS, NAMES, Checkpoint, Hidden, compute, load, references
from tests.runtime.embedding.sentence_models import on_worker

TOLERANCE = 1e-5  # the references are torch's float32, which is off by up to 1.4e-6 itself


def assert_same(found: Hidden, expected: NDArray[Any], mask: NDArray[np.bool_], tolerance: float = TOLERANCE) -> None:
    np.testing.assert_allclose(found[mask], expected[mask], atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_every_stage_is_that_of_transformers(name: str) -> None:
    expected = references(name)
    stages = compute(ENCODERS / name, expected["ids"], expected["mask"])
    if len(stages) == 2 * len(expected["stages"]) - 1:
        del stages[1::2]  # what stands between the two halves of a layer is no hidden state of transformers
    assert len(stages) == len(expected["stages"])
    for found, right in zip(stages, expected["stages"], strict=True):
        assert_same(found, right, expected["mask"])


@pytest.mark.parametrize(
    ("name", "row"),
    [("mpnet", "long"), ("modernbert", "long"), ("nomic", "long"), ("nomic_stretched", "long")]
    + [("nomic_stretched", "longer")],
)
def test_long_rows_are_those_of_transformers(name: str, row: str) -> None:
    expected = references(name)
    found = compute(ENCODERS / name, expected[f"{row}_ids"])[-1]
    np.testing.assert_allclose(found, expected[f"{row}_hidden"], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("activation", ["gelu_new", "relu", "silu", "quick_gelu"])
def test_other_activations_are_those_of_transformers(activation: str) -> None:
    expected = references("bert")
    found = compute(ENCODERS / "bert", expected["ids"], expected["mask"], changes={"hidden_act": activation})[-1]
    assert_same(found, expected[f"act_{activation}"], expected["mask"])


@pytest.mark.parametrize("name", NAMES)
def test_a_row_is_the_same_alone_and_in_any_batch(name: str) -> None:
    expected = references(name)
    ids, mask = expected["ids"], expected["mask"]
    alone = [compute(ENCODERS / name, ids[row : row + 1, : mask[row].sum()])[-1][0] for row in range(len(ids))]
    order = np.array([2, 0, 3, 1])
    shuffled = compute(ENCODERS / name, ids[order], mask[order])[-1]
    for place, row in enumerate(order):
        np.testing.assert_allclose(shuffled[place][mask[row]], alone[row], atol=3e-6, rtol=0)


def test_a_short_row_is_the_same_beside_one_that_stretches_the_positions() -> None:
    expected = references("nomic_stretched")
    short, long = expected["ids"][1, :17], expected["longer_ids"][0]
    ids = np.zeros((2, len(long)), np.int32)
    ids[0, :17], ids[1] = short, long
    found = compute(ENCODERS / "nomic_stretched", ids, np.arange(len(long))[None] < np.array([[17], [len(long)]]))[-1]
    np.testing.assert_allclose(found[0, :17], expected["stages"][-1][1, :17], atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(found[1], expected["longer_hidden"][0], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=5, deadline=None)
@given(filler=st.integers(0, 63), columns=st.integers(0, 6))
def test_what_fills_the_padding_does_not_matter(name: str, filler: int, columns: int) -> None:
    expected = references(name)
    ids = np.pad(np.where(expected["mask"], expected["ids"], filler), ((0, 0), (0, columns)), constant_values=filler)
    mask = np.pad(expected["mask"], ((0, 0), (0, columns)))
    assert_same(compute(ENCODERS / name, ids, mask)[-1][:, :24], expected["stages"][-1], expected["mask"])


@pytest.mark.parametrize("name", NAMES)
def test_a_row_of_padding_only_gives_numbers_and_disturbs_nobody(name: str) -> None:
    expected = references(name)
    ids, mask = expected["ids"].copy(), expected["mask"].copy()
    mask[2] = False
    stages = compute(ENCODERS / name, ids, mask)
    assert all(np.isfinite(stage).all() for stage in stages)
    assert_same(stages[-1], expected["stages"][-1], mask)


def test_a_batch_that_is_computed_in_slices_is_the_same() -> None:
    # 1,000 rows of 24 tokens are more scores, and more inner activations, than are computed at a time.
    expected = references("mpnet")
    ids, mask = (np.tile(expected[key], (250, 1)) for key in ("ids", "mask"))
    assert_same(compute(ENCODERS / "mpnet", ids, mask)[-1], np.tile(expected["stages"][-1], (250, 1, 1)), mask)


def test_half_precision_comes_near() -> None:
    expected = references("bert")

    def run() -> Hidden:
        from mlx_integrations.runtime._mlx import mx

        encoder = load(ENCODERS / "bert")
        encoder.set_dtype(mx.float16)
        ids, mask = expected["ids"].copy(), expected["mask"].copy()
        mask[3] = False
        found = encoder(mx.array(ids), mx.array(mask))
        assert found.dtype == mx.float16
        return np.array(found.astype(mx.float32))

    found = on_worker(run)
    assert np.isfinite(found).all()
    assert_same(found[:3], expected["stages"][-1][:3], expected["mask"][:3], 0.02)


def compute_in_float64(folder: Path, ids: NDArray[np.int32], mask: NDArray[np.bool_]) -> Hidden:
    """The last stage with MLX's own attention and activations, which take over where the weights are not float32."""

    def run() -> Hidden:
        from mlx_integrations.runtime._mlx import mx

        encoder = load(folder)
        encoder.set_dtype(mx.float64)
        return np.array(encoder(mx.array(ids), mx.array(mask)).astype(mx.float32))

    return on_worker(run)


@pytest.mark.parametrize("name", NAMES)
def test_the_kernels_of_other_backends_give_the_same(name: str) -> None:
    expected = references(name)
    found = compute_in_float64(ENCODERS / name, expected["ids"], expected["mask"])
    assert_same(found, expected["stages"][-1], expected["mask"])


@pytest.mark.parametrize("name", ["modernbert", "nomic"])
def test_a_very_long_row_loses_nothing_by_being_cut_up(name: str) -> None:
    ids = np.random.default_rng(3).integers(6, 200, (2, 900)).astype(np.int32)
    mask = np.arange(900)[None] < np.array([[900], [610]])
    exact = compute_in_float64(ENCODERS / name, ids, mask)
    assert_same(compute(ENCODERS / name, ids, mask)[-1], exact, mask, 5e-5)  # angles of 900 radians in float32


def write_config(folder: Path, name: str, *removed: str, **changed: Any) -> Path:
    checkpoint = Checkpoint.of(name)
    checkpoint.config = {key: value for key, value in checkpoint.config.items() if key not in removed} | changed
    return checkpoint.write(folder)


@pytest.mark.parametrize("local_theta", [60.0, None])
def test_modernbert_as_transformers_4_wrote_it(tmp_path: Path, local_theta: float | None) -> None:
    expected = references("modernbert")
    thetas = {"global_rope_theta": 700.0, "local_rope_theta": local_theta}
    older = {**thetas, "global_attn_every_n_layers": 2, "local_attention": 8, "norm_eps": 1e-5}
    folder = write_config(tmp_path / "m", "modernbert", "rope_parameters", "layer_types", **older)
    found = compute(folder, expected["ids"], expected["mask"])[-1]
    if local_theta is not None:
        assert_same(found, expected["stages"][-1], expected["mask"])
        return
    # Without a base of their own, the layers with a window take the others'.
    same = {kind: {"rope_type": "default", "rope_theta": 700.0} for kind in ("full_attention", "sliding_attention")}
    later = compute(ENCODERS / "modernbert", expected["ids"], expected["mask"], changes={"rope_parameters": same})[-1]
    np.testing.assert_array_equal(found, later)
    assert np.abs(found - expected["stages"][-1])[expected["mask"]].max() > 1e-3


NOMICS = {
    "model_type": "nomic_bert",
    "activation_function": "swiglu",
    "causal": False,
    "layer_norm_epsilon": 1e-12,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "n_embd": 16,
    "n_head": 2,
    "n_inner": 256,
    "n_layer": 2,
    "n_positions": 8192,
    "pad_vocab_size_multiple": 8,
    "parallel_block": False,
    "prenorm": False,
    "qkv_proj_bias": False,
    "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "type_vocab_size": 2,
    "use_rms_norm": False,
    "vocab_size": 199,  # padded to the next multiple of 8
}


def test_nomic_as_its_own_code_configures_it(tmp_path: Path) -> None:
    expected = references("nomic")
    checkpoint = Checkpoint(NOMICS, Checkpoint.of("nomic").tensors)
    found = compute(checkpoint.write(tmp_path / "m"), expected["ids"], expected["mask"])[-1]
    assert_same(found, expected["stages"][-1], expected["mask"])


def test_nomic_stretches_positions_as_its_own_code_does(tmp_path: Path) -> None:
    expected = references("nomic_stretched")
    config = {**NOMICS, "n_layer": 1, "rotary_scaling_factor": 2, "max_trained_positions": 32}
    checkpoint = Checkpoint(config, Checkpoint.of("nomic_stretched").tensors)
    found = compute(checkpoint.write(tmp_path / "m"), expected["longer_ids"])[-1]
    np.testing.assert_allclose(found, expected["longer_hidden"], atol=TOLERANCE, rtol=0)


UNSUPPORTED = [
    ("bert", {"position_embedding_type": "relative_key"}, "`position_embedding_type` = `relative_key`"),
    ("bert", {"is_decoder": True}, "`is_decoder` = "),
    ("bert", {"add_cross_attention": True}, "`add_cross_attention` = "),
    ("bert", {"pruned_heads": {"1": [0]}}, "`pruned_heads` = "),
    ("bert", {"hidden_act": "laplace"}, "`hidden_act` = "),
    ("bert", {"num_attention_heads": 5}, "32 shared by 5 heads"),
    ("roberta", {"pad_token_id": 39}, "`pad_token_id` = `39`"),
    ("mpnet", {"relative_attention_num_buckets": 16}, "16 buckets"),
    ("distilbert", {"activation": "mish"}, "`activation` = "),
    ("modernbert", {"layer_types": ["full_attention", "linear_attention"]}, "`layer_types` = "),
    ("modernbert", {"layer_types": ["full_attention"]}, "`layer_types` = "),
    ("modernbert", {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "`rope_scaling` = "),
    (
        "modernbert",
        {"rope_parameters": {"full_attention": {"rope_type": "yarn", "factor": 4.0}}},
        "`rope_type` = `yarn`",
    ),
    (
        "nomic",
        {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
        "`partial_rotary_factor` = `0.5`",
    ),
    ("nomic", {"prenorm": True}, "`prenorm` = "),
    ("nomic", {"causal": True}, "`causal` = "),
    ("nomic", {"num_experts": 8}, "`num_experts` = "),
    ("nomic", {"rotary_emb_interleaved": True}, "`rotary_emb_interleaved` = "),
    ("nomic", {"rotary_emb_scale_base": 512}, "`rotary_emb_scale_base` = "),
    ("nomic_plain", {"activation_function": "relu"}, "`activation_function` = "),
    ("nomic_plain", {"rotary_emb_fraction": 0.5}, "`rotary_emb_fraction` = "),
]


@pytest.mark.parametrize(("name", "changes", "named"), UNSUPPORTED)
def test_what_there_is_no_code_for_is_refused_by_name(name: str, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UnsupportedArchitectureError, match=rf"config\.json.*{named}") as caught:
        compute(ENCODERS / name, np.array([[2, 3]], np.int32), changes=changes)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("bert", "hidden_size", None),
        ("bert", "vocab_size", "many"),
        ("roberta", "num_hidden_layers", 0),
        ("mpnet", "layer_norm_eps", -1e-5),
        ("distilbert", "dim", 32.5),
        ("modernbert", "norm_bias", "yes"),
        ("modernbert", "rope_parameters", [1]),
        ("nomic", "intermediate_size", True),
    ],
)
def test_a_key_that_is_missing_or_impossible_is_named(name: str, key: str, value: Any) -> None:
    with pytest.raises(ModelLoadError, match=rf"config\.json.*`{key}`") as caught:
        compute(ENCODERS / name, np.array([[2, 3]], np.int32), changes={key: value})
    assert caught.value.model_path.endswith(name)


def test_an_unknown_architecture_is_named_with_those_that_there_are() -> None:
    with pytest.raises(UnsupportedArchitectureError, match="quantum_bert") as caught:
        compute(ENCODERS / "bert", np.array([[2, 3]], np.int32), changes={"model_type": "quantum_bert"})
    assert caught.value.model_type == "quantum_bert"
    for known in ("`bert`", "`mpnet`", "`nomic_bert`", "`xlm-roberta`", "`qwen3`"):
        assert known in str(caught.value)


@pytest.mark.parametrize(("name", "limit"), [("bert", 40), ("distilbert", 40), ("roberta", 38), ("mpnet", 188)])
def test_a_text_longer_than_the_table_of_positions_is_refused(name: str, limit: int) -> None:
    ids = np.full((2, limit + 1), 7, np.int32)
    assert np.isfinite(compute(ENCODERS / name, ids[:, 1:])[-1]).all()
    with pytest.raises(ContextOverflowError) as caught:
        compute(ENCODERS / name, ids)
    assert (caught.value.prompt_tokens, caught.value.limit_tokens) == (limit + 1, limit)
