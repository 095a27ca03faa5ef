"""Boards and machines in QEMU: Debian's kernels, an initramfs, and their output on a serial console.

As a program: fetches and builds all images that the tests need."""

import contextlib
import fcntl
import os
import pathlib
import re
import stat
import subprocess
import time

from peers import ROOT

# Fetching and building images goes on beside builds, which may keep all processors busy.
FETCH_SECONDS = 1800
BOOT_SECONDS = 600
IMAGES = ROOT / "target/qemu"
# Debian's name of the kernel for each of its architectures.
FLAVOURS = {"arm64": "arm64", "armhf": "armmp", "amd64": "amd64"}


@contextlib.contextmanager
def locked(name):
    """One process at a time builds an image; others wait for it and use it."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with open(IMAGES / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def fetched(architecture, *places):
    """Paths in Debian's packages of a kernel and of a static busybox, which are fetched once."""
    flavour = FLAVOURS[architecture]
    directory = IMAGES / flavour

    def find():
        return [next(iter(sorted((directory / "root").glob(place))), None) for place in places]

    with locked(flavour):
        if not all(find()):
            command = [ROOT / "tests/system/qemu_fetch", architecture, flavour, directory]
            subprocess.run(command, check=True, timeout=FETCH_SECONDS)
        found = find()
    assert all(found), f"the packages lack something: {dict(zip(places, found))}"
    return found


def modules(architecture, *names):
    """Paths of modules of a kernel, each after those that it needs."""
    (kernel,) = fetched(architecture, "lib/modules/*/kernel")
    plain = lambda name: name.replace("-", "_")
    paths = {plain(path.stem): path for path in kernel.rglob("*.ko")}
    found = {}

    def add(name):
        path = paths[plain(name)]
        needs = re.search(rb"\0depends=([^\0]*)\0", path.read_bytes())[1].decode()
        for needed in filter(None, needs.split(",")):
            add(needed)
        found[path] = None

    for name in names:
        add(name)
    return list(found)


# A small Debian with systemd and OpenRC.
SERVICES = "root", "systemd,udev,dbus,openrc,busybox-static,init-system-helpers,passwd"
# One with systemd and Podman.
PODMAN = "podman", "systemd,dbus,busybox-static,init-system-helpers,passwd,python3,podman,crun"


def debian_root(name, packages):
    """The tar file of a Debian with these packages, which is built once."""
    packed = IMAGES / f"debian-{name}.tar"
    with locked(packed.name):
        if packed.exists():
            return packed
        left_out = ("share/doc", "share/man", "share/locale", "lib/cni")
        without = [f"--dpkgopt=path-exclude=/usr/{place}/*" for place in left_out]
        unfinished = packed.with_suffix(".part.tar")
        command = ["mmdebstrap", "--quiet", "--variant=essential", f"--include={packages}", *without]
        subprocess.run([*command, "bookworm", unfinished], check=True, timeout=FETCH_SECONDS)
        unfinished.rename(packed)
    return packed


# Runs /boot-test when the machine is up, on its console.
TEST_UNIT = b"""[Unit]
After=multi-user.target
[Service]
Type=oneshot
TimeoutStartSec=infinity
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
ExecStart=/boot-test
"""


def test_unit():
    """The files by which systemd runs a test, for `cpio`."""
    place = "extra/etc/systemd/system"
    return {
        "extra/etc/machine-id": (b"0123456789abcdef0123456789abcdef\n", 0o644),
        f"{place}/boot-test.service": (TEST_UNIT, 0o644),
        f"{place}/multi-user.target.wants/boot-test.service": link("../boot-test.service"),
        # The console is used by the test.
        f"{place}/serial-getty@ttyS0.service": link("/dev/null"),
    }


