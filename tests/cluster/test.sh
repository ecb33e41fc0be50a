#!/bin/bash
# test.sh: tests the test cluster itself. Brings up two clusters side by side, has
# them do what the project's tests rely on, breaks them, and asserts that nothing
# is left of any. Ends with a line "N passed, N failed".
. "$(dirname "$0")/lib.sh"
cd "$HERE"
need_root

passed=0 failed=0
one=trial-one two=trial-two three=trial-three

# it STATEMENT COMMAND...: one test; the output is shown if it fails.
it() {
  local statement=$1 output
  shift
  if output=$("$@" 2>&1); then
    passed=$((passed + 1))
    say "ok      $statement"
  else
    failed=$((failed + 1))
    say "FAILED  $statement"
    printf '%s\n' "$output" | tail -n 40 | sed 's/^/        /' >&2
  fi
}

not() { ! "$@"; }

refuses() { # PATTERN COMMAND...: fails, and with this in its message
  local pattern=$1 output
  shift
  if output=$("$@" 2>&1); then
    echo "it succeeded: $output"
    return 1
  fi
  grep -qe "$pattern" <<<"$output" || { echo "another message: $output"; return 1; }
}

k() { ./in "$1" kubectl "${@:2}"; }

# traces: what the machine as a whole shows of clusters in general, to compare.
traces() {
  local mine="$one\|$two\|$three"
  grep "$mine" /proc/self/mountinfo || true
  ip -o link | cut -d: -f2
  ip netns list
  nft list ruleset
  find /sys/fs/cgroup -path "*alongside-trial*" || true
  ls -d /run/containerd /run/netns /var/lib/kubelet /var/lib/cni /var/log/pods /opt/containerd 2>/dev/null || true
}

down_all() {
  local name
  for name in $one $two $three; do ./down "$name" || true; done
}
trap down_all EXIT
trap 'exit 130' INT TERM

# --- Side by side ------------------------------------------------------------

both_up() {
  local first second code=0
  ./up $one & first=$!
  ./up $two & second=$!
  wait $first || code=1
  wait $second || code=1
  return $code
}

load_both() {
  local archives kubectl first second
  kubectl=$(./image-from-binary localhost/kubectl:trial "$(multicall_folder)/bin/multicall" kubectl)
  mapfile -t archives < <(./images toolbox postgres prometheus)
  ./load $one "${archives[@]}" "$kubectl" & first=$!
  ./load $two "${archives[@]}" "$kubectl" & second=$!
  wait $first && wait $second
}

job_ends() { # NAME JOB CONDITION
  k "$1" -n trial wait --for="condition=$3" "job/$2" --timeout=60s || {
    k "$1" -n trial describe pods -l "job-name=$2"
    return 1
  }
}

log_has() { # NAME JOB TEXT
  k "$1" -n trial logs "job/$2" | grep -e "$3"
}

answers_from_both() {
  local ip answers
  ip=$(k "$1" -n trial get service web -o 'jsonpath={.spec.clusterIP}')
  for _ in $(seq 40); do ./in "$1" curl -s --max-time 2 "http://$ip/"; done | sort -u >"$scratch/answers"
  answers=$(wc -l <"$scratch/answers")
  [ "$answers" = 2 ] || { cat "$scratch/answers"; return 1; }
}

