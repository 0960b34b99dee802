# The part `image` of scripts/package-run, for bash: the Dockerfile is built and run as the compose file says, with podman in a
# storage, mounts and a network of its own. Sourced, not run.

holder=
container=ringpost-package-run_smp-server_1

# Keeps the mounts and the network in which the containers live: what they change ends with it.
image_hold() {
    mkdir -p "$work/podman"
    cat >"$work/podman/storage.conf" <<CONF
[storage]
driver = "overlay"
graphroot = "$work/podman/store"
runroot = "$work/podman/run"
CONF
    printf '[engine]\ntmp_dir = "%s"\n' "$work/podman/tmp" >"$work/podman/containers.conf"
    [ ! -x /usr/lib/podman/netavark ] || printf '[network]\nnetwork_backend = "netavark"\n' >>"$work/podman/containers.conf"
    if [ ! -d /run/systemd/system ]; then
        printf '[containers]\ncgroups = "disabled"\n' >>"$work/podman/containers.conf"
        sed -i 's/^\[engine\]/&\ncgroup_manager = "cgroupfs"\nevents_logger = "file"/' "$work/podman/containers.conf"
    fi
    # Podman knows control groups of one version at a time.
    unshare --mount --net sh -ec '[ ! -d /sys/fs/cgroup/unified ] || mount -t cgroup2 none /sys/fs/cgroup
        ip link set lo up; : >"$0/held"; exec sleep infinity' "$work/podman" &
    holder=$!
    for _ in $(seq 100); do
        [ -e "$work/podman/held" ] && return 0
        kill -0 "$holder" 2>/dev/null || break
        sleep 0.1
    done
    die "cannot make mounts and a network apart"
}

held() {
    nsenter --target "$holder" --mount --net --wd="$PWD" -- \
        env CONTAINERS_STORAGE_CONF="$work/podman/storage.conf" CONTAINERS_CONF="$work/podman/containers.conf" "$@"
}
# The same with the network of the machine, to build and to pull.
held_online() {
    nsenter --target "$holder" --mount --wd="$PWD" -- \
        env CONTAINERS_STORAGE_CONF="$work/podman/storage.conf" CONTAINERS_CONF="$work/podman/containers.conf" "$@"
}
compose() {
    held podman-compose --project-name ringpost-package-run -f packaging/docker/compose.yaml "${compose_more[@]}" "$@" \
        >"$work/compose.txt" 2>&1 || {
        cat "$work/compose.txt" >&2
        die "podman-compose $* failed"
    }
}

image_cleanup() {
    [ -n "$holder" ] || return 0
    held podman rm --force --all --time 0 >/dev/null 2>&1 || true
    kill "$holder" 2>/dev/null || true
    wait "$holder" 2>/dev/null || true
    holder=
}

# Imports a directory as the image that the Dockerfile names.
stand_in() {
    tar -C "$1" --exclude=./var/cache/apt/archives/*.deb -cf - . | held podman import \
        -c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' -c 'ENV CARGO_HOME=/usr/local/cargo' \
        - "docker.io/library/$2" >/dev/null 2>&1 || die "cannot make a stand-in for $2"
    unchecked "the image $2: it cannot be pulled, and a new Debian${3:-} stands in"
}

# The images that the Dockerfile starts from: the real ones, or what is in them of this machine.
image_bases() {
    local name tools=$work/rust sysroot
    for name in $(sed -n 's/^FROM \([^ ]*\).*/\1/p' packaging/docker/Dockerfile); do
        timeout 300 nsenter --target "$holder" --mount -- env CONTAINERS_STORAGE_CONF="$work/podman/storage.conf" \
            CONTAINERS_CONF="$work/podman/containers.conf" podman pull --quiet "docker.io/library/$name" \
            >"$work/pull.txt" 2>&1 && continue
        case $name in
            rust:*)
                find_cargo
                command -v rustc >/dev/null 2>&1 || die "$name cannot be pulled, and there is no Rust here to stand in"
                cp -a "$base" "$tools"
                DEBIAN_FRONTEND=noninteractive chroot "$tools" apt-get install -qq --yes --no-install-recommends \
                    gcc libc6-dev >"$work/apt.txt" 2>&1 || die "cannot install gcc into the new Debian"
                sysroot=$(rustc --print sysroot)
                cp -a "$sysroot/bin/cargo" "$sysroot/bin/rustc" "$tools/usr/local/bin/"
                cp -a "$sysroot/lib/." "$tools/usr/local/lib/"
                stand_in "$tools" "$name" " with $(rustc --version | cut -d ' ' -f 1,2)"
                rm -rf --one-file-system "$tools"
                ;;
            debian:*) stand_in "$base" "$name" ;;
            *) die "no stand-in is known for $name" ;;
        esac
    done
}

