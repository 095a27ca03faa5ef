#!/usr/bin/env python3
"""Writes dist/THIRD-PARTY.txt: the licences of everything that is linked into the binary: the crates for the shipped targets, as Cargo.lock has
them, with the texts that come in their packages, and what the binary has besides (the standard library, musl).

Asks the crates' own packages, in Cargo's cache; `cargo fetch` fills that.
"""

import collections
import json
import pathlib
import re
import subprocess

FILE = pathlib.Path("dist/THIRD-PARTY.txt")
# Those of scripts/dist.sh.
TARGETS = [
    "x86_64-unknown-linux-musl",
    "armv7-unknown-linux-musleabihf",
    "aarch64-unknown-linux-musl",
    "arm-unknown-linux-musleabihf",
    "i686-unknown-linux-musl",
    "riscv64gc-unknown-linux-musl",
]
TEXTS = re.compile(r"(licen[cs]e|copying|unlicense|notice)", re.IGNORECASE)
# Where one may be chosen, the first of these is.
PREFERRED = ["MIT", "Apache-2.0", "ISC", "BSD-3-Clause", "0BSD", "Zlib", "BSL-1.0", "Unicode-3.0"]
MIT = """Permission is hereby granted, free of charge, to any person obtaining
a copy of this software and associated documentation files (the
"Software"), to deal in the Software without restriction, including
without limitation the rights to use, copy, modify, merge, publish,
distribute, sublicense, and/or sell copies of the Software, and to
permit persons to whom the Software is furnished to do so, subject to
the following conditions:

The above copyright notice and this permission notice shall be
included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND,
EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF
MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT.
IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY
CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT,
TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE
SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."""
BESIDES = [
    ("The Rust standard library, MIT OR Apache-2.0", f"Copyright (c) The Rust Project Contributors\n\n{MIT}"),
    ("musl, MIT", f"Copyright (c) 2005-2020 Rich Felker, et al.\n\n{MIT}"),
]


def linked():
    """The packages that are linked in: neither procedural macros nor what build scripts need."""
    packages = {}
    for target in TARGETS:
        command = ["cargo", "metadata", "--format-version=1", "--locked", "--all-features", f"--filter-platform={target}"]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        by_id = {package["id"]: package for package in found["packages"]}
        nodes = {node["id"]: node for node in found["resolve"]["nodes"]}
        waiting = [found["resolve"]["root"]]
        seen = set()
        while waiting:
            package = waiting.pop()
            if package in seen or is_macro(by_id[package]):
                continue
            seen.add(package)
            waiting += [
                dependency["pkg"]
                for dependency in nodes[package]["deps"]
                if any(kind["kind"] is None for kind in dependency["dep_kinds"])
            ]
        seen.remove(found["resolve"]["root"])
        packages |= {package: by_id[package] for package in seen}
    return sorted(packages.values(), key=lambda package: (package["name"], package["version"]))


def is_macro(package):
    return any("proc-macro" in target["kind"] for target in package["targets"])


def texts(package):
    """The package's licence texts; of several alternatives the one that is preferred."""
    folder = pathlib.Path(package["manifest_path"]).parent
    files = sorted(file for file in folder.iterdir() if file.is_file() and TEXTS.search(file.name))
    alternatives = re.split(r"\s*(?:/|\bOR\b)\s*", package["license"] or "")
    for licence in PREFERRED if len(alternatives) > 1 else []:
        word = licence.split("-")[0].lower()
        chosen = [file for file in files if word in file.name.lower()]
        if licence in alternatives and chosen:
            files = chosen
            break
    return "\n\n".join(file.read_text(errors="replace").strip() for file in files)


def main():
    by_text = collections.defaultdict(list)
    for package in linked():
        name = f"{package['name']} {package['version']}, {package['license']}"
        found = texts(package)
        if not found:
            # Its package has no text: then its authors and the licence's name are all there is.
            found = "\n".join(["By " + ", ".join(package["authors"] or ["its contributors"]), package["repository"] or ""])
        by_text[found].append(name)
    for name, text in BESIDES:
        by_text[text].append(name)
    sections = ["Licences of what edge-metrics-exporter is linked with.\n"]
    for text, names in sorted(by_text.items(), key=lambda item: item[1]):
        sections.append("\n" + "=" * 79 + "\n" + "\n".join(names) + "\n" + "-" * 79 + "\n" + text + "\n")
    # Whole or not at all: the packages take what is there.
    FILE.parent.mkdir(exist_ok=True)
    part = FILE.with_suffix(".part")
    part.write_text("".join(sections))
    part.replace(FILE)


if __name__ == "__main__":
    main()
