# fish completion for edge-metrics-exporter. The words come from its own --help, so that they are never out of date.

function __edge_metrics_exporter_roles
    edge-metrics-exporter --help 2>/dev/null | string replace -rf '^  ([a-z][a-z-]*) +(.*)$' '$1\t$2'
end

function __edge_metrics_exporter_options
    edge-metrics-exporter --help 2>/dev/null | string match -ra -- '--[a-z][a-z0-9.-]+' | sort -u
end

complete -c edge-metrics-exporter -n __fish_use_subcommand -f -a '(__edge_metrics_exporter_roles)'
complete -c edge-metrics-exporter -n 'string match -q -- "-*" (commandline -ct)' -f -a '(__edge_metrics_exporter_options)'
complete -c edge-metrics-exporter -l log.level -x -a 'error warn info debug trace'
complete -c edge-metrics-exporter -l path.sysfs -l path.procfs -l path.dev -l replay -l store -x -a '(__fish_complete_directories)'
complete -c edge-metrics-exporter -l config -l write -l web.config.file -l management.token-file -r -F
complete -c edge-metrics-exporter -l json -l csv -r -F -n '__fish_seen_subcommand_from measure'
complete -c edge-metrics-exporter -l boards.http.config.file -l store.http.config.file -l http.config.file -r -F