a_cluster_works() {
  local name=$1
  k "$name" apply -f test-manifests/workload.yaml >/dev/null
  it "$name: pods become available under restricted pod security" \
    k "$name" -n trial wait --for=condition=available deployment --all --timeout=60s
  k "$name" apply -f test-manifests/jobs.yaml >/dev/null
  it "$name: a pod finds a Service by its name" job_ends "$name" asks-the-service-by-name complete
  it "$name: a pod reads the API by its ServiceAccount" job_ends "$name" reads-by-service-account complete
  it "$name: it read what it may" log_has "$name" reads-by-service-account service/web
  it "$name: and is refused what it may not" job_ends "$name" may-not-read-more failed
  it "$name: for the right reason" log_has "$name" may-not-read-more Forbidden
  it "$name: a pod reaches Postgres with a password" job_ends "$name" asks-postgres complete
  it "$name: which runs with logical decoding" log_has "$name" asks-postgres logical
  it "$name: a pod asks for a name" job_ends "$name" asks-for-no-such-name complete
  it "$name: which is not the cluster's and so does not exist" log_has "$name" asks-for-no-such-name NXDOMAIN
  it "$name: a Job that fails is seen to fail" job_ends "$name" fails failed
  it "$name: a Service leads to all of its pods" answers_from_both "$name"
  it "$name: helm works" ./in "$name" helm list --all-namespaces
  it "$name: exec works" k "$name" -n trial exec deploy/web -- true
}

privileged_pod='{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":"trial"},
  "spec":{"containers":[{"name":"p","image":"localhost/toolbox:1","securityContext":{"privileged":true}}]}}'
policy='{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingAdmissionPolicy","metadata":{"name":"named"},
  "spec":{"matchConstraints":{"resourceRules":[{"apiGroups":[""],"apiVersions":["v1"],"operations":["CREATE"],"resources":["configmaps"]}]},
  "validations":[{"expression":"object.metadata.name != \"forbidden\"","message":"that name is taken by the test"}]}}'
binding='{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingAdmissionPolicyBinding","metadata":{"name":"named"},
  "spec":{"policyName":"named","validationActions":["Deny"]}}'

create() { k "$1" create -f - <<<"$2"; }

refused_by_policy() {
  refuses "that name is taken by the test" k "$1" -n default create configmap forbidden
}

admission_works() {
  local name=$1
  it "$name: pod security refuses a privileged pod" \
    refuses "violates PodSecurity" create "$name" "$privileged_pod"
  create "$name" "$policy$binding" >/dev/null
  it "$name: a ValidatingAdmissionPolicy refuses with its own message" \
    within 20 "the policy is in force" refused_by_policy "$name"
  it "$name: the node may not read a Secret that no pod of its own uses" \
    refuses "no relationship found" ./in "$name" kubectl --kubeconfig "$CLUSTERS/$name/etc/kubelet.kubeconfig" \
    -n default get secret none
  it "$name: without credentials nothing is told" refuses 403 \
    ./in "$name" curl -sSkf https://127.0.0.1:6443/api/v1/namespaces
  it "$name: requests are sorted by priority" k "$name" get flowschema service-accounts
}

# --- Breaking it -------------------------------------------------------------

uid_of_pod() { k "$1" -n trial get pod -l "app=$2" -o 'jsonpath={.items[0].metadata.uid}'; }
restarts() { k "$1" -n trial get pod -l "app=$2" -o 'jsonpath={.items[0].status.containerStatuses[0].restartCount}'; }

apiserver_restarts() {
  local before after uid
  before=$(./pid $one apiserver)
  uid=$(uid_of_pod $one postgres)
  ./restart-apiserver $one
  after=$(./pid $one apiserver)
  [ "$before" != "$after" ] && [ "$uid" = "$(uid_of_pod $one postgres)" ]
}

restarted() { [ "$(restarts "$1" "$2")" -ge "$3" ]; }

