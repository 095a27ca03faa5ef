"""A Debian with systemd as PID 1 in QEMU, on which the .deb is installed: it becomes active by sd_notify, is confined,
reloads, restarts when it is killed or hangs, and is removed without a trace. Then the same by install.sh."""

from peers import ROOT, temporary
from qemu import PC, PC_KERNEL_OPTIONS, SERVICES, boot, cpio, debian_root, fetched, sources, test_unit, tree

GUEST = ROOT / "tests/system/qemu_debian"
SECONDS = 900
DROP_IN = b"""[Service]
Environment="OPTIONS=--path.sysfs=/board/sys --path.procfs=/board/proc"
"""
SYSTEMD = "extra/etc/systemd/system"


def check(sections):
    def says(section, *words):
        for word in words:
            assert word in sections[section], f"{section}: no {word!r} in {sections[section]}"

    says("install", "enabled\n")
    says("active", "Type=notify\n", "ActiveState=active\n", "NRestarts=0\n", "StatusText=reads ")
    says("active", "power_total_watts{", "CapEff:\t0000000000000000\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n")
    assert "Uid:\t0" not in sections["active"], sections["active"]
    says("active", "drwxr-x--- ", "-rw-r----- 1 edge-metrics edge-metrics")
    says("security", "OK", "exit status 0\n")
    says("reload", 'hostname="renamed"', "ActiveState=active\n", "StatusText=reads ")
    says("bad reload", "the configuration remains unchanged: ", "ActiveState=active\n", 'hostname="renamed"')
    says("saved", '"status": "success"', "temperature_celsius: false")
    assert sections["saved"].splitlines()[-1] == "0", sections["saved"]
    says("kill", "ActiveState=active\n", "NRestarts=1\n")
    says("watchdog", "ActiveState=active\n", "NRestarts=2\n", "Watchdog timeout")
    says("refused", "cannot lock memory: ", "cannot set real-time priority: ", "perf_event_open")
    says("drop-ins", "energy_joules_total{", " 1\n", "CapEff:\t0000004000804000\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n")
    assert "still refused" not in sections["drop-ins"] and "Uid:\t0" not in sections["drop-ins"], sections["drop-ins"]
    assert "VmLck:\t       0 kB" not in sections["drop-ins"], sections["drop-ins"]
    says("others", "Id=edge-metrics-config-server.service\nActiveState=active\n")
    says("others", "Id=edge-metrics-collector.service\nActiveState=active\n")
    says("remove", "inactive\n")
    left = [line for line in sections["remove"].splitlines() if line.startswith("/")]
    configuration = {"/etc/default/edge-metrics-exporter", "/etc/edge-metrics-exporter", "/etc/init.d/edge-metrics-exporter"}
    # The configuration and the init script with its links, which purging takes, the drop-in of this test, and the config server's store.
    allowed = ("/etc/rc", "/etc/runlevels/", "/etc/systemd/system/edge-metrics-exporter.service.d", "/var/lib/private", "/var/lib/edge-metrics-config-server")
    assert {path for path in left if not path.startswith(allowed)} == configuration, left
    says("install.sh", "config.yaml is kept as it is", "ActiveState=active\n", "/usr/local/lib/systemd/system/", "power_total_watts{")
    says("install.sh", 'hostname="renamed"', "inactive\n/etc/edge-metrics-exporter/config.yaml\n")
    assert "in vain" not in "".join(sections.values()), sections


def main():
    (package,) = (ROOT / "dist").glob("edge-metrics-exporter_*_amd64.deb")
    kernel, busybox = fetched("amd64", "boot/vmlinuz-*", "bin/busybox")
    files = sources("extra/src") | tree(ROOT / "tests/boards/orange_pi_axp", "extra/board") | test_unit() | {
        "init": (GUEST / "init", 0o755),
        "init-of-root": (b"/lib/systemd/systemd", 0o644),
        "bin/busybox": (busybox, 0o755),
        "base.tar": (debian_root(*SERVICES), 0o644),
        "extra/package.deb": (package, 0o644),
        "extra/boot-test": (GUEST / "systemd-test", 0o755),
        f"{SYSTEMD}/edge-metrics-exporter.service.d/board.conf": (DROP_IN, 0o644),
    }
    with temporary() as directory:
        initramfs = directory / "initramfs"
        initramfs.write_bytes(cpio(files, ["dev", "root"]))
        sections = boot(PC, kernel, initramfs, "ttyS0", kernel_options=PC_KERNEL_OPTIONS, seconds=SECONDS)
    try:
        check(sections)
    except (AssertionError, KeyError):
        print(sections.get("log"))
        raise
    print(sections["security"].splitlines()[0])


main()
