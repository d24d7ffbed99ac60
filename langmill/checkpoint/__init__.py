"""A checkpoint is a Hugging Face directory, read and written here. [checkpoint]"""

from langmill.checkpoint.ensembles import Ensemble, open_checkpoint
from langmill.checkpoint.folder import (
    Checkpoint,
    gives_answers,
    is_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from langmill.checkpoint.heads import put_head
from langmill.checkpoint.locate import locate
from langmill.checkpoint.weights import load_weights, save_weights

__all__ = [
    "Checkpoint",
    "Ensemble",
    "gives_answers",
    "is_checkpoint",
    "load_checkpoint",
    "load_weights",
    "locate",
    "open_checkpoint",
    "put_head",
    "save_checkpoint",
    "save_weights",
]
