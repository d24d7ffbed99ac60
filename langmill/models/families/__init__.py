"""Named model families as tables that are read in both directions. [models]"""

from langmill.models.families.configs import (
    FAMILIES,
    choose_family,
    find_family,
    read_config,
    write_config,
)
from langmill.models.families.heads import head_for
from langmill.models.families.table import Family, Pairing, Row, pair_weights

__all__ = [
    "FAMILIES",
    "Family",
    "Pairing",
    "Row",
    "choose_family",
    "find_family",
    "head_for",
    "pair_weights",
    "read_config",
    "write_config",
]
