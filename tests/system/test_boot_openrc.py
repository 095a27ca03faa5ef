"""A Debian with OpenRC as PID 1 in QEMU: the service starts, reloads, is started again when it crashes, and stops."""

import os
import subprocess

from peers import ROOT, temporary
from qemu import PC, PC_KERNEL_OPTIONS, SERVICES, boot, cpio, debian_root, fetched, tree

GUEST = ROOT / "tests/system/qemu_debian"
SECONDS = 900
TEST = b"""#!/sbin/openrc-run
depend() { after *; }
start() { /boot-test; }
"""


def check(sections):
    def says(section, *words):
        for word in words:
            assert word in sections[section], f"{section}: no {word!r} in {sections[section]}"

    says("started", "status: started", "power_total_watts{", "NoNewPrivs:\t1\n", "directory of queues: edge-metrics 750\n")
    assert "Uid:\t0" not in sections["started"], sections["started"]
    says("checkconfig", "/etc/edge-metrics-exporter/config.yaml: good")
    says("reload", 'hostname="renamed"', "the same process")
    says("bad reload", "exit status 1", 'hostname="renamed"')
    says("crash", "status: started")
    says("stop", "no process")
    assert "in vain" not in "".join(sections.values()), sections


def main():
    binary = ROOT / "dist/edge-metrics-exporter-x86_64"
    kernel, busybox = fetched("amd64", "boot/vmlinuz-*", "bin/busybox")
    with temporary() as directory:
        installed = directory / "installed"
        environment = os.environ | {"DESTDIR": str(installed), "PREFIX": "/usr", "INIT": "openrc"}
        subprocess.run([ROOT / "scripts/place.sh", "install", binary], check=True, env=environment)
        files = tree(ROOT / "tests/boards/orange_pi_axp", "extra/board") | {
            # All installed files are executable: the binary and the init script have to be.
            **{name: (path, 0o755) for name, (path, _) in tree(installed, "extra").items()},
            "init": (GUEST / "init", 0o755),
            "init-of-root": (b"/sbin/openrc-init", 0o644),
            "bin/busybox": (busybox, 0o755),
            "base.tar": (debian_root(*SERVICES), 0o644),
            "extra/prepare": (GUEST / "openrc-prepare", 0o755),
            "extra/boot-test": (GUEST / "openrc-test", 0o755),
            "extra/etc/init.d/boot-test": (TEST, 0o755),
        }
        initramfs = directory / "initramfs"
        initramfs.write_bytes(cpio(files, ["dev", "root"]))
        sections = boot(PC, kernel, initramfs, "ttyS0", kernel_options=PC_KERNEL_OPTIONS, seconds=SECONDS)
    try:
        check(sections)
    except (AssertionError, KeyError):
        print(sections["started"])
        raise
    print("started, reloaded, crashed and came back, stopped")


main()
