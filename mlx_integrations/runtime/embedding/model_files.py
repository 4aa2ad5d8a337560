"""What an embedding model's folder says about itself, read without MLX: the files that sentence-transformers writes.

    modules.json                        the chain: Transformer, Pooling, then Dense, LayerNorm, Normalize, Dropout
    sentence_bert_config.json           beside the transformer: where texts are cut, lower-casing
    config_sentence_transformers.json   prompts, similarity, default dimensions
    1_Pooling/config.json, ...          one folder for each further module

A folder without modules.json is pooled as sentence-transformers would. Names and defaults follow its version 6.2
(https://github.com/huggingface/sentence-transformers/tree/v6.2.0/sentence_transformers). Whatever would change the
vectors and is not supported is refused by name.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from mlx_integrations.errors import ModelLoadError
from mlx_integrations.runtime.embedding.json_fields import JsonFields, read_rows
from mlx_integrations.runtime.embedding.module_files import (
    DenseSpec,
    LayerNormSpec,
    ModuleSpec,
    NormalizeSpec,
    PoolingSpec,
    read_module,
    read_pooling,
)
from mlx_integrations.runtime.embedding.transformer_files import read_transformer
from mlx_integrations.runtime.folder import ModelFolder
from mlx_integrations.types import EmbeddingCapabilities

__all__ = ["SentenceModel", "read_sentence_model"]

_AFTER_POOLING = ("Dense", "LayerNorm", "Normalize", "Dropout")
_OTHER_FAMILIES = ("sparse_encoder", "cross_encoder", "multi_vector_encoder")
_SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
_OTHER_DOCUMENT_PROMPTS = ("passage", "corpus")
_OTHER_MODEL = "Choose another model, or run this one with sentence-transformers."
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SentenceModel:
    """An embedding model, as its files describe it.

    Attributes:
        path: The model's folder, resolved.
        folder: The transformer's own folder: `path`, or one in it.
        max_tokens: Texts are cut after so many, prompt and special tokens included.
        do_lower_case: Texts are lower-cased, whatever the tokenizer does.
        pooling: How token vectors become one.
        modules: What happens to the pooled vector, in order.
        prompts: By name; `query` and `document` are always there.
        default_prompt_name: The prompt that texts get when nobody says whether they ask or are to be found.
        similarity: The measure the model was trained for.
        truncate_dimensions: The model's own wish to keep only the first so many coordinates. They are scaled to length
            1 if the model normalises; sentence-transformers leaves them shorter.
    """

    path: Path
    folder: ModelFolder
    max_tokens: int
    do_lower_case: bool = False
    pooling: PoolingSpec
    modules: tuple[ModuleSpec, ...] = ()
    prompts: Mapping[str, str] = field(default_factory=lambda: {"query": "", "document": ""})
    default_prompt_name: str | None = None
    similarity: str = "cosine"
    truncate_dimensions: int | None = None

    @property
    def dimensions(self) -> int:
        """Coordinates of a whole vector."""
        size = self.pooling.dimensions
        for module in self.modules:
            size = module.out_features if isinstance(module, DenseSpec) else size
        return size

    @property
    def normalize(self) -> bool:
        """Whether its vectors have length 1."""
        return bool(self.modules) and isinstance(self.modules[-1], NormalizeSpec)

    @property
    def capabilities(self) -> EmbeddingCapabilities:
        """What the model does. The prompts are those of `encode_query` and `encode_document`."""
        return EmbeddingCapabilities(
            dimensions=min(self.dimensions, self.truncate_dimensions or self.dimensions),
            max_tokens=self.max_tokens,
            pooling="+".join(self.pooling.modes),
            normalize=self.normalize,
            query_prompt=self.prompts["query"],
            document_prompt=self.prompts["document"],
            similarity=self.similarity,
        )

    def weight_bytes(self, *, as_float32: bool) -> int:
        """Bytes of memory the weights take, as stored or widened to float32."""
        own = 0
        for module in self.modules:
            if isinstance(module, DenseSpec):
                own += module.out_features * (module.in_features + 1) * 4
            elif isinstance(module, LayerNormSpec):
                own += module.dimensions * 8
        return self.folder.weight_bytes(as_float32=as_float32) + own


def read_sentence_model(path: Path) -> SentenceModel:
    """Read and check the folder of an embedding model; touches no weights but their headers.

    Raises:
        ModelLoadError: A file is missing, damaged or contradictory, or asks for something that is not supported.
    """
    root = path.expanduser().resolve()
    if not (root / "modules.json").is_file():
        return _without_modules(root)
    rows = read_rows(root / "modules.json", root)
    names = [_module_name(row) for row in rows]
    _check_order(names, root)
    folders = [_module_folder(row, root) for row in rows]
    transformer = read_transformer(folders[0], root)
    pooling = read_pooling(folders[1], root, transformer.hidden_size)
    model = SentenceModel(
        path=root,
        folder=transformer.folder,
        max_tokens=transformer.max_tokens,
        do_lower_case=transformer.do_lower_case,
        pooling=pooling,
    )
    for name, folder in zip(names[2:], folders[2:], strict=True):
        module = read_module(name, folder, root, model.dimensions)
        if module is not None:
            model = replace(model, modules=(*model.modules, module))
    return replace(model, **_own_settings(root))


def _without_modules(root: Path) -> SentenceModel:
    """A plain transformer: last-token pooling if it was made to write texts, else the mean.

    sentence-transformers puts texts into the chat template where there is one, which is not supported.
    """
    transformer = read_transformer(root, root, is_plain=True)
    config = transformer.folder.config
    names = config.get("architectures") or [""]
    writes = str(names[0]).endswith("ForCausalLM") and config.get("is_causal", True)
    if transformer.has_chat_template:
        raise ModelLoadError(
            f"`{root}` has no modules.json, and its tokenizer has a chat template: it is a chat model.",
            model_path=str(root),
            hint="Choose an embedding model, or add the modules.json that says how to pool.",
        )
    if transformer.hidden_size is None:
        raise ModelLoadError(
            f"`{root / 'config.json'}` does not say how many coordinates token vectors have (`hidden_size`).",
            model_path=str(root),
            hint="Add the modules.json and 1_Pooling/config.json of sentence-transformers.",
        )
    mode = "lasttoken" if writes else "mean"
    _logger.warning(
        "`%s` has no modules.json; pooling by `%s`, as sentence-transformers would. If the model was trained with "
        "another pooling, its vectors are of little use: look at its description.",
        root,
        mode,
    )
    return SentenceModel(
        path=root,
        folder=transformer.folder,
        max_tokens=transformer.max_tokens,
        pooling=PoolingSpec(modes=(mode,), hidden_size=transformer.hidden_size),
    )


def _module_name(row: JsonFields) -> str:
    """The class of a module. Its place among sentence-transformers' files has changed, its name has not."""
    kind = row.text("type") or ""
    package, *inner, name = kind.split(".") if kind.count(".") else ("", kind)
    if package != "sentence_transformers" or any(family in inner for family in _OTHER_FAMILIES):
        raise row.error(f"names a module that is not supported: `{kind}`.", hint=_OTHER_MODEL)
    if name not in ("Transformer", "Pooling", *_AFTER_POOLING):
        raise row.error(f"names a module that is not supported: `{name}` (`{kind}`).", hint=_OTHER_MODEL)
    return name


