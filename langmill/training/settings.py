"""Everything a training run can be told. [training]"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from langmill.core.config import Settings
from langmill.text.augment_settings import ChangeSettings
from langmill.text.labelled_rows import LabelledSettings


def parse_seconds(value: object) -> object:
    """Read a duration: a number of seconds, or a number with s, m or h.

    >>> [parse_seconds(text) for text in ("90", "3m", "1h30m", "45s")]
    [90.0, 180.0, 5400.0, 45.0]
    """
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(?:([\d.]+)h)?(?:([\d.]+)m)?(?:([\d.]+)s?)?", value.strip().lower())
    if not match or not value.strip():
        raise ValueError("expected a duration like 90s, 3m or 1h30m")
    try:
        return sum(float(part or 0) * unit for part, unit in zip(match.groups(), (3600, 60, 1)))
    except ValueError as error:
        raise ValueError("expected a duration like 90s, 3m or 1h30m") from error


def parse_count(value: object) -> object:
    """Read a whole number that may carry k, M or G, or a power of ten.

    >>> [parse_count(text) for text in ("2000", "1.5M", "1e6")]
    [2000, 1500000, 1000000]
    """
    if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?[eE]\d{1,2}", value.strip()):
        return int(float(value))
    if isinstance(value, str) and (match := re.fullmatch(r"([\d.]+)\s*([kKmMgGbB])", value.strip())):
        return round(float(match[1]) * {"k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9}[match[2].lower()])
    return int(value) if isinstance(value, str) and value.strip().isdigit() else value


Duration = Annotated[float, BeforeValidator(parse_seconds)]
Count = Annotated[int, BeforeValidator(parse_count)]


class ModelSettings(Settings):
    """The size of a model trained from scratch; 0 leaves the choice to the plan."""

    family: str = "auto"
    """Layout of a new model, lm: qwen3, gpt2 or ngram; mlm: eurobert or bert; denoise: t5 or bart; each: lstm or gru too; auto: the
    first. classify: nbsvm (auto), tfidf, fasttext, or an encoder or decoder; ner: crf (auto), lstm, or such; qa, embed: eurobert
    (auto) or such."""
    order: int = Field(0, ge=0, le=32)
    """ngram: tokens of the longest n-gram; 0: 5, for up to 512 different tokens 8."""
    layers: int = Field(0, ge=0)
    """Blocks; 0: planned."""
    width: int = Field(0, ge=0)
    """Channels of the residual stream; 0: planned."""
    heads: int = Field(0, ge=0)
    """Attention heads; 0: one for each 64 channels, at least 2."""
    kv_heads: int = Field(0, ge=0)
    """Key/value heads; 0: as many as heads."""
    hidden: int = Field(0, ge=0)
    """Width inside the feed-forward layers; 0: by the family's rule."""
    context: int = Field(0, ge=0)
    """Tokens that a row holds and the model can look back over; 0: planned."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of activations dropped in training."""
    embed_dropout: float = Field(0.0, ge=0, lt=1)
    """lstm and gru: share of the vocabulary dropped in a step."""
    weight_drop: float = Field(0.0, ge=0, lt=1)
    """lstm and gru: share of the weights from state to state dropped in a step."""
    attention: Literal["luong", "bahdanau"] = "luong"
    """lstm and gru in denoise: luong looks after a row is read; bahdanau reads what it found, token by token, slower."""


class MaskSettings(Settings):
    """What a masked language model has to guess."""

    share: float = Field(0.15, gt=0, lt=1)
    """Share of the tokens to guess."""
    unit: Literal["token", "word", "span"] = "word"
    """What is hidden together: a token, a whole word (Chinese by dictionary), or a span of words."""
    pairs: bool = False
    """Read each text as [CLS] a [SEP] b [SEP], its two parts told apart by segment embeddings (bert)."""


