"""The commands in the documents. A mark stands before each block: `<!-- test_lab: boards -->` has the test that runs the block, and the
block's name; `<!-- not run: REASON -->` says why no test does. tests/documents.rs fails for a block without a mark."""

import re

from peers import ROOT

BLOCK = re.compile(r"^<!-- (test_\w+): ([^\n]+) -->\n```(?:sh|console)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(test):
    """The blocks that `test` runs, by their names, in the order of the documents."""
    files = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    found = [(name, text) for file in files for runs, name, text in BLOCK.findall(file.read_text()) if runs == test]
    assert found and len(found) == len(dict(found)), [name for name, _ in found]
    return dict(found)


def commands(block):
    """The commands of a block that has one on each line, where a backslash continues a line."""
    return [line for line in block.replace("\\\n", "").splitlines() if line.strip()]
