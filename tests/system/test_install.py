"""In a chroot, the Debian packages and install.sh: installing, upgrading, removing and purging leave the expected files only. (With systemd as PID 1: test_boot_systemd.py.)"""

import hashlib
import os
import re
import shutil
import subprocess

from peers import ROOT, temporary
from qemu import SERVICES, debian_root, sources

NAME = "edge-metrics-exporter"
CONFIG = f"etc/{NAME}/config.yaml"
# Records and logs of dpkg and other tools.
BOOKS = re.compile(r"var/(lib/dpkg|lib/systemd/deb-systemd-helper|lib/insserv|log|cache)(/|$)|etc/(passwd|group|g?shadow|sub[ug]id)-?$")


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def listing(root):
    paths = {str(path.relative_to(root)) for path in root.rglob("*")}
    return {path for path in paths if not BOOKS.match(path)}


def users(root):
    return {line.split(":")[0] for line in (root / "etc/passwd").read_text().splitlines()}


def life(package, root):
    run("tar", "-xf", debian_root(*SERVICES), "-C", root)
    before = listing(root)
    users_before = users(root)
    dpkg = lambda *words: run("chroot", root, "dpkg", *words, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"})

    run("cp", package, root / "package.deb")
    dpkg("-i", "/package.deb")
    (root / "package.deb").unlink()
    assert users(root) - users_before == {"edge-metrics"}
    for group in ("i2c", "video"):
        assert re.search(rf"^{group}:.*edge-metrics", (root / "etc/group").read_text(), flags=re.MULTILINE), group
    owner = run("chroot", root, "stat", "-c", "%U:%G %a", f"/{CONFIG}", f"/etc/{NAME}", f"/var/lib/{NAME}").split("\n")
    assert owner[:3] == ["edge-metrics:edge-metrics 640", "edge-metrics:edge-metrics 750", "edge-metrics:edge-metrics 750"], owner
    assert (root / CONFIG).read_text() == (ROOT / "config.yaml.template").read_text()
    said = run("chroot", root, f"/usr/bin/{NAME}", "check-config", f"/{CONFIG}")
    assert "good" in said, said

    (root / CONFIG).write_text("hostname: mine\n")
    (root / f"etc/default/{NAME}").write_text("OPTIONS=--log.level=debug\n")
    newer = root.parent / "newer"
    run("dpkg-deb", "-R", package, newer)
    control = newer / "DEBIAN/control"
    control.write_text(re.sub(r"^(Version: .*)$", r"\1+1", control.read_text(), flags=re.MULTILINE))
    run("dpkg-deb", "--build", "--root-owner-group", newer, root / "newer.deb")
    dpkg("-i", "/newer.deb")
    (root / "newer.deb").unlink()
    assert "+1" in dpkg("-s", NAME)
    assert (root / CONFIG).read_text() == "hostname: mine\n", "an upgrade took the configuration"
    assert (root / f"etc/default/{NAME}").read_text() == "OPTIONS=--log.level=debug\n"

    dpkg("-r", NAME)
    left = {path for path in listing(root) - before if not re.match(r"etc/(rc[0-6S]\.d|runlevels)(/|$)", path)}
    # dpkg keeps the init script, as a file that may have been changed; it must not be started.
    assert left == {f"etc/{NAME}", CONFIG, f"etc/default/{NAME}", f"etc/init.d/{NAME}"}, left
    assert not os.access(root / f"etc/init.d/{NAME}", os.X_OK)
    assert before <= listing(root), before - listing(root)

    dpkg("-P", NAME)
    assert listing(root) == before, listing(root) ^ before
    assert users(root) == users_before
    print("installed, upgraded, removed, purged")


def scripts(root):
    """install.sh and uninstall.sh, on a machine with OpenRC and a config.yaml beside them, as the program's predecessor had."""
    run("tar", "-xf", debian_root(*SERVICES), "-C", root)
    before = listing(root)
    users_before = users(root)
    source = root / "src"
    for name, (path, mode) in sources(source.name).items():
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        target.chmod(mode)
    (source / "config.yaml").write_text("hostname: mine\n")
    path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    here = lambda *words: run("chroot", root, "sh", f"/src/{words[0]}", *words[1:], env=path)

    here("install.sh", "--yes", "--no-start")
    assert users(root) - users_before == {"edge-metrics"}
    assert (root / CONFIG).read_text() == "hostname: mine\n"
    assert (root / f"etc/runlevels/default/{NAME}").is_symlink()
    (root / CONFIG).write_text("hostname: another\n")
    here("install.sh", "--yes", "--no-start")
    assert (root / CONFIG).read_text() == "hostname: another\n", "installing again took the configuration"
    here("uninstall.sh", "--yes")
    left = {path for path in listing(root) - before if not path.startswith("src") and (root / path).is_file()}
    assert left == {CONFIG, f"etc/conf.d/{NAME}"}, left
    here("uninstall.sh", "--yes", "--purge")
    left = {path for path in listing(root) - before if not path.startswith("src") and (root / path).is_file()}
    assert not left, left
    assert users(root) == users_before
    print("install.sh and uninstall.sh, with OpenRC")


def digests(packages):
    return {package.name: hashlib.sha256(package.read_bytes()).hexdigest() for package in packages}


def packaged(source):
    """Builds the packages twice in a copy of the source tree, as other tests read those in dist/ meanwhile."""
    shutil.copytree(ROOT, source, symlinks=True, ignore=shutil.ignore_patterns(".git", "target", "*.deb", "release"))
    arches = ["x86_64", "armv7", "aarch64"]
    environment = os.environ | {"SOURCE_DATE_EPOCH": run("git", "log", "-1", "--format=%ct", cwd=ROOT).strip()}
    run("scripts/deb.sh", *arches, cwd=source, env=environment)
    packages = sorted((source / "dist").glob(f"{NAME}_*.deb"))
    first = digests(packages)
    run("scripts/deb.sh", *arches, cwd=source, env=environment)
    assert digests(packages) == first, "the same binaries gave another package"
    return packages


def main():
    with temporary() as directory:
        packages = packaged(directory / "source")
        architectures = {run("dpkg-deb", "-f", package, "Architecture").strip() for package in packages}
        assert architectures == {"amd64", "armhf", "arm64"}, architectures
        for package in packages:
            said = run("dpkg-deb", "-c", package)
            assert f" ./usr/bin/{NAME}\n" in said and "/copyright\n" in said, said
            assert not re.search(r"^\S+ (?!root/root)", said, flags=re.MULTILINE), "files that are not root's"
        (amd64,) = [package for package in packages if package.name.endswith("_amd64.deb")]
        root = directory / "root"
        root.mkdir()
        life(amd64, root)
        other = directory / "other"
        other.mkdir()
        scripts(other)


main()
