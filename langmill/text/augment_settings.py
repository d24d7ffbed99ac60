"""How data are augmented: settings, light to import. [text]"""

from __future__ import annotations

from pydantic import Field

from langmill.core.config import Settings
from langmill.text.readers import OnBadRow

OPERATIONS = {
    "swap": "",
    "delete": "",
    "insert": "--vectors FILE",
    "synonym": "--vectors FILE",
    "contextual": "--model CKPT, a masked language model",
    "translate": "--translate-to CKPT and --translate-back CKPT",
}
"""Operation → what it needs."""


class ChangeSettings(Settings):
    """How operations change a text."""

    share: float = Field(0.1, gt=0, le=1)
    """Of a text's words, how many an operation changes; at least one."""
    vectors: str = ""
    """Word vectors, of which the nearest words are synonyms."""
    similarity: float = Field(0.7, ge=-1, le=1)
    """Cosine from which on words are near enough."""
    model: str = ""
    """A masked language model, which says what may stand in a word's place."""
    dictionary: str = ""
    """Words for the Chinese segmenter, one a line."""


class AugmentSettings(ChangeSettings):
    """What is made of each row."""

    per_row: int = Field(1, ge=1)
    """New rows for each row."""
    operations: str = ""
    """Operations, with commas between: swap, delete, insert and synonym (with --vectors), contextual (with --model),
    translate (with --translate-to and --translate-back). They take turns.  [default: all that have what they need]"""
    translate_to: str = ""
    """A translation model (an encoder-decoder) into another language."""
    translate_back: str = ""
    """A translation model back from there."""
    to_prefix: str = ""
    """What the first translation model wants before a text, as T5 does."""
    back_prefix: str = ""
    """What the second one wants."""
    seed: int = 0
    """Another seed, other rows; a row's new ones do not depend on its place in the file."""
    only_new: bool = False
    """Write the new rows without the originals."""
    text_field: str = ""
    """The field or column of the text.  [default: text; qa: context; translate: source]"""
    label_field: str = "label"
    """The field or column of the label (classify)."""
    on_bad_row: OnBadRow = "fail"
    """What to do with a row that cannot be read; skipped ones are counted."""
