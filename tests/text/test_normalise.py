"""One way to write a text: what is changed, what must not be, and that twice is once."""

from __future__ import annotations

import importlib

import pytest
from hypothesis import given, settings

from langmill.core.errors import MissingDependencyError
from langmill.text.normalise import (
    Normaliser,
    chinese_script,
    convert_chinese,
    drop_invisible,
    repair_mojibake,
    tidy_spaces,
)
from tests.text.nasty import NASTY


@pytest.mark.parametrize(
    ("broken", "whole"),
    [
        ("cafÃ©", "café"),
        ("â€œquotedâ€\x9d and donâ€™t", "“quoted” and don’t"),
        ("ä½\xa0å¥½ï¼Œä¸–ç•Œ", "你好，世界"),  # UTF-8 read as Latin-1 or Windows-1252
        ("浣犲ソ涓栫晫", "你好世界"),  # UTF-8 read as GBK
        (
            "鎴戜滑鍦ㄥ寳浜。".encode("gb18030").decode("gb18030"),
            "鎴戜滑鍦ㄥ寳浜。",
        ),  # cut: not all of it comes out
        ("ÄãºÃÊÀ½ç£¬ÄãºÃ", "你好世界，你好"),  # GB 2312 read as Latin-1
        ("ÐŸÑ€Ð¸Ð²ÐµÑ‚", "Привет"),
        ("fine\nschÃ¶n\n好", "fine\nschön\n好"),  # a line alone
    ],
)
def test_mojibake_is_mended(broken, whole):
    text, lines = repair_mojibake(broken)
    assert text == whole
    assert lines == (broken != whole)


@pytest.mark.parametrize(
    "good",
    [
        *("Größe, naïve façade, Ünlü, ÅÄÖ, æøå, ÉTÉ, Þór", "Привет, мир", "Γειά σου", "שלום", "مرحبا"),
        *(
            "你好，世界。“引号”——破折号……《书》",
            "涓涓细流，锛是一个字，鎴、浣",
            "銆锛",
            "联通",
            "日本語のテキスト",
            "한국어",
        ),
        *("👩\u200d🔬 🇨🇳 ❤️", "“‘nested’” – — … • © ® ™ € £", "2 × 3 ÷ 4 ± 5", "¿Qué? ¡Sí!", "café"),
    ],
)
def test_good_text_stays(good):
    outcome = Normaliser()(good)
    assert (outcome.text, dict(outcome.counts), outcome.reason) == (good, {}, "")


def test_invisible_characters_go_and_joiners_stay_where_they_mean_something():
    assert drop_invisible("a\u200bb\ufeffc\u202ed\x00e\x07f\u00adg\x7f\x9f") == ("abcdefg", 8)
    assert drop_invisible("x\u200dy\u200cz") == ("xyz", 2)
    for kept in (
        "👩\u200d👩\u200d👧",
        "🏳\ufe0f\u200d🌈",
        "می\u200cخواهم",
        "क्\u200dष",
        "🏴\U000e0067\U000e0062\U000e007f",
    ):
        assert drop_invisible(kept) == (kept, 0)
    assert drop_invisible("ignore\U000e0041\U000e0042 this") == ("ignore this", 1)  # text hidden in tags
    assert drop_invisible("👩\u200d and") == ("👩 and", 1)
    assert drop_invisible("a\ud800b") == ("ab", 1)


@pytest.mark.parametrize(
    ("text", "tidy"),
    [
        ("a  b   c", "a b c"),
        ("a \t b\tc", "a\tb\tc"),
        ("a   \nb\t\n", "a\nb"),
        ("a\n\n\n\n\nb", "a\n\n\nb"),
        ("\u3000\u3000你好\u3000世界\u00a0!", "你好 世界 !"),
        ("if x:\n    y = 1\n\tz", "if x:\n    y = 1\n\tz"),  # indents stay
        ("  \u3000 \tx", "x"),
        ("\n \n  first", "  first"),
        (" \u3000\n\n", ""),
    ],
)
def test_white_space(text, tidy):
    assert tidy_spaces(text) == tidy


