# Writes the certificates and configuration files of a cluster. Sourced by `up`.
# shellcheck shell=bash
#
# Addresses, the same in each cluster, as each is in a network of its own:
#   10.199.0.1     the node; the API server on :6443, DNS on :53
#   10.244.0.0/16  pods
#   10.96.0.0/16   Services; 10.96.0.1 the API server, 10.96.0.10 DNS
pod_range=10.244.0.0/16
service_range=10.96.0.0/16
dns_ip=10.96.0.10

# --- Certificates ------------------------------------------------------------
# Without a configuration of our own openssl would mark each certificate as an
# authority, and strict clients (rustls) refuse a server that shows one.

request() {
  openssl req -config "$STATE/pki/openssl.cnf" -x509 -days 365 \
    -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "$@" 2>/dev/null
}

authority() {
  request -keyout ca.key -out ca.crt -subj "/CN=alongside-$NAME" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
}

# certificate NAME USAGE SUBJECT [EXTENSION]
certificate() {
  request -CA ca.crt -CAkey ca.key -keyout "$1.key" -out "$1.crt" -subj "$3" \
    -addext basicConstraints=critical,CA:FALSE -addext keyUsage=critical,digitalSignature \
    -addext "extendedKeyUsage=$2" ${4:+-addext "$4"}
}

# kubeconfig FILE CERTIFICATE: whole in itself, so that it can be copied about.
kubeconfig() {
  cat >"$1" <<YAML
apiVersion: v1
kind: Config
clusters:
- name: $NAME
  cluster:
    server: $API_URL
    certificate-authority-data: $(base64 -w0 ca.crt)
users:
- name: $2
  user:
    client-certificate-data: $(base64 -w0 "$2.crt")
    client-key-data: $(base64 -w0 "$2.key")
contexts:
- name: $NAME
  context: {cluster: $NAME, user: $2}
current-context: $NAME
YAML
  chmod 600 "$1"
}

write_pki() {
  mkdir -m 700 "$STATE/pki"
  pushd "$STATE/pki" >/dev/null || die "no folder for the certificates"
  printf '[req]\ndistinguished_name = subject\n[subject]\n' >openssl.cnf
  authority
  local names="DNS:localhost,IP:127.0.0.1,IP:$NODE_IP,IP:10.96.0.1"
  names+=",DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
  certificate apiserver serverAuth /CN=kube-apiserver "subjectAltName=$names"
  certificate kubelet-server serverAuth /CN=kubelet "subjectAltName=DNS:node,IP:$NODE_IP"
  certificate apiserver-to-kubelet clientAuth /O=system:masters/CN=apiserver-to-kubelet
  certificate admin clientAuth /O=system:masters/CN=admin
  certificate controller-manager clientAuth /CN=system:kube-controller-manager
  certificate scheduler clientAuth /CN=system:kube-scheduler
  certificate kubelet clientAuth /O=system:nodes/CN=system:node:node
  certificate proxy clientAuth /CN=system:kube-proxy
  certificate dns clientAuth /CN=system:coredns
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 -out service-accounts.key 2>/dev/null
  openssl pkey -in service-accounts.key -pubout -out service-accounts.pub
  local user
  for user in controller-manager scheduler kubelet proxy dns; do
    kubeconfig "$STATE/etc/$user.kubeconfig" "$user"
  done
  kubeconfig "$STATE/kubeconfig" admin
  popd >/dev/null || true
}

# --- The control plane -------------------------------------------------------

define_control_plane() {
  local pki=$STATE/pki
  # A test cluster need not outlive a power failure, and fsync is most of the
  # time of a write.
  define etcd "$BIN/etcd" --data-dir "$STATE/etcd" --unsafe-no-fsync \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380
  # Kubelet's address by number: no DNS outside of the pods knows the node's name.
  define apiserver "$BIN/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 \
    --advertise-address="$NODE_IP" --bind-address=0.0.0.0 --secure-port=6443 \
    --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
    --client-ca-file="$pki/ca.crt" \
    --kubelet-certificate-authority="$pki/ca.crt" \
    --kubelet-client-certificate="$pki/apiserver-to-kubelet.crt" \
    --kubelet-client-key="$pki/apiserver-to-kubelet.key" \
    --kubelet-preferred-address-types=InternalIP \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-account-key-file="$pki/service-accounts.pub" \
    --service-account-signing-key-file="$pki/service-accounts.key" \
    --service-cluster-ip-range=$service_range \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
    --allow-privileged=true
  define controller-manager "$BIN/kube-controller-manager" \
    --kubeconfig="$STATE/etc/controller-manager.kubeconfig" \
    --service-account-private-key-file="$pki/service-accounts.key" --root-ca-file="$pki/ca.crt" \
    --use-service-account-credentials=true --cluster-cidr=$pod_range --leader-elect=false \
    --kube-api-qps=200 --kube-api-burst=400
  define scheduler "$BIN/kube-scheduler" --kubeconfig="$STATE/etc/scheduler.kubeconfig" \
    --leader-elect=false --kube-api-qps=200 --kube-api-burst=400
}

