"""What stands in Markdown files, as GitHub reads it: JSON on standard output.

    parse.py FILE...
"""

import json
import sys

from markdown_it import MarkdownIt

parser = MarkdownIt("commonmark", {"linkify": False}).enable(["table", "strikethrough"])


def anchor(text, taken):
    """GitHub's rule: lower case, nothing but letters, digits, `-` and `_`, blanks as `-`; a number where it is taken."""
    plain = "".join(letter for letter in text.strip().lower() if letter.isalnum() or letter in " -_").replace(" ", "-")
    unique, number = plain, 0
    while unique in taken:
        number += 1
        unique = f"{plain}-{number}"
    return unique


def text_of(inline):
    return "".join(one.content for one in inline.children if one.type in ("text", "code_inline"))


def read(path):
    with open(path, encoding="utf-8") as file:
        tokens = parser.parse(file.read())
    found = {"anchors": [], "links": [], "blocks": [], "tables": []}
    line, row = 0, None
    for index, token in enumerate(tokens):
        line = token.map[0] + 1 if token.map else line
        if token.type == "heading_open":
            found["anchors"].append(anchor(text_of(tokens[index + 1]), found["anchors"]))
        if token.type == "fence":
            block = {"line": line, "language": token.info.strip(), "text": token.content}
            found["blocks"].append(block)
        if token.type == "table_open":
            found["tables"].append([])
        if token.type == "tr_open":
            row = []
        if token.type == "inline" and row is not None:
            row.append(token.content)
        if token.type == "tr_close":
            found["tables"][-1].append(row)
            row = None
        for child in token.children or []:
            target = child.attrs.get("href") if child.type == "link_open" else None
            target = child.attrs.get("src") if child.type == "image" else target
            if target is not None:
                found["links"].append({"line": line, "target": target})
    return found


print(json.dumps({path: read(path) for path in sys.argv[1:]}))