pod_is_killed() { # three times: each restart within the time, so without a growing pause
  local pod n
  pod=$(k $one -n trial get pod -l app=prometheus -o name)
  for n in 1 2 3; do
    kill -9 "$(./pod-pid $one trial "${pod#pod/}" prometheus)"
    within 20 "restart $n of the pod" restarted $one prometheus $n
    k $one -n trial wait --for=condition=ready "$pod" --timeout=20s
  done
}

component_freezes() {
  local pid
  pid=$(./pid $one controller-manager)
  kill -STOP "$pid"
  k $one create namespace while-frozen
  not within 2 "a ServiceAccount is made" k $one -n while-frozen get serviceaccount default || return 1
  kill -CONT "$pid"
  within 20 "a ServiceAccount is made" k $one -n while-frozen get serviceaccount default
}

half_way() { # FILE: kills `up` as soon as that file of the cluster is there
  local up
  ./up $three & up=$!
  within 60 "up has made $1" test -e "$CLUSTERS/$three/$1" || return 1
  kill -9 $up
  wait $up || true
  ./down $three && ./check-clean $three
}

# Version 1 of cgroups alone: there, a frozen process does not die when killed.
freeze_pods() {
  local state=/sys/fs/cgroup/freezer/alongside-$1/freezer.state
  [ ! -e "$state" ] || echo FROZEN >"$state"
}

killed_then_down() { # NAME COMPONENT...
  local name=$1 component
  shift
  for component in "$@"; do kill -9 "$(./pid "$name" "$component")"; done
  ./down "$name" && ./check-clean "$name"
}

# --- The tests ---------------------------------------------------------------

scratch=$(mktemp -d)
down_all
trap 'down_all; rm -rf "$scratch"' EXIT
traces >"$scratch/before"

it "names that would be paths are refused" refuses "no cluster name" ./up ../etc
it "down of a cluster that is not there is a success" ./down $one
it "in of a cluster that is not there says how to bring it up" refuses "bring it up with" ./in $one true

it "two clusters come up side by side" both_up
it "a second up of the same is refused" refuses "is up already" ./up $one
it "unless it may be reused" ./up $one --reuse
it "check-clean sees a running cluster" refuses "process " ./check-clean $one
it "images go into both at once" load_both
a_cluster_works $one
a_cluster_works $two
admission_works $one
it "clusters don't see each other" refuses NotFound k $two get validatingadmissionpolicy named

it "the API server restarts alone" apiserver_restarts
it "a killed pod is back soon, again and again" pod_is_killed
it "a frozen component does nothing and goes on when thawed" component_freezes
it "down from inside is refused" refuses "call it outside" ./in $one ./down $one
./in $two sleep 600 &
inside=$!

freeze_pods $one
it "down after each process was killed, pods frozen, leaves nothing" \
  killed_then_down $one etcd apiserver kubelet containerd proxy dns scheduler controller-manager
it "the other cluster goes on" k $two -n trial exec deploy/web -- true
kill -9 "$(cat "$CLUSTERS/$two/init.pid")"
it "down after the death of everything leaves nothing" eval "./down $two && ./check-clean $two"
ended() { wait "$1" || [ $? = 137 ]; }
it "what in had left running has ended" ended $inside
it "down twice is a success" ./down $two

for file in init.pid pki/ca.crt pids/etcd pids/containerd pids/kubelet pids/dns; do
  it "down after up was killed at $file leaves nothing" half_way $file
done

crashed_then_up() {
  local up
  ./up $three --api-only & up=$!
  within 60 "the API server was started" test -e "$CLUSTERS/$three/pids/apiserver" || return 1
  kill -9 $up
  wait $up || true
  ./up $three --api-only
}
it "up after a crash cleans up and comes up" crashed_then_up
it "a cluster of the API alone serves it" k $three create namespace some
it "and runs nothing else" refuses "no component" ./pid $three kubelet

up_is_overtaken() {
  ./up $two --api-only & local up=$!
  within 60 "the API server was started" test -e "$CLUSTERS/$two/pids/apiserver" || return 1
  refuses "another run" ./up $two --api-only || return 1
  ./down $two
  ! wait $up && ./check-clean $two
}
it "down ends an up that is still at work" up_is_overtaken

broken_up() {
  refuses "$1" env PATH="$scratch/broken:$PATH" ./up $two
}
mkdir "$scratch/broken"
printf '#!/bin/sh\necho the runtime is broken >&2\nexit 1\n' >"$scratch/broken/containerd"
chmod +x "$scratch/broken/containerd"
it "a cluster that can't come up shows the log of what failed" broken_up "the runtime is broken"
it "and is taken down" ./check-clean $two

./down $three
it "the machine shows no trace of them" eval "traces | diff $scratch/before -"

say
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
