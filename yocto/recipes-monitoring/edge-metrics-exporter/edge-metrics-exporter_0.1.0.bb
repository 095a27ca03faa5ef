# A fixed release: the tag, in the repository that EDGE_METRICS_REPOSITORY names.
require edge-metrics-exporter.inc

SRCREV = "v${PV}"
