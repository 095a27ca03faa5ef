"""A full disk and a read-only one: settings apply in memory, the response says so, the file is unchanged, and is written as
soon as possible."""

import json
import os
import subprocess
import sys
import urllib.request

from peers import LiveBoard, get, managed_exporter, temporary, wait_until


def enable(management, **metrics):
    request = urllib.request.Request(
        f"http://{management}/metrics/enable",
        data=json.dumps(metrics).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)


def main():
    with temporary() as directory, LiveBoard(directory) as board:
        disk = directory / "disk"
        disk.mkdir()
        mount("-t", "tmpfs", "-o", "size=64k", "none", disk)
        config = disk / "config.yaml"
        config.write_text("device_type: generic\ninterval: 0.1\nmetrics:  # mine\n  power_watts: true\n")
        arguments = board.arguments()
        arguments[0] = f"--config={config}"
        with managed_exporter(*arguments) as (metrics, management):
            scrape = lambda: get(f"http://{metrics}/metrics")[0]
            wait_until("the board is read", lambda: "\npower_watts{" in scrape())
            wait_until("what was found is noted", lambda: "power_total_watts: false" in config.read_text())
            assert "exporter_config_saved 1" in scrape()

            with open(disk / "ballast", "wb", buffering=0) as ballast:
                try:
                    while True:
                        ballast.write(bytes(4096))
                except OSError as full:
                    print(f"the disk is full: {full}")
            check(management, scrape, config, on=False, because="the disk is full")
            (disk / "ballast").unlink()
            answer = enable(management, power_total_watts=True)
            assert "saved" not in answer, answer
            text = config.read_text()
            assert "power_watts: false" in text and "power_total_watts: true" in text, text
            assert "exporter_config_saved 1" in scrape()

            mount("-o", "remount,ro", disk)
            check(management, scrape, config, on=True, because="mounted read-only")
            mount("-o", "remount,rw", disk)
            answer = enable(management, power_total_watts=False)
            assert "saved" not in answer, answer
            assert "power_watts: true" in config.read_text()
        assert sorted(path.name for path in disk.iterdir()) == ["config.yaml"]
        subprocess.run(["umount", disk], check=True)
    print("nothing was lost on a full disk and on a read-only one")


def check(management, scrape, config, on, because):
    before = config.read_bytes()
    answer = enable(management, power_watts=on)
    assert answer["saved"] is False and because in answer["message"], answer
    assert ("\npower_watts{" in scrape()) == on
    assert "exporter_config_saved 0" in scrape()
    health = json.loads(get(f"http://{management}/health")[0])
    assert health["status"] == "degraded" and because in health["config"]["not_saved_because"], health
    assert config.read_bytes() == before


if os.environ.get("MOUNTS") == "own":
    main()
else:
    # In a mount namespace, whose mounts are invisible to others and end with the process.
    namespace = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    command = [*namespace, sys.executable, __file__]
    sys.exit(subprocess.run(command, env={**os.environ, "MOUNTS": "own"}).returncode)
