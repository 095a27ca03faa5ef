"""A Debian with systemd and Podman in QEMU, on which the .deb is installed: energy by workload of real services and a container,
with cgroup v2."""

from peers import ROOT, temporary
from qemu import PC, PC_KERNEL_OPTIONS, PODMAN, boot, cpio, debian_root, fetched, test_unit
from workloads import short_processes

HERE = ROOT / "tests/system"
SECONDS = 1500
DROP_IN = b"""[Service]
Environment="OPTIONS=--path.sysfs=/board/sys"
"""
# The root is in memory, where there is no overlay.
STORAGE = b"""[storage]
driver = "vfs"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
"""
# The machine's clock counts its instructions, and goes on at once while it sleeps: whatever else keeps the processors of this one
# busy, its processes have the time that they would have alone.
BY_INSTRUCTIONS = ["-icount", "shift=5,sleep=off", "-rtc", "clock=vm"]
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
    machine = [*PC, *BY_INSTRUCTIONS]
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
