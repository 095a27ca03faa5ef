"""promtool and prometheus_client's strict parser read what we write."""

import subprocess

from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from peers import exporter, get, wait_until

# promtool's complaints about names that are fixed, as dashboards of the replaced program query them. They use
# megabytes, megahertz and percent, which are no base units, and `_total` for gauges.
SEED_NAMES = "jetson_"


def main():
    with exporter("demo") as target:
        url = f"http://{target}/metrics"
        # The last one is known when every source has been tried.
        expected = ["power_watts{", "jetson_ram_used_mb", "\nexporter_unknown_metrics "]
        wait_until("tegrastats is read", lambda: all(name in get(url)[0] for name in expected))
        text, headers = get(url)
        assert headers["Content-Type"].startswith("text/plain; version=0.0.4"), headers
        lint(text)
        plain = names(text_string_to_metric_families(text))

        text, headers = get(url, {"Accept": "application/openmetrics-text; version=1.0.0"})
        assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0"), headers
        strict = names(openmetrics.text_string_to_metric_families(text))
        assert plain == strict, plain ^ strict
        print(f"{len(strict)} samples read by both parsers")


def names(families):
    """The series of an exposition; reading them is what tests its syntax."""
    return {(sample.name, tuple(sorted(sample.labels.items()))) for family in families for sample in family.samples}


def lint(text):
    result = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    complaints = [line for line in result.stderr.splitlines() if not line.startswith(SEED_NAMES)]
    assert result.returncode in (0, 3), result.stderr
    assert not complaints, "\n".join(complaints)
    print(f"promtool: nothing but {len(result.stderr.splitlines())} remarks on seed names")


main()
