# Common parts of the test cluster's scripts: where things lie, waiting, errors.
# Sourced, never run. README.md beside this file tells how it all fits together.
# shellcheck shell=bash

set -euo pipefail

# Kubelet and the runtime look for what lies there, which not every root's PATH has.
PATH=$PATH:/usr/sbin:/sbin

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/alongside
# On a disk, not under /run: images and etcd would fill a small tmpfs.
CLUSTERS=${ALONGSIDE_CLUSTERS:-/var/lib/alongside/clusters}

# The node's address; the rest of the address plan is in config.sh.
NODE_IP=10.199.0.1
API_URL=https://127.0.0.1:6443

# Where every process of a cluster lives, containers included, so that one write to
# cgroup.kill ends them all. It is there beside version 1, too.
cgroup2=$(findmnt -rnt cgroup2 -o TARGET | head -n1 || true)

say() { printf '%s\n' "$*" >&2; }

die() {
  say "error: $*"
  exit 1
}

need_root() {
  [ "$(id -u)" = 0 ] || die "the test cluster makes namespaces, mounts and cgroups: run this as root"
  [ -n "$cgroup2" ] || die "no cgroup2 is mounted on this machine"
}

# cluster NAME: sets the variables that every script of one cluster uses.
cluster() {
  NAME=${1:-alongside}
  [[ $NAME =~ ^[a-z][a-z0-9-]{0,19}$ ]] ||
    die "'$NAME' is no cluster name: 1 to 20 of a-z, 0-9 and '-', a letter first"
  STATE=$CLUSTERS/$NAME
  CGROUP=alongside-$NAME
  CONTAINERD_SOCKET=$STATE/run/containerd/containerd.sock
}

# cached KIND INPUT...: the folder in the cache that holds what is built from the
# inputs: files by their content, any other word by itself.
cached() {
  local kind=$1 input
  shift
  local hash
  hash=$(for input in "$@"; do
    if [ -f "$input" ]; then sha256sum <"$input"; else printf '%s\n' "$input"; fi
  done | sha256sum | cut -c1-16)
  printf '%s/%s/%s\n' "$CACHE" "$kind" "$hash"
}

# build_once FOLDER COMMAND...: makes FOLDER by running COMMAND with the path of
# an empty folder as its last argument, unless it is there. The result appears
# whole or not at all, and of two runs at once the second waits for the first.
build_once() {
  local folder=$1
  shift
  [ ! -d "$folder" ] || return 0
  mkdir -p "$(dirname "$folder")"
  (
    flock 9
    [ ! -d "$folder" ] || exit 0
    rm -rf "$folder".tmp.*
    local unfinished=$folder.tmp.$$
    mkdir "$unfinished"
    "$@" "$unfinished"
    mv "$unfinished" "$folder"
  ) 9>"$folder.lock"
}

