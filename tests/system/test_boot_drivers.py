"""The kernel's own drivers on a PC in QEMU: what is in a chip's registers is what the exporter says, in its units, also after it has
changed, and after the chip was away.

The chips on I2C are the kernel's i2c-stub, which has registers and nothing else. A power meter, a battery and a power adapter are ACPI's,
in a table of this test (qemu_drivers/power.asl).

Not here, since Debian's kernel for amd64 has no such module: ina2xx, ina238, ina3221, ina209, isl28022, adm1177, ltc2945, ltc2992 and all
of PMBus. Not here either, since i2c-stub is no more than SMBus: max17042_battery and bq27xxx_battery, which transfer by I2C;
bq24190_charger, which needs an interrupt; max9611, which asks a device tree for its shunt; axp20x and axp288, parts of a larger chip.
"""

import dataclasses
import re
import subprocess

from peers import ROOT, temporary
from qemu import PC_KERNEL_OPTIONS, boot, by_instructions, cpio, fetched, modules

GUEST = ROOT / "tests/system/qemu_drivers"
MACHINE = ["qemu-system-x86_64", "-M", "q35", "-cpu", "max", "-m", "256", *by_instructions(3)]
LABELS = 'device_type="generic",hostname="pc"'
CONFIG = b"device_type: generic\nhostname: pc\ninterval: 1\n"
METRICS = {
    "volts": "voltage_volts",
    "amperes": "current_amperes",
    "watts": "power_watts",
    "celsius": "temperature_celsius",
    "full": "power_supply_capacity_ratio",
    "joules": "power_supply_energy_joules",
    "coulombs": "power_supply_charge_coulombs",
    "cycles": "power_supply_charge_cycles",
    "online": "power_supply_online",
}


def bytes_at(register, *values):
    """Bytes in registers that follow each other."""
    return [f"{register + i:#x} {value:#x} b" for i, value in enumerate(values)]


def word(register, value):
    """A word, the lower byte first, as SMBus has it."""
    return [f"{register:#x} {value & 0xffff:#x} w"]


def swapped(register, value):
    """A word, the upper byte first."""
    upper, lower = divmod(value & 0xFFFF, 256)
    return word(register, lower << 8 | upper)


def split(register, value, bits):
    """The upper eight bits in a register, the rest in the upper bits of the next."""
    return bytes_at(register, *(value << 16 - bits).to_bytes(2, "big"))


def block(register, *values):
    return [f"{register:#x} {' '.join(map(hex, values))} s"]


@dataclasses.dataclass
class Chip:
    """A chip of one of the kernel's drivers, and what is said of it by rail or sensor: a value, or one at first and one once `changed`
    is in its registers."""

    driver: str
    source: str
    address: int
    registers: list
    changed: list
    values: dict
    module: str = None
    prefix: str = None

    def series(self, changed):
        """The lines of the metrics, without their values, and these."""
        prefix = self.prefix or f"{self.driver}-0-{self.address:04x}"
        for rail, values in self.values.items():
            name = f"{prefix}:{rail}" if rail else prefix
            for unit, value in values.items():
                label = "sensor" if unit == "celsius" else "rail"
                series = f'{METRICS[unit]}{{{LABELS},{label}="{name}",source="{self.source}"}}'
                yield series, value[changed] if isinstance(value, tuple) else value