image_build() {
    local registry volume=()
    if [ -n "$image" ]; then
        held podman load --quiet --input "$image" >/dev/null || die "$image is no image"
        held podman image exists ringpost || die "$image has no image named ringpost"
        return 0
    fi
    image_bases
    # What cargo has on this machine need not be fetched again.
    registry=${CARGO_HOME:-${HOME:-/root}/.cargo}/registry
    [ ! -d "$registry" ] || volume=(--volume "$registry:/usr/local/cargo/registry")
    held_online podman build --isolation chroot --network host --pull=never "${volume[@]}" \
        --file packaging/docker/Dockerfile --tag ringpost . >"$work/build.txt" 2>&1 || {
        tail -n 40 "$work/build.txt" >&2
        die "the Dockerfile cannot be built"
    }
    ok "the Dockerfile is built"
}

# Whether this shell may raise hard limits: bit 24 of its capabilities is CAP_SYS_RESOURCE.
may_raise_limits() {
    [ $(((0x$(sed -n 's/^CapEff:\s*//p' /proc/self/status) >> 24) & 1)) -eq 1 ]
}

# Limits that this machine cannot give are lowered to what it has, and said.
image_limits() {
    local name wanted hard
    compose_more=()
    run_more=()
    may_raise_limits && return 0
    : >"$work/limits.txt"
    # Podman itself asks for 1,048,576 of what the compose file does not name.
    for name in memlock:locked nofile:open nproc:processes; do
        wanted=$(sed -n "s/^ *${name%%:*}: *//p" packaging/docker/compose.yaml)
        hard=$(awk -v word=" ${name#*:}" 'index($0, word) { print $(NF - 1); exit }' /proc/self/limits)
        case $hard in '' | *[!0-9]*) continue ;; esac
        # Podman lowers its own limit of processes, so there is no more to give.
        [ "$name" != nproc:processes ] || hard=$((hard < 4096 ? hard : 4096))
        [ "${wanted:-1048576}" -gt "$hard" ] || continue
        printf '      %s: %s\n' "${name%%:*}" "$hard" >>"$work/limits.txt"
        run_more+=(--ulimit "${name%%:*}=$hard:$hard")
        [ -z "$wanted" ] ||
            unchecked "${name%%:*} $wanted: this machine's own limit is $hard, and raising it needs CAP_SYS_RESOURCE"
    done
    [ -s "$work/limits.txt" ] || return 0
    { printf 'services:\n  smp-server:\n    ulimits:\n' && cat "$work/limits.txt"; } >"$work/limits.yaml"
    compose_more=(-f "$work/limits.yaml")
}

image_served() { [ "$(held podman logs "$container" 2>&1 | grep -c '^Serving SMP protocol on ')" -gt "$1" ]; }
image_until_served() {
    for _ in $(seq 300); do
        image_served "$1" && return 0
        sleep 0.1
    done
    cat "$work/compose.txt" >&2
    held podman logs "$container" >&2 || true
    die "the router in the container does not serve"
}

image_drive() {
    held "$loadgen" throughput "$2" --pairs 4 --in-flight 4 --messages 50 >"$work/loadgen.txt" 2>&1 || {
        cat "$work/loadgen.txt" >&2
        held podman logs "$container" >&2
        die "messages do not come through: $1"
    }
    ok "$1: $(sed -n 's/^verification *//p' "$work/loadgen.txt")"
}
image_outlive() {
    held "$loadgen" subscribe "$address" --queues 100 --messages-each 5 --connections 2 --meanwhile "$2" \
        >"$work/loadgen.txt" 2>&1 || {
        cat "$work/loadgen.txt" "$work/compose.txt" >&2
        held podman logs "$container" >&2
        die "messages do not outlive this: $1"
    }
    ok "$1: $(sed -n 's/^verification *//p' "$work/loadgen.txt")"
}

# Runs the image beside the other container, with a router of its own; its end and its words are as told.
image_ends() {
    local title=$1 code=$2 words=$3 status=0
    shift 3
    timeout 60 nsenter --target "$holder" --mount --net --wd="$PWD" -- env \
        CONTAINERS_STORAGE_CONF="$work/podman/storage.conf" CONTAINERS_CONF="$work/podman/containers.conf" \
        podman run --rm --network none "${run_more[@]}" "$@" >"$work/run.txt" 2>&1 || status=$?
    if [ "$status" -ne "$code" ] || ! grep -q -- "$words" "$work/run.txt"; then
        cat "$work/run.txt" >&2
        die "$title: exit code $status, not $code"
    fi
    ok "$title: exit code $code. $(grep -m 1 -- "$words" "$work/run.txt")"
}

