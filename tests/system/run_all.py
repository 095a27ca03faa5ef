"""Runs the system tests, or those that are named: run_all.py [test_udp ...]. EXPORTER is the release binary.

Most tests wait for most of their time, and run side by side. A test that fails runs a second time, with nothing beside it, and has
failed if it fails then, too: on a machine that others use, a peer may be slow to the point of failing.
"""

import concurrent.futures
import os
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# They compare times, or every sample of a fast meter: they run after the others, one for each processor at a time.
TIMED = [
    "test_multirate",
    "test_ten_kilohertz",
    "test_queue",
    "test_remote_write",
    "test_fleet",
    "test_etcd_cluster",
    "test_udp",
    "test_prometheus",
    "test_window",
    "test_pyjoules",
]
# Those that take longest begin first. QEMU keeps a processor busy: no more than two of its machines at a time at the start.
FIRST = [
    "test_config_server_openapi",
    "test_config_server_bulk",
    "test_boot_systemd",
    "test_openapi",
    "test_boot_workloads",
    "test_local_workloads",
    "test_boot_openrc",
    "test_boot_boards",
    "test_boot_drivers",
    "test_page",
    "test_ina260_qemu",
    "test_packages",
    "test_release",
]
# The tests of hostile clients in tests/*.rs, with limits on memory that only a release build is measured by.
ABUSE = "abuse of the release binary"
ABUSE_TESTS = ["abuse", "management_abuse", "access", "access_tls", "access_roles"]


def cargo_test(tests, *more):
    return ["cargo", "test", "--locked", "--quiet", *more, *(f"--test={test}" for test in tests)]


def command(name):
    if name == ABUSE:
        return cargo_test(ABUSE_TESTS)
    return [sys.executable, str(HERE / f"{name}.py")]


def passes(name, again=""):
    began = time.monotonic()
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(command(name), stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=ROOT)
        seconds = time.monotonic() - began
        output.seek(0)
        said = output.read().decode(errors="replace")
    outcome = "passed" if done.returncode == 0 else "failed"
    # In one piece: others end at the same time.
    print(f"== {name}{again}\n{said}== {name} took {seconds:.0f} s, {outcome}\n", end="", flush=True)
    return done.returncode == 0


def side_by_side(names, at_once):
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        return dict(zip(names, pool.map(passes, names)))


def main():
    names = sys.argv[1:] or [ABUSE, *sorted(path.stem for path in HERE.glob("test_*.py"))]
    # Before one test waits for a build that another one has begun (test_static runs `boards`).
    subprocess.run(cargo_test([*ABUSE_TESTS, "boards"], "--no-run"), check=True, cwd=ROOT)
    order = lambda name: (FIRST + TIMED).index(name) if name in FIRST + TIMED else len(FIRST)
    names.sort(key=order)
    outcomes = side_by_side([name for name in names if name not in TIMED], 2 * os.cpu_count())
    outcomes |= side_by_side([name for name in names if name in TIMED], os.cpu_count())
    failed = [name for name in names if not outcomes[name] and not passes(name, ", again")]
    if failed:
        print(f"failed: {', '.join(failed)}")
    print(f"{len(names) - len(failed)} passed, {len(failed)} failed")
    sys.exit(bool(failed))


main()
