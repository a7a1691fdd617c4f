# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # `cache` is for the scripts, `ready` is theirs
# What the three broker scripts share: ports, start, stop, signals.
#
# A script sets `ready` (the line of its log that says it can be used) and defines
#   packages      prints the Debian packages that are missing
#   fetch         gets what no package gives, into $cache; does nothing when it is there
#   configure     writes the configuration for $port into the present directory, and the address into `url`
#   launch        starts the daemon in the background: its standard streams are set, $! is its process id
#   afterwards    ends what else was started
#
# An instance is a directory: data/ (kept over restarts), broker.log, pid, port, kind, url. Its daemon's working directory
# is that directory: by this a pid file is known to be stale, even where the id belongs to another process by now, and
# even where nobody reaps (a container's first process often does not, and `kill -0` succeeds on a zombie).

# A test's process hands on what librdkafka's mock cluster has open, since that does not mark it as its own: a connection
# that is closed there would stay open here, as long as the broker runs. 255 is the script itself.
for fd in "/proc/$$/fd/"*; do
    fd=${fd##*/}
    if ((fd > 2 && fd != 255)); then exec {fd}>&-; fi
done

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
cache=$(cd "$here/../.." && realpath -m "${CARGO_TARGET_DIR:-target}")/brokers
start_limit_s=180
stop_limit_s=60
# Below 32768: from there on the kernel gives ports to outgoing connections, and one of these may sit on ours.
first_port=10240
last_port=32760
# Each instance has this many ports, from $port on: room for its management, its peers and, later, TLS.
ports_each=8

fail() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# The process of pid file $1 is alive and works in this directory.
alive() {
    [[ -s $1 ]] && [[ $(readlink "/proc/$(<"$1")/cwd") == "$PWD" ]]
}

signal() {
    if alive "$1"; then kill "-$2" "$(<"$1")" || true; fi
}

# Waits until the process of pid file $1 is gone, at most $2 seconds.
gone() {
    local until=$((SECONDS + $2))
    while alive "$1"; do
        ((SECONDS < until)) || return 1
        sleep 0.05
    done
}

# Some socket of this machine has the local port $1.
in_use() {
    local tables=(/proc/net/tcp)
    [[ ! -e /proc/net/tcp6 ]] || tables+=(/proc/net/tcp6)
    awk -v port="$(printf '%04X' "$1")" 'split($2, local, ":") && local[2] == port { found = 1 } END { exit !found }' "${tables[@]}"
}

# Writes the first of $ports_each free ports to `port`. Instances in sibling directories never share one, not even with one
# that is stopped and will want its ports back: the lock on the parent keeps two from choosing at the same time.
choose_port() {
    local blocks=$(((last_port - first_port) / ports_each)) port p
    exec {lock}<..
    flock "$lock"
    while :; do
        port=$((first_port + RANDOM % blocks * ports_each))
        grep -qsx "$port" ../*/port && continue
        for ((p = port; p < port + ports_each; p++)); do
            in_use "$p" && continue 2
        done
        break
    done
    echo "$port" >port
    exec {lock}<&-
}

wait_until_ready() {
    local until=$((SECONDS + start_limit_s))
    until grep -q "$ready" broker.log; do
        alive pid && ((SECONDS < until)) || return 1
        sleep 0.05
    done
}

start() {
    ! alive pid || fail "already running in $PWD"
    echo "${0##*/}" >kind
    local attempt chosen=
    for attempt in 1 2 3 4 5; do
        if [[ ! -s port ]]; then
            choose_port
            chosen=yes
        fi
        port=$(<port)
        mkdir -p data
        configure
        if [[ -e broker.log ]]; then mv broker.log broker.log.before; fi
        launch >broker.log 2>&1 </dev/null
        echo $! >pid
        if wait_until_ready; then
            cat url
            return
        fi
        kill_it
        grep -qiE 'address already in use|eaddrinuse' broker.log || break
        echo "${0##*/}: port $port or one of the next was taken (attempt $attempt)" >&2
        if [[ $chosen ]]; then rm -rf port data; else sleep 1; fi
    done
    tail -n 40 broker.log >&2
    fail "did not start: the end of its log is above"
}

stop() {
    # The signal to go on is for one that was paused: it would never see the first.
    signal pid TERM
    signal pid CONT
    gone pid "$stop_limit_s" || signal pid KILL
    kill_it
}

kill_it() {
    signal pid KILL
    gone pid "$stop_limit_s" || fail "process $(<pid) does not end"
    afterwards
    rm -f pid
}

# Every thread stands still when this returns: the signal only asks for it, and one that runs on another processor could
# still read and confirm what a test sends right after.
pause() {
    signal pid STOP
    local until=$((SECONDS + stop_limit_s))
    while alive pid && [[ $(sed 's/.*) //' "/proc/$(<pid)"/task/*/stat 2>/dev/null | cut -c1 | sort -u) != T ]]; do
        ((SECONDS < until)) || fail "process $(<pid) does not stand still"
        sleep 0.01
    done
}

afterwards() { :; }

main() {
    local verb=${1-} dir=${2-}
    case $verb in
    packages | fetch) "$verb" ;;
    start | stop | kill | pause | resume)
        [[ $dir ]] || fail "$verb wants a directory"
        [[ $verb != start ]] || mkdir -p "$dir"
        cd -P "$dir" || exit
        [[ ! ${3-} ]] || echo "$3" >port
        case $verb in
        start | stop) "$verb" ;;
        kill) kill_it ;;
        pause) pause ;;
        resume) signal pid CONT ;;
        esac
        ;;
    *) fail "usage: ${0##*/} packages | fetch | start DIR [PORT] | stop DIR | kill DIR | pause DIR | resume DIR" ;;
    esac
}
