# Shared by the scripts of this folder: messages, prerequisites, timed steps. Sourced, not run.

say() { printf '%s\n' "$*"; }

# Ends the script with one line that names what is missing and what to do about it.
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# How to install a package here, in words.
install_hint() {
    if command -v apt-get >/dev/null 2>&1; then
        printf 'apt-get install %s' "$1"
    elif command -v dnf >/dev/null 2>&1; then
        printf 'dnf install %s' "$1"
    elif command -v pacman >/dev/null 2>&1; then
        printf 'pacman -S %s' "$1"
    elif command -v apk >/dev/null 2>&1; then
        printf 'apk add %s' "$1"
    else
        printf 'install the package %s' "$1"
    fi
}

# Cargo may be installed for this user without being on PATH.
find_cargo() {
    if ! command -v cargo >/dev/null 2>&1 && [ -x "${CARGO_HOME:-${HOME:-/root}/.cargo}/bin/cargo" ]; then
        PATH="${CARGO_HOME:-${HOME:-/root}/.cargo}/bin:$PATH"
        export PATH
    fi
}

# What a build needs: cargo, a C compiler, and make for the bundled libsodium.
need_build_tools() {
    find_cargo
    [ "$(uname -s)" = Linux ] || die "Ringpost runs on Linux only (io_uring); this is $(uname -s)"
    command -v cargo >/dev/null 2>&1 || die "cargo is missing: install a Rust toolchain, see https://rustup.rs"
    command -v cc >/dev/null 2>&1 || die "a C compiler (cc) is missing: $(install_hint gcc)"
    command -v make >/dev/null 2>&1 || die "make is missing: $(install_hint make)"
}

# What the tests need beyond that.
need_test_tools() {
    need_build_tools
    command -v openssl >/dev/null 2>&1 || die "openssl is missing, a client in some tests: $(install_hint openssl)"
    [ -d ../shared/vectors ] ||
        die "what was recorded from the reference implementation is missing: it belongs beside the repository, in $(dirname "$PWD")/shared/vectors"
}

# Runs a command under a title and prints how long it took; a failure ends the script with the step's name.
step() {
    local title=$1 started status=0
    shift
    say "==> $title"
    started=$(date +%s)
    "$@" || status=$?
    if [ "$status" -ne 0 ]; then
        printf 'error: step "%s" failed (exit code %s)\n' "$title" "$status" >&2
        exit "$status"
    fi
    say "    $title: $(($(date +%s) - started)) s"
}
