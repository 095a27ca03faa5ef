"""What `make release` puts on a release page (tests/system/prepare has made it): the files agree with their checksums, a second run gives
the same, and each is installed or unpacked, and started."""

import contextlib
import functools
import gzip
import hashlib
import http.server
import io
import json
import os
import pathlib
import pty
import re
import shutil
import subprocess
import tarfile
import threading
import tomllib

import yaml
from peers import ROOT, get, running, temporary, wait_until
from qemu import SERVICES, debian_root

NAME = "edge-metrics-exporter"
RELEASE = ROOT / "dist/release"
VERSION = re.search(r'^version = "(.*)"$', (ROOT / "Cargo.toml").read_text(), flags=re.MULTILINE)[1]
ARCHES = ["x86_64", "armv7", "aarch64"]
EMULATORS = {"armv7": "qemu-arm-static", "aarch64": "qemu-aarch64-static"}
HERE = os.uname().machine
PATH = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


def run(*command, **options):
    """Returns the output of a command; a failure is an error with that output."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def refused(said, *command, **options):
    """Runs a command that must fail with these words."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode != 0 and said in done.stderr, f"{command}: {done}"


def serves(*command):
    """Starts an exporter, and scrapes it."""
    options = ["--web.listen-address", "127.0.0.1:0", "--web.management-address", "127.0.0.1:0"]
    with temporary() as directory, open(directory / "log", "w") as log, running([*command, *options], stderr=log, env=PATH):
        text = (directory / "log").read_text
        try:
            address = wait_until("it listens", lambda: re.search(r"metrics: listening on http://([0-9.:]+)/", text()))[1]
            metrics, _ = get(f"http://{address}/metrics")
        except BaseException:
            print(text())
            raise
    assert re.search(rf'^\w+_build_info{{.*\bversion="{re.escape(VERSION)}"', metrics, flags=re.MULTILINE), metrics


def serves_as(arch, binary):
    serves(*([EMULATORS[arch]] if arch != HERE else []), binary)