def test_line_ends_of_all_systems():
    outcome = Normaliser()("a\r\nb\rc\u2028d\x85e\x0cf")
    assert outcome.text == "a\nb\nc\nd\ne\nf"
    assert outcome.counts == {"white space": 1}


def test_unicode_forms():
    text = "e\u0301 ﬁ ① Ａ"
    assert Normaliser("nfc")(text).text == "é ﬁ ① Ａ"
    assert Normaliser("nfkc")(text).text == "é fi 1 A"
    assert Normaliser("none")(text).text == text
    assert Normaliser("nfc")(text).counts == {"Unicode form": 1}


def test_each_part_can_be_left_out():
    text = "cafÃ©\u200b  x \r\n"
    off = Normaliser("none", mojibake=False, invisible=False, spaces=False)
    assert off(text).text == text
    assert Normaliser("none", mojibake=True, invisible=False, spaces=False)(text).text == "café\u200b  x \r\n"
    assert Normaliser("none", mojibake=False, invisible=True, spaces=False)(text).text == "cafÃ©  x \r\n"
    assert Normaliser("none", mojibake=False, invisible=False, spaces=True)(text).text == "cafÃ©\u200b x"


def test_chinese_is_converted_and_japanese_and_korean_are_not():
    assert convert_chinese("漢字轉換，國家", "simplified") == "汉字转换，国家"
    assert convert_chinese("汉字转换，国家。头发", "traditional") == "漢字轉換，國家。頭髮"
    japanese, korean = "国語の辞書を読む。東京大学", "대한민국(大韓民國)은 민주공화국"
    for script in ("simplified", "traditional"):
        assert convert_chinese(japanese, script) == japanese
        assert convert_chinese(korean, script) == korean
        assert convert_chinese("plain", script) == "plain"
    # A Chinese text that quotes Japanese: the line with kana stays, the others do not.
    quoting = (
        "漢語資料很多，這裏只引用一句話，作者說這個問題沒有那麼簡單，大家應該繼續討論下去。\n「国の」\n國"
    )
    assert convert_chinese(quoting, "simplified").endswith("「国の」\n国")


def test_traditional_text_is_not_converted_to_traditional_again():
    poem = "千里之外，鄉國難歸，皇后與范公"  # 里, 后 and 范 would be taken for simplified
    assert convert_chinese(poem, "traditional") == poem


def test_what_opencc_leaves_the_first_time_goes_too():
    assert convert_chinese("於戲勞", "simplified") == "于戏劳"


def test_chinese_scripts_are_told_apart():
    assert [chinese_script(text) for text in ("这个国家", "這個國家", "山水", "abc")] == [
        "Hans",
        "Hant",
        "",
        "",
    ]


def test_counts_by_name():
    outcome = Normaliser(chinese="simplified")("漢字\u200b  cafÃ©\n漢字 Ã©t\u200bÃ©")
    assert outcome.text == "汉字 café\n汉字 été"
    assert outcome.counts == {"mojibake": 2, "invisible characters": 2, "white space": 1, "Chinese script": 1}


def test_missing_packages_are_told_when_the_step_is_made(monkeypatch):
    def missing(name, *_):
        raise ImportError("no such module")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(
        MissingDependencyError,
        match=r"needs ftfy \(no such module\); install it with `pip install 'langmill\[data\]'",
    ):
        Normaliser()


@pytest.mark.parametrize("chinese", ["keep", "simplified", "traditional"])
@pytest.mark.parametrize("form", ["nfc", "nfkc"])
@settings(max_examples=170, deadline=None, derandomize=True)
@given(text=NASTY)
def test_any_text_twice_is_once(form, chinese, text):
    step = Normaliser(form, chinese=chinese)
    once = step(text)
    again = step(once.text)
    assert again.text == once.text
    assert dict(again.counts) == {}
    assert once == step(text)
    assert once.reason == ""
