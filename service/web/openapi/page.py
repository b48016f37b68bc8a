"""The description to read: one page without a script, made from the very document that programs get."""

import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Wirephoto API</title>
<meta name="viewport" content="width=device-width">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
code, pre {{ font: 14px/1.4 ui-monospace, monospace; background: #f4f4f2; border-radius: 4px }}
code {{ padding: 1px 4px }} pre {{ padding: 1rem; overflow: auto; max-height: 30rem }}
table {{ border-collapse: collapse; width: 100% }}
td, th {{ text-align: left; vertical-align: top; padding: 4px 8px; border-bottom: 1px solid #ddd }}
summary {{ cursor: pointer; padding: 4px 0 }} details > :not(summary) {{ margin-left: 1.25rem }}
.m {{ display: inline-block; font-weight: 700; width: 4.5rem }} .k {{ color: #666 }}
</style>
<h1>Wirephoto API</h1>
{intro}
<p>The same for programs: <a href="/openapi.json">/openapi.json</a>.
On this page: {contents}.</p>
{operations}
<h2 id="webhooks">Webhooks</h2>
<p>What subscribers receive, signed as <code>webhook-signature</code> says.</p>{webhooks}
<h2 id="answers">What goes wrong</h2>{problems}
<h2 id="schemas">Bodies and answers</h2>{schemas}
</html>"""


def as_html(described: Mapping[str, Any]) -> str:
    tags = [tag for tag in described["tags"] if tag["name"] != "webhooks"]
    sections = [(tag["name"], f"#{tag['name']}") for tag in tags]
    sections += [("webhooks", "#webhooks"), ("what goes wrong", "#answers"), ("bodies and answers", "#schemas")]
    return _PAGE.format(
        intro="".join(f"<p>{_text(line)}</p>" for line in described["info"]["description"].split("\n\n")),
        contents=", ".join(f'<a href="{where}">{escape(name)}</a>' for name, where in sections),
        operations="".join(_section(tag, described) for tag in tags),
        webhooks="".join(_operation("", name, methods["post"]) for name, methods in described["webhooks"].items()),
        problems=_answers(described["components"]["responses"]),
        schemas="".join(_schema(name, schema) for name, schema in described["components"]["schemas"].items()),
    )


def _section(tag: Mapping[str, Any], described: Mapping[str, Any]) -> str:
    rows = "".join(
        _operation(method.upper(), path, operation)
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
        if tag["name"] in operation["tags"]
    )
    name = escape(tag["name"])
    return f'<h2 id="{name}">{name.capitalize()}</h2><p>{escape(tag["description"])}</p>{rows}'


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    who = "no key" if operation.get("security") == [] else operation.get("description", "A key, or its own way in.")
    sign = f"<span class=m>{method}</span>" if method else ""
    return (
        f"<details><summary>{sign}<code>{escape(path)}</code> {escape(operation['summary'])}"
        f" <span class=k>{escape(who)}</span></summary>"
        f"{_parameters(operation.get('parameters', []))}{_body(operation.get('requestBody'))}"
        f"{_answers(operation['responses'])}</details>"
    )


def _parameters(given: list[Mapping[str, Any]]) -> str:
    if not given:
        return ""
    rows = "".join(
        f"<tr><td><code>{escape(entry['name'])}</code><td>{entry['in']}{'' if entry.get('required') else ', optional'}"
        f"<td>{_short(entry['schema'])}<td>{_text(entry.get('description', ''))}"
        for entry in given
    )
    return f"<table><thead><tr><th>Parameter<th>In<th>Form<th></thead><tbody>{rows}</tbody></table>"


def _body(body: Mapping[str, Any] | None) -> str:
    if body is None:
        return ""
    kinds = "; ".join(
        f"<code>{escape(media)}</code> {_short(content['schema'])}" for media, content in body["content"].items()
    )
    examples = [_example(content) for content in body["content"].values()]
    return f"<p>Body: {kinds}</p>{''.join(examples)}"


def _answers(responses: Mapping[str, Any]) -> str:
    rows = "".join(f"<tr><td>{escape(status)}<td>{_answer(answer)}" for status, answer in responses.items())
    return f"<table><thead><tr><th>Answer<th></thead><tbody>{rows}</tbody></table>"


def _answer(answer: Mapping[str, Any]) -> str:
    if "$ref" in answer:
        return f'<a href="#answers">{escape(answer["$ref"].rpartition("/")[2])}</a>'
    content = answer.get("content", {})
    kinds = "; ".join(f"<code>{escape(media)}</code> {_short(held['schema'])}" for media, held in content.items())
    headers = ", ".join(f"<code>{escape(name)}</code>" for name in answer.get("headers", {}))
    parts = [_text(answer["description"]), kinds, f"Headers: {headers}" if headers else ""]
    return "<br>".join(part for part in parts if part) + "".join(_example(held) for held in content.values())


def _example(content: Mapping[str, Any]) -> str:
    if "example" not in content:
        return ""
    text = escape(json.dumps(content["example"], indent=2, ensure_ascii=False))
    return f"<details><summary>Example</summary><pre>{text}</pre></details>"


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    text = escape(json.dumps(schema, indent=2, ensure_ascii=False))
    return (
        f'<details id="schema-{escape(name)}"><summary><code>{escape(name)}</code> '
        f"{_text(schema.get('description', ''))}</summary><pre>{text}</pre></details>"
    )


def _short(schema: Mapping[str, Any]) -> str:
    """A schema in a few words, with links to those that have a name."""
    return ", ".join(dict.fromkeys(_words(schema))) or "anything"


def _words(schema: Mapping[str, Any]) -> Iterator[str]:
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        yield f'<a href="#schema-{name}">{name}</a>'
        return
    kind = schema.get("type")
    if kind is not None:
        yield " or ".join(kind) if isinstance(kind, list) else escape(kind)
    for name, told in (("minimum", "from "), ("maximum", "to "), ("default", "default "), ("pattern", "")):
        if name in schema:
            yield f"{told}<code>{escape(str(schema[name]))}</code>"
    # A list says what it lists, an object what its parts are.
    for inner in (*schema.get("allOf", ()), *schema.get("properties", {}).values()):
        yield from _words(inner)
    if isinstance(schema.get("items"), Mapping):
        yield from _words(schema["items"])


def _text(words: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(words))
