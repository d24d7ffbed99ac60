"""The steps together: their order, every reason explained, settings and their mistakes, made anew from settings."""

from __future__ import annotations

import functools
import pickle

import pytest
from hypothesis import given, settings

from langmill.core.config import leaves, resolve
from langmill.core.errors import ConfigError
from langmill.text import language, privacy, quality
from langmill.text.cleaning import REASONS, CleanSettings, build_steps, explain
from langmill.text.steps import Outcome, Step
from tests.text.nasty import NASTY


def clean(text: str, steps: list[Step]) -> Outcome:
    """Put a text through steps as the pipeline does."""
    counts: dict[str, int] = {}
    for step in steps:
        outcome = step(text)
        text = outcome.text
        if outcome.reason:
            return outcome
        for name, count in outcome.counts.items():
            counts[name] = counts.get(name, 0) + count
    return Outcome(text, "", counts)


@functools.cache
def many_steps() -> list[Step]:
    return build_steps(CleanSettings(chinese="simplified", filters="basic,fineweb", languages="en,zh,und"))


def test_steps_and_their_order():
    every = CleanSettings(languages="en", filters="basic,c4,gopher,fineweb")
    assert [step.name for step in build_steps(every)] == [
        "html",
        "normalise",
        "language",
        "filters",
        "privacy",
    ]
    least = CleanSettings(html="keep", filters="none", private="keep")
    assert [step.name for step in build_steps(least)] == ["normalise"]


def test_all_of_a_dirty_document():
    text = "<p>Ã©t\u200bÃ© &amp; 漢字</p><br>电话13812345678， a@b.com\r\n\r\n\r\n\r\n\r\nThe end."
    outcome = clean(text, build_steps(CleanSettings(chinese="simplified")))
    assert outcome.text == "été & 汉字\n\n电话<PHONE>， <EMAIL>\n\n\nThe end."
    assert outcome.counts == {
        "HTML tags": 3,
        "HTML entities": 1,
        "invisible characters": 1,
        "mojibake": 1,
        "Chinese script": 1,
        "white space": 1,
        "phone": 1,
        "e-mail": 1,
    }


def test_every_reason_is_explained():
    named = {*quality.REASONS, *privacy.REASONS, "no main text", "language"}
    assert set(REASONS) == named
    assert explain("language: de") == REASONS["language"]
    assert explain("gopher: stop words") == REASONS["gopher: stop words"]
    with pytest.raises(KeyError):
        explain("something else")


def test_every_setting_has_its_help():
    for name, field in leaves(CleanSettings):
        assert field.description, name
    assert "gopher.min_words" in dict(leaves(CleanSettings))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"filters": "basic,gofer"},
            r"--filters: 'basic,gofer' is not allowed: unknown filter 'gofer'; did you mean gopher",
        ),
        ({"chinese": "traditionel"}, r"--chinese: 'traditionel' is not allowed"),
        ({"gopher": {"min_word": 3}}, r"unknown setting --gopher\.min-word; did you mean --gopher\.m"),
        ({"privacy": {"kinds": "mail"}}, r"--privacy\.kinds: 'mail' is not allowed"),
    ],
)
def test_mistakes_in_settings(given, message):
    with pytest.raises(ConfigError, match=message):
        resolve(CleanSettings, given)


def test_unknown_languages_are_refused_when_steps_are_made():
    with pytest.raises(ConfigError, match="--languages: 'english'"):
        build_steps(CleanSettings(languages="english"))


def test_settings_travel_to_other_processes():
    there = pickle.loads(pickle.dumps(CleanSettings(filters="gopher", languages="zh")))
    text = "汉字" * 50
    assert clean(text, build_steps(there)) == clean(
        text, build_steps(CleanSettings(filters="gopher", languages="zh"))
    )


def test_without_optional_packages_only_what_needs_them_is_refused(monkeypatch):
    def missing(module, purpose):
        raise AssertionError(f"{module} was asked for")

    for module in ("langmill.text.normalise", "langmill.text.html", "langmill.text.stop_words"):
        monkeypatch.setattr(f"{module}.require", missing)
    language.identifier.cache_clear()
    plain = build_steps(CleanSettings(html="strip", mojibake=False))
    assert clean("x  &amp; y", plain).text == "x & y"


@settings(max_examples=1000, deadline=None, derandomize=True)
@given(text=NASTY)
def test_any_text(text):
    steps = many_steps()
    outcome = clean(text, steps)
    assert outcome == clean(text, steps)
    assert outcome.reason == "" or explain(outcome.reason)
