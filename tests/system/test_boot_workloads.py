"""A Debian with systemd and Podman in QEMU, on which the .deb is installed: energy by workload of real services and a container,
with cgroup v2."""

from peers import ROOT, temporary
from qemu import PC, PC_KERNEL_OPTIONS, PODMAN, boot, by_instructions, cpio, debian_root, fetched, test_unit
from workloads import short_processes

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
SYSTEMD = "extra/etc/systemd/system"


def main():
    (package,) = (ROOT / "dist").glob("edge-metrics-exporter_*_amd64.deb")
    kernel, busybox = fetched("amd64", "boot/vmlinuz-*", "bin/busybox")
    files = test_unit() | {
        "init": (HERE / "qemu_debian/init", 0o755),
        "init-of-root": (b"/lib/systemd/systemd", 0o644),
        "bin/busybox": (busybox, 0o755),
        "base.tar": (debian_root(*PODMAN), 0o644),
        "extra/package.deb": (package, 0o644),
        "extra/boot-test": (HERE / "qemu_debian/workloads-test", 0o755),
        "extra/tests/system/peers.py": (HERE / "peers.py", 0o644),
        "extra/tests/system/workloads.py": (HERE / "workloads.py", 0o644),
        "extra/etc/containers/storage.conf": (STORAGE, 0o644),
        f"{SYSTEMD}/edge-metrics-exporter.service.d/board.conf": (DROP_IN, 0o644),
    }
    machine = [*PC, *by_instructions(5)]
    with temporary() as directory:
        files["extra/short_processes"] = (short_processes(directory), 0o755)
        initramfs = directory / "initramfs"
        initramfs.write_bytes(cpio(files, ["dev", "root"]))
        sections = boot(machine, kernel, initramfs, "ttyS0", kernel_options=PC_KERNEL_OPTIONS, seconds=SECONDS)
    print(sections["test"], end="")
    if not sections["test"].endswith("passed\n"):
        print(sections["log"])
        raise SystemExit(1)


main()
