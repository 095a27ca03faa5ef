#!/usr/bin/env python3
"""Writes the software bill of materials of the static binaries, in CycloneDX 1.5: scripts/sbom.py FILE

What is linked in is what scripts/third-party.py gives the licences of. Checksums are Cargo.lock's. The same Cargo.lock gives
the same file; its time is SOURCE_DATE_EPOCH.
"""

import datetime
import importlib.util
import json
import os
import pathlib
import sys
import tomllib
import urllib.parse
import uuid

ROOT = pathlib.Path(__file__).resolve().parents[1]


def third_party():
    spec = importlib.util.spec_from_file_location("third_party", ROOT / "scripts/third-party.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def purl(name, version):
    return f"pkg:cargo/{name}@{urllib.parse.quote(version)}"


def component(package, checksums):
    name, version = package["name"], package["version"]
    found = {
        "type": "library",
        "bom-ref": purl(name, version),
        "name": name,
        "version": version,
        "purl": purl(name, version),
    }
    if package["license"]:
        # An older way to write OR.
        found["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if (name, version) in checksums:
        found["hashes"] = [{"alg": "SHA-256", "content": checksums[name, version]}]
    if package["repository"]:
        found["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return found


def besides(text):
    """What no crate is, as scripts/third-party.py lists it: "The Rust standard library, MIT OR Apache-2.0"."""
    name, licence = text.rsplit(", ", 1)
    name = name.removeprefix("The ")
    return {"type": "library", "bom-ref": name.replace(" ", "-"), "name": name, "licenses": [{"expression": licence}]}


def main():
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]
    checksums = {(package["name"], package["version"]): package["checksum"] for package in lock if "checksum" in package}
    module = third_party()
    packages = module.linked()
    linked = {(package["name"], package["version"]) for package in packages}
    versions = {}
    for name, version in [(package["name"], package["version"]) for package in lock]:
        versions.setdefault(name, []).append(version)

    def depends_on(package):
        # Cargo.lock names the version only where there are several.
        pairs = [(name, (version or versions[name])[0]) for name, *version in (one.split() for one in package.get("dependencies", []))]
        return sorted(purl(*pair) for pair in pairs if pair in linked)

    ours = purl(manifest["name"], manifest["version"])
    extra = [besides(text) for text, _ in module.BESIDES]
    graph = [{"ref": ours, "dependsOn": []}]
    for package in lock:
        pair = package["name"], package["version"]
        if pair == (manifest["name"], manifest["version"]):
            graph[0]["dependsOn"] = depends_on(package) + [one["bom-ref"] for one in extra]
        elif pair in linked:
            graph.append({"ref": purl(*pair), "dependsOn": depends_on(package)})
    time = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.timezone.utc)
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                "type": "application",
                "bom-ref": ours,
                "name": manifest["name"],
                "version": manifest["version"],
                "description": manifest["description"],
                "licenses": [{"license": {"id": manifest["license"]}}],
                "purl": ours,
                "externalReferences": [{"type": "vcs", "url": manifest["repository"]}],
            },
        },
        "components": [component(package, checksums) for package in packages] + extra,
        "dependencies": graph,
    }
    bom["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(bom, sort_keys=True))}"
    pathlib.Path(sys.argv[1]).write_text(json.dumps(bom, indent=2) + "\n")


main()
