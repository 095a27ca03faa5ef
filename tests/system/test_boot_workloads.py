"""A Debian with systemd and Podman in QEMU, with what is in the .deb: energy by workload of real services and a container, with
cgroup v2. The installation itself is in test_boot_systemd: dpkg takes two minutes of this slow machine."""

import subprocess

from peers import ROOT, temporary
from qemu import PC, PC_KERNEL_OPTIONS, PODMAN, boot, by_instructions, cpio, debian_root, fetched, test_unit, tree
from workloads import CONFIG, short_processes

HERE = ROOT / "tests/system"
SECONDS = 1200
DROP_IN = b"""[Service]
Environment="OPTIONS=--path.sysfs=/board/sys"
"""
# The root is in memory, where there is no overlay.
STORAGE = b"""[storage]
driver = "vfs"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
"""
PREPARE = b"""#!/bin/sh
PATH=/usr/sbin:/usr/bin:/sbin:/bin
exec useradd --system --user-group --no-create-home --shell /usr/sbin/nologin edge-metrics
"""
SYSTEMD = "extra/etc/systemd/system"
PROGRAM = "extra/usr/bin/edge-metrics-exporter"


def main():
    (package,) = (ROOT / "dist").glob("edge-metrics-exporter_*_amd64.deb")
    kernel, busybox = fetched("amd64", "boot/vmlinuz-*", "bin/busybox")
    files = test_unit() | {
        "init": (HERE / "qemu_debian/init", 0o755),
        "init-of-root": (b"/lib/systemd/systemd", 0o644),
        "bin/busybox": (busybox, 0o755),
        "base.tar": (debian_root(*PODMAN), 0o644),
        "extra/prepare": (PREPARE, 0o755),
        "extra/boot-test": (HERE / "qemu_debian/workloads-test", 0o755),
        "extra/tests/system/peers.py": (HERE / "peers.py", 0o644),
        "extra/tests/system/workloads.py": (HERE / "workloads.py", 0o644),
        "extra/etc/containers/storage.conf": (STORAGE, 0o644),
        "extra/etc/edge-metrics-exporter/config.yaml": (CONFIG.encode(), 0o644),
        f"{SYSTEMD}/edge-metrics-exporter.service.d/board.conf": (DROP_IN, 0o644),
    }
    machine = [*PC, *by_instructions(5)]
    with temporary() as directory:
        files["extra/short_processes"] = (short_processes(directory), 0o755)
        installed = directory / "installed"
        subprocess.run(["dpkg-deb", "-x", package, installed], check=True)
        files = tree(installed, "extra") | files | {PROGRAM: (installed / "usr/bin/edge-metrics-exporter", 0o755)}
        initramfs = directory / "initramfs"
        initramfs.write_bytes(cpio(files, ["dev", "root"]))
        sections = boot(machine, kernel, initramfs, "ttyS0", kernel_options=PC_KERNEL_OPTIONS, seconds=SECONDS)
    print(sections["test"], end="")
    if not sections["test"].endswith("passed\n"):
        print(sections["log"])
        raise SystemExit(1)


main()
