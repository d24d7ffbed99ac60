"""Personal data: what is found, also between Chinese characters, and what looks alike and is not."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings

from langmill.core.config import resolve
from langmill.core.errors import ConfigError
from langmill.text.privacy import PrivacySettings, Scrubber, is_card_number, is_identity_number
from tests.text.nasty import NASTY

FOUND = {
    "EMAIL": [
        *(
            "a@b.com",
            "zhang.san+x@mail.example.com.cn",
            "O'Neil_99%x@ex-ample.co.uk",
            "x@xn--fiqs8s.xn--fiqz9s",
            "1@qq.com",
        ),
    ],
    "PHONE": [
        *(
            "13812345678",
            "138-1234-5678",
            "138 1234 5678",
            "1381 234 5678",
            "+86 138 1234 5678",
            "+8613812345678",
        ),
        *(
            "0086-13812345678",
            "86-13812345678",
            "(+86)13812345678",
            "010-82345678",
            "（010）82345678",
            "0571-87654321-801",
        ),
        *(
            "(0755) 8234 5678转123",
            "400-820-8820",
            "01082345678",
            "+1 (415) 555-2671",
            "(415) 555-2671",
            "415-555-2671",
        ),
        *(
            "415.555.2671",
            "1-800-555-0199",
            "+44 20 7946 0958",
            "+44 (0)20 7946 0958",
            "0044 20 7946 0958",
            "020 7946 0958",
        ),
        *(
            "07700 900123",
            "030/1234567",
            "+49 30 1234567",
            "01 23 45 67 89",
            "+33 1 23 45 67 89",
            "+81-3-1234-5678",
        ),
    ],
    "ID": ["11010519491231002X", "11010519491231002x", "110105 19491231 002X", "440524199001010018"],
    "CARD": [
        *(
            "4111111111111111",
            "4111 1111 1111 1111",
            "4111-1111-1111-1111",
            "378282246310005",
            "3782 822463 10005",
        ),
        *(
            "5555555555554444",
            "2223003122003222",
            "30569309025904",
            "3530111333300000",
            "6011111111111117",
            "4222222222222",
        ),
        *("6222021234567890128", "6222 0212 3456 7890 128", "622202 1234567890128"),
    ],
    "IP": ["93.184.216.34", "223.5.5.15", "2606:2800:220:1:248:1893:25c8:1946", "2a00:1450:4001:81b::200e"],
}
KEPT = [
    *(
        "ISBN 978-7-111-12345-6",
        "ISBN 9780306406157",
        "ISBN 0-306-40615-2",
        "ISSN 0378-5955",
        "GB/T 2260-2007",
    ),
    *(
        "2019-01-02",
        "01-02-2003",
        "01.02.2003 12:30",
        "05.12.2019 2000",
        "20031231",
        "2024-11-24T10:20:30",
        "12:30:45",
    ),
    *(
        "1990-2000",
        "1990–2000, 2001-2005",
        "2008 2009 2010 2011 2012",
        "1 2 3 4 5 6 7 8 9 10 11",
        "10 20 30 40 50 60 70",
    ),
    *(
        "$1,234,567.89",
        "3.14159265358979323846",
        "0.13812345678",
        "13812345678.55",
        "1,381,234,5678",
        "2^32=4294967296",
    ),
    *(
        "1.2.3.4",
        "8.8.8.8",
        "v10.20.30.40",
        "version 10.20.30.40",
        "版本10.2.33.4",
        "1.2.3.4.5.6",
        "300.1.1.1",
        "10.1.2.3-5",
    ),
    *(
        "192.168.1.1",
        "127.0.0.1",
        "::1",
        "fe80::1",
        "2001:db8::1",
        "std::vector<int>",
        "face::bad",
        "00:1A:2B:3C:4D:5E",
    ),
    *(
        "110105194912310021",
        "11010519491331002X",
        "99010519491231002X",
        "第11010519491231002X12号",
        "4111111111111112",
    ),
    *(
        "1234567890123456789012345678901",
        "第13812345678901号",
        "abc13812345678def",
        "SHA 4111111111111111a",
        "12813812345678",
    ),
    *(
        "550e8400-e29b-41d4-a716-446655440000",
        "1638123456789",
        "doi:10.1038/nature12373",
        "lat 39.904200, long 116.407396",
    ),
    *(
        "@user",
        "user@localhost",
        "foo @ bar.com",
        "lodash@4.17.21",
        "a@b",
        "page 200-300, 400-500",
        "555-0123",
        "472547338 + 960397912423",
    ),
]


@pytest.mark.parametrize(
    ("label", "value"), [(label, value) for label, values in FOUND.items() for value in values]
)
@pytest.mark.parametrize(
    "around", ["{}", "电话或地址{}谢谢", "（{}）。", "call {}, or not", "{}\n", "a: {}. B"]
)
def test_found(label, value, around):
    outcome = Scrubber(PrivacySettings())(around.format(value))
    assert outcome.text == around.format(f"<{label}>")
    assert sum(outcome.counts.values()) == 1


@pytest.mark.parametrize("text", KEPT)
@pytest.mark.parametrize("around", ["{}", "编号{}。", "see {} there"])
def test_kept(text, around):
    text = around.format(text)
    assert Scrubber(PrivacySettings())(text).text == text


def test_several_are_counted_by_kind():
    outcome = Scrubber(PrivacySettings())("13812345678/13912345678,a@b.com；卡4111111111111111 c@d.org")
    assert outcome.text == "<PHONE>/<PHONE>,<EMAIL>；卡<CARD> <EMAIL>"
    assert outcome.counts == {"phone": 2, "e-mail": 2, "bank card": 1}


def test_every_wrong_digit_of_a_checked_number_is_noticed():
    identity, card = "11010519491231002X", "4111111111111111"
    assert is_identity_number(identity)
    assert is_card_number(card)
    for i in range(17):
        wrong = identity[:i] + str((int(identity[i]) + 1) % 10) + identity[i + 1 :]
        assert not is_identity_number(wrong)
        wrong = card[: i % 16] + str((int(card[i % 16]) + 1) % 10) + card[i % 16 + 1 :]
        assert not is_card_number(wrong)


def test_identity_numbers_of_any_person_are_found():
    rng = random.Random(1)
    scrub = Scrubber(PrivacySettings())
    for _ in range(200):
        digits = f"{rng.choice([11, 31, 44, 65])}{rng.randrange(10**4):04}19{rng.randrange(40, 99)}{rng.randrange(1, 13):02}"
        digits += f"{rng.randrange(1, 29):02}{rng.randrange(1000):03}"
        # The weights of GB 11643-1999 as the standard prints them, against our powers of 2 modulo 11.
        weights = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]
        check = "10X98765432"[sum(int(digit) * weight for digit, weight in zip(digits, weights)) % 11]
        assert scrub(f"号{digits}{check}。").text == "号<ID>。"


def test_old_identity_numbers_where_asked_for():
    assert Scrubber(PrivacySettings())("号110105491231002。").text == "号110105491231002。"
    scrub = Scrubber(PrivacySettings(old_identity_cards=True))
    assert scrub("号110105491231002。").text == "号<ID>。"
    assert scrub("号110105491331002。").text == "号110105491331002。"  # a thirteenth month


def test_private_addresses_where_asked_for():
    scrub = Scrubber(PrivacySettings(addresses="all"))
    assert scrub("192.168.1.1 127.0.0.1 ::1 fe80::1 a::b ::").text == "<IP> <IP> <IP> <IP> a::b ::"


def test_kinds_can_be_chosen():
    scrub = Scrubber(PrivacySettings(kinds="e-mail,bank card"))
    assert (
        scrub("a@b.com 13812345678 93.184.216.34 4111111111111111").text
        == "<EMAIL> 13812345678 93.184.216.34 <CARD>"
    )
    with pytest.raises(
        ConfigError, match=r"--kinds: 'email' is not allowed: 'email' is none of e-mail, phone"
    ):
        resolve(PrivacySettings, {"kinds": "email"})


def test_placeholder_is_a_setting():
    assert Scrubber(PrivacySettings(placeholder="[{kind}]"))("写信a@b.com").text == "写信[EMAIL]"
    assert Scrubber(PrivacySettings(placeholder=""))("写信a@b.com。").text == "写信。"


def test_reject_names_the_first_kind():
    scrub = Scrubber(PrivacySettings(), reject=True)
    outcome = scrub("手机13812345678，a@b.com")
    assert (outcome.text, outcome.reason) == ("手机13812345678，a@b.com", "private: phone")
    assert scrub("nothing here").reason == ""


def test_names_of_a_list(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("\ufeffAnn\nAnna Lee\n王小明\n王小\n\nC++ (x)\n", encoding="utf-8")
    scrub = Scrubber(PrivacySettings(names=str(path)))
    text = "Anna Lee and Ann met Annabel, Joann; 我是王小明吗，王小呢，王大，问Ann好，C++ (x)"
    assert (
        scrub(text).text
        == "<NAME> and <NAME> met Annabel, Joann; 我是<NAME>吗，<NAME>呢，王大，问<NAME>好，<NAME>"
    )
    assert scrub("Ann").counts == {"name": 1}


@pytest.mark.parametrize("content", [None, b"\n \n", b"\xff\xfe\xfa", b"x" * 101])
def test_bad_lists_of_names_are_refused(tmp_path, content):
    path = tmp_path / "names.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"--privacy\.names: .*names\.txt"):
        Scrubber(PrivacySettings(names=str(path)))


@pytest.mark.parametrize(
    "options", [{}, {"addresses": "all", "old_identity_cards": True, "placeholder": "1"}]
)
@settings(max_examples=500, deadline=None, derandomize=True)
@given(text=NASTY)
def test_any_text_twice_is_once(options, text):
    scrub = Scrubber(PrivacySettings(**options))
    once = scrub(text)
    assert once == scrub(text)
    assert bool(once.counts) == (once.text != text)
    if not options:
        assert scrub(once.text).text == once.text
