"""Runs the system tests, or those that are named: run_all.py [test_udp ...]. EXPORTER is the release binary.

Most tests wait for most of their time: those run side by side. A test that fails runs a second time, with nothing beside it, and has
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
# They compare times or every sample of a fast meter: other tests' load would be part of the result.
ALONE = [
    "test_fleet",
    "test_multirate",
    "test_prometheus",
    "test_pyjoules",
    "test_queue",
    "test_remote_write",
    "test_udp",
    "test_window",
]
# Emulated machines have long timeouts, and their tests measure nothing: other tests' processes go first.
EMULATORS = ["test_boot_systemd", "test_boot_openrc", "test_boot_boards", "test_ina260_qemu"]
# Those that take longest begin first.
FIRST = [*EMULATORS, "test_config_server_openapi", "test_openapi", "test_page", "test_packages"]
# The tests of hostile clients in tests/*.rs, with limits on memory that only a release build is measured by.
ABUSE = "abuse of the release binary"
ABUSE_TESTS = ["abuse", "management_abuse", "access", "access_tls", "access_roles"]


def cargo_test(tests, *more):
    return ["cargo", "test", "--locked", "--quiet", *more, *(f"--test={test}" for test in tests)]


def command(name):
    if name == ABUSE:
        return cargo_test(ABUSE_TESTS)
    python = [sys.executable, str(HERE / f"{name}.py")]
    return ["nice", *python] if name in EMULATORS else python


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


def main():
    names = sys.argv[1:] or [ABUSE, *sorted(path.stem for path in HERE.glob("test_*.py"))]
    # Before one test waits for a build that another one has begun (test_static runs `boards`).
    subprocess.run(cargo_test([*ABUSE_TESTS, "boards"], "--no-run"), check=True, cwd=ROOT)
    beside = [name for name in names if name not in ALONE]
    beside.sort(key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    with concurrent.futures.ThreadPoolExecutor(2 * os.cpu_count()) as pool:
        outcomes = dict(zip(beside, pool.map(passes, beside)))
    outcomes |= {name: passes(name) for name in names if name in ALONE}
    failed = [name for name in names if not outcomes[name] and not passes(name, ", again")]
    if failed:
        print(f"failed: {', '.join(failed)}")
    print(f"{len(names) - len(failed)} passed, {len(failed)} failed")
    sys.exit(bool(failed))


main()
