"""The static ARMv7 binary reads a real /dev/i2c-0 of a real kernel, on an emulated board.

QEMU's sensor at 0x40 passes for an INA260 once its identity is written (tests/system/qemu_i2c/init); its other registers
then say 26.97 V and 88.16 W. What a whole chip does is tested on a simulated one, in src/sources/ina260.
"""

import json
import re
import subprocess

from peers import ROOT, temporary
from qemu import boot, cpio, fetched

BINARY = ROOT / "dist/edge-metrics-exporter-armv7"
GUEST = ROOT / "tests/system/qemu_i2c"

CONFIGS = {
    "one": {"hostname": "board", "interval": 0.5, "ina260": {"i2c_bus": 0, "i2c_address": 0x40}},
    "two": {"ina260": {"i2c_bus": 0, "i2c_address": [0x40, 0x41]}},
}


def main():
    assert BINARY.exists(), f"{BINARY} is not there: make dist TARGETS=armv7"
    is_static()
    kernel, tree, *modules, busybox = fetched(
        "armhf",
        "boot/vmlinuz-*",
        "usr/lib/linux-image-*/vexpress-v2p-ca9.dtb",
        "lib/modules/*/kernel/drivers/i2c/busses/i2c-versatile.ko*",
        "lib/modules/*/kernel/drivers/i2c/i2c-dev.ko*",
        "bin/busybox",
    )
    files = {
        "init": (GUEST / "init", 0o755),
        "bin/busybox": (busybox, 0o755),
        "bin/edge-metrics-exporter": (BINARY, 0o755),
    }
    files |= {f"lib/{module.name}": (module, 0o644) for module in modules}
    with temporary() as directory:
        for name, config in CONFIGS.items():
            path = directory / f"{name}.yaml"
            path.write_text(json.dumps(config))
            files[f"etc/{name}.yaml"] = (path, 0o644)
        initramfs = directory / "initramfs"
        initramfs.write_bytes(cpio(files, ["dev", "proc", "sys"]))
        machine = ["qemu-system-arm", "-M", "vexpress-a9", "-m", "256", "-dtb", tree]
        sections = boot(machine, kernel, initramfs, "ttyAMA0", "-device", "tmp105,address=0x40")
    check(sections)


def is_static():
    headers = subprocess.run(["readelf", "-hlW", BINARY], capture_output=True, text=True, check=True).stdout
    assert re.search(r"Machine: +ARM", headers), headers
    assert "INTERP" not in headers, "the binary asks for an interpreter"
    print(f"static ARMv7 binary of {BINARY.stat().st_size} bytes")


def check(sections):
    def doctor(section):
        sources = json.loads(sections[section])["sources"]
        return next(source for source in sources if source["source"] == "ina260")

    def says(section, *words):
        text = json.dumps(doctor(section))
        for word in words:
            assert word in text, f"{section}: {word!r} is not in {text}"

    says("no module", "/dev/i2c-0", "modprobe i2c-dev")
    says("stranger", "0x40 on /dev/i2c-0 is no INA260", "manufacturer 0x4b00, die 0x5000")

    metrics = dict(re.findall(r"^([^# ]\S*) (\S+)$", sections["metrics"], flags=re.MULTILINE))
    try:
        labels = 'device_type="generic",hostname="board"'
        rail = f'{{{labels},rail="ina260-0-0040",source="ina260"}}'
        value = lambda series: float(metrics[series])
        assert value(f"power_total_watts{{{labels}}}") == 88.16
        assert value(f"power_watts{rail}") == 88.16
        assert value(f"voltage_volts{rail}") == 26.97125
        # Register 1 is a byte there, a zero, and what follows it is left over from another.
        assert 0 <= value(f"current_amperes{rail}") <= 0.31875
        joules = value(f"energy_joules_total{rail}")
        assert joules > 0, joules
        assert value('exporter_source_up{source="ina260"}') == 1
    except (AssertionError, KeyError):
        print(sections["metrics"], sections["log"])
        raise
    says("one of two", "88.16", "0x41 on /dev/i2c-0 does not answer", "i2cdetect -y 0")
    says("held", "the kernel's driver dummy has 0x40", "hwmon")

    def searched(section):
        """The only answer on the bus with the chip. The machine has more buses."""
        [bus] = [bus for bus in json.loads(sections[section])["i2c"] if bus["bus"] == "/dev/i2c-0"]
        assert bus["adapter"] and not bus["error"], bus
        [answer] = bus["answers"]
        assert answer["address"] == 0x40, answer
        return answer

    assert "no chip that is known here" in searched("search among strangers")["detail"]
    found = searched("search")
    assert found["chip"] == "INA260", found
    assert found["settings"][0]["chip"] == "{i2c_bus: 0, i2c_address: 0x40}", found
    assert searched("search among drivers")["detail"] == "the kernel's driver dummy has it"

    assert "exit status 0" in sections["process"], sections["process"]
    process = " ".join(sections["process"].split())
    print(f"26.97 V, 88.16 W, {joules:.1f} J; {process}; up for {sections['uptime'].split()[0]} s")


main()
