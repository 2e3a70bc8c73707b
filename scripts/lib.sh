# What ./run and ./test share: say what is done, install what is missing, build with progress.
# Sourced, not run. Bash.

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"
    elif command -v sudo >/dev/null 2>&1; then sudo "$@"
    else fail "this step needs root, and there is no sudo: have someone run: $*"; fi
}

# Installs the Debian packages that are missing, and says which.
need_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    if [ ${#missing[@]} -eq 0 ]; then say "Debian packages: all there"; return; fi
    say "Debian packages: installing ${missing[*]}"
    as_root apt-get update -q >/dev/null || fail "apt-get update failed: check the network, then try again"
    as_root bash -c "$INSTALL_WITHOUT_STARTING" install "${missing[@]}" >/dev/null || fail "apt-get could not install ${missing[*]}"
}

# Debian starts the services that it installs, now and with each boot. The tests start etcd and NATS themselves, on free ports and with data
# of their own: neither is started or enabled here. A policy that the system has already is left alone.
INSTALL_WITHOUT_STARTING='
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        trap "rm -f $policy" EXIT
        printf "#!/bin/sh\nexit 101\n" >$policy && chmod 755 $policy
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" || exit
    command -v systemctl >/dev/null || exit 0
    for package in "$@"; do
        case $package in
            etcd-server) systemctl disable --quiet etcd || true ;;
            nats-server) systemctl disable --quiet nats-server || true ;;
        esac
    done'

need_swift() {
    command -v swift >/dev/null 2>&1 || fail "swift is not on the PATH: install Swift 6.3 for Debian 12 from swift.org, then try again"
    local version
    version=$(swift --version 2>/dev/null | sed -n 's/.*Swift version \([0-9]*\.[0-9]*\).*/\1/p' | head -1)
    case "$version" in
        6.[3-9] | 6.[1-9][0-9] | [7-9].*) say "Swift $version" ;;
        *) fail "Swift 6.3 or later is needed, this is ${version:-unknown}" ;;
    esac
}

# build LABEL ARGUMENTS...: swift build with its steps shown as progress; the whole output only if it fails.
build() {
    local label=$1 log started status
    shift
    log=$(mktemp)
    started=$(date +%s)
    say "building $label (the first time takes several minutes; what it prints is in $log)"
    if [ -t 1 ]; then
        # In a condition: a build that fails must not end the script before it is said why.
        if swift build "$@" 2>&1 | tee "$log" | stdbuf -oL grep -oE '^\[[0-9]+/[0-9]+\]' \
            | while read -r step; do printf '\r    %s ' "$step"; done; then
            status=0
        else
            status=${PIPESTATUS[0]}
        fi
        printf '\r'
    else
        # Without a terminal: a line every twenty seconds.
        swift build "$@" >"$log" 2>&1 &
        local pid=$! shown=$started now
        while kill -0 $pid 2>/dev/null; do
            sleep 1
            now=$(date +%s)
            if [ $((now - shown)) -ge 20 ]; then
                shown=$now
                printf '    %s s  %s\n' $((now - started)) "$(grep -oE '^\[[0-9]+/[0-9]+\]' "$log" | tail -1)"
            fi
        done
        status=0
        wait $pid || status=$?
    fi
    if [ "$status" -ne 0 ]; then
        grep -E 'error:|warning: unre' "$log" | sort -u | head -40 >&2
        fail "the build failed; everything it printed is in $log"
    fi
    rm -f "$log"
    say "built $label in $(($(date +%s) - started)) s"
}

# What a Swift from swift.org's archive needs of Debian 12 to build and link (its page "Installation via Tarball", without what only its
# debugger needs), then what Sluice links.
BUILD_PACKAGES=(binutils gcc g++ libc6-dev zlib1g-dev libcurl4 libncurses6 libxml2 tzdata ca-certificates git pkg-config
    libsqlite3-dev liblua5.4-dev libnats-dev)