class LabelSettings(Settings):
    """How labels are learned."""

    several: Literal["auto", "yes", "no"] = "auto"
    """Whether several labels may hold for a text; auto: where some row does not have just one."""
    weights: Literal["none", "balanced"] = "none"
    """balanced: rare labels count more, so that all count alike."""
    smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of a target that all labels get alike."""
    focus: float = Field(0.0, ge=0, le=10)
    """Focal loss: what is right already counts less, the more so the higher; 0: off, often 2."""
    rdrop: Literal["auto", "no", "yes"] = "auto"
    """classify: read each row twice, as dropout makes two answers of it, which learn to agree (R-Drop); auto: of up to
    20,000 rows, --from a checkpoint with dropout, without --budget and --teacher."""
    scheme: Literal["auto", "BIO", "BIOES", "BMES"] = "auto"
    """ner: how tags spell spans; auto: as the data do, BMES for words alone, else BIO, with --model crf BIOES."""
    crf: Literal["auto", "no", "yes"] = "auto"
    """ner: learn too how well one tag follows another (a conditional random field); auto: with crf and lstm."""


class TeacherSettings(Settings):
    """Models whose probabilities are learned, beside labels or in their stead."""

    checkpoints: tuple[str, ...] = ()
    """classify: a classifier of the same labels whose probabilities are learned too; of several the mean."""
    weight: float = Field(0.9, ge=0, le=1)
    """Share of the teacher in the loss of a row with a label; the label has the rest."""
    temperature: float = Field(2.0, gt=0)
    """By what the scores of both are divided before they are compared: the higher, the more unlikely labels count."""
    unlabelled: tuple[str, ...] = ()
    """classify: texts without labels, which are learned from the teacher alone; labels found there are not read. Repeat the
    run with the new model as the teacher for another round."""
    confidence: float = Field(0.0, ge=0, lt=1)
    """Unlabelled texts whose likeliest label has a lower probability are left out; of several labels the least certain
    one counts."""


class VariationSettings(ChangeSettings):
    """How texts differ from epoch to epoch."""

    operations: str = ""
    """classify, ner: read each text as it is and changed by turns, anew each time, by these operations (with commas
    between): swap, delete, insert and synonym (with --augment.vectors), contextual (with --augment.model, slow)."""


class EmbedSettings(Settings):
    """How vectors of texts are learned."""

    pooling: Literal["auto", "mean", "first", "last"] = "auto"
    """The states that make a text's vector: the mean of all, that of the first token or of the last; auto: as in the
    checkpoint, else the last of a decoder and the mean of an encoder."""
    temperature: float = Field(0.05, gt=0)
    """By what cosines are divided: the smaller, the more the nearest wrong texts count."""
    symmetric: bool = True
    """Find the first text by the second too, not only the second by the first."""
    sizes: tuple[int, ...] = ()
    """Shorter beginnings of a vector that shall be of use by themselves, such as 64 (Matryoshka)."""


class AdapterSettings(Settings):
    """Small trained parts beside the weights of a checkpoint (--from), which are held fast."""

    rank: int = Field(0, ge=0)
    """Rank of what is added to each weight, such as 8; 0: no adapter, all weights are trained."""
    kind: Literal["lora", "dora"] = "lora"
    """lora: a product of two small matrices is added. dora: and the length of each row is trained apart."""
    alpha: float = Field(0.0, ge=0)
    """What is added counts alpha / rank; 0: twice the rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the adapter's inputs dropped in training."""
    targets: tuple[str, ...] = ()
    """Layers with an adapter, as langmill or the family names them: query, q_proj, attention.*, all-linear; none: all
    of attention and feed-forward."""


class SpanSettings(Settings):
    """What denoising takes out of a text."""

    share: float = Field(0.0, ge=0, lt=1)
    """denoise: share of the tokens to take out; 0: half, for infilling (bart) 0.3. T5 was made with 0.15."""
    length: float = Field(0.0, ge=0)
    """denoise: tokens of a span on average; 0: 16, for infilling 3. T5 was made with 3."""


class OptimizerSettings(Settings):
    """How weights move."""

    kind: Literal["auto", "muon", "adamw"] = "auto"
    """muon: matrices by Muon, the rest by AdamW. adamw: everything by AdamW. auto: muon, but adamw where a checkpoint is
    fine-tuned on rows with answers."""
    learning_rate: float = Field(0.0, ge=0)
    """Peak rate of AdamW; 0: 0.11 / √width beside Muon, a tenth of that alone, a tenth again from a checkpoint, for
    an adapter 1 / width; to fine-tune on rows with answers 0.03 / width, for an adapter 0.4 / width."""
    matrix_learning_rate: float = Field(0.0, ge=0)
    """Peak rate of Muon; 0: 0.02, a tenth of that from a checkpoint."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay of matrices."""
    beta1: float = Field(0.9, ge=0, lt=1)
    """AdamW's averaging of gradients."""
    beta2: float = Field(0.95, ge=0, lt=1)
    """AdamW's averaging of squared gradients."""
    momentum: float = Field(0.95, ge=0, lt=1)
    """Muon's averaging of gradients."""
    clip: float = Field(1.0, ge=0)
    """Largest norm of the whole gradient; 0: no clipping."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """Share of its rate that each block has of that of the block above; 1: all alike. For --from often 0.8 to 0.95."""
    schedule: Literal["wsd", "cosine"] = "wsd"
    """wsd: warm up, stay, decay linearly. cosine: warm up, then half a cosine."""
    warmup: float = Field(0.02, ge=0, le=1)
    """Share of the run in which the rate rises from 0."""
    decay: float = Field(0.8, ge=0, le=1)
    """Share of the run in which a wsd schedule's rate falls."""
    final: float = Field(0.0, ge=0, le=1)
    """Rate at the end, as a share of the peak."""
    ema: float = Field(0.0, ge=0, lt=1)
    """Decay of the running average of weights that is evaluated and saved in their stead; 0: none."""
    average: float = Field(0.0, ge=0, le=1)
    """Share of the run, at its end, over whose steps weights are averaged, all alike, to be evaluated and saved (Izmailov et
    al. 2018); 0: none. It wants a rate that has not died away, such as --optimizer.final 0.3."""


