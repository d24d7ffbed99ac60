"""HTML to text: fragments, entities, whole pages; code and tutorials stay as they are."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from langmill.text.html import NO_MAIN_TEXT, HtmlRemover, decode_entities, is_page, strip_tags
from tests.text.nasty import NASTY

ARTICLE = (
    "The river rose in the night, and by morning nobody could cross the old bridge without getting wet. "
)
文章 = "河水在夜里上涨，到了早晨，没有人能过老桥而不弄湿鞋子。老人们说，这样的大水二十年没有见过了。"


def page(body: str, *, language: str = "en") -> str:
    links = "".join(f"<li><a href='/{name}'>{name}</a></li>" for name in ("Home", "About us", "Contact"))
    return (
        f"<!DOCTYPE html>\n<html lang={language}><head><title>News</title><script>var x = '<p>1</p>';</script>"
        f"<style>p {{ color: red }}</style></head><body><nav><ul>{links}</ul></nav><div id='main'>{body}</div>"
        "<footer><p>Copyright 2020. All rights reserved. <a href='/privacy'>Privacy policy</a></p></footer></body></html>"
    )


@pytest.mark.parametrize(
    ("fragment", "plain"),
    [
        ("<p>One</p><p>Two</p>", "\nOne\n\nTwo\n"),
        ("a <b>bold</b> and <A HREF='x'>linked</A> word", "a bold and linked word"),
        ("line<br>line<br/>line", "line\nline\nline"),
        ("<ul><li>one<li>two</ul>", "\n\none\ntwo\n"),
        ("<table><tr><td>1</td><td>2</td></tr></table>", "\n\n1\t2\t\n"),
        ("x<!-- a <b> comment -->y<p>z", "xy\nz"),
        ("<script type='a'>if (a < b) c();</script>text<style>p {}</style>", "text"),
        ("<img src='a.png' alt='x'>picture", "picture"),
        ("<p>你好<b>世界</b></p>", "\n你好世界\n"),
    ],
)
def test_tags_go(fragment, plain):
    assert strip_tags(fragment)[0] == plain


@pytest.mark.parametrize(
    "code",
    [
        *(
            "if a < b and c > d:",
            "List<String> xs = new ArrayList<>();",
            "template <typename T> void f(T<b> x)",
        ),
        *(
            "vector<b> and Map<a, b>",
            "std::map<p, q> x; y<i>z",
            "a<b>c",
            "x <- 5; y -> z",
            "1 < 2 > 0",
            "<3 <3",
        ),
        *(
            "<EMAIL> or <PHONE>",
            "usage: cp <source> <target>",
            "write <b> for bold text",
            "<你好>",
            "<unk> <s> <mask>",
        ),
        *("for (a <b; ;) <!-- open", "#include <stdio.h>", "<<<<<<< HEAD", "email <someone@example.com>"),
    ],
)
def test_what_only_looks_like_tags_stays(code):
    assert strip_tags(code) == (code, 0)
    assert HtmlRemover()(code).text == code


def test_entities():
    assert (
        decode_entities("a &lt; b &amp;&amp; c &#8212; &#x4F60;&nbsp;&hellip;")[0] == "a < b && c — 你\xa0…"
    )
    for kept in ("AT&T; R&D", "?a=1&copy=2&amp=3", "&unknown;", "a & b; c"):
        assert decode_entities(kept) == (kept, 0)
    assert HtmlRemover()("x &lt;b&gt;bold&lt;/b&gt;").text == "x bold"  # escaped as a whole
    assert HtmlRemover()("<p>x &lt;b&gt;</p>").text.strip() == "x <b>"  # shown on a page
    assert HtmlRemover()("<p>a &amp; b</p>").counts == {"HTML tags": 2, "HTML entities": 1}


def test_pages_are_known_by_their_beginning():
    assert is_page(page("x"))
    assert is_page("<?xml version='1.0'?>\n<!DOCTYPE html PUBLIC 'x'>")
    assert is_page("<body class=a>x")
    assert is_page("<div>" * 3 + "<section>a<div>b")
    for text in (
        "Write <html> first.",
        "# Title\n\n<div align=center>\n\n" + "<div>" * 9,
        "<p>short</p>",
        "plain",
    ):
        assert not is_page(text)


@pytest.mark.parametrize(("article", "language"), [(ARTICLE, "en"), (文章, "zh")])
def test_main_text_of_a_page(article, language):
    body = "".join(f"<p>{number}. {article}</p>" for number in range(5)) + "<pre>if a &lt; b:\n    go()</pre>"
    outcome = HtmlRemover()(page(body, language=language))
    assert outcome.reason == ""
    assert outcome.counts == {"web page": 1}
    for number in range(5):
        assert f"{number}. {article.strip()}" in outcome.text
    assert "if a < b:\n    go()" in outcome.text
    for boilerplate in ("About us", "Copyright", "var x", "color", "Privacy"):
        assert boilerplate not in outcome.text


def test_short_pages():
    assert (
        HtmlRemover()("<html><body><p>Hello world, how are you?</p></body></html>").text
        == "Hello world, how are you?"
    )
    assert HtmlRemover()("<html><body><p>你好，世界。</p></body></html>").text == "你好，世界。"


@pytest.mark.parametrize(
    "body", ["", "<script>var a = 'text in a script';</script>", "<a href='/x'>more</a>"]
)
def test_pages_without_main_text_are_rejected(body):
    text = page(body)
    outcome = HtmlRemover()(text)
    assert (outcome.text, outcome.reason) == (text, NO_MAIN_TEXT)


def test_modes():
    text = page(f"<p>{ARTICLE * 3}</p>")
    assert "About us" in HtmlRemover("strip")(text).text
    fragment = f"<div><p>{ARTICLE * 3}</p><nav><a href='/'>About us</a></nav></div>"
    assert "About us" in HtmlRemover("auto")(fragment).text
    assert HtmlRemover("page")(fragment).text.split() == (ARTICLE * 3).split()


def test_text_without_signs_of_html_is_not_looked_at():
    outcome = HtmlRemover()("plain > text; 文字")
    assert (outcome.text, dict(outcome.counts)) == ("plain > text; 文字", {})


@pytest.mark.parametrize("mode", ["auto", "page", "strip"])
@settings(max_examples=340, deadline=None, derandomize=True)
@given(text=NASTY)
def test_any_text(mode, text):
    step = HtmlRemover(mode)
    outcome = step(text)
    assert outcome == step(text)
    assert outcome.text == text or outcome.counts
    assert outcome.reason in ("", NO_MAIN_TEXT)