CHIPS = [
    # 20 uV across 1 mOhm, 25 mV, 0.5 mV.
    Chip(
        "ltc4151",
        "hwmon",
        0x6E,
        split(0, 125, 12) + split(2, 480, 12) + split(4, 3000, 12),
        split(0, 250, 12),
        {"in1": {"volts": 12.0, "amperes": (2.5, 5.0), "watts": (30.0, 60.0)}, "in2": {"volts": 1.5}},
    ),
    # 151 uV across 4 mOhm; 60.5 mV; 60.25 mV, by which the driver counts power.
    Chip(
        "ltc4215",
        "hwmon",
        0x44,
        bytes_at(4, 53, 198, 199),
        bytes_at(4, 106),
        {"power1": {"volts": 11.989, "amperes": (2.0, 4.001), "watts": (23.978, 47.968)}, "in2": {"volts": 11.979}},
    ),
    # Of 12 V, 5 V, 3.3 V and -12 V: the input, the shunt and the output.
    Chip(
        "ltc4245",
        "hwmon",
        0x21,
        bytes_at(0x10, 218, 200, 217, 228, 28, 227, 220, 40, 219, 218, 100, 217),
        bytes_at(0x11, 100) + bytes_at(0x1A, 200),
        {
            "power1": {"volts": 11.99, "amperes": (1.0, 0.5), "watts": (11.99, 5.995)},
            "power2": {"volts": 5.016, "amperes": 1.0, "watts": 5.016},
            "power3": {"volts": 3.3, "amperes": 2.0, "watts": 6.6},
            "power4": {"volts": -11.99, "amperes": (0.25, 0.5), "watts": (2.9975, 5.995)},
            "in5": {"volts": 11.935},
            "in6": {"volts": 4.994},
            "in7": {"volts": 3.285},
            "in8": {"volts": -11.935},
        },
    ),
    # 62.5 uV across 1 mOhm. The voltages are those of two pins: there is no power.
    Chip(
        "ltc4261",
        "hwmon",
        0x10,
        split(4, 40, 10) + split(6, 256, 10) + split(8, 512, 10),
        split(4, 80, 10),
        {"curr1": {"amperes": (2.5, 5.0)}, "in1": {"volts": 1.28}, "in2": {"volts": 0.64}},
    ),
    # Supervises twelve supplies; the thirteenth has a current: a gain of 48, up to 14 V.
    Chip(
        "max16065",
        "hwmon",
        0x51,
        bytes_at(0x47, 0x0F) + bytes_at(0x18, 100) + swapped(0x19, 878 << 6) + swapped(0, 612 << 6) + swapped(2, 512 << 6),
        bytes_at(0x18, 50),
        {
            "in12": {"volts": 12.003, "amperes": (11.437, 5.718), "watts": (137.278, 68.633)},
            "in0": {"volts": 3.322},
            "in1": {"volts": 2.78},
        },
    ),
    # The firmware; the output's 2.5 mV, current, temperature; the input's voltage and 75, and its power.
    Chip(
        "lineage_pem",
        "hwmon",
        0x40,
        block(0xDD, 1, 2, 3, 0) + block(0xD0, 0, 0, 0, 0, 0xC0, 0x12, 25, 40, 0) + block(0xDC, 195, 0, 0x2C, 1, 0),
        block(0xDC, 195, 0, 0xC2, 1, 0),
        {
            "power1": {"volts": 120.0, "amperes": 5.0, "watts": (300.0, 450.0)},
            "in1": {"volts": 12.0},
            "temp1": {"celsius": 40.0},
        },
    ),
    Chip("lm75", "hwmon", 0x48, swapped(0, 0x2A80), swapped(0, 0xF600), {"temp1": {"celsius": (42.5, -10.0)}}),
    # 2.5 uV across 10 mOhm, 1.25 mV, 6.25 mW, 0.25 mA.
    Chip(
        "ina226",
        "iio",
        0x45,
        swapped(1, 10_000) + swapped(2, 4000) + swapped(3, 2400) + swapped(4, 12_000),
        swapped(3, 1200) + swapped(4, -6000),
        {
            "voltage0": {"volts": 0.025},
            "voltage1": {"volts": 5.0},
            "power2": {"watts": (15.0, 7.5)},
            "current3": {"amperes": (3.0, -1.5)},
        },
        module="ina2xx-adc",
    ),
    # 10 uV, 4 mV in the upper 13 bits, 20 mW, 1 mA.
    Chip(
        "ina219",
        "iio",
        0x41,
        swapped(1, 500) + swapped(2, 3000 << 3) + swapped(3, 300) + swapped(4, 500),
        swapped(2, 2500 << 3),
        {
            "voltage0": {"volts": 0.005},
            "voltage1": {"volts": (12.0, 10.0)},
            "power2": {"watts": 6.0},
            "current3": {"amperes": 0.5},
        },
        module="ina2xx-adc",
    ),
    # Smart Battery Data: 0.1 K, mV, mA, %, mAh (which it takes for 10 mWh, too), discharging, cycles, the version.
    Chip(
        "sbs-battery",
        "power_supply",
        0x0B,
        word(8, 2981) + word(9, 11_400) + word(0xA, -1500) + word(0xD, 40) + word(0xF, 2000) + word(0x10, 5000)
        + word(0x16, 0x40) + word(0x17, 12) + word(0x18, 5200) + word(0x19, 11_100) + word(0x1A, 0x21),
        word(0xA, -2000),
        {
            "": {
                "volts": 11.4,
                "amperes": (-1.5, -2.0),
                "watts": (17.1, 22.8),
                "celsius": 25.0,
                "full": 0.4,
                "coulombs": 7200.0,
                "joules": 72_000.0,
                "cycles": 12.0,
            }
        },
        prefix="sbs-0-000b",
    ),
]
# What one number of power.asl sets: the meter and the battery.
ACPI = [
    Chip("acpi_power_meter", "hwmon", None, [], [], {"Server input": {"watts": (45.0, 62.0)}}, prefix="power_meter-ACPI000D:00"),
    Chip("battery", "power_supply", None, [], [], {"": {"volts": 11.5, "watts": (45.0, 62.0), "full": 0.5, "joules": 86_400.0}}, prefix="BAT0"),
    Chip("ac", "power_supply", None, [], [], {"": {"online": 0.0}}, prefix="ADP0"),
]
ONE, *OTHERS = CHIPS
TOTAL = f"power_total_watts{{{LABELS}}}"


