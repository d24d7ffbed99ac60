"""A corpus dirty in every way that we know, each line labelled with what must become of it."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

KEPT = "kept"
MAXIMUM_CHARACTERS = 20_000

_ENGLISH = """the old mill by river turns slowly while farmers bring grain from village and fields after harvest every
morning carts wait near bridge their drivers talk about weather prices news of town children play in yard until flour
is ground packed into white sacks then sent away to bakers who make bread for people living there some days water runs
low so wheel stands still workers mend stones clean floors tell stories remember how grandfather built this house with
strong oak beams many years ago""".split()
_CHINESE = (
    "清晨的磨坊在河边缓缓转动农民们把粮食运来换取新鲜的面粉孩子们在院子里玩耍直到太阳落山工人修理石磨打扫地面讲述从前的故事"
    "祖父用结实的木头建造了这座房子已经过去许多年镇上的人都认识这条路和那座桥每到秋天水流很急轮子转得更快大家忙着收拾东西准备过冬"
)


@dataclass(frozen=True)
class Line:
    """A line of the corpus, and what must become of it."""

    data: bytes
    fate: str
    """`kept`, or the reason for which it is rejected."""
    text: str = ""
    """What a kept document must read."""
    changes: tuple[str, ...] = ()
    """What is counted as changed in it."""


def _english(draw: random.Random, words: int = 120) -> str:
    chosen = draw.choices(_ENGLISH, k=words)
    return "The " + " ".join(chosen[: words // 2]) + ". " + " ".join(chosen[words // 2 :]) + "."


def _chinese(draw: random.Random, characters: int = 120) -> str:
    chosen = "".join(draw.choices(_CHINESE, k=characters))
    return chosen[: characters // 2] + "，" + chosen[characters // 2 :] + "。"


def _row(text: str, fate: str = KEPT, *changes: str, becomes: str = "") -> Line:
    data = json.dumps({"text": text}, ensure_ascii=False).encode()
    return Line(data, fate, (becomes or text) if fate == KEPT else "", changes)


def _duplicates(draw: random.Random, english: str, chinese: str, traditional: str) -> list[Line]:
    near = english.split(" ")
    near[len(near) // 2] = "windmill"
    return [
        _row(english, "exact duplicate"),
        _row(f"  {english.upper()}\n", "exact duplicate"),
        _row(chinese, "exact duplicate"),
        _row(traditional, "exact duplicate"),  # once it is simplified
        _row(english.encode().decode("latin-1").replace(".", ".\u200b"), "exact duplicate"),
        _row(f"<p>{english}</p>", "exact duplicate"),
        _row(" ".join(near), "near-duplicate"),
        _row(chinese.replace("。", "！") + draw.choice(_CHINESE), "near-duplicate"),
    ]


def _mended(draw: random.Random) -> list[Line]:
    cafe, plain, page, han = _english(draw) + " Café Müller", _english(draw), _english(draw), _chinese(draw)
    other, spaced = _chinese(draw), _english(draw)
    return [
        _row(cafe.encode().decode("latin-1"), KEPT, "mojibake", becomes=cafe),
        _row(han),
        _row(f"<div><b>{page}</b></div>", KEPT, "HTML tags", becomes=page),
        _row(plain.replace(" ", "\u00a0 ", 3) + "\u200b", KEPT, "white space", "invisible characters", becomes=plain),
        _row(f"{spaced}   ", KEPT, "white space", becomes=spaced),
        _row(f"{other}请联系 zhang@example.com 或者13812345678。", KEPT, "e-mail", "phone",
             becomes=f"{other}请联系 <EMAIL> 或者<PHONE>。"),
    ]  # fmt: skip


def _private(draw: random.Random) -> list[Line]:
    one, two = _english(draw), _chinese(draw)
    return [
        _row(f"{one} Pay to 4111 1111 1111 1111 from 93.184.216.34 now.", KEPT, "bank card", "network address",
             becomes=f"{one} Pay to <CARD> from <IP> now."),
        _row(f"{two}身份证11010519491231002X。", KEPT, "identity card", becomes=f"{two}身份证<ID>。"),
        _row(f"{two}身份证110105194912310021。" + _chinese(draw), KEPT),  # the check sign is wrong
    ]  # fmt: skip


def _hopeless(draw: random.Random) -> list[Line]:
    giant = _english(draw, words=6000)
    assert len(giant) > MAXIMUM_CHARACTERS
    return [
        _row("", "empty"),
        _row(" \n\t", "empty"),
        _row("*** --- ***", "language: und"),
        _row(giant, "too long"),
        _row("磨。", "basic: too short"),
        _row("磨坊" * 2000, "basic: repetition"),
        _row("Die alte Mühle am Fluss mahlt jeden Tag das Korn der Bauern aus dem Dorf und der Umgebung. "
             f"Heute kommen {draw.randrange(100)} Wagen mit Getreide über die schmale Brücke.", "language: de"),
        Line('{"text": "磨坊"}'.encode("gb18030"), "not valid UTF-8"),
        Line(b'{"text": "caf\xe9"}', "not valid UTF-8"),
        Line(b'{"text": "cut sho', "not valid JSON"),
        Line(b'{"txt": "a mill"}', "missing field"),
        Line(b'["a mill"]', "not an object"),
        Line(b'{"text": null}', "not a string"),
        Line(b'{"text": "\\ud83d"}', "broken character"),
    ]  # fmt: skip


def build(path: Path, *, rounds: int = 12, seed: int = 0) -> list[Line]:
    """Write the corpus as JSON Lines and return its lines; what duplicates stands behind what it duplicates."""
    import opencc

    traditional = opencc.OpenCC("s2t")
    draw = random.Random(seed)
    originals: list[Line] = []
    others: list[Line] = []
    for _ in range(rounds):
        english, chinese = _english(draw), _chinese(draw)
        originals += [_row(english), _row(chinese)]
        others += _duplicates(draw, english, chinese, traditional.convert(chinese))
        others += _mended(draw) + _private(draw) + _hopeless(draw)
    draw.shuffle(originals)
    draw.shuffle(others)
    lines = originals + others
    path.write_bytes(b"".join(line.data + b"\n" for line in lines))
    return lines


def fates(lines: list[Line]) -> Counter[str]:
    """Return how many lines must be rejected for each reason."""
    return Counter(line.fate for line in lines if line.fate != KEPT)
