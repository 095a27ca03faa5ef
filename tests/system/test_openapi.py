"""schemathesis checks the running exporter against its OpenAPI document, with valid and invalid requests."""

import pathlib
import subprocess
import sys

from peers import ROOT, LiveBoard, get, managed_exporter, temporary, wait_until

DOCUMENT = ROOT / "docs/openapi/exporter.yaml"
SCHEMATHESIS = pathlib.Path(sys.executable).with_name("schemathesis")


def main():
    with temporary() as directory, LiveBoard(directory) as board:
        with managed_exporter(*board.arguments()) as (_, management):
            url = f"http://{management}"
            wait_until("the board is read", lambda: '"status": "healthy"' in get(f"{url}/health")[0])
            command = [SCHEMATHESIS, "run", DOCUMENT, f"--url={url}", "--checks=all", "--max-examples=60"]
            # Names of metrics that the board does not have are well-formed, and refused.
            command += ["--exclude-checks=positive_data_acceptance", "--seed=1", "--warnings=off", "--no-color"]
            result = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=300)
            print(result.stdout[-6000:])
            assert result.returncode == 0, result.stderr
            assert '"status"' in get(f"{url}/health")[0]
        config = (directory / "config.yaml").read_text()
        assert config.startswith("device_type: generic\n"), config


main()