def lines(chips, changed):
    """The lines of the metrics of what is read; power is a product of two of them, or more."""
    read = [one for chip in chips for one in chip.series(changed) if chip in ACPI or not one[0].startswith("power_watts")]
    return "".join(f"{series} {value:g}\n" for series, value in read).encode()


def plan():
    """What /init does with the chips, by the names of files."""
    i2cset = lambda chip, registers: "".join(f"i2cset -f -y 0 {chip.address:#x} {one}\n" for one in registers)
    new = "".join(f"echo {chip.driver} {chip.address:#x} >$bus/new_device\n" for chip in CHIPS)
    delete = lambda chip: f"echo {chip.address:#x} >$bus/delete_device\n"
    of_acpi = [chip.driver for chip in ACPI]
    files = {
        "addresses": ",".join(f"{chip.address:#x}" for chip in CHIPS),
        "registers": "".join(i2cset(chip, chip.registers) for chip in CHIPS),
        "changed-registers": "".join(i2cset(chip, chip.changed) for chip in CHIPS)
        + "echo 62000 >/sys/bus/acpi/devices/ACPI000D:00/power1_average_interval\n",
        "plug": new,
        "unplug-one": delete(ONE),
        "unplug-others": "".join(map(delete, OTHERS)) + f"rmmod {' '.join(of_acpi)}\n",
        "plug-again": new + "".join(f"insmod /lib/{driver}.ko\n" for driver in of_acpi),
    }
    files = {name: text.encode() for name, text in files.items()}
    files["lines"] = lines(CHIPS + ACPI, False)
    files["changed-lines"] = lines(CHIPS + ACPI, True)
    files["lines-of-one"] = lines([ONE], True)
    files["lines-of-others"] = lines(OTHERS + ACPI, True)
    return files


def check(sections):
    def metrics(section):
        return dict(re.findall(r"^([^#\n].*) (\S+)$", sections[section], flags=re.MULTILINE))

    def is_close(section, series, expected):
        said = metrics(section).get(series)
        assert said is not None and abs(float(said) - expected) <= 1e-4 * abs(expected), f"{section}: {series} {said}, not {expected}"

    assert "in vain" not in "".join(sections.values())
    for section, changed, chips in [
        ("metrics", False, CHIPS),
        ("changed", True, CHIPS),
        ("one unplugged", True, OTHERS),
        ("plugged again", True, CHIPS),
    ]:
        for chip in chips + ACPI:
            for series, expected in chip.series(changed):
                is_close(section, series, expected)
        is_close(section, TOTAL, 62.0 if changed else 45.0)
        # No chip has a power that is not in the list.
        expected = {series for chip in chips + ACPI for series, _ in chip.series(changed)}
        powers = {series for series in metrics(section) if series.startswith("power_watts{")}
        assert powers <= expected, powers - expected
    ups = {series: value for series, value in metrics("unplugged").items() if series.startswith("exporter_source_up{")}
    assert ups and set(ups.values()) == {"0"}, ups
    assert sections["exit"].strip() == "0", sections["exit"]


def main():
    drivers = {chip.module or chip.driver: chip for chip in CHIPS + ACPI}
    binary = ROOT / "dist/edge-metrics-exporter-x86_64"
    assert binary.exists(), f"{binary} is not there: make dist TARGETS=x86_64"
    kernel, busybox = fetched("amd64", "boot/vmlinuz-*", "bin/busybox")
    needed = modules("amd64", "i2c-stub", "i2c-dev", *drivers)
    with temporary() as directory:
        table = directory / "power.aml"
        compiled = subprocess.run(["iasl", "-p", table, GUEST / "power.asl"], capture_output=True, text=True)
        assert compiled.returncode == 0, compiled.stdout
        files = {
            "init": (GUEST / "init", 0o755),
            "bin/busybox": (busybox, 0o755),
            "bin/edge-metrics-exporter": (binary, 0o755),
            "plan/config.yaml": (CONFIG, 0o644),
            "plan/modules": (" ".join(module.name for module in needed).encode(), 0o644),
        }
        files |= {f"plan/{name}": (text, 0o644) for name, text in plan().items()}
        files |= {f"lib/{module.name}": (module, 0o644) for module in needed}
        initramfs = directory / "initramfs"
        initramfs.write_bytes(cpio(files, ["dev", "proc", "sys", "tmp"]))
        more = ["-acpitable", f"file={table}"]
        sections = boot(MACHINE, kernel, initramfs, "ttyS0", *more, kernel_options=PC_KERNEL_OPTIONS)
    try:
        check(sections)
    except (AssertionError, KeyError):
        for name, text in sections.items():
            print(f"=== {name}\n{text}")
        raise
    print(f"{len(drivers)} drivers: {', '.join(drivers)}")


main()
