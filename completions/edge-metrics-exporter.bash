# bash completion for edge-metrics-exporter. The words come from its own --help, so that they are never out of date.

_edge_metrics_exporter() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} help words i
    COMPREPLY=()
    # The command that is measured has completions of its own.
    if [ "${COMP_WORDS[1]}" = measure ]; then
        for ((i = 2; i < COMP_CWORD; i++)); do
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
    case $previous in
    --log.level)
        mapfile -t COMPREPLY < <(compgen -W "error warn info debug trace" -- "$current")
        return
        ;;
    --path.* | --replay | --store | record)
        mapfile -t COMPREPLY < <(compgen -d -- "$current")
        return
        ;;
    --*)
        # Whether it takes a value, the help says with a word in capitals behind it.
        if "${COMP_WORDS[0]}" --help 2>/dev/null | grep -Eq -- "$previous [A-Z]"; then
            mapfile -t COMPREPLY < <(compgen -f -- "$current")
            return
        fi
        ;;
    check-config)
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        return
        ;;
    esac
    help=$("${COMP_WORDS[0]}" --help 2>/dev/null) || return
    case $current in
    -*) words=$(grep -Eo -- '--[a-z][a-z0-9.-]+' <<<"$help") ;;
    *) [ "$COMP_CWORD" -eq 1 ] && words=$(sed -n 's/^  \([a-z][a-z-]*\) .*/\1/p' <<<"$help") ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "${words:-}" -- "$current" | sort -u)
}

complete -o filenames -F _edge_metrics_exporter edge-metrics-exporter