def _check_order(names: list[str], root: Path) -> None:
    if names[:2] != ["Transformer", "Pooling"] or any(name not in _AFTER_POOLING for name in names[2:]):
        raise ModelLoadError(
            f"`{root / 'modules.json'}` is a chain that is not supported: {', '.join(names) or 'no modules'}.",
            model_path=str(root),
            hint=f"It must begin with Transformer, Pooling. {_OTHER_MODEL}",
        )


def _module_folder(row: JsonFields, root: Path) -> Path:
    """The folder of a module, which must lie inside the model's."""
    inner = PurePosixPath((row.text("path") or "").replace("\\", "/"))
    if inner.is_absolute() or ".." in inner.parts or (inner.parts and ":" in inner.parts[0]):
        raise row.error(f"names a folder outside the model: `{row.values['path']}`.", hint="Do not use this model.")
    return root.joinpath(*inner.parts)


def _own_settings(root: Path) -> dict[str, Any]:
    """Fields of `SentenceModel` that config_sentence_transformers.json sets."""
    fields = JsonFields(root / "config_sentence_transformers.json", root)
    family = fields.text("model_type") or "SentenceTransformer"
    if family != "SentenceTransformer":
        raise fields.error(f"says that the model is a `{family}`, not an embedding model.", hint=_OTHER_MODEL)
    similarity = fields.text("similarity_fn_name")
    return {
        **_prompts(fields),
        "similarity": similarity if similarity in _SIMILARITIES else "cosine",
        "truncate_dimensions": fields.size("truncate_dim"),
    }


def _prompts(fields: JsonFields) -> dict[str, Any]:
    prompts = {"query": "", "document": ""}
    for name, prompt in fields.mapping("prompts").items():
        if prompt is not None and not isinstance(prompt, str):
            raise fields.error(f"has a prompt `{name}` = `{prompt}`, which is not a string.")
        prompts[name] = prompt or ""
    default = fields.text("default_prompt_name")
    if default is not None and default not in prompts:
        known = ", ".join(f"`{name}`" for name in prompts)
        raise fields.error(f"has `default_prompt_name` = `{default}`, which is no prompt; there are {known}.")
    unused = [name for name in _OTHER_DOCUMENT_PROMPTS if prompts.get(name)]
    if unused and "document" not in fields.mapping("prompts"):
        _logger.warning(
            "`%s` has a prompt `%s` but none called `document`: like sentence-transformers' `encode_document`, "
            "documents are embedded without a prompt. Pass `prompt` to use it.",
            fields.file,
            unused[0],
        )
    return {"prompts": prompts, "default_prompt_name": default}
