"""Filters: each reason by a text at its limit, in English and in Chinese."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings

from langmill.text.measured import Measured, duplicate_shares
from langmill.text.quality import (
    REASONS,
    BasicSettings,
    C4Settings,
    FinewebSettings,
    GopherSettings,
    QualityFilter,
    basic,
    c4,
    fineweb,
    gopher,
    parse_filters,
)
from tests.text.nasty import NASTY

ENGLISH = (
    "The old bridge has stood over that river since my grandfather was a boy, and nobody knows who built it. "
    "Some say that soldiers came with carts full of stone; others believe the monks of the valley raised it. "
    "Whatever the truth may be, we have crossed it every morning to reach the market on the other bank."
)
CHINESE = (
    "这座老桥从我祖父小时候起就立在河上，没有人知道是谁修的。有人说当年来了一队士兵，用车运来石头；也有人相信是山谷里的"
    "和尚们一块一块垒起来的。不管真相如何，我们每天早晨都要从桥上走过，到对岸的集市去买菜、卖鱼，听老人讲从前的故事。"
)
TRADITIONAL = (
    "余少時嘗過此橋，其下水清而淺，可以數魚。今復至焉，則橋已圮，水亦濁矣。问之鄰人，曰：「歲久無人修也。」"
    * 2
)

KEYWORDS = (
    "cheap phones, phone repair, screen repair, battery replacement, laptop service, data recovery, computer shop, printer "
    "ink, toner cartridge, office supplies, school bags, winter coats, running shoes, garden chairs, kitchen knives, coffee "
    "machines, water filters, travel insurance, car hire, hotel booking, flight deals, holiday homes, pet food, dog toys, "
    "baby clothes, wedding dresses, silver rings, gold chains, wall clocks, floor lamps"
).split()


def unlike(count: int, *, seed: int = 1, length: int = 5) -> list[str]:
    """Return different words of letters, none a stop word."""
    rng = random.Random(seed)
    return ["".join(rng.choice("bcdfghjklmnpqrstvwxz") for _ in range(length)) for _ in range(count)]


def han(count: int, *, seed: int = 1) -> str:
    rng = random.Random(seed)
    return "".join(chr(rng.randrange(0x5000, 0x9000)) for _ in range(count))


@pytest.mark.parametrize("text", [ENGLISH, CHINESE, f"{ENGLISH}\n{CHINESE}"])
def test_prose_passes_all(text):
    every = {
        "basic": BasicSettings(),
        "c4": C4Settings(min_sentences=3),
        "gopher": GopherSettings(),
        "fineweb": FinewebSettings(),
    }
    outcome = QualityFilter(every)(text)
    assert (outcome.reason, outcome.text, dict(outcome.counts)) == ("", text, {})


def test_classical_chinese_passes_gopher():
    assert gopher(Measured(TRADITIONAL[: len(TRADITIONAL) // 2] + CHINESE), GopherSettings()) == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *[
            ("", "basic: no letters"),
            (" \n!? …。", "basic: no letters"),
            ("a", "basic: too short"),
            ("好", "basic: too short"),
        ],
        *[("ok", ""), ("很好", ""), ("Good film!", ""), ("2024", "")],
        *[
            ("=====abc==========", "basic: symbols"),
            ("█████████好的", "basic: symbols"),
            ("(-:: hi ::-)", "basic: symbols"),
        ],
        *[("哈" * 300, "basic: repetition"), ("buy now! " * 60, "basic: repetition"), ("a" * 199, "")],
        *[(ENGLISH, ""), (CHINESE, ""), ("\n".join(map(str, range(1000))), "")],
    ],
)
def test_basic(text, reason):
    assert basic(Measured(text), BasicSettings()) == reason


def test_basic_limits_are_settings():
    assert basic(Measured("abcd"), BasicSettings(min_letters=5)) == "basic: too short"
    assert basic(Measured("哈" * 300), BasicSettings(min_compressed=0)) == ""
    assert basic(Measured("==a"), BasicSettings(min_letters=1, min_letter_share=0.4)) == "basic: symbols"


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("No full stop at the end", "c4: line without terminal punctuation"),
        ("To be continued soon...", "c4: line without terminal punctuation"),
        ("Two words.", "c4: short line"),
        ("Please enable JavaScript in your browser.", "c4: line on javascript"),
        ("By going on you accept our privacy policy.", "c4: line on terms or cookies"),
        ("See " + "x" * 1001 + " for more of it.", "c4: line with a gigantic word"),
        ("", ""),
    ],
)
def test_c4_takes_lines_out(line, cause):
    good = "It rained all day. Nobody went out. We read a book. Then it was night. We slept well."
    reason, text, dropped = c4(Measured(f"{good}\n{line}\nAnd so it ended[3]."), C4Settings())
    assert (reason, text) == ("", f"{good}\nAnd so it ended.")
    assert dict(dropped) == ({cause: 1} if cause else {})


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("没有句号的一行", "c4: line without terminal punctuation"),
        ("太短。", "c4: short line"),
        ("请阅读我们的隐私政策以了解详情。", "c4: line on terms or cookies"),
    ],
)
def test_c4_takes_chinese_lines_out(line, cause):
    good = "今天下了一天的雨。没有人出门！我们在家读书……后来天黑了。“睡吧。”"
    reason, text, dropped = c4(Measured(f"{good}\n{line}\n故事到这里就结束了[来源请求]。"), C4Settings())
    assert (reason, text, dict(dropped)) == ("", f"{good}\n故事到这里就结束了。", {cause: 1})


def test_c4_rejects_pages():
    def reason(text: str) -> str:
        return c4(Measured(text), C4Settings())[0]

    assert reason("Four now. It is three. It is two. It is one.") == "c4: too few sentences"
    assert reason("Five now. It is four. It is three! Is it two? It is one.") == ""
    assert (
        reason("Dr. Smith met Mr. A. B. Jones and Mrs. Hall. Then he left. That was it.")
        == "c4: too few sentences"
    )
    assert reason("一句话就是一句。两句话就是两句。三句话就是三句。") == "c4: too few sentences"
    assert reason(f"{ENGLISH}\nLorem ipsum dolor sit amet.") == "c4: lorem ipsum"
    assert reason(f"{ENGLISH}\nHere is {{ a bracket.") == "c4: curly bracket"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (" ".join(["the", "of", *unlike(47)]), "gopher: too few words"),
        (" ".join(["the", "of", *unlike(47), "—", "..."]), "gopher: too few words"),  # signs are no words
        (" ".join(["the", "of", *unlike(48)]), ""),
        (" ".join(["the", "of", *unlike(60, length=2)]), "gopher: mean word length"),
        (" ".join(["the", "of", *unlike(60, length=11)]), "gopher: mean word length"),
        (" ".join(["the", "of", *unlike(60), *["#"] * 7]), "gopher: hash signs"),
        (" ".join(["the", "of", *unlike(60)]) + "... " * 7, "gopher: ellipses"),
        ("\n".join(f"- {word} the of" for word in unlike(60)), "gopher: bullet lines"),
        (
            "\n".join(f"{' '.join(unlike(15, seed=i))} the of{'...' * (i < 4)}" for i in range(10)),
            "gopher: ellipsis lines",
        ),
        (" ".join(["the", "of", *unlike(60), *map(str, range(10000, 10016))]), "gopher: alphabetic words"),
        (" ".join(["the", *KEYWORDS]), "gopher: stop words"),
        (" ".join(["the", "have", *KEYWORDS]), ""),
        ("\n\n".join([ENGLISH, ENGLISH, " ".join(unlike(200))]), "gopher: repeated paragraphs"),
        ("\n".join([ENGLISH, *["the of"] * 2, *["and"] * 2, ENGLISH[:99]]), "gopher: repeated lines"),
    ],
)
def test_gopher(text, reason):
    assert gopher(Measured(text), GopherSettings()) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("的了" + han(72), "gopher: too few words"),  # 74 characters are 49.3 words
        ("的了" + han(73), ""),
        ("的了" + han(100) + "#" * 8, "gopher: hash signs"),
        ("的了" + "……".join(han(8, seed=i) for i in range(12)), "gopher: ellipses"),
        ("\n".join(f"● 的了{han(9, seed=i)}" for i in range(20)), "gopher: bullet lines"),
        ("的了" + han(100) + "1" * 70, "gopher: alphabetic words"),
        ("的" + han(100), "gopher: stop words"),
        ("，".join(["的了在是", *["买一送一"] * 20, han(100)]), "gopher: top 2-gram"),
        ("。".join([CHINESE, CHINESE[:90], CHINESE[30:99]]), "gopher: repeated 5-grams"),
    ],
)
def test_gopher_in_chinese(text, reason):
    assert gopher(Measured(text), GopherSettings()) == reason


def test_other_languages_are_not_asked_for_stop_words():
    german = (
        "Die alte Brücke steht seit der Kindheit meines Großvaters über dem Fluss, und niemand weiß, wer sie gebaut hat. "
        "Manche sagen, Soldaten seien mit Karren voller Steine gekommen; andere glauben, die Mönche aus dem Tal hätten sie "
        "errichtet. Wie dem auch sei, wir gehen jeden Morgen hinüber, um auf den Markt am anderen Ufer zu kommen."
    )
    japanese = (
        "この古い橋は祖父が子供の頃から川の上に立っていて、誰が建てたのか知る人はいない。" * 1
        + "兵士が石を運んできたと言う人もいれば、谷の僧侶たちが積み上げたと信じる人もいる。毎朝その橋を渡って市場へ行く。"
    )
    assert gopher(Measured(german), GopherSettings()) == ""
    assert gopher(Measured(japanese), GopherSettings()) == ""


def test_top_gram_by_hand():
    measured = Measured("a b a b c a b")  # 13 characters; "a b" three times: 9
    assert measured.top_gram_share(2) == 9 / 13
    assert measured.top_gram_share(7) == 0.0  # once only
    assert Measured("甲乙，甲乙。").top_gram_share(2) == 4 / 6


def test_repeated_grams_by_hand():
    measured = Measured(
        "a bb ccc a bb ccc a bb ccc"
    )  # the second and third time, without the spaces: 12 characters
    assert measured.repeated_gram_share(3) == 12 / 26
    assert measured.most_repeated_share(3) == 18 / 26
    assert Measured("a b c d").repeated_gram_share(2) == 0.0


def test_most_repeated_share_is_a_bound():
    rng = random.Random(5)
    for _ in range(200):
        measured = Measured(" ".join(rng.choice("abcdefg") for _ in range(rng.randrange(1, 80))))
        for n in (2, 3, 5):
            assert measured.repeated_gram_share(n) <= measured.most_repeated_share(2)


def test_duplicate_shares_by_hand():
    assert duplicate_shares(["aa", "b", "aa", "aa"], 10) == (0.5, 0.4)
    assert duplicate_shares([*"abcdefg", *"abc"], 10) == (0.3, 0.3)  # exactly at Gopher's limit


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\n \n", "fineweb: empty"),
        ("\n".join(f"{word} {ENGLISH[:60]}" for word in unlike(10)), "fineweb: lines without punctuation"),
        ("\n".join([ENGLISH, *(f"Item {word}." for word in unlike(5))]), "fineweb: short lines"),
        ("\n".join([ENGLISH, ENGLISH[:104], ENGLISH[:104]]), "fineweb: characters of repeated lines"),
        ("\n".join(f"{word * 8}." for word in unlike(20)), "fineweb: line breaks"),
        (ENGLISH, ""),
        ("\n".join([CHINESE, *(f"“{han(12, seed=i)}……”" for i in range(9))]), ""),
        ("\n".join(f"{han(20, seed=i)}" for i in range(9)), "fineweb: lines without punctuation"),
        ("\n".join([CHINESE, *(f"{han(8, seed=i)}。" for i in range(5))]), "fineweb: short lines"),
    ],
)
def test_fineweb(text, reason):
    assert fineweb(Measured(text), FinewebSettings()) == reason


def test_filters_come_in_the_order_given_and_stop_at_the_first_reason():
    limits = {"gopher": GopherSettings(), "basic": BasicSettings()}
    assert QualityFilter(limits)("").reason == "gopher: too few words"
    assert QualityFilter(dict(reversed(limits.items())))("").reason == "basic: no letters"


def test_lines_taken_out_are_counted_and_what_follows_sees_the_rest():
    step = QualityFilter({"c4": C4Settings(min_sentences=1), "gopher": GopherSettings(min_words=4)})
    outcome = step("This one is left.\nMenu\nHome")
    assert outcome.reason == "gopher: mean word length" or outcome.text == "This one is left."
    assert QualityFilter({"c4": C4Settings(min_sentences=1)})("This one is left.\nMenu\nHome").counts == {
        "c4: line without terminal punctuation": 2
    }


def test_filter_names():
    assert parse_filters("c4,basic,c4") == ["c4", "basic"]
    assert parse_filters("none") == []
    with pytest.raises(ValueError, match="unknown filter 'gohper'; did you mean gopher"):
        parse_filters("basic,gohper")
    with pytest.raises(ValueError, match="unknown filter ''"):
        parse_filters("")


@pytest.mark.parametrize("name", ["basic", "c4", "gopher", "fineweb"])
@settings(max_examples=250, deadline=None, derandomize=True)
@given(text=NASTY)
def test_any_text(name, text):
    limits = {
        "basic": BasicSettings(),
        "c4": C4Settings(min_sentences=1),
        "gopher": GopherSettings(min_words=1, min_mean_word=0, min_alphabetic=0, min_stop_words=0),
        "fineweb": FinewebSettings(min_punctuated_lines=0, max_short_lines=1),
    }
    step = QualityFilter({name: limits[name]})
    outcome = step(text)
    assert outcome == step(text)
    assert outcome.reason in {"", *REASONS}
    assert outcome.text == text or name == "c4"
    if name == "c4" and not outcome.reason:
        assert step(outcome.text).text == outcome.text