def tree(directory, place):
    """The files and links under a directory, for `cpio`, below `place`."""
    files = {}
    for path in sorted(directory.rglob("*")):
        name = f"{place}/{path.relative_to(directory)}"
        if path.is_symlink():
            files[name] = link(path.readlink())
        elif path.is_file():
            files[name] = (path, 0o644)
    return files


def sources(place):
    """The files that install.sh needs, with the static binary, for `cpio`, below `place`."""
    names = ["install.sh", "uninstall.sh", "scripts/place.sh", "config.yaml.template", "LICENSE"]
    for folder in ("systemd", "openrc", "man", "completions"):
        names += [str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*") if path.is_file()]
    names.append("dist/edge-metrics-exporter-x86_64")
    return {f"{place}/{name}": (ROOT / name, stat.S_IMODE((ROOT / name).stat().st_mode)) for name in names}


def link(target):
    return (os.fsencode(target), stat.S_IFLNK | 0o777)


def cpio(files, directories):
    """An archive in the "new ASCII" format (Linux, Documentation/driver-api/early-userspace/buffer-format.rst). `files`
    maps names to (path or bytes, mode)."""
    archive = bytearray()

    def entry(name, mode, content):
        encoded = name.encode() + b"\0"
        # inode, mode, owner, group, links, time, size, 4 × device, length of the name, checksum
        numbers = [0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0]
        archive.extend(b"070701" + b"".join(b"%08X" % number for number in numbers) + encoded)
        archive.extend(b"\0" * (-len(archive) % 4) + content)
        archive.extend(b"\0" * (-len(archive) % 4))

    parents = {str(parent) for name in files for parent in pathlib.PurePath(name).parents} - {"."}
    for directory in sorted(parents | set(directories)):
        entry(directory, stat.S_IFDIR | 0o755, b"")
    for name, (source, mode) in files.items():
        content = source if isinstance(source, bytes) else pathlib.Path(source).read_bytes()
        entry(name, mode if stat.S_IFMT(mode) else stat.S_IFREG | mode, content)
    entry("TRAILER!!!", 0, b"")
    return bytes(archive)


# An x86 kernel checks its timer at boot, and on a busy machine QEMU's may be late.
PC = ["qemu-system-x86_64", "-M", "q35", "-cpu", "max", "-m", "1200"]
PC_KERNEL_OPTIONS = "no_timer_check"


def by_instructions(shift):
    """The machine's clock counts its instructions, 2 to the power of `shift` nanoseconds each, and goes on at once while it sleeps:
    whatever else keeps the processors of this one busy, its processes have the time that they would have alone."""
    return ["-icount", f"shift={shift},sleep=off", "-rtc", "clock=vm"]



def boot(command, kernel, initramfs, console, *more, kernel_options="", seconds=BOOT_SECONDS):
    """Runs a machine until it powers off; returns its output by section ("=== name")."""
    command = [*command, "-kernel", kernel, "-initrd", initramfs]
    command += ["-append", f"console={console} panic=-1 quiet loglevel=1 {kernel_options}", *more]
    command += ["-display", "none", "-monitor", "none", "-serial", "stdio", "-nic", "none", "-no-reboot"]
    command += ["-audiodev", "none,id=none"]
    began = time.monotonic()
    try:
        printed = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=True
        ).stdout
    except subprocess.TimeoutExpired as late:
        print((late.stdout or b"").decode(errors="replace"))
        raise
    print(f"it ran for {time.monotonic() - began:.1f} s")
    printed = printed.decode(errors="replace").replace("\r", "")
    parts = re.split(r"^=== (.*)\n", printed, flags=re.MULTILINE)[1:]
    sections = dict(zip(parts[::2], parts[1::2]))
    if "end" not in sections:
        print(printed)
        raise AssertionError("it did not come to its end")
    return sections


if __name__ == "__main__":
    for architecture in FLAVOURS:
        fetched(architecture, "boot/vmlinuz-*", "bin/busybox")
    debian_root(*SERVICES)
    debian_root(*PODMAN)
