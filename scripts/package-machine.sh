# The parts `package` and `service` of scripts/package-run, for bash: a Debian in a container, with systemd. Sourced, not run.

machine=
nspawn_pid=
leader=
cgroups_before=

# Makes a root with systemd, and the packages: two versions of a router, and one whose program is none.
machine_prepare() {
    [ -z "${packages:-}" ] || return 0
    local tree=$work/tree version
    systemd_root=$work/systemd
    cp -a "$base" "$systemd_root"
    DEBIAN_FRONTEND=noninteractive chroot "$systemd_root" apt-get install -qq --yes --no-install-recommends \
        systemd systemd-sysv dbus >"$work/apt.txt" 2>&1 || {
        tail "$work/apt.txt" >&2
        die "cannot install systemd into the new Debian"
    }
    rm -f "$systemd_root"/var/cache/apt/archives/*.deb
    packages=$work/packages
    mkdir -p "$packages"
    scripts/package --binary "$binaries/smp-server" --manual "$manual" --out "$packages" --no-image >"$work/package.txt" 2>&1 || {
        cat "$work/package.txt" >&2
        die "scripts/package failed"
    }
    mv "$packages"/*.deb "$packages/1.deb"
    dpkg-deb --raw-extract "$packages/1.deb" "$tree"
    version=$(sed -n 's/^Version: //p' "$tree/DEBIAN/control")
    sed -i "s/^Version: .*/Version: $version+1/" "$tree/DEBIAN/control"
    dpkg-deb --root-owner-group --build "$tree" "$packages/2.deb" >/dev/null
    sed -i "s/^Version: .*/Version: $version+2/" "$tree/DEBIAN/control"
    printf '#!/bin/sh\nexit 1\n' >"$tree/usr/bin/smp-server"
    dpkg-deb --root-owner-group --build "$tree" "$packages/broken.deb" >/dev/null
    sed -i "s/^Version: .*/Version: $version+3/" "$tree/DEBIAN/control"
    install -m 755 "$binaries/smp-server" "$tree/usr/bin/smp-server"
    dpkg-deb --root-owner-group --build "$tree" "$packages/3.deb" >/dev/null
    rm -rf "$tree"
}

# Starts a new machine, with a network of its own.
machine_start() {
    local state='' place=()
    machine=$work/machine
    cp -a "$systemd_root" "$machine"
    cp -a "$packages" "$machine/packages"
    # Without systemd around, there is nobody to register at, and the place in the control groups is that of this shell.
    [ -d /run/systemd/system ] || place=(--register=no --keep-unit)
    cgroups_before=$(find /sys/fs/cgroup -maxdepth 2 -type d \( -name payload -o -name supervisor \) 2>/dev/null || true)
    systemd-nspawn --quiet --directory "$machine" --machine "ringpost-$$" --boot --private-network --console=pipe \
        "${place[@]}" "$@" </dev/null >"$work/nspawn.txt" 2>&1 &
    nspawn_pid=$!
    for _ in $(seq 600); do
        kill -0 "$nspawn_pid" 2>/dev/null || break
        leader=$(pgrep -P "$nspawn_pid" | head -n 1 || true)
        [ -z "$leader" ] || state=$(inside systemctl is-system-running 2>/dev/null || true)
        case $state in running | degraded) return 0 ;; esac
        sleep 0.1
    done
    cat "$work/nspawn.txt" >&2
    die "systemd does not start in a container here (state: ${state:-none})"
}

machine_stop() {
    local group
    [ -n "$nspawn_pid" ] || return 0
    # An orderly halt of the machine.
    kill -TERM "$nspawn_pid" 2>/dev/null || true
    for _ in $(seq 300); do
        kill -0 "$nspawn_pid" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL "$nspawn_pid" 2>/dev/null || true
    wait "$nspawn_pid" 2>/dev/null || true
    nspawn_pid=
    leader=
    rm -rf --one-file-system "$machine"
    # The groups that the container leaves in that of this shell, and only if they are its.
    for group in $(find /sys/fs/cgroup -maxdepth 2 -type d \( -name payload -o -name supervisor \) 2>/dev/null || true); do
        case " ${cgroups_before//$'\n'/ } " in
            *" $group "*) ;;
            *) find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true ;;
        esac
    done
}

