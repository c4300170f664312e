package ca

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	admission "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
)

// The trust bundle is in every namespace, is kept right, follows the roots, and
// a namespace that goes away is no trouble.
func TestDistribution(t *testing.T) {
	client := testNamespace(t, "distribution")
	a := newAuthority(t, Options{})
	log, logs := observer.New(zapcore.InfoLevel)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- (&Distributor{Client: client, Authority: a, Log: zap.New(log)}).Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	has := func(ns string, want string) {
		t.Helper()
		envoytest.Eventually(t, 30*time.Second, func() string {
			c, err := client.CoreV1().ConfigMaps(ns).Get(t.Context(), "istio-ca-root-cert", metav1.GetOptions{})
			if err != nil {
				return err.Error()
			}
			if c.Data["root-cert.pem"] != want || len(c.Data) != 1 {
				return "another content"
			}
			return ""
		})
	}
	bundle := func() string { b, _ := a.TrustBundle(); return string(b) }
	has("distribution", bundle())
	has("default", bundle())

	maps := client.CoreV1().ConfigMaps("distribution")
	c, err := maps.Get(t.Context(), "istio-ca-root-cert", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.Data = map[string]string{"root-cert.pem": "changed", "more": "x"}
	if _, err := maps.Update(t.Context(), c, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	has("distribution", bundle())
	if err := maps.Delete(t.Context(), "istio-ca-root-cert", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	has("distribution", bundle())

	testNamespace(t, "leaving")
	has("leaving", bundle())
	if err := client.CoreV1().Namespaces().Delete(t.Context(), "leaving", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	// Nothing empties a namespace here: it stays, terminating, as one in
	// mid-flight does; writes to it are refused.
	if err := client.CoreV1().ConfigMaps("leaving").Delete(t.Context(), "istio-ca-root-cert", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	next, err := SelfSigned("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	a.Use(next)
	testNamespace(t, "arriving")
	has("arriving", bundle())
	has("distribution", bundle())
	for _, l := range logs.All() {
		t.Errorf("logs %s: %v", l.Message, l.ContextMap())
	}
}

// A trust bundle that the API server does not take is counted and tried again,
// and keeps no other namespace from its own.
func TestRefusedDistribution(t *testing.T) {
	client := testNamespace(t, "guarded")
	policies := client.AdmissionregistrationV1()
	fail := admission.Fail
	_, err := policies.ValidatingAdmissionPolicies().Create(t.Context(), &admission.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "guard"},
		Spec: admission.ValidatingAdmissionPolicySpec{
			FailurePolicy: &fail,
			MatchConstraints: &admission.MatchResources{ResourceRules: []admission.NamedRuleWithOperations{{RuleWithOperations: admission.RuleWithOperations{
				Operations: []admission.OperationType{admission.Create},
				Rule:       admission.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}},
			}}}},
			Validations: []admission.Validation{{Expression: `object.metadata.namespace != "guarded"`, Message: "no ConfigMaps here"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = policies.ValidatingAdmissionPolicyBindings().Create(t.Context(), &admission.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "guard"},
		Spec:       admission.ValidatingAdmissionPolicyBindingSpec{PolicyName: "guard", ValidationActions: []admission.ValidationAction{admission.Deny}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	away := sync.OnceFunc(func() {
		if err := policies.ValidatingAdmissionPolicyBindings().Delete(context.Background(), "guard", metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
		if err := policies.ValidatingAdmissionPolicies().Delete(context.Background(), "guard", metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(away)
	envoytest.Eventually(t, 30*time.Second, func() string { // the policy takes effect a little later
		_, err := client.CoreV1().ConfigMaps("guarded").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "try-"}}, metav1.CreateOptions{})
		if err == nil {
			return "not guarded yet"
		}
		return ""
	})
	log, logs := observer.New(zapcore.WarnLevel)
	registry := prometheus.NewRegistry()
	d := NewDistributor(client, newAuthority(t, Options{}), zap.New(log), registry)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	has := func(ns string) string {
		if _, err := client.CoreV1().ConfigMaps(ns).Get(t.Context(), BundleConfigMap, metav1.GetOptions{}); err != nil {
			return err.Error()
		}
		return ""
	}
	testNamespace(t, "unguarded")
	envoytest.Eventually(t, 30*time.Second, func() string { return has("unguarded") })
	envoytest.Eventually(t, 30*time.Second, func() string {
		families, err := registry.Gather()
		if err != nil || len(families) != 1 || families[0].GetName() != "pilotfish_trust_bundle_write_failures_total" || families[0].GetMetric()[0].GetCounter().GetValue() < 2 {
			return fmt.Sprintf("failures are not counted: %v %v", families, err)
		}
		return ""
	})
	if has("guarded") == "" {
		t.Error("the policy does not guard")
	}
	if l := logs.All(); len(l) == 0 || l[0].Message != "trust bundle: cannot be written; trying again" || !strings.Contains(fmt.Sprint(l[0].ContextMap()), "no ConfigMaps here") {
		t.Errorf("logs %v", l)
	}
	away()
	envoytest.Eventually(t, time.Minute, func() string { return has("guarded") })
}
