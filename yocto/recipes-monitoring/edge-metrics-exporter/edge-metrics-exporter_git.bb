# Whatever the branch has. PREFERRED_VERSION_edge-metrics-exporter = "0.1.0+git%" chooses it.
require edge-metrics-exporter.inc

PV = "0.1.0+git"
SRCREV = "${AUTOREV}"

DEFAULT_PREFERENCE = "-1"
