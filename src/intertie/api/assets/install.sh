#!/bin/sh
# Makes this machine a node of an Intertie gateway, brings it up to date, or takes everything away again.
#
#   curl -fsSL GATEWAY/install.sh | sh
#   curl -fsSL GATEWAY/install.sh | sh -s -- --dry-run
#
# A gateway fills in the words between @ signs when it serves this file, so get it from your gateway, not from here.
# All of it is functions and only the last line calls one: a download that was cut short does nothing.
#
# What this gateway offers:
# @FILES@

settings() {
  GATEWAY='@GATEWAY@'
  VERSION='@VERSION@'
  PUBLIC_KEY='@PUBLIC_KEY@'
  ZIPAPP='@ZIPAPP@'
  ZIPAPP_SHA256='@ZIPAPP_SHA256@'
}

usage() {
  cat <<'INTERTIE_USAGE'
Usage: install.sh [option...]
  --name NAME        what people shall call this node; this machine's own name unless set
  --token-file FILE  file with the enrolment token; else INTERTIE_TOKEN, else you are asked for it
                     without a token, a short code is shown for an operator to approve
  --runtime URL      address of a model server to offer; repeat. Those on this machine are found without it
  --idle             serve only while nobody uses this machine
  --user             install for yourself only; the default unless you are root, and on macOS
  --system           install for the whole machine, as a service with a user of its own; the default for root
  --linger           with --user on Linux: serve also while you are logged out
  --no-service       do not start it with the machine; you run it yourself
  --insecure         allow http:// to another machine, where everybody on the way can read and change everything
  --yes              ask nothing
  --dry-run          only say what would be done
  --uninstall        take everything away again; works without a network
  --keep-key         with --uninstall: keep the node's identity, to come back as the same node
  --version          print the version of the agent that this installs
  --help             print this
INTERTIE_USAGE
}

# -- small things ------------------------------------------------------------------------------------------------------

say() { printf '%s\n' "$*"; }
warn() { printf 'install.sh: %s\n' "$*" >&2; }
die() {
  printf 'install.sh: %s\n' "$1" >&2
  shift
  for die_line in "$@"; do printf '  %s\n' "$die_line" >&2; done
  exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }
attended() { (exec </dev/tty >/dev/tty) 2>/dev/null; }

# quote TEXT: as one word for a shell, whatever is in it.
quote() { printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")"; }

# put FILE MODE: standard input becomes FILE, whole or not at all.
put() {
  cat >"$1.new"
  chmod "$2" "$1.new"
  mv -f "$1.new" "$1"
}

# -- what is wanted ----------------------------------------------------------------------------------------------------

defaults() {
  name='' token_file='' runtimes='' scope=''
  idle=0 linger=0 service_wanted=1 insecure=0 yes=0 dry_run=0 uninstall=0 keep_key=0
  newline='
'
}

read_options() {
  while [ $# -gt 0 ]; do
    case $1 in
      --name=* | --token-file=* | --runtime=*)
        option=${1%%=*} value=${1#*=}
        shift
        set -- "$option" "$value" "$@"
        ;;
    esac
    case $1 in
      --name | --token-file | --runtime)
        [ $# -ge 2 ] && [ -n "$2" ] || die "$1 needs a value." "See: install.sh --help"
        case $2 in *"$newline"*) die "the value of $1 has more than one line." ;; esac
        case $1 in
          --name) name=$2 ;;
          --token-file) token_file=$2 ;;
          --runtime) runtimes="$runtimes$2$newline" ;;
        esac
        shift
        ;;
      --idle) idle=1 ;;
      --user) scope=user ;;
      --system) scope=system ;;
      --linger) linger=1 ;;
      --no-service) service_wanted=0 ;;
      --insecure) insecure=1 ;;
      --yes | -y) yes=1 ;;
      --dry-run) dry_run=1 ;;
      --uninstall) uninstall=1 ;;
      --keep-key) keep_key=1 ;;
      --version) say "$VERSION"; exit 0 ;;
      --help | -h) usage; exit 0 ;;
      *) die "there is no option ${1%%=*}." "See: install.sh --help" \
        "A token is never given here, where others can read it: use --token-file or INTERTIE_TOKEN." ;;
    esac
    shift
  done
}

