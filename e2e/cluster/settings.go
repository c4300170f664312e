package cluster

import (
	"os"
	"strings"
)

// settings are the configuration files of the node's processes, by their path
// below the state folder's etc. $NAME stands for what expand knows.
var settings = map[string]string{
	// ptp and not bridge: between pods of a bridge, the answers of a Service
	// would need the machine's bridge to call its packet filter.
	"cni/10-pods.conflist": `{
  "cniVersion": "0.4.0",
  "name": "pods",
  "plugins": [
    {"type": "ptp", "ipMasq": false,
     "ipam": {"type": "host-local", "ranges": [[{"subnet": "$POD_RANGE", "gateway": "$POD_GATEWAY", "rangeStart": "10.244.0.10"}]],
              "routes": [{"dst": "0.0.0.0/0"}]}},
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`,
	// restrict_oom_score_adj: runc cannot lower it without CAP_SYS_RESOURCE,
	// which machines that are containers themselves lack.
	"containerd.toml": `version = 2
[plugins."io.containerd.internal.v1.opt"]
path = "/var/lib/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "$PAUSE_IMAGE"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "$CNI_BIN"
conf_dir = "$ETC/cni"
`,
	"kubelet.yaml": `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
failSwapOn: false
cgroupDriver: cgroupfs
cgroupRoot: /$CGROUP
enforceNodeAllocatable: []
evictionHard: {}
imageGCHighThresholdPercent: 100
containerRuntimeEndpoint: unix://$RUNTIME_SOCK
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {clientCAFile: $PKI/ca.crt}}
authorization: {mode: AlwaysAllow}
clusterDNS: [$DNS_SERVICE]
clusterDomain: cluster.local
resolvConf: $ETC/resolv.conf
`,
	"resolv.conf": "",
	// The machine's limits of connection tracking stay what they are.
	"kube-proxy.yaml": `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clientConnection: {kubeconfig: $ETC/kubeconfig}
clusterCIDR: $POD_RANGE
hostnameOverride: $NODE_NAME
iptables: {minSyncPeriod: 100ms}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`,
	"Corefile": `.:53 {
  bind $NODE_IP
  errors
  kubernetes cluster.local in-addr.arpa ip6.arpa {
    kubeconfig $ETC/kubeconfig
    pods insecure
    ttl 5
  }
  loadbalance
}
`,
}

// kernel are the settings that a kubelet would change for the whole machine,
// with what it wants. The node sees files that say so in their place.
var kernel = map[string]string{
	"vm/overcommit_memory": "1", "vm/panic_on_oom": "0",
	"kernel/panic": "10", "kernel/panic_on_oops": "1",
	"kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
}

// expand fills in a settings file or a process's arguments.
func (n *Node) expand(s string, nodeIP string) string {
	return os.Expand(s, func(name string) string {
		switch name {
		case "ETC":
			return n.path("etc")
		case "PKI":
			return n.path("pki")
		case "BIN":
			return n.bin
		case "STATE":
			return n.dir
		case "CNI_BIN":
			return cniPlugins()
		case "NODE_IP":
			return nodeIP
		case "CGROUP":
			return n.cgroup()
		case "NODE_NAME":
			return nodeName
		case "POD_RANGE":
			return podRange
		case "POD_GATEWAY":
			return podGateway
		case "SERVICE_RANGE":
			return serviceRange
		case "DNS_SERVICE":
			return dnsService
		case "RUNTIME_SOCK":
			return runtimeSock
		case "PAUSE_IMAGE":
			return PauseImage
		default:
			return "$" + name
		}
	})
}

// process is one of the node's, in the order in which they start.
type process struct {
	name string
	argv string // separated by white space
	// ready is a URL that answers 200, or a Unix socket that accepts; empty:
	// it counts as ready once it runs.
	ready string
}

var processes = []process{
	{name: "etcd", ready: "http://127.0.0.1:2379/health", argv: `$BIN/etcd --data-dir $STATE/etcd --log-level warn --unsafe-no-fsync
		--listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379
		--listen-peer-urls http://127.0.0.1:2380`},
	{name: "kube-apiserver", ready: "https://127.0.0.1:6443/readyz", argv: `$BIN/kube-apiserver --etcd-servers http://127.0.0.1:2379
		--secure-port 6443 --advertise-address $NODE_IP --tls-cert-file $PKI/server.crt --tls-private-key-file $PKI/server.key
		--client-ca-file $PKI/ca.crt --service-cluster-ip-range $SERVICE_RANGE
		--service-account-issuer https://kubernetes.default.svc.cluster.local
		--service-account-key-file $PKI/sa.pub --service-account-signing-key-file $PKI/sa.key
		--authorization-mode Node,RBAC --allow-privileged=true --kubelet-preferred-address-types InternalIP
		--kubelet-client-certificate $PKI/admin.crt --kubelet-client-key $PKI/admin.key`},
	// A node that was not heard of while the API server was away has not ended:
	// there is no other one to go to.
	{name: "kube-controller-manager", argv: `$BIN/kube-controller-manager --kubeconfig $ETC/kubeconfig --leader-elect=false
		--node-monitor-grace-period 1h
		--service-account-private-key-file $PKI/sa.key --root-ca-file $PKI/ca.crt
		--cluster-signing-cert-file $PKI/ca.crt --cluster-signing-key-file $PKI/ca.key`},
	{name: "kube-scheduler", argv: `$BIN/kube-scheduler --kubeconfig $ETC/kubeconfig --leader-elect=false`},
	{name: "containerd", ready: runtimeSock, argv: `containerd --config $ETC/containerd.toml --log-level warn`},
	{name: "kubelet", argv: `$BIN/kubelet --config $ETC/kubelet.yaml --kubeconfig $ETC/kubeconfig --hostname-override $NODE_NAME
		--node-ip $NODE_IP`},
	{name: "kube-proxy", argv: `$BIN/kube-proxy --config $ETC/kube-proxy.yaml`},
	{name: "coredns", argv: `$BIN/coredns -conf $ETC/Corefile -quiet`},
}

func (n *Node) argv(p process, nodeIP string) []string {
	out := strings.Fields(p.argv)
	for i := range out {
		out[i] = n.expand(out[i], nodeIP)
	}
	return out
}

// cniPlugins is where Debian and others put them.
func cniPlugins() string {
	for _, dir := range []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"} {
		if _, err := os.Stat(dir + "/ptp"); err == nil {
			return dir
		}
	}
	return ""
}
