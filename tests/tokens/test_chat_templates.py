"""Chat templates: the text of Transformers' apply_chat_template, and what is said when there is none."""

from __future__ import annotations

import datetime as dates
import json
import re

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers

from langmill.core.errors import CheckpointError, DataError
from langmill.tokens import SpecialTokens, Tokenizer
from langmill.tokens.chat import end_of_answer, read_conversations, render_chat

TEMPLATES = {
    "chatml": """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are a helpful assistant.<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}""",
    "llama3": """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    "mistral": """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- bos_token }}
{%- set ns = namespace(index=0) %}
{%- for message in loop_messages %}
    {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
        {{- raise_exception("After the optional system message, conversation roles must alternate user and assistant.") }}
    {%- endif %}
    {%- set ns.index = ns.index + 1 %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- else %}
        {{- " " + message["content"] | trim + eos_token }}
    {%- endif %}
{%- endfor %}
""",
    "zephyr": """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>
'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}""",
    "tools": """{%- if tools %}TOOLS {{ tools | tojson }}{% endif %}
{%- for message in messages -%}
  {%- if message.role == "nobody" %}{% continue %}{% endif -%}
  {{ message | tojson }}|{{ message | tojson(indent=2) }}|{{ {"b": "é<&>", "a": 1} | tojson(sort_keys=true, ensure_ascii=true, separators=(",", ":")) }}
  {%- if loop.index > 3 %}{% break %}{% endif -%}
  {%- for part in message.content.split() if part|length > 2 %} {{ loop.index0 }}{{ part | upper }}{% endfor %}
  {% generation %}  {{ message.content }}
  {% endgeneration %}
{%- endfor -%}
{{ pad_token }}{{ unk_token }}{{ missing_token }}{{ dict(a=1) }}{{ documents is none }}""",
}
CONVERSATIONS = [
    [{"role": "user", "content": "Hello, who are you?"}],
    [
        {"role": "system", "content": "  Answer like a poet.\n"},
        {"role": "user", "content": "用中文说：<b>“你好”</b> & {{ bos_token }}"},
        {"role": "assistant", "content": " 你好 \n"},
        {"role": "user", "content": "1 + 1 = 2?\n\n\tYes 🎉", "name": None},
    ],
]


@pytest.fixture
def make_tokenizer():
    """Return a function from a template to a tokenizer of bytes with special tokens."""

    def make(template: str | None) -> Tokenizer:
        special = ["<s>", "</s>", "<pad>", "<unk>", "<|im_start|>", "<|im_end|>"]
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        backend = Backend(models.BPE({token: i for i, token in enumerate([*special, *alphabet])}, []))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.add_special_tokens(special)
        specials = SpecialTokens(bos="<s>", eos="</s>", pad="<pad>", unk="<unk>")
        return Tokenizer(backend, specials, chat_template=template)

    return make


@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.parametrize("name", list(TEMPLATES))
def test_text_of_transformers(make_tokenizer, tmp_path, name, prompt):
    transformers = pytest.importorskip("transformers")
    ours = make_tokenizer(TEMPLATES[name])
    ours.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for messages in CONVERSATIONS:
        text = render_chat(ours, messages, add_generation_prompt=prompt)
        expected = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        assert text == expected
        ids = theirs.apply_chat_template(messages, add_generation_prompt=prompt)["input_ids"]
        assert ours.encode(text) == ids
        assert len(text) > 20


def test_the_date_is_todays(make_tokenizer):
    text = render_chat(make_tokenizer(TEMPLATES["llama3"]), CONVERSATIONS[0])
    found = re.search(r"Today Date: (.*)\n", text)
    assert found and (dates.datetime.now() - dates.datetime.strptime(found[1], "%d %b %Y")).days in (0, 1)


def test_what_ends_an_answer(make_tokenizer):
    plain = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    found = {
        name: end_of_answer(make_tokenizer(template), CONVERSATIONS[1])
        for name, template in {**TEMPLATES, "plain": plain}.items()
        if name != "tools"
    }
    assert found == {"chatml": 5, "llama3": None, "mistral": 1, "zephyr": 1, "plain": None}


@pytest.mark.parametrize(
    ("template", "error", "words"),
    [
        (None, CheckpointError, "has no chat template, so it was not made to chat: continue texts with"),
        (
            "{% for m in messages %}",
            CheckpointError,
            "the chat template is broken: Unexpected end of template",
        ),
        ("{{ raise_exception('No system\nplease.') }}", DataError, "refuses these messages: No system"),
        ("{{ messages[0]['content'] + 1 }}", DataError, "refuses these messages: can only concatenate str"),
        ("{{ messages.__class__.__mro__ }}", DataError, "is unsafe"),
        ("{{ messages.append(1) }}", DataError, "is unsafe"),
        ("{{ messages[0].nothing.at_all }}", DataError, "has no attribute 'nothing'"),
    ],
)
def test_templates_that_do_not_work(make_tokenizer, template, error, words):
    with pytest.raises(error) as caught:
        render_chat(make_tokenizer(template), CONVERSATIONS[0])
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "messages: empty; give at least one"),
        ([{"role": "user", "content": "a"}, "b"], "message 2 is 'b'; it must be"),
        ([{"role": "user"}], "message 1 is {'role': 'user'}"),
        ([{"role": "user", "content": 3}], "it must be"),
    ],
)
def test_messages_that_are_none(make_tokenizer, messages, words):
    with pytest.raises(DataError) as caught:
        render_chat(make_tokenizer(TEMPLATES["chatml"]), messages)
    assert words in str(caught.value)


# ------------------------------------------------------------------------------------------------
# Conversations in files

ONE, OTHER = CONVERSATIONS


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (json.dumps(ONE), [ONE]),
        (json.dumps({"messages": ONE, "id": 7}), [ONE]),
        (json.dumps([ONE, {"messages": OTHER}], indent=1), [ONE, OTHER]),
        (json.dumps({"messages": ONE}) + "\n\n" + json.dumps(OTHER, ensure_ascii=False) + "\n", [ONE, OTHER]),
    ],
)
def test_conversations_of_a_file(text, found):
    assert read_conversations(text, source="f") == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "f: no conversation in it"),
        ("[]", "f: no conversation in it"),
        (json.dumps(ONE) + "\nHello\n", "f:2: not valid JSON"),
        (json.dumps(ONE) + "\n3\n", "f:2: 3 is no conversation"),
        ('{"text": "a"}', "f: {'text': 'a'} is no conversation; it must be a list of messages"),
        ('[[{"role": "user", "content": "a"}], [{"role": "user"}]]', "f, conversation 2: message 1 is"),
    ],
)
def test_files_of_another_kind(text, words):
    with pytest.raises(DataError) as caught:
        read_conversations(text, source="f")
    assert words in str(caught.value)