# Where things go, for this system and scope.
places() {
  system=$(uname -s)
  case $system in
    Linux | Darwin) ;;
    *) die "this script is for Linux and macOS, not for $system." "Windows has its own: $GATEWAY/install.ps1" ;;
  esac
  if [ -z "$scope" ]; then
    scope=user
    if [ "$system" = Linux ] && [ "$(id -u)" = 0 ]; then scope=system; fi
  fi
  if [ "$scope" = system ]; then
    [ "$(id -u)" = 0 ] || die "--system needs root." "Run it with sudo, or install for yourself with --user."
    home=/opt/intertie-node launcher=/usr/local/bin/intertie-node
  else
    [ -n "${HOME:-}" ] && [ -d "$HOME" ] || die "HOME names no folder."
    home=$HOME/.local/share/intertie-node launcher=$HOME/.local/bin/intertie-node
    node_folder=$HOME/.intertie-node service_user=''
  fi
  case $system-$scope in
    Linux-system)
      node_folder=/var/lib/intertie-node service_user=intertie-node
      unit=/etc/systemd/system/intertie-node.service
      ;;
    Linux-user) unit=$HOME/.config/systemd/user/intertie-node.service ;;
    Darwin-system)
      node_folder=/usr/local/var/intertie-node service_user=${SUDO_USER:-}
      unit=/Library/LaunchDaemons/local.intertie-node.plist log=/Library/Logs/intertie-node.log
      ;;
    Darwin-user)
      unit=$HOME/Library/LaunchAgents/local.intertie-node.plist log=$HOME/Library/Logs/intertie-node.log
      ;;
  esac
}

# Sets service to systemd, launchd or none, and why_none.
find_service() {
  service=none why_none='you asked for none'
  [ "$service_wanted" = 1 ] || return 0
  if [ "$system" = Darwin ]; then
    service=launchd
  elif ! have systemctl || [ ! -d /run/systemd/system ]; then
    why_none='systemd does not run here (a container, a chroot, or WSL without it)'
  elif [ "$scope" = user ] && ! systemctl --user show-environment >/dev/null 2>&1; then
    why_none='your session has no service manager (no systemd --user here)'
  else
    service=systemd
  fi
}

# -- Python ------------------------------------------------------------------------------------------------------------

# Prints the interpreter behind a name (not a virtual environment's, which may go away) if it is new enough and can
# speak TLS.
try_python() {
  "$1" -I -c 'import ssl, sys
if sys.version_info < (3, 11):
    sys.exit(1)
print(getattr(sys, "_base_executable", None) or sys.executable)' 2>/dev/null </dev/null
}

# A service of the whole machine must not depend on somebody's home folder.
usable_by_service() {
  [ "$scope" = user ] && return 0
  usable_real=$(readlink -f "$1" 2>/dev/null || printf '%s' "$1")
  case $usable_real in /root[/]* | /home/* | /Users/*) return 1 ;; esac
  [ -n "${HOME:-}" ] && [ "$HOME" != / ] || return 0
  case $usable_real in "$HOME"/*) return 1 ;; esac
}

# Sets python, or uv_wanted where uv shall fetch one.
find_python() {
  python='' uv_wanted=0
  find_path=$PATH
  [ "$scope" = user ] || find_path="/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin:$PATH"
  for find_name in python3 python3.13 python3.12 python3.11 python3.14 python; do
    find_place=$(PATH=$find_path command -v "$find_name" 2>/dev/null) || continue
    find_found=$(try_python "$find_place") || continue
    if usable_by_service "$find_found"; then
      python=$find_found
      return 0
    fi
  done
  for find_place in "$home"/uv/*/bin/python3; do
    if [ -x "$find_place" ] && python=$(try_python "$find_place"); then return 0; fi
  done
  python=''
  if have uv; then
    uv_wanted=1
  else
    no_python
  fi
}

