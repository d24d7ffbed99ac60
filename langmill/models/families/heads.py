"""The tables of heads, and their keys in config.json. [models]

Names follow the classes of Transformers 5: `…ForSequenceClassification` (kind "text"),
`…ForTokenClassification` ("tokens") and `…ForQuestionAnswering` ("span").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langmill.core.errors import CheckpointError
from langmill.models.families.table import Family, HeadLayout, Row, head_layout
from langmill.models.heads import HeadConfig, Kind, Pooling

TEXT, TOKENS, SPAN = "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"
PROBLEMS = {"single_label_classification": False, "multi_label_classification": True}
"""Their names of what labels are, and whether a text may have several."""
KEYS = frozenset(
    "classifier_dropout classifier_pooling id2label label2id num_labels _num_labels problem_type tag_scheme crf".split()
)
"""Keys of config.json that say what a head is; any file may have them."""


def layer(theirs: str, ours: str = "output") -> Row:
    """Return the row of a linear layer of a head."""
    return Row(f"{theirs}.*", (f"{ours}.*",))


def tokens_of(name: str, *, layer_name: str = "classifier") -> HeadLayout:
    """Return the head for tokens, which all classes have alike; theirs know no transitions and leave them out."""
    rows = (layer(layer_name), Row("crf.transitions", ("transitions",)))
    return HeadLayout(kind="tokens", architecture=name + TOKENS, rows=rows)


def span_of(name: str, *, prefix: str = "") -> HeadLayout:
    """Return the head for spans, which all classes have alike."""
    return HeadLayout(kind="span", architecture=name + SPAN, rows=(layer("qa_outputs"),), prefix=prefix)


def bert_heads(name: str, *text: Row) -> tuple[HeadLayout, ...]:
    """Return the heads of BERT's kind: a text is told by its first token, through a layer and tanh."""
    return (
        HeadLayout(kind="text", architecture=name + TEXT, rows=text, constants={"transform": "tanh"}),
        tokens_of(name),
        span_of(name),
    )


def decoder_heads(name: str, *, tokens: str = "score", span_prefix: str = "") -> tuple[HeadLayout, ...]:
    """Return the heads of decoders: a text is told by its last token, which alone has read all of it.

    tokens: their name of the layer that scores tokens. span_prefix: see `HeadLayout.prefix`.
    """
    return (
        HeadLayout(
            kind="text",
            architecture=name + TEXT,
            rows=(layer("score"),),
            poolings={"": "last"},
            constants={"bias": False},
        ),
        tokens_of(name, layer_name=tokens),
        span_of(name, prefix=span_prefix),
    )


EUROBERT_HEADS = (
    HeadLayout(
        kind="text",
        architecture="EuroBert" + TEXT,
        rows=(layer("dense", "transform"), layer("classifier")),
        poolings={"late": "late", "mean": "mean", "bos": "first"},
        constants={"transform": "gelu"},
    ),
    tokens_of("EuroBert"),
    span_of("EuroBert"),  # a class that Transformers lacks
)

RECURRENT_HEADS = (
    HeadLayout(
        kind="text",
        architecture="LangmillRecurrent" + TEXT,
        rows=(layer("classifier"),),
        poolings={"mean": "mean", "first": "first", "last": "last"},
    ),
    tokens_of("LangmillRecurrent"),
    span_of("LangmillRecurrent"),
)


def head_for(
    family: Family,
    kind: Kind,
    labels: tuple[str, ...] = (),
    *,
    multi_label: bool = False,
    pooling: Pooling | None = None,
    dropout: float = 0.0,
    scheme: str = "",
    crf: bool = False,
) -> HeadConfig:
    """Return a head of a kind as a family has it.

    pooling: how a text is told, where the family leaves a choice; None: its first.

    Raises CheckpointError when the family has no such head or pooling.
    """
    layout = head_layout(family, kind)
    known = list(layout.poolings.values())
    pooling = pooling or known[0]
    if pooling not in known:
        raise CheckpointError(
            f"pooling {pooling!r} is not what a {family.name} model's head has; known: {', '.join(known)}"
        )
    return HeadConfig(
        kind=kind,
        labels=labels,
        multi_label=multi_label,
        pooling=pooling,
        dropout=dropout,
        scheme=scheme,
        crf=crf,
        **layout.constants,
    )


def find_layout(family: Family, theirs: Mapping[str, Any]) -> HeadLayout | None:
    """Return the head that a config.json names, if it names one.

    Raises CheckpointError for one that the family has not.
    """
    names = theirs.get("architectures")
    name = names[0] if isinstance(names, list) and len(names) == 1 else None
    for layout in family.heads:
        if name == layout.architecture:
            return layout
    if isinstance(name, str) and name.endswith((TEXT, TOKENS, SPAN)):
        known = ", ".join(each.architecture for each in family.heads) or "none"
        raise CheckpointError(f"{name} is not supported; known of the {family.name} family: {known}")
    return None


