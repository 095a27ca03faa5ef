"""The static binaries that ship: each has no undefined symbol, is hardened, and reads the fixture boards (binaries of other
architectures under qemu-user)."""

import os
import pathlib
import platform
import re
import subprocess

from peers import ROOT, running, temporary, wait_until

MACHINES = {
    "x86_64": ("Advanced Micro Devices X86-64", "qemu-x86_64-static"),
    "aarch64": ("AArch64", "qemu-aarch64-static"),
    "armv7": ("ARM", "qemu-arm-static"),
}
# Of a release; tests/system/prepare does not build them, and where they were built they are tested.
OTHERS = {
    "arm": ("ARM", "qemu-arm-static -cpu arm1176"),
    "riscv64": ("RISC-V", "qemu-riscv64-static"),
}
BOARDS_SECONDS = 170
# The minimum size of .text.running. With a current scripts/order.ld the section is twice as large.
SIDE_BY_SIDE = 100_000


def is_static(binary, machine):
    said = subprocess.run(["readelf", "-hlSdsW", "--dyn-syms", binary], capture_output=True, text=True, check=True).stdout
    assert re.search(rf"Machine: +{machine}\n", said), f"{binary} is not for {machine}"
    assert "INTERP" not in said, f"{binary} asks for an interpreter"
    assert "(NEEDED)" not in said, f"{binary} asks for a library"
    undefined = re.findall(r"^ +\d+: .* UND +(\S+)$", said, flags=re.MULTILINE)
    assert not undefined, f"{binary} has undefined symbols: {undefined}"
    stack = re.search(r"GNU_STACK( +0x\w+){5} +(\w+)", said)
    assert stack and "E" not in stack[2], f"the stack of {binary} is executable"
    assert "GNU_RELRO" in said, f"{binary} has no RELRO"
    loads = re.findall(r"^ +LOAD( +0x\w+){5} +(\S.*?) +0x", said, flags=re.MULTILINE)
    assert loads and not [flags for _, flags in loads if "W" in flags and "E" in flags], f"{binary} writes where it runs"
    beside = re.search(r"\.text\.running +PROGBITS +\w+ +\w+ +(\w+)", said)
    assert beside and int(beside[1], 16) > SIDE_BY_SIDE, f"{binary}: what runs is not side by side: `make order`"
    described = subprocess.run(["file", "-b", binary], capture_output=True, text=True, check=True).stdout
    assert re.search(r"statically linked|static-pie linked", described) and ", stripped" in described, described


def reads_the_boards(arch, binary, emulator):
    with temporary() as directory:
        environment = os.environ | {"EXPORTER": str(binary)}
        if platform.machine() != arch:
            wrapper = directory / "exporter"
            wrapper.write_text(f'#!/bin/sh\nexec {emulator} {binary} "$@"\n')
            wrapper.chmod(0o755)
            environment["EXPORTER"] = str(wrapper)
        command = ["cargo", "test", "--locked", "--quiet", "--test", "boards"]
        subprocess.run(command, check=True, cwd=ROOT, env=environment, timeout=BOARDS_SECONDS, stdout=subprocess.DEVNULL)


def releases_startup_code(binary):
    command = [binary, "demo", "--web.listen-address=127.0.0.1:0", "--web.management-address=127.0.0.1:0"]
    with running(command, stderr=subprocess.DEVNULL) as process:
        status = pathlib.Path(f"/proc/{process.pid}/status")
        code = lambda: int(re.search(r"RssFile:\s+(\d+) kB", status.read_text())[1])
        most = 0

        def shrunk():
            nonlocal most
            now = code()
            most = max(most, now)
            return now < most

        wait_until("code that only starting needed is no longer resident", shrunk)


def main():
    for arch, (machine, emulator) in (MACHINES | OTHERS).items():
        binary = ROOT / f"dist/edge-metrics-exporter-{arch}"
        if arch in OTHERS and not binary.exists():
            print(f"{arch}: not built here, not tested")
            continue
        assert binary.exists(), f"{binary} is not there: make dist TARGETS={arch}"
        is_static(binary, machine)
        reads_the_boards(arch, binary, emulator)
        if platform.machine() == arch:
            releases_startup_code(binary)
        print(f"{arch}: static, {binary.stat().st_size} bytes, reads the golden boards")
    subprocess.run(["sha256sum", "--quiet", "--check", "SHA256SUMS"], check=True, cwd=ROOT / "dist")


main()