no_python() {
  distribution=''
  if [ -r /etc/os-release ]; then
    # shellcheck disable=SC1091
    distribution=$(. /etc/os-release && printf '%s %s' "${ID:-}" "${ID_LIKE:-}")
  fi
  case " $distribution " in
    *' ubuntu '* | *' debian '*) how='sudo apt-get install python3.11   (or python3, where it is new enough)' ;;
    *' fedora '* | *' rhel '* | *' centos '*) how='sudo dnf install python3.12' ;;
    *' arch '*) how='sudo pacman -S python' ;;
    *' suse '* | *' opensuse '*) how='sudo zypper install python312' ;;
    *' alpine '*) how='sudo apk add python3' ;;
    *) how='your package manager has it as python3, python3.12 or the like' ;;
  esac
  [ "$system" = Darwin ] && how='brew install python@3.13'
  die "Python 3.11 or later is needed and none was found." "Install it:        $how" \
    "Or install uv, which this script then uses to get one: https://docs.astral.sh/uv/" "Then run this again."
}

# Inside our own folder, so that it goes away with it.
fetch_python() {
  say "Getting Python 3.13 with uv"
  mkdir -p "$home"
  UV_PYTHON_INSTALL_DIR=$home/uv UV_PYTHON_INSTALL_BIN=0 uv python install --quiet 3.13 </dev/null ||
    die "uv could not get Python 3.13." "Install Python 3.11 or later yourself and run this again."
  fetch_found=$(UV_PYTHON_INSTALL_DIR=$home/uv uv python find --managed-python 3.13 </dev/null) ||
    die "uv did not find the Python it got."
  python=$(try_python "$fetch_found") || die "the Python that uv got does not run: $fetch_found"
}

# -- what will be done -------------------------------------------------------------------------------------------------

check_gateway() {
  case $GATEWAY in
    @*) die "this is the template." "Get the installer from your gateway: curl -fsSL https://YOUR-GATEWAY/install.sh" ;;
    https://*) protocol='=https' ;;
    http://127.0.0.1 | http://127.0.0.1[:/]* | http://localhost | http://localhost[:/]* | http://\[::1\]*) protocol='=http' ;;
    *)
      protocol='=http'
      [ "$insecure" = 1 ] || die "the gateway's address is $GATEWAY, without TLS." \
        "Everybody on the way could read and change what passes. Put TLS in front of the gateway, or say --insecure."
      ;;
  esac
  # A proxy for the internet has no business with loopback.
  no_proxy="${no_proxy:+$no_proxy,}127.0.0.1,localhost,::1"
  NO_PROXY=$no_proxy
  export no_proxy NO_PROXY
}

is_ours() { grep -q 'installed by install.sh of an Intertie gateway' "$1" 2>/dev/null; }

plan_install() {
  enrolled=0 again=0
  if [ -e "$node_folder/node.json" ]; then
    enrolled=1
    if [ -n "$token_file${INTERTIE_TOKEN:-}" ]; then again=1; fi
  fi
  if [ -e "$launcher" ] && ! is_ours "$launcher"; then
    die "$launcher is there already and was not made by this script." "Move it away and run this again."
  fi
  if [ "$system-$scope" = Darwin-system ]; then
    case $service_user in
      '' | root | *[!A-Za-z0-9._-]*) die "cannot tell whose node this shall be." "Run it with sudo from that account." ;;
    esac
  fi
  if [ "$system-$scope" = Linux-system ]; then
    for plan_one in runuser useradd; do
      have "$plan_one" || die "$plan_one is needed." "It is in the packages util-linux and passwd, or shadow-utils."
    done
  fi
  say "This makes this machine a node of $GATEWAY (agent $VERSION):"
  if [ "$uv_wanted" = 1 ]; then say "  get Python 3.13 with uv into $home/uv"; else say "  use $python"; fi
  say "  download $ZIPAPP from the gateway and check its SHA-256 and signature"
  say "  put it into $home, and the command $launcher"
  [ "$system-$scope" != Linux-system ] || say "  make the system user $service_user, who may nothing but run it"
  if [ "$again" = 1 ]; then
    say "  enrol this machine again with the new token; where that is refused, keep the identity in $node_folder"
  elif [ "$enrolled" = 1 ]; then
    say "  keep the identity in $node_folder"
  else
    say "  enrol this machine; its own key stays in $node_folder"
  fi
  case $service in
    none) say "  set up no service: $why_none" ;;
    *) say "  start it now and with the machine: $unit" ;;
  esac
  if [ "$linger" = 1 ] && [ "$service-$scope" = systemd-user ]; then say "  let your services run while you are logged out"; fi
  if [ -r /proc/version ] && grep -qi microsoft /proc/version; then
    say "  (this is WSL: model servers on the Windows side are reached by --runtime URL, and idle time is not seen)"
  fi
}

