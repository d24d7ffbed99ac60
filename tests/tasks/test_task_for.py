"""What each kind of checkpoint can be asked for."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from langmill.core.errors import ConfigError
from langmill.models.bag import BagConfig
from langmill.models.config import default_decoder, default_encoder, default_encoder_decoder
from langmill.models.crf import CrfConfig
from langmill.models.heads import HeadConfig, HeadedConfig
from langmill.models.ngram_decoder import NgramConfig
from langmill.tasks import task_for

SIZES = {"layers": 1, "width": 16, "heads": 2}
ENCODER, DECODER = default_encoder(9, **SIZES), default_decoder(9, **SIZES)
STATES = replace(ENCODER, has_output=False, tie_output=False)
TEXT, SPAN = HeadConfig(kind="text", labels=("a", "b")), HeadConfig(kind="span")
TAGS = HeadConfig(kind="tokens", labels=("O", "B-X"), crf=True)
BAG = BagConfig(
    recipe="tfidf", vocabulary=9, head=TEXT, words=2, pieces=0, weighting="tfidf", features=(3, 0)
)
CAN = {
    "lm embed": (DECODER,),
    "lm": (NgramConfig(vocabulary=9, start=0, ngrams=(9, 3)),),
    "mlm embed": (ENCODER,),
    "denoise": (default_encoder_decoder(9, **SIZES),),
    "embed": (STATES,),
    "classify": (BAG, SimpleNamespace(head=TEXT, encoder=None, decoder=None, has_output=False)),
    "ner": (CrfConfig(vocabulary=9, head=TAGS, templates=("word@0",), features=3),),
    "classify embed": (HeadedConfig(body=STATES, head=TEXT),),
    "ner embed": (HeadedConfig(body=STATES, head=TAGS),),
    "qa embed": (HeadedConfig(body=STATES, head=SPAN),),
}
TASKS = ("lm", "mlm", "denoise", "classify", "ner", "qa", "embed")


@pytest.mark.parametrize("can", CAN)
def test_every_task_is_done_or_refused(can):
    made_for = can.split()[0]
    for config in CAN[can]:
        model = SimpleNamespace(config=config)
        assert task_for(model).name == made_for
        for task in TASKS:
            if task in can.split():
                assert task_for(model, task).name == task
                continue
            with pytest.raises(
                ConfigError, match=f"runs/a is made for {made_for}, not for {task}; .*train {task}"
            ):
                task_for(model, task, source="runs/a")
