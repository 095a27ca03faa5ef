#!/usr/bin/env python3
"""Makes an OCI image archive of several platforms without a docker: scripts/oci.py CONTEXT ARCHIVE VERSION REPOSITORY

CONTEXT is what `deploy/docker/image.sh --context` lays out, a folder for each architecture. What the image does is read from
deploy/docker/Dockerfile. Two layers: the licences and certificates, which all platforms share, and the binary. The same files
give the same archive, byte for byte; all times in it are SOURCE_DATE_EPOCH.

The layout is that of the OCI image specification 1.1 (image-layout.md), in a tar.
"""

import datetime
import gzip
import hashlib
import io
import json
import os
import pathlib
import re
import sys
import tarfile

NAME = "edge-metrics-exporter"
DOCKERFILE = pathlib.Path(__file__).resolve().parents[1] / "deploy/docker/Dockerfile"
PLATFORMS = {
    "amd64": {"architecture": "amd64", "os": "linux"},
    "arm": {"architecture": "arm", "os": "linux", "variant": "v7"},
    "arm64": {"architecture": "arm64", "os": "linux"},
}
EPOCH = int(os.environ["SOURCE_DATE_EPOCH"])
CREATED = datetime.datetime.fromtimestamp(EPOCH, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
MEDIA = "application/vnd.oci.image."


def entry(tar, name, content=None, mode=0o644):
    """Adds a file, or a directory without content, that is root's."""
    info = tarfile.TarInfo(name)
    info.mtime = EPOCH
    info.mode = mode
    if content is None:
        info.type = tarfile.DIRTYPE
        info.mode = 0o755
        tar.addfile(info)
    else:
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))


def packed(files):
    """The bytes of a tar with these files (name: (content, mode)) and their directories."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        parents = {str(parent) for name in files for parent in pathlib.PurePath(name).parents} - {"."}
        for parent in sorted(parents):
            entry(tar, f"{parent}/")
        for name, (content, mode) in sorted(files.items()):
            entry(tar, name, content, mode)
    return buffer.getvalue()


def settings():
    """The image's config, as the Dockerfile has it."""
    text = DOCKERFILE.read_text()
    word = lambda instruction: re.search(rf"^{instruction} (.*)$", text, flags=re.MULTILINE)[1]
    return {
        "User": word("USER"),
        "ExposedPorts": {f"{port}/tcp": {} for port in word("EXPOSE").split()},
        "Entrypoint": json.loads(word("ENTRYPOINT")),
    }


class Layout:
    def __init__(self):
        self.blobs = {}

    def add(self, kind, content, **more):
        """Keeps a blob; returns its descriptor."""
        content = content if isinstance(content, bytes) else json.dumps(content, sort_keys=True).encode()
        digest = hashlib.sha256(content).hexdigest()
        self.blobs[f"blobs/sha256/{digest}"] = (content, 0o644)
        return {"mediaType": f"{MEDIA}{kind}", "digest": f"sha256:{digest}", "size": len(content), **more}

    def platform(self, folder, platform, labels):
        """Adds the image of one platform; returns the descriptor of its manifest."""
        files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
        layers = [
            packed({name: (path.read_bytes(), 0o644) for name, path in files.items() if name != NAME}),
            packed({NAME: (files[NAME].read_bytes(), 0o755)}),
        ]
        config = self.add(
            "config.v1+json",
            {
                **platform,
                "created": CREATED,
                "config": {**settings(), "Labels": labels},
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]},
                "history": [
                    {"created": CREATED, "created_by": f"{NAME}: licences and certificates"},
                    {"created": CREATED, "created_by": f"{NAME}: the binary"},
                ],
            },
        )
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{MEDIA}manifest.v1+json",
            "config": config,
            "layers": [self.add("layer.v1.tar+gzip", gzip.compress(layer, mtime=0)) for layer in layers],
            "annotations": labels,
        }
        return self.add("manifest.v1+json", manifest, platform=platform)


def main():
    context, archive, version, repository = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), *sys.argv[3:]
    labels = {
        "org.opencontainers.image.title": NAME,
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.source": repository,
        "org.opencontainers.image.licenses": "MIT",
        "org.opencontainers.image.created": CREATED,
    }
    layout = Layout()
    folders = [name for name in PLATFORMS if (context / name / NAME).is_file()]
    if not folders:
        sys.exit(f"{context} has none of the platforms {', '.join(PLATFORMS)}: make dist")
    manifests = [layout.platform(context / name, PLATFORMS[name], labels) for name in folders]
    index = {"schemaVersion": 2, "mediaType": f"{MEDIA}index.v1+json", "manifests": manifests}
    # As buildx names it, for docker's and containerd's import, and for skopeo and podman.
    names = {"org.opencontainers.image.ref.name": version, "io.containerd.image.name": f"docker.io/library/{NAME}:{version}"}
    top = {"schemaVersion": 2, "mediaType": f"{MEDIA}index.v1+json", "manifests": [layout.add("index.v1+json", index, annotations=names)]}
    files = {
        "oci-layout": (b'{"imageLayoutVersion": "1.0.0"}', 0o644),
        "index.json": (json.dumps(top, sort_keys=True).encode(), 0o644),
        **layout.blobs,
    }
    archive.write_bytes(packed(files))


main()
