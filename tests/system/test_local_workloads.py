"""Energy by workload on this machine: real processes in cgroups of its own, and a meter whose power follows its processors."""

import subprocess

from peers import BINARY, Exporter, temporary
from workloads import CONFIG, Attribution, Cgroups, Meter, run_on_time, short_processes

CPU_SECONDS = 12
PROCESSES = 10_000
NAMES = ["a.service", "b.service"]


def main():
    try:
        cgroups = Cgroups()
        cgroups.slice.mkdir()
        cgroups.slice.rmdir()
    except (OSError, AssertionError) as error:
        print(f"skipped: this machine's cgroups cannot be written: {error}")
        return
    with temporary() as directory, cgroups, Meter(directory, cgroups.busy_seconds) as meter:
        (directory / "config.yaml").write_text(CONFIG)
        (directory / "dev").mkdir()
        roots = [f"--path.sysfs={meter.sysfs}", f"--path.dev={directory / 'dev'}"]
        arguments = [f"--config={directory / 'config.yaml'}", *roots]
        exporter = Exporter(directory, *arguments)
        try:
            exporter.start()
            run_on_time(exporter.process.pid)
            with Attribution(exporter.metrics, exporter.process.pid, cgroups, NAMES) as attribution:
                test(attribution, directory, arguments)
            # One that ended has no part in an assertion above.
            assert exporter.process.poll() is None, "the exporter ended"
        except BaseException:
            print(exporter.text())
            raise
        finally:
            exporter.stop()


def test(attribution, directory, arguments):
    version = "2" if attribution.services.is_v2 else "1"
    print(f"cgroup v{version} at {attribution.services.root}")
    for name, part in zip(NAMES, (0.3, 0.15)):
        attribution.services.start_busy(name, part)
    with attribution.part("2:1"):
        attribution.two_to_one(CPU_SECONDS)
    with attribution.part(f"{PROCESSES} processes beside a load that comes and goes"):
        attribution.short_processes(PROCESSES, short_processes(directory), directory, attribution.come_and_go)
        # Where other programs keep all processors busy all the time, it is unknown.
        attribution.learned_idle()
    with attribution.part("hostile names"):
        attribution.hostile_names()
    with attribution.part("a long path"):
        attribution.long_path()
    with attribution.part("1,000 cgroups"):
        attribution.many(1000)
    with attribution.part("20,000 cgroups"):
        doctor = [BINARY, "doctor", "--json", *arguments]
        attribution.too_many(20_000, lambda: subprocess.run(doctor, capture_output=True, text=True).stdout)
    with attribution.part("cgroups that come and go"):
        attribution.storm(20)
    with attribution.part("after all that"):
        attribution.counted()


main()
