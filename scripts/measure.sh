# Shared by the scripts that measure: routers and load generators of the release build. Sourced, not run. The caller
# sets `bin` and `work` first, and has `cleanup` run at its end.

router_pids=()

cleanup() {
    local status=$?
    trap - EXIT INT TERM HUP
    local pid
    for pid in ${router_pids[@]+"${router_pids[@]}"} ${other_pid:-}; do
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    [ -z "${work:-}" ] || rm -rf "$work"
    exit "$status"
}

build_for_measuring() {
    need_build_tools
    say "building smp-server and loadgen (release)"
    cargo build --release --locked --quiet --package ringpost-router --bin smp-server --package ringpost-loadgen --bin loadgen
}

# Starts a router with fresh data: its name, its number of shards, lines for the section RINGPOST of its ini. Sets
# NAME_pid and NAME_address.
start_router() {
    local name=$1 shards=$2 settings=$3 port pid folder=$work/$1 status
    for _ in $(seq 20); do
        port=$((20000 + RANDOM % 12000))
        rm -rf "$folder"
        mkdir -p "$folder"
        : >"$folder/router.txt"
        SMP_SERVER_CFG_PATH=$folder/etc SMP_SERVER_LOG_PATH=$folder/var "$bin/smp-server" init --yes --ip 127.0.0.1 \
            --port "$port" --listen 127.0.0.1 --no-password >"$folder/init.txt" || die "smp-server init failed"
        sed -i "s/^\[RINGPOST\]\$/[RINGPOST]\n$settings/" "$folder/etc/smp-server.ini"
        SMP_SERVER_CFG_PATH=$folder/etc SMP_SERVER_LOG_PATH=$folder/var "$bin/smp-server" start --shards "$shards" \
            >"$folder/router.txt" 2>&1 &
        pid=$!
        router_pids+=("$pid")
        for _ in $(seq 400); do
            if grep -q '^Serving SMP protocol on ' "$folder/router.txt"; then
                printf -v "${name}_pid" '%s' "$pid"
                printf -v "${name}_address" '%s' "$(sed -n 's/^Server address: //p' "$folder/init.txt")"
                return 0
            fi
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.05
        done
        status=0
        wait "$pid" || status=$?
        # 6: the port is in use.
        [ "$status" = 6 ] || break
    done
    cat "$folder/router.txt" >&2
    die "the router did not start"
}

# Stops a router by its name.
stop_router() {
    local pid_name=${1}_pid
    kill "${!pid_name}"
    wait "${!pid_name}" || die "the router did not stop well: $(tail -n 3 "$work/$1/router.txt")"
}

# Runs loadgen with these arguments; the result is in $work/result.json.
load() {
    "$bin/loadgen" "$@" --json "$work/result.json" >"$work/load.txt" 2>&1 ||
        die "loadgen $1 failed: $(tail -n 8 "$work/load.txt")"
}

# A number of the result: in a section (router, proxy, loadgen), or at the top with the section ''.
figure() {
    if [ -n "$1" ]; then
        sed -n "/^  \"$1\": {/,/^  }/s/^    \"$2\": \(-\{0,1\}[0-9.]*\),*\$/\1/p" "$work/result.json" | head -n 1
    else
        sed -n "s/^  \"$2\": \(-\{0,1\}[0-9.]*\),*\$/\1/p" "$work/result.json" | head -n 1
    fi
}

# A number of the latency of this name, of the last run or of another result.
latency() {
    awk -v name="\"$1\"" -v key="\"$2\":" '
        $1 == "\"name\":" { here = ($2 == name ",") }
        here && $1 == key { sub(",", "", $2); print $2; exit }' "$work/${3:-result}.json"
}

median() { sort -n | awk '{ v[NR] = $1 } END { if (NR) print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

# A computation with awk, with four digits at most.
calc() { awk "BEGIN { printf \"%.4g\", $1 }"; }

number_option() {
    case ${2:-} in '' | *[!0-9]* | ?????????*) die "$1 needs a number" ;; esac
    [ "$2" -ge 1 ] || die "$1 needs a number from 1"
}