plan_uninstall() {
  say "This takes the node away from this machine:"
  say "  finish what runs, and tell the gateway if it can be reached"
  say "  stop and remove the service: $unit"
  say "  remove $home and $launcher"
  if [ "$keep_key" = 1 ]; then
    say "  keep the identity in $node_folder"
  else
    say "  remove the identity in $node_folder"
    [ "$system-$scope" != Linux-system ] || say "  remove the system user $service_user"
  fi
}

confirm() {
  if [ "$yes" = 1 ] || ! attended; then return 0; fi
  printf 'Go on? [Y/n] ' >/dev/tty
  IFS= read -r answer </dev/tty || answer=n
  case $answer in '' | [Yy]*) ;; *) die "nothing was done." ;; esac
}

# Sets token; empty means that an operator approves a code. It goes to the agent in its environment, never as an argument.
find_token() {
  token=''
  if [ -n "$token_file" ]; then
    [ -r "$token_file" ] || die "cannot read $token_file."
    IFS= read -r token <"$token_file" || [ -n "$token" ] || die "$token_file is empty."
  elif [ -n "${INTERTIE_TOKEN:-}" ]; then
    token=$INTERTIE_TOKEN
  elif [ "$yes" = 0 ] && attended; then
    printf 'Enrolment token (empty: get a code to be approved): ' >/dev/tty
    find_echo=$(stty -g </dev/tty 2>/dev/null) || find_echo=''
    trap '[ -z "$find_echo" ] || stty "$find_echo" </dev/tty; exit 130' HUP INT TERM
    [ -z "$find_echo" ] || stty -echo </dev/tty
    IFS= read -r token </dev/tty || token=''
    [ -z "$find_echo" ] || stty "$find_echo" </dev/tty
    printf '\n' >/dev/tty
  fi
  unset INTERTIE_TOKEN
}

# -- install -----------------------------------------------------------------------------------------------------------

# download NAME: from the gateway into the stage. Whatever comes is checked before it is used.
download() {
  download_url=$GATEWAY/install/$1 download_to=$stage/${1##*/}
  if have curl; then
    curl --disable --fail --silent --show-error --proto "$protocol" --tlsv1.2 --max-time 300 \
      --output "$download_to" "$download_url"
  elif have wget; then
    wget -q -O "$download_to" "$download_url"
  else
    "$python" -I -c 'import shutil, sys, urllib.request
with urllib.request.urlopen(sys.argv[1], timeout=300) as answer, open(sys.argv[2], "wb") as file:
    shutil.copyfileobj(answer, file)' "$download_url" "$download_to"
  fi || die "cannot download $download_url." "Is the gateway running, and can this machine reach it?"
}

verify() {
  "$python" -I - "$stage" "$PUBLIC_KEY" "$ZIPAPP_SHA256" "$ZIPAPP" <<'INTERTIE_VERIFY' || die "nothing was installed."
@VERIFY@
INTERTIE_VERIFY
}

make_user() {
  if ! id "$service_user" >/dev/null 2>&1; then
    useradd --system --user-group --home-dir "$node_folder" --no-create-home --shell /usr/sbin/nologin \
      --comment 'Intertie node' "$service_user" || die "cannot make the user $service_user."
  fi
  # So that it sees the graphics cards.
  for make_group in video render; do
    ! getent group "$make_group" >/dev/null 2>&1 || usermod -a -G "$make_group" "$service_user"
  done
}

write_launcher() {
  printf '#!/bin/sh\n# The agent of a node; installed by install.sh of an Intertie gateway.\n'
  printf 'INTERTIE_NODE_DATA=%s\nexport INTERTIE_NODE_DATA\n' "$(quote "$node_folder")"
  write_run="exec $(quote "$python") -I $(quote "$home/$ZIPAPP") \"\$@\""
  if [ "$scope" = user ]; then
    printf '%s\n' "$write_run"
    return 0
  fi
  write_switch="runuser -u $service_user --"
  [ "$system" = Linux ] || write_switch="sudo -u $service_user -H --"
  cat <<INTERTIE_LAUNCHER
case \$(id -un) in
  $service_user) $write_run ;;
  root) exec $write_switch $launcher "\$@" ;;
  *) echo "intertie-node: this node belongs to the whole machine; use: sudo intertie-node \$*" >&2; exit 1 ;;
