"""Two small boards in QEMU, AArch64 and ARMv7, with 64 MB of memory, a read-only root and a clock at 1970: the static binary is
the only process beside init, and serves /metrics."""

import re

from peers import ROOT, temporary
from qemu import boot, cpio, fetched, tree

GUEST = ROOT / "tests/system/qemu_board/init"
FIXTURE = ROOT / "tests/boards/orange_pi_axp"
CLOCK = ["-m", "64", "-rtc", "base=1970-01-01T00:00:00"]


def files_of(binary, busybox):
    files = tree(FIXTURE, "board") | {
        "init": (GUEST, 0o755),
        "bin/busybox": (busybox, 0o755),
        "bin/edge-metrics-exporter": (binary, 0o755),
        "board/config.yaml": (b"device_type: orange_pi\ninterval: 0.5\n", 0o644),
    }
    return files


def check(sections):
    text = sections["metrics"]
    try:
        metrics = dict(re.findall(r"^([^# ]\S*) (\S+)$", text, flags=re.MULTILINE))
        assert "Read-only file system" in sections["root"], sections["root"]
        assert sections["clock"].strip() == "1970", sections["clock"]
        total = [float(value) for name, value in metrics.items() if name.startswith("power_total_watts{")]
        assert total and total[0] > 0, total
        assert metrics["exporter_clock_ok"] == "0", metrics["exporter_clock_ok"]
        assert "503" in sections["multirate"], sections["multirate"]
        assert sections["processes"].split() == ["/bin/busybox", "/bin/edge-metrics-exporter"], sections["processes"]
        assert sections["exit"].strip() == "0", sections["exit"]
    except (AssertionError, KeyError):
        print(text, sections["log"])
        raise
    memory = dict(re.findall(r"(\w+): +(\d+) kB", sections["memory"] + sections["process"].replace("\t", " ")))
    assert int(memory["MemTotal"]) < 64 * 1024, memory
    print(f"{total[0]} W; {memory['VmRSS']} kB resident, of {memory['MemTotal']} kB")


def main():
    boards = [
        ("aarch64", "arm64", ["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a53"]),
        ("armv7", "armhf", ["qemu-system-arm", "-M", "virt", "-cpu", "cortex-a7"]),
    ]
    for arch, architecture, machine in boards:
        binary = ROOT / f"dist/edge-metrics-exporter-{arch}"
        assert binary.exists(), f"{binary} is not there: make dist TARGETS={arch}"
        kernel, busybox = fetched(architecture, "boot/vmlinuz-*", "bin/busybox")
        with temporary() as directory:
            initramfs = directory / "initramfs"
            initramfs.write_bytes(cpio(files_of(binary, busybox), ["dev", "proc", "sys", "tmp"]))
            print(f"{arch}: ", end="", flush=True)
            check(boot([*machine, *CLOCK], kernel, initramfs, "ttyAMA0"))


main()
