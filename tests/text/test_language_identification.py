"""Languages by script and by model, offline; the filter and its reasons."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from langmill.core.errors import ConfigError
from langmill.text.language import LanguageFilter, identify, identify_script
from tests.text.nasty import NASTY

SAMPLES = {
    "en": "Nobody in the village could say who had built the bridge over the river.",
    "de": "Niemand im Dorf konnte sagen, wer die Brücke über den Fluss gebaut hatte.",
    "fr": "Personne au village ne pouvait dire qui avait construit le pont sur la rivière.",
    "es": "Nadie en el pueblo podía decir quién había construido el puente sobre el río.",
    "ru": "Никто в деревне не мог сказать, кто построил мост через реку.",
    "ar": "لم يستطع أحد في القرية أن يقول من بنى الجسر فوق النهر.",
    "hi": "गाँव में कोई नहीं बता सका कि नदी पर पुल किसने बनाया था।",
    "th": "ไม่มีใครในหมู่บ้านบอกได้ว่าใครเป็นคนสร้างสะพานข้ามแม่น้ำ",
    "zh": "村里没有人说得出河上的桥是谁建的。",
    "ja": "村の誰も、川に架かる橋を誰が建てたのか言えなかった。",
    "ko": "마을에서는 아무도 강 위의 다리를 누가 지었는지 말하지 못했다.",
}


@pytest.mark.parametrize("code", SAMPLES)
def test_languages(code):
    assert identify(SAMPLES[code]) == code
    assert identify(SAMPLES[code] * 40) == code


@pytest.mark.parametrize("text", ["", " \n", "?!…。", "12345 678", "ok", "a+b", "\ud800"])
def test_what_cannot_be_told(text):
    assert identify(text) == "und"


def test_chinese_among_other_signs():
    assert identify("我用Python写了一个脚本，跑得很快。") == "zh"
    assert identify("The word 桥 means bridge in the language of the village and of the city.") == "en"
    assert identify("好") == "zh"


def test_plain_english_needs_no_model(monkeypatch):
    from langmill.text import language

    monkeypatch.setattr(language, "identifier", lambda: pytest.fail("the model was asked"))
    assert identify(f"{SAMPLES['en']} That is what they told you, and it was not all.") == "en"
    assert identify(SAMPLES["zh"]) == "zh"


def test_scripts_of_chinese():
    assert identify_script("村里没有人说得出是谁建的。") == "zh-Hans"
    assert identify_script("村裡沒有人說得出是誰建的。") == "zh-Hant"
    assert identify_script("山水之人") == "zh"
    assert identify_script(SAMPLES["en"]) == "en"


def test_filter():
    both = LanguageFilter("en, zh")
    assert [both(SAMPLES[code]).reason for code in ("en", "zh", "de", "ja")] == [
        "",
        "",
        "language: de",
        "language: ja",
    ]
    assert both("?!").reason == "language: und"
    assert LanguageFilter("en,und")("?!").reason == ""


def test_filter_by_script():
    simplified = LanguageFilter("zh-Hans")
    texts = ["村里没有人说得出", "村裡沒有人說得出", "山水之人", SAMPLES["en"]]
    assert [simplified(text).reason for text in texts] == ["", "language: zh-Hant", "", "language: en"]


def test_unknown_codes_are_refused():
    with pytest.raises(
        ConfigError, match=r"--languages: 'eng' is no language that can be told; did you mean en\?"
    ):
        LanguageFilter("eng,zh")


@settings(max_examples=1000, deadline=None, derandomize=True)
@given(text=NASTY)
def test_any_text(text):
    step = LanguageFilter("en,zh-Hant")
    outcome = step(text)
    assert outcome == step(text)
    assert outcome.text == text
    assert outcome.reason == "" or outcome.reason.startswith("language: ")
