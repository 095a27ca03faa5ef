#!/usr/bin/env python3
"""Builds a site from README.md, docs/ and whatever they link to, with mdBook, in target/docs: `make docs`. Its table of contents is that of
docs/README.md. Fails for a link in it that leads nowhere. MDBOOK is the program."""

import html.parser
import os
import pathlib
import re
import shutil
import subprocess
import sys
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[1]
STAGE, SITE = ROOT / "target/docs-source", ROOT / "target/docs"
INDEX = pathlib.Path("docs/README.md")
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"")
HELP = "cargo install mdbook --version 0.4.52 --locked --no-default-features; MDBOOK names another program"


def links(page):
    """The paths below ROOT that a page links to."""
    for match in LINK.finditer((ROOT / page).read_text()):
        target = (match[1] or match[2]).split("#")[0]
        path = pathlib.Path(os.path.normpath(page.parent / target))
        if target and "://" not in target and (ROOT / path).exists():
            yield path


def crawl():
    """The pages that can be reached from the README, in the order they are found in, and all else that they link to."""
    pages, others = [pathlib.Path("README.md"), INDEX], set()
    for page in pages:
        for path in links(page):
            if path.suffix != ".md":
                others.add(path)
            elif path not in pages:
                pages.append(path)
    return pages, others


def place(page):
    """mdBook makes the page of a folder of index.md."""
    return page.with_name("index.md") if page.name == "README.md" else page


def title(page):
    return re.search(r"^# (.+)$", (ROOT / page).read_text(), re.MULTILINE)[1]


def summary(pages):
    """SUMMARY.md: the parts and pages of docs/README.md, below each page those of its folder, and then all others."""
    lines = [f"[{title(pages[0])}]({place(pages[0])})", f"[Documentation]({place(INDEX)})"]
    rest = [page for page in pages[2:]]

    def add(page, name, depth):
        rest.remove(page)
        lines.append(f"{'  ' * depth}- [{name}]({place(page)})")
        if page.name == "README.md" and page.parent != pathlib.Path("docs"):
            for below in [other for other in rest if other.parent == page.parent]:
                add(below, title(below), depth + 1)

    for line in (ROOT / INDEX).read_text().splitlines():
        if part := re.fullmatch(r"\*\*(.+)\*\*", line):
            lines += ["", f"# {part[1]}", ""]
        for name, target in re.findall(r"\[([^\]]+)\]\(([^)#]+\.md)\)", line) if line.startswith("* ") else ():
            page = pathlib.Path(os.path.normpath(INDEX.parent / target))
            if page in rest:
                add(page, name, 0)
    lines += ["", "# More", ""]
    while rest:
        add(rest[0], title(rest[0]), 0)
    return "\n".join(lines) + "\n"


def stage(pages, others):
    shutil.rmtree(STAGE, ignore_errors=True)
    source = STAGE / "src"
    for page in pages:
        (source / page).parent.mkdir(parents=True, exist_ok=True)
        text = re.sub(r"(\]\([^)\s]*)README\.md", r"\1index.md", (ROOT / page).read_text())
        (source / place(page)).write_text(text)
    tracked = subprocess.check_output(["git", "ls-files", "-z", *map(str, others)], cwd=ROOT, text=True).split("\0")
    for file in filter(None, tracked):
        if not file.endswith(".md"):
            (source / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / file, source / file)
    # A web server shows no files of a folder by itself.
    for folder in (path for path in others if (ROOT / path).is_dir()):
        names = sorted(file.relative_to(source / folder) for file in (source / folder).rglob("*") if file.is_file())
        items = "".join(f'<li><a href="{name}">{name}</a></li>' for name in names)
        (source / folder / "index.html").write_text(f"<!DOCTYPE html><title>{folder}</title><h1>{folder}</h1><ul>{items}</ul>\n")
    (source / "SUMMARY.md").write_text(summary(pages))
    shutil.copyfile(ROOT / "docs/book.toml", STAGE / "book.toml")


class Page(html.parser.HTMLParser):
    def __init__(self, file):
        super().__init__()
        self.links, self.ids = [], set()
        self.feed(file.read_text())

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id":
                self.ids.add(value)
            elif name in ("href", "src", "srcset") and value:
                self.links.append(value)


def broken(pages):
    """The links of the site's pages that lead nowhere."""
    files = [SITE / place(page).with_suffix(".html") for page in pages]
    parsed = {file: Page(file) for file in files}
    for file, page in parsed.items():
        for link in page.links:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme:
                continue
            target = pathlib.Path(os.path.normpath(file.parent / urllib.parse.unquote(parts.path))) if parts.path else file
            if target.is_dir():
                target /= "index.html"
            if not target.exists():
                yield f"{file.relative_to(SITE)}: {link}"
            elif parts.fragment and target in parsed and urllib.parse.unquote(parts.fragment) not in parsed[target].ids:
                yield f"{file.relative_to(SITE)}: {link}: there is no such heading"


def main():
    program = os.environ.get("MDBOOK") or "mdbook"
    if not shutil.which(program):
        sys.exit(f"cannot build the site: there is no {program} ({HELP})")
    pages, others = crawl()
    stage(pages, others)
    shutil.rmtree(SITE, ignore_errors=True)
    subprocess.run([program, "build", STAGE, "--dest-dir", SITE], check=True)
    if wrong := list(broken(pages)):
        sys.exit("links that lead nowhere:\n" + "\n".join(wrong))
    print(f"{len(pages)} pages: {SITE.relative_to(ROOT)}/index.html")


main()