# --- The node ----------------------------------------------------------------

define_node() {
  write_containerd_config
  write_kubelet_config
  write_proxy_config
  write_dns_config
  define containerd containerd --config "$STATE/etc/containerd.toml"
  define kubelet "$BIN/kubelet" --config="$STATE/etc/kubelet.yaml" \
    --kubeconfig="$STATE/etc/kubelet.kubeconfig" --hostname-override=node --node-ip="$NODE_IP"
  define proxy "$BIN/kube-proxy" --config="$STATE/etc/proxy.yaml" --hostname-override=node
  define dns "$BIN/coredns" -conf "$STATE/etc/Corefile"
}

write_containerd_config() {
  # restrict_oom_score_adj: without CAP_SYS_RESOURCE each sandbox fails otherwise,
  # as runc may not lower the score.
  cat >"$STATE/etc/containerd.toml" <<TOML
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$STATE/etc/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
TOML
  # Point-to-point, not a bridge: pods on one bridge answer each other directly,
  # past the address translation of a Service.
  mkdir "$STATE/etc/cni"
  cat >"$STATE/etc/cni/pods.conflist" <<JSON
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "ptp", "ipMasq": false, "ipam": {"type": "host-local",
    "ranges": [[{"subnet": "$pod_range"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
}

write_kubelet_config() {
  echo "nameserver 127.0.0.1" >"$STATE/etc/resolv.conf"
  # cgroupRoot: kubelet ends the pods of any other cluster that it finds below its
  # own root. failCgroupV1: the machine may well have version 1 mounted.
  cat >"$STATE/etc/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: $STATE/pki/ca.crt}
authorization: {mode: Webhook}
tlsCertFile: $STATE/pki/kubelet-server.crt
tlsPrivateKeyFile: $STATE/pki/kubelet-server.key
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
volumePluginDir: /var/lib/kubelet/volume-plugins
resolvConf: $STATE/etc/resolv.conf
clusterDNS: ["$dns_ip"]
clusterDomain: cluster.local
cgroupDriver: cgroupfs
cgroupRoot: /$CGROUP
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: []
localStorageCapacityIsolation: false
# The disk and memory are shared with whatever else the machine does.
evictionHard: {memory.available: "0%", nodefs.available: "0%", imagefs.available: "0%"}
imageGCHighThresholdPercent: 100
maxPods: 250
serializeImagePulls: false
syncFrequency: 10s
nodeStatusUpdateFrequency: 5s
kubeAPIQPS: 200
kubeAPIBurst: 400
eventRecordQPS: 0
# Tests that kill containers wait for the restart, not for a growing pause.
crashLoopBackOff: {maxContainerRestartPeriod: 1s}
YAML
}

write_proxy_config() {
  # The limits of connection tracking belong to the machine, so they stay as they are.
  cat >"$STATE/etc/proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: $STATE/etc/proxy.kubeconfig}
clusterCIDR: $pod_range
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
nftables: {minSyncPeriod: 0s}
YAML
}

write_dns_config() {
  # The second part: what isn't the cluster's does not exist. Without it the answer
  # would be a refusal, which a client reports as a passing failure.
  cat >"$STATE/etc/Corefile" <<CONF
cluster.local in-addr.arpa {
    bind $NODE_IP
    errors
    health 127.0.0.1:8088
    ready 127.0.0.1:8181
    kubernetes {
        kubeconfig $STATE/etc/dns.kubeconfig
        ttl 1
    }
}
. {
    bind $NODE_IP
    errors
    template ANY ANY {
        rcode NXDOMAIN
    }
}
CONF
}
