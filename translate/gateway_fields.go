package translate

func gatewayTables() []Table {
	return []Table{
		{Message: "istio.networking.v1alpha3.Gateway", Check: checkGateway, Fields: []Field{
			{Name: "servers", Feature: "listeners of the selected gateways", Case: "gateway/http"},
			{Name: "selector", Feature: "gateways by their labels", Case: "gateway/selector", Check: checkLabelValue},
		}},
		{Message: "istio.networking.v1alpha3.Server", Check: checkServer, Fields: []Field{
			{Name: "port", Feature: "port that clients connect to", Case: "gateway/http"},
			{Name: "bind", Feature: "address to listen on", Case: "gateway/bind", Check: checkBind},
			{Name: "hosts", Feature: "hosts, and whose VirtualServices may use them", Case: "gateway/hosts_namespace", Check: checkServerHost},
			{Name: "tls", Feature: "TLS of the server", Case: "gateway/tls_simple"},
			{Name: "name", Feature: "prefix of its statistics", Case: "gateway/tls_name"},
			{Name: "default_endpoint", Unsupported: "Istio ignores it too; lead the requests with a VirtualService"},
		}},
		{Message: "istio.networking.v1alpha3.Port", Fields: []Field{
			{Name: "number", Feature: "the Service's port, mapped to its target port", Case: "gateway/http"},
			{Name: "protocol", Feature: "requests, TLS or bare connections", Case: "gateway/tcp", Check: checkServerProtocol},
			{Name: "name", Feature: "name of the HTTPS server's routes", Case: "gateway/tls_sni"},
			{Name: "target_port", Unsupported: "it is deprecated and has no effect in Istio either; the gateway's Service maps ports"},
		}},
		{Message: "istio.networking.v1alpha3.ServerTLSSettings", Check: checkServerTLS, Fields: []Field{
			{Name: "https_redirect", Feature: "redirect of plain requests", Case: "gateway/https_redirect"},
			{Name: "mode", Feature: "who takes TLS off, and whether clients show certificates", Case: "gateway/tls_mutual", Check: checkServerTLSMode},
			{Name: "server_certificate", Feature: "certificate from a file", Case: "gateway/tls_files"},
			{Name: "private_key", Feature: "key from a file", Case: "gateway/tls_files"},
			{Name: "ca_certificates", Feature: "authority for clients from a file", Case: "gateway/tls_files"},
			{Name: "ca_crl", Feature: "revoked client certificates from a file", Case: "gateway/tls_files"},
			{Name: "credential_name", Feature: "certificate from a Secret", Case: "gateway/tls_simple"},
			{Name: "credential_names", Feature: "several certificates from Secrets", Case: "gateway/tls_credential_names"},
			{Name: "ca_cert_credential_name", Feature: "authority for clients from a Secret or ConfigMap", Case: "gateway/tls_ca_cert_credential_name"},
			{Name: "tls_certificates", Feature: "several certificates from files", Case: "gateway/tls_certificates"},
			{Name: "subject_alt_names", Feature: "names that clients must have", Case: "gateway/tls_client_checks"},
			{Name: "verify_certificate_spki", Feature: "keys that clients must have", Case: "gateway/tls_client_checks", Check: checkSPKI},
			{Name: "verify_certificate_hash", Feature: "certificates that clients must have", Case: "gateway/tls_client_checks", Check: checkCertificateHash},
			{Name: "min_protocol_version", Feature: "oldest TLS version", Case: "gateway/tls_versions"},
			{Name: "max_protocol_version", Feature: "newest TLS version", Case: "gateway/tls_versions"},
			{Name: "cipher_suites", Feature: "ciphers", Case: "gateway/tls_versions", Check: checkCipher},
			{Name: "insecure_skip_verify", Feature: "lets clients in that fail the check", Case: "gateway/tls_insecure_skip_verify"},
		}},
		{Message: "istio.networking.v1alpha3.ServerTLSSettings.TLSCertificate", Check: checkCertificateFiles, Fields: []Field{
			{Name: "server_certificate", Feature: "certificate from a file", Case: "gateway/tls_certificates"},
			{Name: "private_key", Feature: "key from a file", Case: "gateway/tls_certificates"},
			{Name: "ca_certificates", Unsupported: "Istio ignores it too, where one authority serves for all of a server's certificates: set caCertificates beside tlsCertificates"},
		}},
	}
}
