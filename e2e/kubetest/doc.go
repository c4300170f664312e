// Package kubetest gives tests a real Kubernetes API server: etcd and
// kube-apiserver on free loopback ports, with a PKI of their own, in a
// temporary folder, and gone with the test whatever way it ends. No
// controllers, scheduler or kubelets run, so that every object is exactly what
// a test made of it. It consumes the binaries of tools/build.sh; only tests may
// import it.
package kubetest