part_image() {
    local status pid default command
    image_hold
    image_build
    image_limits
    ADDR=127.0.0.1 compose up -d --no-build
    image_until_served 0
    address=$(held podman logs "$container" 2>&1 | sed -n 's/^Server address: //p' | tail -n 1)
    pid=$(held podman inspect --format '{{.State.Pid}}' "$container")
    status=$(cat "/proc/$pid/status")
    for line in 'Uid:\s990\s990\s990\s990' 'NoNewPrivs:\s1' 'Seccomp:\s2' 'CapEff:\s0000000000000000' 'CapBnd:\s0000000000000000'; do
        grep -q "$line" <<<"$status" || die "the process in the container has not $line"
    done
    held podman exec "$container" sh -c ': >/usr/bin/new' >/dev/null 2>&1 && die "the root of the container can be written to"
    image_drive "as the compose file says, port 5223" "$address"
    image_drive "port 443, without a capability" "$address:443"

    image_outlive "the container is restarted" "podman restart $container >/dev/null"
    held podman stop "$container" >/dev/null 2>&1
    [ "$(held podman inspect --format '{{.State.ExitCode}}' "$container")" = 0 ] || die "the container does not stop in order"
    ok "podman stop: exit code 0"
    held podman start "$container" >/dev/null 2>"$work/podman.txt" || die "podman start: $(cat "$work/podman.txt")"
    image_until_served 4
    image_outlive "the container is killed and started" \
        "(set -e; podman kill --signal KILL $container; podman wait $container; podman start $container) >/dev/null 2>&1"
    # Its log ends with it, the volumes stay; the address needs not be told again.
    command="podman-compose --project-name ringpost-package-run -f packaging/docker/compose.yaml ${compose_more[*]}"
    image_outlive "the container is removed and made again" \
        "($command down && $command up -d --no-build) >$work/compose.txt 2>&1"
    [ "$(held podman logs "$container" 2>&1 | sed -n 's/^Server address: //p' | sort -u)" = "$address" ] ||
        die "the new container has another address"
    compose down

    image_ends "without an address" 2 'set ADDR' ringpost
    # The command of docs/operations.md.
    container=ringpost-package-run-by-hand
    held podman run --detach --name "$container" --security-opt seccomp=packaging/docker/seccomp.json \
        --ulimit memlock=536870912 --ulimit nofile=1048576 "${run_more[@]}" --sysctl net.ipv4.ip_unprivileged_port_start=0 \
        -e ADDR=127.0.0.1 -p 5223:5223 -p 443:443 -v smp-config:/etc/opt/simplex -v smp-state:/var/opt/simplex ringpost \
        >/dev/null 2>"$work/podman.txt" || die "podman run: $(cat "$work/podman.txt")"
    image_until_served 0
    image_drive "by the command of the documentation" \
        "$(held podman logs "$container" 2>&1 | sed -n 's/^Server address: //p' | tail -n 1)"
    held podman rm --force --time 10 "$container" >/dev/null 2>&1
    default=$(held podman info --format '{{.Host.Security.SECCOMPProfilePath}}')
    if grep -q io_uring_setup "$default"; then
        say "    this runtime's own profile ($default) allows io_uring"
        jq 'del(.syscalls[].names[] | select(startswith("io_uring")))' "$default" >"$work/default.json"
    else
        image_ends "the runtime's own profile" 9 'io_uring' \
            --volume ringpost-package-run_config:/etc/opt/simplex --volume ringpost-package-run_state:/var/opt/simplex \
            ringpost
        cp "$default" "$work/default.json"
    fi
    grep -q 'seccomp profile' "$work/run.txt" || die "the remedy is not named"
    # Docker's refuses with another error.
    jq '.defaultErrnoRet = 1 | .defaultErrno = "EPERM"' "$work/default.json" >"$work/docker.json"
    image_ends "a profile that refuses as Docker's does" 9 'io_uring' --security-opt "seccomp=$work/docker.json" \
        --volume ringpost-package-run_config:/etc/opt/simplex --volume ringpost-package-run_state:/var/opt/simplex ringpost
    grep -q 'seccomp profile' "$work/run.txt" || die "the remedy is not named"
    mkdir "$work/foreign"
    image_ends "a directory of root" 10 'cannot write /etc/opt/simplex: .*chown' --env ADDR=127.0.0.1 \
        --security-opt seccomp=packaging/docker/seccomp.json --volume "$work/foreign:/etc/opt/simplex" ringpost
    image_cleanup
}