class DataSettings(LabelledSettings):
    """How files become documents, or rows with labels."""

    boundary: Literal["auto", "file", "line", "blank"] = "auto"
    """What ends a document in text files: the file, a line, or a blank line."""
    held_out: float = Field(0.05, ge=0, le=0.5)
    """Share of the documents kept from training to evaluate on, when no --held-out-data is given; a small set of labelled
    rows gives up to a fifth."""
    examples: Count = Field(0, ge=0)
    """Rows with answers to learn from, drawn by --seed from those not held out, each label by its share; 0: all."""


class TrainSettings(Settings):
    """A training run."""

    tokenizer: str = "bpe"
    """char, bpe, wordpiece or unigram to train one on the data; or the path of one."""
    vocabulary: Count = Field(0, ge=0)
    """Tokens of a tokenizer trained here; 0: by the corpus's size."""
    from_checkpoint: str = ""
    """A checkpoint folder (or hub name) to go on training from; empty: start from scratch."""
    embeddings: str = ""
    """A file of word vectors (.vec, also .gz) from which a new model's input embeddings start; empty: from chance."""
    budget: Duration = Field(0.0, ge=0)
    """Time for the whole command, such as 90s, 3m or 1h30m; sizes and steps are planned to fit it."""
    steps: Count = Field(0, ge=0)
    """Optimiser steps."""
    tokens: Count = Field(0, ge=0)
    """Training tokens, such as 5M; rounded up to whole steps."""
    epochs: float = Field(0.0, ge=0)
    """Passes over the training data."""
    batch: int = Field(0, ge=0)
    """Rows a step; 0: planned."""
    micro_batch: int = Field(0, ge=0)
    """Rows a forward pass, gradients accumulating over the batch; 0: as many as memory suits."""
    seed: int = Field(0, ge=0)
    """Fixes weights, order of data and dropout."""
    save_every: int = Field(0, ge=0)
    """Steps between saved states; 0: every minute, and at the end."""
    evaluate_every: int = Field(0, ge=0)
    """Steps between evaluations; 0: ten in a run, fewer in a short one with a budget."""
    early_stopping: int = Field(0, ge=0)
    """Evaluations without improvement after which to stop and return to the best; 0: never."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """How matrices are multiplied; auto: in bfloat16 where the device has hardware for it. Weights are float32."""
    compile: Literal["auto", "yes", "no"] = "auto"
    """torch.compile; auto: when it pays back within the run."""
    tensorboard: bool = True
    """Write TensorBoard events where tensorboard is installed."""
    model: ModelSettings = ModelSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    data: DataSettings = DataSettings()
    mask: MaskSettings = MaskSettings()
    spans: SpanSettings = SpanSettings()
    labels: LabelSettings = LabelSettings()
    teacher: TeacherSettings = TeacherSettings()
    augment: VariationSettings = VariationSettings()
    embed: EmbedSettings = EmbedSettings()
    adapter: AdapterSettings = AdapterSettings()

    @model_validator(mode="after")
    def _one_average(self) -> TrainSettings:
        if self.optimizer.ema and self.optimizer.average:
            raise ValueError("--optimizer.ema and --optimizer.average exclude each other; give one of them")
        return self


def named_model(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings in which a model that is named stands under its family.

    >>> named_model({"model": "tfidf", "seed": 1})
    {'model.family': 'tfidf', 'seed': 1}
    """
    named = isinstance(settings.get("model"), str)
    return {"model.family" if named and name == "model" else name: value for name, value in settings.items()}