esac
INTERTIE_LAUNCHER
}

write_unit() {
  case $system-$scope in
    Linux-system) cat <<'INTERTIE_UNIT' ;;
@SYSTEM_UNIT@
INTERTIE_UNIT
    Linux-user) cat <<'INTERTIE_UNIT' ;;
@USER_UNIT@
INTERTIE_UNIT
    Darwin-system) sed "s/@SERVICE_USER@/$service_user/" <<'INTERTIE_UNIT' ;;
@DAEMON_PLIST@
INTERTIE_UNIT
    Darwin-user) cat <<'INTERTIE_UNIT' ;;
@AGENT_PLIST@
INTERTIE_UNIT
  esac
}

install_files() {
  mkdir -p "$home" "$(dirname "$launcher")"
  cat "$stage/$ZIPAPP" | put "$home/$ZIPAPP" 644
  write_launcher | put "$launcher" 755
  if [ "$system-$scope" = Linux-system ]; then make_user; fi
  if [ "$scope" = system ]; then
    mkdir -p "$node_folder"
    chown "$service_user" "$node_folder"
    chmod 700 "$node_folder"
  fi
  "$launcher" version >/dev/null </dev/null || die "the agent does not start; see above." "Undo it with --uninstall."
}

join() {
  set -- join "$GATEWAY" --no-run "$@"
  [ -z "$name" ] || set -- "$@" --name "$name"
  [ "$idle" = 0 ] || set -- "$@" --idle
  [ "$insecure" = 0 ] || set -- "$@" --insecure
  [ -n "$token" ] || set -- "$@" --code
  set -f
  IFS=$newline
  for join_one in $runtimes; do set -- "$@" --runtime "$join_one"; done
  unset IFS
  set +f
  if [ -n "$token" ]; then
    INTERTIE_TOKEN=$token "$launcher" "$@" </dev/null
  else
    "$launcher" "$@" </dev/null
  fi
}

start_service() {
  case $service in
    none) return 0 ;;
    systemd) start_systemd ;;
    launchd) start_launchd ;;
  esac || die "the service does not start." "Run it by hand to see why: $launcher run"
}

start_systemd() {
  mkdir -p "${unit%/*}" &&
    write_unit | put "$unit" 644 &&
    service_control daemon-reload &&
    service_control enable --quiet intertie-node.service &&
    service_control restart intertie-node.service || return 1
  if [ "$scope-$linger" = user-1 ] && [ ! -e "/var/lib/systemd/linger/$(id -un)" ]; then
    loginctl enable-linger && : >"$home/lingers" # so that uninstalling takes it back
  fi
}

start_launchd() {
  mkdir -p "${unit%/*}" "${log%/*}" || return 1
  if [ "$scope" = system ]; then
    : >>"$log" && chown "$service_user" "$log" || return 1
  fi
  launchctl bootout "$(launch_domain)/local.intertie-node" 2>/dev/null
  write_unit | put "$unit" 644 && launchctl bootstrap "$(launch_domain)" "$unit"
}

service_control() {
  if [ "$scope" = user ]; then systemctl --user "$@"; else systemctl "$@"; fi
}

