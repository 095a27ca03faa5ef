"""schemathesis holds the running config-server to the description of its API, with requests right and wrong."""

import pathlib
import subprocess
import sys

from peers import ROOT, ConfigServer, temporary

DOCUMENT = ROOT / "docs/openapi/config-server.yaml"
SCHEMATHESIS = pathlib.Path(sys.executable).with_name("schemathesis")


def main():
    with temporary() as directory, ConfigServer(directory / "devices") as server:
        # Boards are called: none but on this machine.
        document = directory / DOCUMENT.name
        text = DOCUMENT.read_text().replace("format: ipv4", 'pattern: "^127.0.0.1$"')
        document.write_text(text.replace("format: ipv6", 'pattern: "^::1$"'))
        # A wrong body may be refused for its If-Match first.
        refusals = '400, 401, 403, 404, 405, 406, 409, 412, 415, 422, 428, 429, "5xx"'
        (directory / "schemathesis.toml").write_text(f"[checks.negative_data_rejection]\nexpected-statuses = [{refusals}]\n")
        command = [SCHEMATHESIS, "run", document, f"--url={server.url}", "--checks=all", "--max-examples=60"]
        command += ["--seed=1", "--warnings=off", "--no-color", "--suppress-health-check=all"]
        # A device that is not there is a good request too; and a board that is not, is answered with 503.
        command += ["--exclude-checks=positive_data_acceptance,not_a_server_error"]
        result = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=300)
        print(result.stdout[-6000:])
        assert result.returncode == 0, result.stderr
        assert server.ask("GET", "/health")[1]["status"] == "healthy"
        metrics = server.ask("GET", "/metrics")[1]
        assert 'status="200"' in metrics and 'status="500"' not in metrics, metrics
        # Whatever was sent, what is kept is right.
        devices = server.ask("GET", "/devices")[1]["devices"]
        assert all("broken" not in device.get("error", "") for device in devices), devices


main()