def read_head(
    family: Family, theirs: Mapping[str, Any], layout: HeadLayout, *, dropout: float, notes: list[str]
) -> HeadConfig:
    """Return the head that a config.json describes; what the user should know is added to `notes`.

    dropout: what the absence of classifier_dropout means for labels; for spans their classes have none.
    """
    rate = theirs.get("classifier_dropout")
    if rate is None:
        rate = 0.0 if layout.kind == "span" else dropout
    elif isinstance(rate, bool) or not isinstance(rate, int | float):
        raise CheckpointError(f"classifier_dropout {rate!r} is not allowed; it must be a number or null")
    if layout.kind == "span":
        return head_for(family, "span", dropout=float(rate))
    problem = theirs.get("problem_type") or "single_label_classification"
    name = theirs.get("classifier_pooling", next(iter(layout.poolings)))
    for key, value, known in (
        ("problem_type", problem, PROBLEMS),
        *([("classifier_pooling", name, layout.poolings)] if len(layout.poolings) > 1 else []),
    ):
        if not isinstance(value, str) or value not in known:
            raise CheckpointError(f"{key} {value!r} is not supported; known: {', '.join(known)}")
    return head_for(
        family,
        layout.kind,
        read_labels(theirs, notes),
        multi_label=layout.kind == "text" and PROBLEMS[problem],
        pooling=layout.poolings[name] if len(layout.poolings) > 1 else None,
        dropout=float(rate),
        scheme=str(theirs.get("tag_scheme", "")),
        crf=bool(theirs.get("crf", False)),
    )


def read_labels(theirs: Mapping[str, Any], notes: list[str]) -> tuple[str, ...]:
    """Return the labels in the order of their ids: from id2label, else label2id, else from their number.

    >>> read_labels({"id2label": {"1": "ham", "0": "spam"}}, [])
    ('spam', 'ham')
    >>> read_labels({}, [])
    ('LABEL_0', 'LABEL_1')
    """
    by_id, by_label = theirs.get("id2label"), theirs.get("label2id")
    for key, table in (("id2label", by_id), ("label2id", by_label)):
        if table is not None and not isinstance(table, Mapping):
            raise CheckpointError(f"{key} {table!r} is not allowed; it must be an object")
    if by_id is None and by_label is None:
        count = theirs.get("num_labels", theirs.get("_num_labels", 2))
        if type(count) is not int or count < 1:
            raise CheckpointError(f"num_labels {count!r} is not allowed; it must be an integer of at least 1")
        return tuple(f"LABEL_{number}" for number in range(count))
    source = "label2id" if by_id is None else "id2label"
    pairs = (
        [(number, label) for label, number in (by_label or {}).items()] if by_id is None else by_id.items()
    )
    if strange := [pair for pair in pairs if not (str(pair[0]).isdecimal() and isinstance(pair[1], str))]:
        raise CheckpointError(f"{source} has {strange[0]!r}, which is not an id and its label")
    numbered = sorted((int(number), label) for number, label in pairs)
    if [number for number, _ in numbered] != list(range(len(numbered))):
        raise CheckpointError(
            f"{source} has the ids {', '.join(str(number) for number, _ in numbered)}; {len(numbered)} labels"
            f" need the ids 0 to {len(numbered) - 1}, each once"
        )
    labels = tuple(label for _, label in numbered)
    if by_id is not None and by_label is not None and by_label != number_of(labels):
        notes.append("label2id does not say what id2label says, which is taken")
    return labels


def number_of(labels: tuple[str, ...]) -> dict[str, int]:
    """Return the id of each label."""
    return {label: number for number, label in enumerate(labels)}


def head_keys(layout: HeadLayout, head: HeadConfig) -> dict[str, Any]:
    """Return a head's keys in config.json."""
    theirs: dict[str, Any] = {"architectures": [layout.architecture], "classifier_dropout": head.dropout}
    if head.kind == "span":
        return theirs
    theirs["id2label"] = {str(number): label for number, label in enumerate(head.labels)}
    theirs["label2id"] = number_of(head.labels)
    theirs |= {"tag_scheme": head.scheme} if head.scheme else {}
    theirs |= {"crf": True} if head.crf else {}
    if head.kind == "text":
        theirs["problem_type"] = next(name for name, many in PROBLEMS.items() if many == head.multi_label)
    if len(layout.poolings) > 1:
        theirs["classifier_pooling"] = next(a for a, b in layout.poolings.items() if b == head.pooling)
    return theirs
