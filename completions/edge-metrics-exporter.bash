# bash completion for edge-metrics-exporter. Generated from src/cli/table.rs by its test: do not edit.

_edge_metrics_exporter() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command='' words='' i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        run | demo | doctor | measure | top | record | check-config | config-server | collect | help | version | power-exporter | udp-agent | pyjoules-simple | pyjoules-multirate | pyjoules-remote-write | kepler | scaphandre)
            command=${COMP_WORDS[i]}
            break
            ;;
        esac
    done
    # The command that is measured has completions of its own.
    if [ "$command" = measure ]; then
        for ((; i < COMP_CWORD; i++)); do
            if [ "${COMP_WORDS[i]}" = -- ]; then
                if declare -F _command_offset >/dev/null; then
                    _command_offset $((i + 1))
                else
                    mapfile -t COMPREPLY < <(compgen -c -f -- "$current")
                fi
                return
            fi
        done
    fi
    case "$command $previous" in
    "doctor --json") ;;
    *" --json")
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        return
        ;;
    esac
    case $previous in
    --board)
        mapfile -t COMPREPLY < <(compgen -W "jetson raspberry-pi orange-pi pc" -- "$current")
        return
        ;;
    --preset)
        mapfile -t COMPREPLY < <(compgen -W "power-exporter udp-agent pyjoules-simple pyjoules-multirate pyjoules-remote-write kepler scaphandre" -- "$current")
        return
        ;;
    --log.level)
        mapfile -t COMPREPLY < <(compgen -W "error warn info debug trace" -- "$current")
        return
        ;;
    --path.dev | --path.procfs | --path.sysfs | --replay | --store)
        mapfile -t COMPREPLY < <(compgen -d -- "$current")
        return
        ;;
    --boards.http.config.file | --config | --csv | --http.config.file | --management.token-file | --store.http.config.file | --web.config.file | --write)
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        return
        ;;
    --address | --device-ip | --device-port | --fleet | --for | --idle | --interval | --listen | --name | --namespace | --port | --prometheus.url | --repeat | --url | --voltage | --web.listen-address | --web.management-address)
        return
        ;;
    esac
    case "$command $current" in
    "run -"* | " -"*) words="--replay --replay.at-once --config --web.listen-address --web.management-address --web.config.file --management.token-file --path.sysfs --path.procfs --path.dev --log.level --help --version" ;;
    "demo -"*) words="--board --name --preset --fleet --config --web.listen-address --web.management-address --web.config.file --management.token-file --log.level --help" ;;
    "doctor -"*) words="--json --write --probe-i2c --network --config --path.sysfs --path.procfs --path.dev --log.level --help" ;;
    "measure -"*) words="--interval --idle --repeat --json --csv --url --http.config.file --config --path.sysfs --path.procfs --path.dev --log.level --help" ;;
    "top -"*) words="--interval --url --http.config.file --config --path.sysfs --path.procfs --path.dev --log.level --help" ;;
    "record -"*) words="--for --config --path.sysfs --path.procfs --path.dev --log.level --help" ;;
    "check-config -"*) words="--lenient --config --web.config.file --management.token-file --path.sysfs --path.procfs --path.dev --log.level --help" ;;
    "config-server -"*) words="--store --store.http.config.file --boards.http.config.file --management.allow-remote --web.listen-address --web.config.file --management.token-file --log.level --help" ;;
    "collect -"*) words="--prometheus.url --interval --namespace --config --web.listen-address --web.config.file --management.token-file --log.level --help" ;;
    "help -"*) words="--help" ;;
    "version -"*) words="--help" ;;
    "power-exporter -"*) words="--device-ip --device-port --config --web.listen-address --web.management-address --web.config.file --management.token-file --path.sysfs --path.procfs --path.dev --log.level --help" ;;
    "udp-agent -"*) words="--port --listen --voltage --config --web.listen-address --web.management-address --web.config.file --management.token-file --path.sysfs --path.procfs --path.dev --log.level --help" ;;
    "pyjoules-simple -"*) words="--config --web.listen-address --web.management-address --web.config.file --management.token-file --path.sysfs --path.procfs --path.dev --log.level --help" ;;
    "pyjoules-multirate -"*) words="--config --web.listen-address --web.management-address --web.config.file --management.token-file --path.sysfs --path.procfs --path.dev --log.level --help" ;;
    "pyjoules-remote-write -"*) words="--config --web.listen-address --web.management-address --web.config.file --management.token-file --path.sysfs --path.procfs --path.dev --log.level --help" ;;
    "kepler -"*) words="--config --web.listen-address --web.management-address --web.config.file --management.token-file --path.sysfs --path.procfs --path.dev --log.level --help" ;;
    "scaphandre -"*) words="--port --address --config --web.listen-address --web.management-address --web.config.file --management.token-file --path.sysfs --path.procfs --path.dev --log.level --help" ;;
    " "*) words="run demo doctor measure top record check-config config-server collect help version power-exporter udp-agent pyjoules-simple pyjoules-multirate pyjoules-remote-write kepler scaphandre" ;;
    "record "*) mapfile -t COMPREPLY < <(compgen -d -- "$current") ;;
    "check-config "*) mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
    "help "*) words="run demo doctor measure top record check-config config-server collect help version power-exporter udp-agent pyjoules-simple pyjoules-multirate pyjoules-remote-write kepler scaphandre" ;;
    esac
    [ -z "$words" ] || mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}

complete -o filenames -F _edge_metrics_exporter edge-metrics-exporter