# The versions: a server that calls itself v0.0.0 is refused by charts that ask for
# a Kubernetes of some age.
build_flags=(-trimpath -buildvcs=false -ldflags "-s -w
  -X k8s.io/component-base/version.gitVersion=v1.35.4
  -X k8s.io/component-base/version.gitMajor=1
  -X k8s.io/component-base/version.gitMinor=35
  -X k8s.io/component-base/version.gitTreeState=clean
  -X helm.sh/helm/v4/internal/version.version=v4.1.4")

multicall_folder() {
  cached multicall "$HERE"/multicall/{go.mod,go.sum,main.go} "${build_flags[*]}" "$(go version)"
}

ociimage_folder() {
  cached ociimage "$HERE"/ociimage/{go.mod,main.go} "$(go version)"
}

build_ociimage() {
  (cd "$HERE/ociimage" && CGO_ENABLED=0 go build -trimpath -buildvcs=false -o "$1/ociimage" .)
}

# --- Process groups, namespaces ----------------------------------------------

# cgroup_folders: this cluster's folder in each hierarchy of the machine.
cgroup_folders() {
  local mount
  findmnt -rnt cgroup,cgroup2 -o TARGET | while read -r mount; do
    printf '%s/%s\n' "$mount" "$CGROUP"
  done | sort -u
}

# belongs PID: whether that process is one of this cluster's.
belongs() { grep -q "^0::/$CGROUP/" "/proc/$1/cgroup" 2>/dev/null; }

# join_cgroup: moves the calling (sub)shell, and what it starts, into the cluster.
join_cgroup() { echo "$BASHPID" >"$cgroup2/$CGROUP/processes/cgroup.procs"; }

# init_pid: the process that holds the cluster's namespaces, as seen from outside.
init_pid() {
  local pid
  pid=$(cat "$STATE/init.pid" 2>/dev/null) && belongs "$pid" && printf '%s\n' "$pid"
}

need_cluster() {
  init_pid >/dev/null || die "there is no cluster '$NAME': bring it up with $HERE/up $NAME"
  BIN=$(cat "$STATE/bin")
}

# in_net COMMAND...: runs a command in the cluster's network in place of this shell.
# No proxy of the caller's can be reached from there.
in_net() {
  local init
  init=$(init_pid) || die "cluster '$NAME' has gone"
  join_cgroup
  unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
  exec nsenter --net="/proc/$init/ns/net" -- "$@"
}

# use_cluster: the environment in which kubectl and helm work on this cluster. Their
# caches are the cluster's own: by default they are kept by the server's address,
# which is the same in all clusters.
use_cluster() {
  export ALONGSIDE_IN_CLUSTER=$NAME PATH=$BIN:$PATH
  export KUBECONFIG=$STATE/kubeconfig KUBECACHEDIR=$STATE/cache/kubectl KUBERC=off
  export HELM_CACHE_HOME=$STATE/cache/helm HELM_CONFIG_HOME=$STATE/cache/helm HELM_DATA_HOME=$STATE/cache/helm
}

kube() { (use_cluster && in_net kubectl "$@"); }

# empty: no process of the cluster is left.
empty() { grep -qx 'populated 0' "$cgroup2/$CGROUP/cgroup.events"; }

# thaw: a process that version 1's freezer holds does not die.
thaw() {
  local folder state
  while read -r folder; do
    [ ! -d "$folder" ] || find "$folder" -name freezer.state | while read -r state; do
      echo THAWED >"$state" 2>/dev/null || true
    done
  done < <(cgroup_folders)
}

remove_cgroups() {
  local folder left=0
  while read -r folder; do
    [ ! -d "$folder" ] || find "$folder" -depth -type d -exec rmdir {} + || left=1
  done < <(cgroup_folders)
  return $left
}

# remove_cluster: ends all of the cluster's processes, with which its mounts and its
# network go, and removes its folders. Right in any state, also with nothing there.
remove_cluster() {
  if [ -d "$cgroup2/$CGROUP" ]; then
    thaw
    echo 1 >"$cgroup2/$CGROUP/cgroup.kill"
    within 20 "the processes of cluster '$NAME' have ended" empty || return 1
  fi
  within 10 "the cgroups of cluster '$NAME' are gone" remove_cgroups || return 1
  rm -rf "$STATE"
}

# --- Components --------------------------------------------------------------
# A component is a file components/NAME that holds its command, quoted. Running,
# it has a file pids/NAME with its process as seen from outside of the cluster.

# define COMPONENT COMMAND...
define() {
  local component=$1
  shift
  printf '%q ' "$@" >"$STATE/components/$component"
}

component_pid() {
  local pid
  pid=$(cat "$STATE/pids/$1" 2>/dev/null) && belongs "$pid" && printf '%s\n' "$pid"
}

# start COMPONENT: starts it in the cluster's namespaces as a child of the
# cluster's init, so that no helper process waits for it outside.
start() {
  local component=$1 init
  local log=$STATE/log/$component.log
  init=$(init_pid) || die "cluster '$NAME' has gone"
  rm -f "$STATE/pids/$component"
  (
    join_cgroup
    # The mount namespace comes last: with the outer /proc still there, the
    # process can read the number under which the outside knows it.
    # shellcheck disable=SC2016
    exec env -i PATH="$PATH" HOME=/root ALONGSIDE_IN_CLUSTER="$NAME" \
      nsenter --target "$init" --pid --net -- bash -c '
      {
        read -r pid _ </proc/self/stat
        echo "$pid" >"$1.new" && mv "$1.new" "$1"
        exec setsid nsenter --mount="/proc/$2/ns/mnt" -- bash -c "cd / && exec $3"
      } &
    ' start "$STATE/pids/$component" "$init" "$(cat "$STATE/components/$component")"
  ) </dev/null >>"$log" 2>&1 9<&-
  within 20 "$component has started" test -s "$STATE/pids/$component"
}

# stop COMPONENT: asks it to end and waits; one that does not end in time is killed.
stop() {
  local pid
  pid=$(component_pid "$1") || return 0
  kill -TERM "$pid" && kill -CONT "$pid"
  within 20 "$1 has ended" gone "$pid" || { kill -KILL "$pid" && within 20 "$1 has died" gone "$pid"; }
}

gone() { ! belongs "$1"; }

# --- Waiting -----------------------------------------------------------------

# within SECONDS STATEMENT COMMAND...: waits until the command succeeds.
within() {
  local seconds=$1 statement=$2
  shift 2
  local deadline=$((SECONDS + seconds))
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS > deadline)); then
      say "error: not true within $seconds s: $statement"
      return 1
    fi
    sleep 0.05
  done
}

# await SECONDS COMPONENT STATEMENT COMMAND...: the same for what one component
# has to bring about. If that ends, or the time does, its log is shown.
await() {
  local seconds=$1 component=$2 statement=$3
  shift 3
  local deadline=$((SECONDS + seconds)) why=
  until "$@" >/dev/null 2>&1; do
    component_pid "$component" >/dev/null || why="$component ended before this was true: $statement"
    ((SECONDS <= deadline)) || why="not true within $seconds s: $statement"
    if [ -n "$why" ]; then
      say "--- the last lines of $STATE/log/$component.log"
      tail -n 25 "$STATE/log/$component.log" >&2
      say "---"
      die "cluster '$NAME': $why"
    fi
    sleep 0.05
  done
}

# api PATH: asks the API server as the administrator, far cheaper than kubectl.
api() {
  (in_net curl -sf --max-time 5 --cacert "$STATE/pki/ca.crt" \
    --cert "$STATE/pki/admin.crt" --key "$STATE/pki/admin.key" "$API_URL$1")
}

api_ready() { api /readyz; }
