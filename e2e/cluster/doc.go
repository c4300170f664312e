// Package cluster is a one-node Kubernetes for tests and for trying things
// out: etcd, the API server, controller-manager, scheduler, containerd,
// kubelet, kube-proxy and CoreDNS on this machine, with no registry and no
// download but what tools/build.sh builds and Debian packages.
//
// The node lives in namespaces of its own for processes, mounts, the network,
// host names and shared memory, as a container does: its ports, rules, bridges
// and mounts are not the machine's, and when its first process ends the kernel
// ends everything in it. What lies outside of them is one folder, one pair of
// network devices for the way in, and one cgroup; Down removes all three and
// checks that they are gone.
//
// It consumes a folder of binaries and imports none of our packages; the
// command ctl and package e2e/mesh use it. It needs root on Linux.
package cluster