@contextlib.contextmanager
def debian():
    with temporary() as directory:
        run("tar", "-xf", debian_root(*SERVICES), "-C", directory)
        # What boards have to fetch with, if not curl.
        (directory / "usr/local/bin/wget").symlink_to("/bin/busybox")
        yield directory


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextlib.contextmanager
def server(directory):
    """Serves the directory's files; yields the address."""
    files = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=directory))
    thread = threading.Thread(target=files.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{files.server_port}"
    finally:
        files.shutdown()
        files.server_close()
        thread.join()


def checksums_are_right():
    run("sha256sum", "--quiet", "--check", "SHA256SUMS", cwd=RELEASE)
    listed = {line.split()[1] for line in (RELEASE / "SHA256SUMS").read_text().splitlines()}
    assert listed == {path.name for path in RELEASE.iterdir()} - {"SHA256SUMS"}, listed
    assert (RELEASE / "RELEASE-NOTES.md").read_text().startswith(f"# {NAME} {VERSION}\n\n###")
    print(f"{len(listed)} files")


def a_second_release_is_the_same():
    """Of the same binaries in another place, with another umask; and it is signed, names what it leaves out, and refuses another tag."""
    with temporary() as directory:
        for file in run("git", "ls-files", "-z", cwd=ROOT).split("\0"):
            if file and not file.startswith(("src/", "fuzz/", "tests/")) and (ROOT / file).is_file():
                (directory / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / file, directory / file)
        # cargo metadata, which is asked for what is linked, looks for the targets.
        for file in ("src/lib.rs", "src/main.rs", "bench/render.rs", "bench/poll.rs"):
            (directory / file).parent.mkdir(parents=True, exist_ok=True)
            (directory / file).touch()
        (directory / "dist").mkdir()
        for arch in ARCHES:
            shutil.copy(ROOT / f"dist/{NAME}-{arch}", directory / "dist")
        shutil.copy(ROOT / "dist/THIRD-PARTY.txt", directory / "dist")
        for key in ("ours", "another"):
            run("minisign", "-G", "-W", "-p", directory / f"{key}.pub", "-s", directory / f"{key}.key")
        environment = os.environ | {
            "SOURCE_DATE_EPOCH": run("git", "log", "-1", "--format=%ct", cwd=ROOT).strip(),
            "MINISIGN_KEY": str(directory / "ours.key"),
        }
        said = run("scripts/release.sh", *ARCHES, "riscv64", cwd=directory, env=environment, umask=0o077)
        assert "left out: riscv64: " in said and "make dist TARGETS=riscv64" in said, said
        sums = lambda place: {line for line in (place / "SHA256SUMS").read_text().splitlines() if "-small" not in line}
        assert sums(directory / "dist/release") == sums(RELEASE), sums(directory / "dist/release") ^ sums(RELEASE)
        refused("change the version", "scripts/release.sh", cwd=directory, env=environment | {"TAG": "v99.0"})
        signatures_are_checked(directory)
        # A binary that another version left in dist/ is not packaged under this one's name.
        manifest = (directory / "Cargo.toml").read_text()
        (directory / "Cargo.toml").write_text(manifest.replace(f'version = "{VERSION}"', 'version = "99.0.0"', 1))
        refused("is not of version 99.0.0", "scripts/release.sh", *ARCHES, cwd=directory, env=environment)


def signatures_are_checked(directory):
    """install.sh --key, with a tarball beside its signed checksums, and by a URL. As nobody answers, nothing is installed."""
    public = {key: (directory / f"{key}.pub").read_text().split("\n")[1] for key in ("ours", "another")}
    release = directory / "dist/release"
    tarball = release / f"{NAME}-{VERSION}-linux-{HERE}.tar.gz"
    options = without_terminal(directory)
    with server(release) as url:
        for source in (tarball, url):
            command = ["sh", release / "install.sh", "--no-start", source, "--key"]
            done = subprocess.run([*command, public["ours"]], capture_output=True, text=True, check=False, **options)
            assert f"{tarball.name}: the checksum is right" in done.stdout and "Nothing was changed." in done.stdout, done
            refused("is not by the key", *command, public["another"], **options)
            assert not (directory / "prefix").exists()
    (release / "SHA256SUMS").write_text((release / "SHA256SUMS").read_text() + "\n")
    refused("is not by the key", "sh", release / "install.sh", "--key", public["ours"], tarball, **options)


def without_terminal(directory, **more):
    """Options of a command that nobody answers, and that would install in this directory."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return {"cwd": directory, "env": environment | {"PREFIX": str(directory / "prefix")} | more, "stdin": subprocess.DEVNULL}


def without_rights(directory, tarball):
    """Where sudo refuses, install.sh and uninstall.sh end at once."""
    tools = directory / "tools"
    tools.mkdir()
    for name, line in (("id", "echo 1000"), ("sudo", "echo sudo: no >&2; exit 1")):
        (tools / name).write_text(f"#!/bin/sh\n{line}\n")
        (tools / name).chmod(0o755)
    options = without_terminal(directory, PATH=f"{tools}:{os.environ['PATH']}")
    command = ["sh", RELEASE / "install.sh", "--yes", "--no-start", RELEASE / tarball]
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode != 0 and "sudo: no" in done.stderr and "a copy of" not in done.stdout, done
    assert not (directory / "prefix").exists()
    done = subprocess.run(["sh", ROOT / "uninstall.sh", "--yes"], capture_output=True, text=True, check=False, **options)
    assert done.returncode != 0 and "is gone" not in done.stdout, done


def installer():
    """install.sh from a pipe, a file and a URL, in a chroot without a checkout; and uninstall.sh, which it leaves there."""
    with debian() as root, server(RELEASE) as url, temporary() as directory:
        tarball = f"{NAME}-{VERSION}-linux-{HERE}.tar.gz"
        script = (RELEASE / "install.sh").read_text()
        assert re.search(rf"^release=https://.*/v{VERSION}$", script, flags=re.MULTILINE), "no address in install.sh"
        placed = lambda: (root / "usr/local/bin" / NAME).exists()
        chroot = lambda *words, **options: run("chroot", root, *words, env=PATH, **options)

        def pipe(text, *words, said=None, shell=("sh",)):
            command = ["chroot", root, *shell, "-s", "--", "--no-start", *words]
            if said:
                refused(said, *command, input=text, env=PATH, start_new_session=True)
                assert not placed(), "it was installed"
            else:
                return run(*command, input=text, env=PATH, start_new_session=True)

        # curl and a pipe fetch the same from the release's own address.
        own = script.replace(re.search(r"^release=.*$", script, flags=re.MULTILINE)[0], f"release={url}")
        pipe(own, said="no terminal to ask on")
        pipe(own, "--small", "--yes", said=f"-linux-{HERE}-small.tar.gz")
        pipe(own, "--yes", f"{url}/gone", said="cannot fetch")
        # Wherever the download of the script ends: nothing is done.
        for end in (len(own) // 3, own.rindex("main"), own.rindex("main") + 4, len(own) - 3):
            subprocess.run(["chroot", root, "sh", "-s", "--", "--yes"], input=own[:end], text=True, capture_output=True, env=PATH, check=False)
            assert not placed(), f"{own[:end][-40:]!r} installed"

        bad = directory / "bad"
        bad.mkdir()
        for words, damage in (
            ("another checksum", lambda whole: whole[:-1] + bytes([whole[-1] ^ 1])),
            ("another checksum", lambda whole: whole[: len(whole) // 2]),
        ):
            (bad / tarball).write_bytes(damage((RELEASE / tarball).read_bytes()))
            shutil.copy(RELEASE / "SHA256SUMS", bad)
            with server(bad) as damaged:
                pipe(own, "--yes", damaged, said=words)
                pipe(own, "--yes", f"{damaged}/{tarball}", said=words)
                # The same with curl, which the chroot has not. As nobody answers, nothing would be installed.
                refused(words, "sh", RELEASE / "install.sh", "--no-start", damaged, **without_terminal(directory))
        refused("cannot fetch", "sh", RELEASE / "install.sh", "--no-start", f"{url}/gone", **without_terminal(directory))
        refused("is it a tarball", "sh", RELEASE / "install.sh", "--no-start", *unchecked(bad, tarball), **without_terminal(directory))
        refused("an absolute path", "sh", RELEASE / "install.sh", "--no-start", RELEASE / tarball, **without_terminal(directory, PREFIX="opt/x"))
        assert not (directory / "prefix").exists()
        without_rights(directory, tarball)

        for shell in (("sh",), ("busybox", "sh")):
            said = pipe(own, "--yes", shell=shell)
            assert f"{tarball}: the checksum is right" in said and placed(), said
            serves("chroot", root, f"/usr/local/bin/{NAME}")
            take_away(root, chroot)
        shutil.copy(RELEASE / tarball, root / "root")
        shutil.copy(RELEASE / "install.sh", root / "root")
        said = chroot("sh", "/root/install.sh", "--yes", "--no-start", f"/root/{tarball}")
        assert "is not checked" in said and placed(), said
        take_away(root, chroot)
        answers_come_from_the_terminal(root, own, placed)
    print("install.sh: from a pipe, a file, a URL; wrong, cut off, signed")


def unchecked(bad, tarball):
    (bad / "SHA256SUMS").unlink()
    return [bad / tarball]


def take_away(root, chroot):
    before = {path for path in root.rglob("*") if path.is_file() and NAME in str(path)}
    assert any(path.name == "uninstall.sh" for path in before), before
    chroot("sh", f"/usr/local/share/{NAME}/uninstall.sh", "--yes", "--purge")
    left = [path for path in before if path.exists() and path.parent != root / "root"]
    assert not left, left


def answers_come_from_the_terminal(root, script, placed):
    """As in `curl … | sh`, where the script is standard input."""
    (root / "piped.sh").write_text(script)
    child, terminal = pty.fork()
    if child == 0:
        os.chroot(root)
        os.chdir("/")
        os.execve("/bin/sh", ["sh", "-c", "cat /piped.sh | sh -s -- --no-start"], PATH)
    said = b""
    try:
        while b"with a service? [Y/n]" not in said:
            said += os.read(terminal, 4096)
        os.write(terminal, b"n\n")
        with contextlib.suppress(OSError):
            while more := os.read(terminal, 4096):
                said += more
    finally:
        os.close(terminal)
        os.waitpid(child, 0)
    assert b"Nothing was changed." in said and not placed(), said


def debian_packages():
    """Lintian finds no error in any; that of this machine is installed in a chroot, and starts as its user with its configuration."""
    names = {"x86_64": "amd64", "armv7": "armhf", "aarch64": "arm64"}
    packages = {arch: RELEASE / f"{NAME}_{VERSION}_{names[arch]}.deb" for arch in ARCHES}
    run("lintian", "--fail-on", "error", "--allow-root", *packages.values())
    with debian() as root:
        shutil.copy(packages[HERE], root / "package.deb")
        install = lambda: run("chroot", root, "dpkg", "-i", "/package.deb", env=PATH | {"DEBIAN_FRONTEND": "noninteractive"})
        install()
        script = root / "etc/init.d" / NAME
        assert script.is_file()
        # A conffile that somebody removed stays removed, and an upgrade succeeds.
        script.unlink()
        install()
        assert not script.exists()
        serves("chroot", "--userspec=edge-metrics:edge-metrics", root, f"/usr/bin/{NAME}")
    for arch, package in packages.items():
        with temporary() as directory:
            run("dpkg-deb", "-x", package, directory)
            serves_as(arch, directory / f"usr/bin/{NAME}")
    print(f"Debian: {', '.join(package.name for package in packages.values())}")


def raspbians_package_is_armhf():
    """That of ARMv6 has Raspbian's name, and that of ARMv7, which dpkg takes there, refuses ARMv6. Any file is the binary here."""
    with temporary() as directory:
        for place in ("scripts", "systemd", "sysvinit", "debian", "man", "completions"):
            shutil.copytree(ROOT / place, directory / place)
        for file in ("Cargo.toml", "LICENSE", "CHANGELOG.md", "config.yaml.template"):
            shutil.copy(ROOT / file, directory)
        (directory / "dist").mkdir()
        for arch in ("arm", "armv7"):
            (directory / f"dist/{NAME}-{arch}").write_bytes(b"a binary")
        (directory / "dist/THIRD-PARTY.txt").write_text("licences")
        run("scripts/deb.sh", "arm", "armv7", cwd=directory, env=os.environ | {"SOURCE_DATE_EPOCH": "0"})
        package = directory / f"dist/{NAME}_{VERSION}+rpi1_armhf.deb"
        assert run("dpkg-deb", "-f", package, "Architecture", "Version") == f"Architecture: armhf\nVersion: {VERSION}+rpi1\n"
        run("dpkg-deb", "-e", package, directory / "arm")
        assert not (directory / "arm/preinst").exists()
        run("dpkg-deb", "-e", directory / f"dist/{NAME}_{VERSION}_armhf.deb", directory / "armv7")
        for machine in ("armv6l", "armv7l"):
            (directory / "uname").write_text(f"#!/bin/sh\necho {machine}\n")
            (directory / "uname").chmod(0o755)
            preinst, environment = directory / "armv7/preinst", {"PATH": f"{directory}:{os.environ['PATH']}"}
            if machine == "armv6l":
                refused("take the one with +rpi1", preinst, "install", env=environment)
            else:
                run(preinst, "install", env=environment)


def image():
    """The container image: every digest and size, and each platform's layers unpacked in their order and started."""
    with temporary() as directory:
        with tarfile.open(RELEASE / f"{NAME}-{VERSION}.oci.tar") as archive:
            archive.extractall(directory, filter="data")
        assert json.loads((directory / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}

        def blob(descriptor):
            content = (directory / "blobs/sha256" / descriptor["digest"].removeprefix("sha256:")).read_bytes()
            assert f"sha256:{hashlib.sha256(content).hexdigest()}" == descriptor["digest"], descriptor
            assert len(content) == descriptor["size"], descriptor
            return content

        (top,) = json.loads((directory / "index.json").read_text())["manifests"]
        assert top["annotations"]["org.opencontainers.image.ref.name"] == VERSION, top
        platforms = {}
        for descriptor in json.loads(blob(top))["manifests"]:
            manifest = json.loads(blob(descriptor))
            config = json.loads(blob(manifest["config"]))
            platform = descriptor["platform"]
            assert platform.items() <= config.items(), config
            root = directory / platform["architecture"]
            for layer, digest in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
                content = gzip.decompress(blob(layer))
                assert f"sha256:{hashlib.sha256(content).hexdigest()}" == digest, layer
                with tarfile.open(fileobj=io.BytesIO(content)) as files:
                    assert not any(file.uid or file.gid for file in files), "a file that is not root's"
                    files.extractall(root, filter="data")
            platforms["/".join(platform.values())] = root
            (entrypoint,) = config["config"]["Entrypoint"]
            assert (root / "THIRD-PARTY.txt").is_file()
            # None that this machine trusts besides.
            known = b"".join(file.read_bytes() for file in sorted(pathlib.Path("/usr/share/ca-certificates/mozilla").glob("*.crt")))
            assert known and (root / "etc/ssl/certs/ca-certificates.crt").read_bytes() == known
            arch = {"amd64": "x86_64", "arm": "armv7", "arm64": "aarch64"}[platform["architecture"]]
            if arch == HERE:
                directory.chmod(0o755)
                serves("chroot", f"--userspec={config['config']['User']}", root, entrypoint)
            else:
                serves_as(arch, root / entrypoint.lstrip("/"))
        assert set(platforms) == {"amd64/linux", "arm/linux/v7", "arm64/linux"}, platforms
    print(f"image: {', '.join(sorted(platforms))}")


def bill_of_materials():
    """It has every crate of Cargo.lock that THIRD-PARTY.txt names, and the dependencies lead to components."""
    bom = json.loads((RELEASE / f"{NAME}-{VERSION}.cdx.json").read_text())
    assert (bom["bomFormat"], bom["specVersion"], bom["metadata"]["component"]["version"]) == ("CycloneDX", "1.5", VERSION), bom
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    checksums = {(package["name"], package["version"]): package.get("checksum") for package in lock}
    crates = {(one["name"], one["version"]): one for one in bom["components"] if "version" in one}
    named = re.findall(r"^([\w-]+) (\d+\.\S+), .+$", (RELEASE / "THIRD-PARTY.txt").read_text(), flags=re.MULTILINE)
    assert crates.keys() == set(named) and len(crates) > 50, crates.keys() ^ set(named)
    for crate, one in crates.items():
        assert one["hashes"] == [{"alg": "SHA-256", "content": checksums[crate]}] and one["licenses"], one
    known = {one["bom-ref"] for one in [*bom["components"], bom["metadata"]["component"]]}
    graph = {one["ref"]: set(one["dependsOn"]) for one in bom["dependencies"]}
    assert graph.keys() <= known and set().union(*graph.values()) <= known, "a dependency on what is not in it"
    reached, waiting = set(), [bom["metadata"]["component"]["bom-ref"]]
    while waiting:
        one = waiting.pop()
        if one not in reached:
            reached.add(one)
            waiting += graph.get(one, ())
    assert reached == known, f"nothing depends on {known - reached}"
    print(f"bill of materials: {len(crates)} crates")


def workflow_builds_by_make():
    """The forge's workflow pins its actions to commits, and calls targets of the Makefile."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    used = [step["uses"] for step in steps if "uses" in step]
    assert used and all(re.search(r"@[0-9a-f]{40}$", action) for action in used), used
    scripts = "\n".join(step["run"] for step in steps if "run" in step)
    # The runner has sh end at the first failure.
    run("shellcheck", "--shell=sh", "--severity=warning", "-", input=f"set -e\n{scripts}")
    targets = re.findall(r"^\s*make (\w+)", scripts, flags=re.MULTILINE)
    assert targets == ["release"], targets
    (signs,) = [step for step in steps if "SIGNING_KEY" in step.get("env", {})]
    assert "scripts/release.sh" in signs["run"] and "make" not in signs["run"], "the key is there while others' code runs"
    run("make", "--dry-run", *targets, cwd=ROOT)


# OpenWrt's rc.common, as far as the init script is concerned: says what procd would be told.
RC_COMMON = """for told in open_instance set_param append_param close_instance send_signal; do
    eval "procd_$told() { echo $told \\"\\$@\\"; }"
done
. "$1"
case $2 in
start | reload) "$2_service" ;;
*) "$2" ;;
esac
"""


def openwrt():
    """Each ipk unpacked and its binary started; the init script of one, in a chroot with busybox, says what procd is to start."""
    with debian() as root, temporary() as directory:
        for arch in ARCHES:
            package = directory / arch
            package.mkdir()
            run("tar", "-xzf", RELEASE / f"{NAME}_{VERSION}-1_{arch}.ipk", "-C", package)
            assert (package / "debian-binary").read_text() == "2.0\n"
            for part in ("control", "data"):
                with tarfile.open(package / f"{part}.tar.gz") as files:
                    assert not any(file.uid or file.gid for file in files), "a file that is not root's"
                    files.extractall(package / part, filter="tar")
            control = dict(re.findall(r"^([\w-]+): (.*)$", (package / "control/control").read_text(), flags=re.MULTILINE))
            assert control["Version"] == f"{VERSION}-1" and control["Require-User"] == "edge-metrics:edge-metrics", control
            for file in (package / "control/conffiles").read_text().split():
                assert (package / "data" / file.lstrip("/")).is_file(), file
            serves_as(arch, package / f"data/usr/bin/{NAME}")
            # The package refuses another processor, and the installation of an image has none yet.
            preinst = ["busybox", "sh", package / "control/preinst"]
            if arch == HERE:
                run(*preinst)
            else:
                refused(f"is for {arch}, and this machine is {HERE}", *preinst)
                run(*preinst, env=PATH | {"IPKG_INSTROOT": "/image"})
            for script in ("preinst", "postinst", "prerm"):
                run("shellcheck", "--shell=dash", "--severity=warning", package / "control" / script)

        shutil.copytree(directory / HERE / "data", root, dirs_exist_ok=True)
        (root / "etc/rc.common").write_text(RC_COMMON)
        run("chroot", root, "useradd", "--system", "--user-group", "edge-metrics", env=PATH)
        (root / f"etc/default/{NAME}").write_text('OPTIONS="--log.level debug"\nCONFIG_SERVER_URL="http://a b"\n')
        init = lambda word: run("chroot", root, "busybox", "sh", "/etc/rc.common", f"/etc/init.d/{NAME}", word, env=PATH)
        told = init("start").splitlines()
        assert told[0] == "open_instance" and told[-1] == "close_instance", told
        assert f"set_param command /usr/bin/{NAME} --log.level debug" in told, told
        assert "append_param env CONFIG_SERVER_URL=http://a b" in told and "set_param user edge-metrics" in told, told
        assert "set_param respawn 3600 5 0" in told, told
        command = next(line for line in told if line.startswith("set_param command ")).split()[2:]
        # It can read its configuration, and write it.
        serves("chroot", "--userspec=edge-metrics:edge-metrics", root, *command)
        owner = run("chroot", root, "stat", "-c", "%U %a", f"/etc/{NAME}", f"/etc/{NAME}/config.yaml", env=PATH)
        assert owner == "edge-metrics 750\nedge-metrics 640\n", owner
        assert init("reload") == f"send_signal {NAME} * HUP\n"
        (root / f"etc/{NAME}/config.yaml").write_text("interval: [\n")
        refused("the configuration remains unchanged", "chroot", root, "sh", "/etc/rc.common", f"/etc/init.d/{NAME}", "reload", env=PATH)
    print(f"OpenWrt: {', '.join(ARCHES)}")


def main():
    checksums_are_right()
    a_second_release_is_the_same()
    debian_packages()
    raspbians_package_is_armhf()
    installer()
    image()
    bill_of_materials()
    workflow_builds_by_make()
    openwrt()


main()
