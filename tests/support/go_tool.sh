# shellcheck shell=bash
# shellcheck disable=SC2154 # the scripts set these
# A program that is had by Go, for scripts that name it: `tool`, `module` and `version`.
#
#   SCRIPT         prints where it is: on the PATH, or built before; nothing where it is not
#   SCRIPT fetch   builds it below target where it is not, and prints where it is
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && realpath -m "${CARGO_TARGET_DIR:-target}")/$tool/$version
built=$folder/$tool

if path=$(type -P "$tool"); then
    echo "$path"
    exit
fi
if [[ ! -x $built && ${1-} == fetch ]]; then
    type -P go >/dev/null || {
        echo "${0##*/}: needs Go, or $tool on the PATH" >&2
        exit 1
    }
    mkdir -p "$folder"
    for attempt in 1 2; do
        if GOBIN=$folder go install "$module@$version" </dev/null >&2; then
            break
        fi
        echo "${0##*/}: go install failed (attempt $attempt)" >&2
    done
    [[ -x $built ]] || exit 1
fi
[[ ! -x $built ]] || echo "$built"