# Runs a command in the machine; a machine of our own network is reached with `net`.
inside() { nsenter --target "$leader" --all -- "$@"; }
net() { nsenter --target "$leader" --net -- "$@"; }
unit() { inside systemctl show --property="$1" --value smp-server.service; }
journal() { inside journalctl --unit smp-server --output cat --no-pager; }
served() { journal | grep -c '^Serving SMP protocol on ' || true; }

# Waits until a shell command succeeds.
until_true() {
    local title=$1
    shift
    for _ in $(seq 300); do
        if "$@" >/dev/null 2>&1; then return 0; fi
        sleep 0.1
    done
    journal | tail -n 30 >&2 || true
    die "waited 30 seconds in vain: $title"
}
is() { [ "$(unit "$1")" = "$2" ]; }
served_more_than() { [ "$(served)" -gt "$1" ]; }
# To its end: grep -q would leave early, and the journal would end with an error.
journal_has() { journal | grep -- "$1" >/dev/null; }

apt_get() {
    inside env DEBIAN_FRONTEND=noninteractive apt-get -qq --yes --no-install-recommends "$@" >"$work/apt.txt" 2>&1 || {
        cat "$work/apt.txt" >&2
        die "apt-get $* failed"
    }
}

# A server whose name is not the address that clients come from, so that an address in the journal is a client's.
make_server() {
    inside su -s /bin/sh simplex -c 'smp-server init --yes --fqdn smp.example.com --no-password' >"$work/init.txt"
    address=$(sed -n 's/^Server address: //p' "$work/init.txt" | sed 's/smp\.example\.com/127.0.0.1/')
    [ -n "$address" ] || die "smp-server init prints no address"
}
start_server() {
    local before
    before=$(served)
    inside systemctl start smp-server
    until_true "the router serves" served_more_than "$before"
}

# Messages through the router of the machine.
drive() {
    net "$loadgen" throughput "$address" --pairs 4 --in-flight 4 --messages 50 >"$work/loadgen.txt" 2>&1 || {
        cat "$work/loadgen.txt" >&2
        journal | tail -n 30 >&2
        die "messages do not come through: $1"
    }
    ok "$1: $(sed -n 's/^verification *//p' "$work/loadgen.txt")"
}

# Messages that wait while something is done to the router, and are delivered after it.
outlive() {
    local command="nsenter --target $leader --all -- sh -e /meanwhile"
    printf '%s\n' "$2" >"$machine/meanwhile"
    net "$loadgen" subscribe "$address" --queues 100 --messages-each 5 --connections 2 --meanwhile "$command" \
        >"$work/loadgen.txt" 2>&1 || {
        cat "$work/loadgen.txt" >&2
        journal | tail -n 30 >&2
        die "messages do not outlive this: $1"
    }
    ok "$1: $(sed -n 's/^verification *//p' "$work/loadgen.txt")"
}

# Shell commands that wait until the process runs the binary that is there now: clients that connect then wait for it.
runs_new='i=0
until [ /usr/bin/smp-server -ef "/proc/$(systemctl show --property=MainPID --value smp-server)/exe" ]; do
    i=$((i + 1)); [ "$i" -lt 300 ]; sleep 0.1
done'

digest() { inside sh -c 'cd / && find etc/opt/simplex -type f -exec sha256sum {} + | sort | sha256sum'; }

