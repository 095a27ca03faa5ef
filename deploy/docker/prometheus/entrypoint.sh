#!/bin/sh
# Writes Prometheus's configuration out of the environment, and runs it. (Prometheus itself does not look there.)
set -eu

config=${PROMETHEUS_CONFIG:-/tmp/prometheus.yml}

cat >"$config" <<EOF
global:
  scrape_interval: ${PROMETHEUS_SCRAPE_INTERVAL:-2}s
  scrape_timeout: ${PROMETHEUS_SCRAPE_INTERVAL:-2}s
  evaluation_interval: ${PROMETHEUS_EVALUATE_INTERVAL:-1}s

rule_files:
  - ${PROMETHEUS_RULES:-/etc/prometheus}/*.rules.yml

scrape_configs:
  - job_name: prometheus
    static_configs:
      - targets: ['localhost:9090']
  - job_name: pyjoules_simple
    static_configs:
      - targets: ['pyjoules-metrics-client-simple:${CLIENT_SIMPLE_EXPORTER_PORT:-9091}']
  - job_name: pyjoules_multirate
    static_configs:
      - targets: ['pyjoules-metrics-client-multirate:${CLIENT_MULTIRATE_EXPORTER_PORT:-9092}']
EOF

exec "${PROMETHEUS:-/bin/prometheus}" --config.file="$config" --storage.tsdb.path="${PROMETHEUS_DATA:-/prometheus}" \
    --web.enable-remote-write-receiver "$@"
