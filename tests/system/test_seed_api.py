"""Each curl command to a board in the README of the replaced exporter works as printed there."""

import json
import subprocess

from peers import ROOT, managed_exporter, temporary, wait_until

LINES = (ROOT / "tests/boards/jetson_agx_orin_jp5/tegrastats.txt").read_text()

# As in the README's configuration.
CONFIG = """\
device_type: "jetson_orin"
interval: 1
port: 9100
reload_port: 9101

# Metrics configuration (true: collect, false: don't collect)
metrics:
  jetson_power_vdd_gpu_soc_watts: true
  jetson_power_vdd_cpu_cv_watts: true
  jetson_temp_cpu_celsius: true
  jetson_temp_gpu_celsius: false
  jetson_ram_used_percent: true
"""

METRICS = "curl http://localhost:9100/metrics"
LIST = "curl http://localhost:9101/metrics/list"
LISTED = {
    "jetson_power_vdd_gpu_soc_watts": True,
    "jetson_power_vdd_cpu_cv_watts": True,
    "jetson_temp_cpu_celsius": True,
    "jetson_temp_gpu_celsius": False,
    "jetson_ram_used_percent": True,
}
ENABLE = """curl -X POST http://localhost:9101/metrics/enable \\
  -H "Content-Type: application/json" \\
  -d '{
    "jetson_gpu_usage_percent": true,
    "jetson_cpu_avg_usage_percent": true
  }'"""
ENABLED = """{
  "status": "success",
  "updated": 2,
  "metrics": {
    "jetson_gpu_usage_percent": true,
    "jetson_cpu_avg_usage_percent": true
  }
}"""
RELOAD = "curl -X POST http://edge-01:9101/reload"


def main():
    with temporary() as directory:
        board = directory / "board"
        for place in ("sys", "proc/sys/kernel", "dev", "bin"):
            (board / place).mkdir(parents=True)
        (board / "proc/sys/kernel/hostname").write_text("edge-01\n")
        (directory / "lines").write_text(LINES)
        program = directory / "tegrastats"
        program.write_text(f"#!/bin/sh\nwhile cat {directory}/lines; do sleep 1; done\n")
        program.chmod(0o755)
        config = directory / "config.yaml"
        config.write_text(f"{CONFIG}jetson:\n  tegrastats: {program}\n")
        roots = [f"--path.{root}fs={board / root}" for root in ("sys", "proc")] + [f"--path.dev={board / 'dev'}"]
        with managed_exporter(f"--config={config}", *roots) as (metrics, management):
            ports = {"9100": metrics, "9101": management}

            def curl(command):
                """The command as printed, with its ports mapped to those of this test."""
                places = []
                for port, address in ports.items():
                    host, there = address.rsplit(":", 1)
                    for name in ("localhost", "edge-01"):
                        places.append(f"--connect-to {name}:{port}:{host}:{there}")
                command = command.replace("curl ", f"curl -sS --fail-with-body {' '.join(places)} ", 1)
                return subprocess.run(["sh", "-c", command], check=True, capture_output=True, text=True).stdout

            name = "jetson_power_vdd_gpu_soc_watts"
            wait_until("tegrastats is read", lambda: f"{name}{{" in curl(METRICS))
            listed = json.loads(curl(LIST))
            assert list(listed) == ["metrics", "device_type", "source"], listed
            assert (listed["device_type"], listed["source"]) == ("jetson_orin", "local"), listed
            assert LISTED.items() <= listed["metrics"].items(), listed
            found = set(listed["metrics"]) - set(LISTED)
            assert "jetson_gpu_usage_percent" in found, found
            assert not any(listed["metrics"][name] for name in found), listed

            assert "jetson_cpu_avg_usage_percent" not in curl(METRICS)
            answer = curl(ENABLE)
            assert answer == ENABLED, answer
            assert 'jetson_cpu_avg_usage_percent{device_type="jetson_orin",hostname="edge-01"}' in curl(METRICS)
            assert "\n  jetson_cpu_avg_usage_percent: true\n" in config.read_text()

            config.write_text(config.read_text().replace(f"{name}: true", f"{name}: false"))
            answer = curl(RELOAD)
            assert answer == "Config reload triggered\n", answer
            assert f"{name}{{" not in curl(METRICS)

            text = config.read_text()
            assert text.startswith(CONFIG.replace(f"{name}: true", f"{name}: false")), text
    print("the README's curl commands work as printed")


main()