part_package() {
    local before pid
    machine_prepare
    machine_start

    apt_get install /packages/1.deb
    grep -q 'smp-server init' "$work/apt.txt" || die "the package does not say how to make a server"
    [ -z "$(inside dpkg --verify ringpost-smp-server)" ] || die "files differ from the package"
    for directory in /etc/opt/simplex /var/opt/simplex; do
        [ "$(inside stat -c '%U:%G %a' "$directory")" = "simplex:simplex 750" ] || die "$directory: wrong owner or mode"
    done
    inside getent passwd simplex | grep ':/usr/sbin/nologin$' >/dev/null || die "the user simplex can log in"
    [ "$(inside systemctl is-enabled smp-server || true) $(unit ActiveState)" = "disabled inactive" ] ||
        die "installing enables or starts the unit"
    ok "installed: user, directories, unit there and not enabled"

    make_server
    inside systemctl --quiet enable smp-server
    start_server
    pid=$(unit MainPID)
    before=$(digest)
    drive "a new server"

    outlive "upgraded while it runs" "apt-get -qq --yes install /packages/2.deb >/dev/null 2>&1
$runs_new"
    [ "$(unit MainPID)" = "$pid" ] || die "the upgrade restarts the service"
    [ "$(digest)" = "$before" ] || die "the upgrade changes the configuration"
    ok "the process runs the new binary, the configuration is the operator's"

    apt_get install /packages/broken.deb
    until_true "the journal says that there is no upgrade" journal_has 'no upgrade, going on as before'
    [ "$(unit MainPID)" = "$pid" ] || die "a broken upgrade ends the service"
    drive "a package with a broken program leaves the router running"
    apt_get install /packages/3.deb
    until_true "the mended version serves" served_more_than 4
    drive "and a mended one upgrades it"

    outlive "removed and installed again" 'export DEBIAN_FRONTEND=noninteractive
        apt-get -qq --yes remove ringpost-smp-server >/dev/null 2>&1
        [ "$(systemctl is-active smp-server)" != active ]
        [ ! -e /etc/systemd/system/multi-user.target.wants/smp-server.service ]
        [ "$(systemctl show --property=LoadState --value smp-server)" = not-found ]
        apt-get -qq --yes install /packages/3.deb >/dev/null 2>&1
        systemctl --quiet enable --now smp-server'
    [ "$(digest)" = "$before" ] || die "removing the package changes the configuration"
    apt_get purge ringpost-smp-server
    grep -q '^Left: /etc/opt/simplex' "$work/apt.txt" || die "a purge does not say what is left"
    [ "$(digest)" = "$before" ] && inside test -d /var/opt/simplex/ringpost || die "a purge takes the operator's data"
    inside rm -r /etc/opt/simplex /var/opt/simplex
    inside mkdir /etc/opt/simplex /var/opt/simplex
    apt_get install /packages/1.deb
    apt_get purge ringpost-smp-server
    inside sh -c '! [ -e /etc/opt/simplex ] && ! [ -e /var/opt/simplex ]' || die "a purge leaves empty directories"
    ok "purged: data of a server stay, empty directories do not"

    # A server of other make, installed as the reference's script does it.
    inside sh -ec 'useradd --system --user-group smp
        mkdir -p /etc/opt/simplex /var/opt/simplex
        chown smp:smp /etc/opt/simplex /var/opt/simplex
        cp /usr/bin/sleep /usr/local/bin/smp-server
        printf "[Service]\nExecStart=/usr/local/bin/smp-server 1000\n" >/etc/systemd/system/smp-server.service
        systemctl daemon-reload; systemctl start smp-server'
    pid=$(unit MainPID)
    apt_get install /packages/1.deb
    grep -q '^/etc/systemd/system/smp-server.service is used instead' "$work/apt.txt" || die "no word of the other unit"
    apt_get install /packages/2.deb
    [ "$(unit MainPID) $(unit ActiveState)" = "$pid active" ] || die "another server is disturbed by the package"
    [ "$(inside stat -c %U /var/opt/simplex)" = smp ] || die "the package takes the directories of another server"
    ok "a server of other make goes on, and it is said that its unit comes first"
    # The commands of docs/operations.md.
    inside su -s /bin/sh smp -c '/usr/bin/smp-server init --yes --fqdn smp.example.com --no-password' >"$work/init.txt"
    address=$(sed -n 's/^Server address: //p' "$work/init.txt" | sed 's/smp\.example\.com/127.0.0.1/')
    inside sh -ec 'systemctl stop smp-server
        rm /etc/systemd/system/smp-server.service /usr/local/bin/smp-server
        systemctl daemon-reload
        chown -R simplex:simplex /etc/opt/simplex /var/opt/simplex
        systemctl --quiet enable --now smp-server'
    until_true "the router serves in its place" served_more_than 0
    drive "and Ringpost takes its place"
    machine_stop

    # Where systemd does not run, as when an image is made.
    machine=$work/machine
    cp -a "$systemd_root" "$machine"
    cp -a "$packages" "$machine/packages"
    chroot "$machine" sh -ec 'export DEBIAN_FRONTEND=noninteractive
        apt-get -qq --yes install /packages/1.deb; systemctl --quiet enable smp-server
        apt-get -qq --yes remove ringpost-smp-server' >"$work/apt.txt" 2>&1 || {
        cat "$work/apt.txt" >&2
        die "cannot be installed and removed without systemd running"
    }
    [ ! -L "$machine/etc/systemd/system/multi-user.target.wants/smp-server.service" ] || die "the link to the unit is left"
    rm -rf --one-file-system "$machine"
    ok "installed and removed without systemd running"
}