launch_domain() {
  if [ "$scope" = system ]; then
    printf system
  elif launchctl print "gui/$(id -u)" >/dev/null 2>&1; then
    printf 'gui/%s' "$(id -u)"
  else
    printf 'user/%s' "$(id -u)" # logged in without a screen
  fi
}

install_node() {
  check_gateway
  find_python
  find_service
  plan_install
  if [ "$dry_run" = 1 ]; then
    say "Nothing was done: this was --dry-run."
    return 0
  fi
  confirm
  token=''
  if [ "$enrolled" = 0 ] || [ "$again" = 1 ]; then find_token; fi
  umask 022
  stage=$(mktemp -d)
  trap 'rm -rf "$stage"' EXIT
  trap 'exit 130' HUP INT TERM
  [ "$uv_wanted" = 0 ] || fetch_python
  download manifest.json
  download manifest.sig
  download "files/$ZIPAPP"
  verify
  install_files
  if [ "$again" = 1 ]; then
    join --replace || warn "this machine was not enrolled again; see above. It stays the node it was."
  elif [ "$enrolled" = 0 ]; then
    join || die "this machine is not enrolled; see above." \
      "Run this again when that is mended, or undo it with --uninstall."
  fi
  start_service
  say ''
  if [ "$service" = none ]; then
    say "Done. No service was set up ($why_none). Start it by hand: $launcher run"
  else
    say "Done. This node serves now and whenever this machine runs."
  fi
  say "Look at it with: $launcher status      Check everything: $launcher doctor"
  case :$PATH: in *:"${launcher%/*}":*) ;; *) say "(${launcher%/*} is not in your PATH.)" ;; esac
}

# -- uninstall ---------------------------------------------------------------------------------------------------------

uninstall_node() {
  plan_uninstall
  if [ "$dry_run" = 1 ]; then
    say "Nothing was done: this was --dry-run."
    return 0
  fi
  confirm
  if [ -x "$launcher" ] && is_ours "$launcher" && [ -e "$node_folder/node.json" ]; then
    set -- leave
    [ "$keep_key" = 0 ] || set -- leave --keep-key
    "$launcher" "$@" </dev/null || warn "the gateway was not told; an operator removes the node there."
  fi
  stop_service
  if is_ours "$launcher"; then rm -f "$launcher"; fi
  rm -rf "${home:?}"
  if [ "$keep_key" = 0 ]; then
    rm -rf "${node_folder:?}"
    if [ "$system-$scope" = Linux-system ] && id "$service_user" >/dev/null 2>&1; then
      remove_user
    fi
  fi
  say "Done. Nothing of the node is left$([ "$keep_key" = 0 ] || printf ' but its identity in %s' "$node_folder")."
}

# What ran as the user may need a moment to end; until then the system keeps the user.
remove_user() {
  for wait in 1 1 1 2 3; do
    if userdel "$service_user" 2>/dev/null; then return 0; fi
    sleep "$wait"
  done
  userdel "$service_user" || warn "cannot remove the user $service_user."
}

stop_service() {
  if [ "$system" = Darwin ]; then
    launchctl bootout "$(launch_domain)/local.intertie-node" 2>/dev/null || true
    rm -f "$unit" "$log"
  elif [ -e "$unit" ]; then
    service_control disable --now --quiet intertie-node.service 2>/dev/null || true
    rm -f "$unit"
    service_control daemon-reload 2>/dev/null || true
    service_control reset-failed intertie-node.service 2>/dev/null || true
    if [ "$scope" = user ]; then
      if [ -e "$home/lingers" ]; then loginctl disable-linger || warn "cannot end lingering: loginctl disable-linger"; fi
      # Only what is empty, only what this script may have made.
      rmdir "${unit%/*}/default.target.wants" "${unit%/*}" "${unit%/*/*}" 2>/dev/null || true
    fi
  fi
}

main() {
  set -eu
  settings
  defaults
  read_options "$@"
  places
  if [ "$uninstall" = 1 ]; then uninstall_node; else install_node; fi
}

{ main "$@"; exit; }