# Starts the unit with a drop-in that makes it fail, and checks how.
fails_with() {
    local title=$1 settings=$2 code=$3 words=$4
    inside sh -c "mkdir -p /run/systemd/system/smp-server.service.d && printf '[Service]\n$settings\n' \
        >/run/systemd/system/smp-server.service.d/test.conf && systemctl daemon-reload"
    inside systemctl start smp-server || true
    until_true "$title: the unit fails" is ActiveState failed
    [ "$(unit ExecMainStatus) $(unit Result)" = "$code exit-code" ] || {
        journal | tail >&2
        die "$title: exit code $(unit ExecMainStatus), not $code"
    }
    journal | tail -n 12 | grep -- "$words" >/dev/null || die "$title: no word of it in the journal"
    inside sh -c 'rm /run/systemd/system/smp-server.service.d/test.conf; systemctl daemon-reload; systemctl reset-failed smp-server'
    ok "$title: exit code $code, not tried again"
}

part_service() {
    local pid status hard wanted restarts exposure text
    machine_prepare
    machine_start
    apt_get install /packages/1.deb
    # Nothing but the program of the manual pages may be missing.
    text=$(inside systemd-analyze verify --man=no smp-server.service 2>&1 || true)
    [ -z "$text" ] || die "systemd-analyze verify: $text"
    exposure=$(inside systemd-analyze security --no-pager smp-server | sed -n 's/.*exposure level[^:]*: \([0-9.]*\).*/\1/p')
    [ -n "$exposure" ] && [ "${exposure%.*}" -lt 2 ] || die "systemd-analyze security: ${exposure:-no result}"
    ok "systemd-analyze: verified, exposure $exposure"

    inside systemctl start smp-server
    is ActiveState inactive || die "the unit starts without a server"
    make_server
    start_server
    pid=$(unit MainPID)
    status=$(inside cat "/proc/$pid/status")
    [ "$(inside stat -c %U "/proc/$pid")" = simplex ] || die "the router is not of the user simplex"
    for line in 'NoNewPrivs:\s1' 'Seccomp:\s2' 'CapBnd:\s0000000000000400' 'CapEff:\s0000000000000400'; do
        grep -q "$line" <<<"$status" || die "the process has not $line"
    done
    # Ports 5223 and 443 are among those of init: the one capability works.
    drive "under every directive of the unit"

    inside sed -i 's/^new_queues *[=:].*/new_queues = off/' /etc/opt/simplex/smp-server.ini
    inside systemctl reload smp-server
    until_true "the journal says what was reloaded" journal_has 'SIGHUP: \[AUTH\] new_queues has changed'
    net "$loadgen" queues "$address" --queues 1 >"$work/loadgen.txt" 2>&1 && die "reloading has no effect"
    inside sed -i 's/^new_queues *[=:].*/new_queues = on/' /etc/opt/simplex/smp-server.ini
    inside systemctl reload smp-server
    until_true "the router has read the ini again" sh -c "nsenter --target $leader --net -- '$loadgen' queues '$address' --queues 1"
    ok "systemctl reload: the setting holds"

    outlive "systemctl restart" 'systemctl restart smp-server; [ "$(systemctl show --property=Result --value smp-server)" = success ]'
    inside systemctl stop smp-server
    [ "$(unit Result) $(unit ExecMainStatus) $(unit NRestarts)" = "success 0 0" ] || die "the stop is not in order"
    ok "systemctl stop: exit code 0"
    start_server
    outlive "SIGKILL, and systemd starts it again" 'systemctl kill --signal=KILL --kill-whom=main smp-server; sleep 1'
    [ "$(unit NRestarts)" = 1 ] || die "systemd has not started it again once"
    restarts=$(unit NRestarts)
    pid=$(unit MainPID)
    # The commands of docs/operations.md.
    outlive "upgrade by hand" 'cp /usr/bin/smp-server /usr/bin/smp-server.new && mv /usr/bin/smp-server.new /usr/bin/smp-server
        systemctl kill --signal=USR2 --kill-whom=main smp-server
'"$runs_new"
    [ "$(unit MainPID) $(unit NRestarts)" = "$pid $restarts" ] || die "the upgrade restarts the service"
    drive "after the upgrade"

    text=$(journal | grep -v '^Server address: \|^Fingerprint: ')
    ! grep -qF 127.0.0.1 <<<"$text" || die "the journal names an address of a client"
    ! grep -qE '(^|[^A-Za-z0-9_-])[A-Za-z0-9_-]{32}=*([^A-Za-z0-9_=-]|$)' <<<"$text" || die "the journal names a queue"
    for level in 4 6; do
        inside journalctl --unit smp-server --output json --no-pager | grep "\"PRIORITY\":\"$level\".*smp-server" >/dev/null ||
            die "the journal has no lines of level $level"
    done
    ok "the journal: levels, no address of a client, no queue"

    for limit in MEMLOCK:'locked memory' NOFILE:'open files'; do
        wanted=$(unit "Limit${limit%%:*}")
        hard=$(inside sed -n "s/^Max ${limit#*:} *[^ ]* *\([^ ]*\) .*/\1/p" "/proc/$(unit MainPID)/limits")
        if [ "$hard" = "$wanted" ]; then
            ok "Limit${limit%%:*}: $wanted"
        elif [ "$(sed -n "s/^Max ${limit#*:} *[^ ]* *\([^ ]*\) .*/\1/p" /proc/self/limits)" = "$hard" ]; then
            unchecked "Limit${limit%%:*}=$wanted: this machine's own limit is $hard, and raising it needs CAP_SYS_RESOURCE"
        else
            die "Limit${limit%%:*} is $hard, not $wanted"
        fi
    done
    inside systemctl stop smp-server
    fails_with "too little locked memory" 'LimitMEMLOCK=16K' 8 'locked memory'
    fails_with "too few descriptors" 'LimitNOFILE=100' 20 'open files'
    fails_with "io_uring refused" 'SystemCallFilter=~io_uring_setup' 9 'io_uring'
    inside sed -i 's/^new_queues *[=:].*/new_queues = perhaps/' /etc/opt/simplex/smp-server.ini
    fails_with "a wrong ini" '' 3 'new_queues'
    inside sed -i 's/^new_queues *[=:].*/new_queues = on/' /etc/opt/simplex/smp-server.ini
    start_server
    drive "started again when the causes are mended"
    machine_stop
}
