package translate

func authorizationPolicyTables() []Table {
	const of = "istio.security.v1beta1."
	return []Table{
		{Message: of + "AuthorizationPolicy", Check: checkAuthorizationPolicy, Fields: []Field{
			{Name: "selector", Feature: "workloads by their labels", Case: "authorizationpolicy/selector"},
			{Name: "targetRef", Feature: "the Gateway of the Gateway API that a workload serves", Case: "authorizationpolicy/targetRefs"},
			{Name: "targetRefs", Feature: "the Gateways of the Gateway API that a workload serves", Case: "authorizationpolicy/targetRefs"},
			{Name: "rules", Feature: "what the policy is about", Case: "authorizationpolicy/rules"},
			{Name: "action", Feature: "what becomes of it", Case: "authorizationpolicy/action", Check: checkAction},
			{Name: "provider", Feature: "whom a CUSTOM policy asks", Case: "authorizationpolicy/custom"},
		}},
		{Message: of + "AuthorizationPolicy.ExtensionProvider", Fields: []Field{
			{Name: "name", Feature: "an extensionProvider of the mesh", Case: "authorizationpolicy/custom"},
		}},
		{Message: of + "Rule", Fields: []Field{
			{Name: "from", Feature: "who calls", Case: "authorizationpolicy/rules"},
			{Name: "to", Feature: "what is called", Case: "authorizationpolicy/rules"},
			{Name: "when", Feature: "further conditions", Case: "authorizationpolicy/when"},
		}},
		{Message: of + "Rule.From", Check: checkFrom, Fields: []Field{{Name: "source", Feature: "who calls", Case: "authorizationpolicy/rules"}}},
		{Message: of + "Rule.To", Check: checkTo, Fields: []Field{{Name: "operation", Feature: "what is called", Case: "authorizationpolicy/rules"}}},
		{Message: of + "Source", Check: checkSource, Fields: []Field{
			{Name: "principals", Feature: "identities by certificate", Case: "authorizationpolicy/source"},
			{Name: "not_principals", Feature: "identities by certificate, excluded", Case: "authorizationpolicy/source_not"},
			{Name: "request_principals", Feature: "issuer and subject of a token", Case: "authorizationpolicy/source"},
			{Name: "not_request_principals", Feature: "issuer and subject of a token, excluded", Case: "authorizationpolicy/source_not"},
			{Name: "namespaces", Feature: "namespaces by certificate", Case: "authorizationpolicy/source"},
			{Name: "not_namespaces", Feature: "namespaces by certificate, excluded", Case: "authorizationpolicy/source_not"},
			{Name: "service_accounts", Feature: "service accounts by certificate", Case: "authorizationpolicy/source"},
			{Name: "not_service_accounts", Feature: "service accounts by certificate, excluded", Case: "authorizationpolicy/source_not"},
			{Name: "ip_blocks", Feature: "addresses that connect", Case: "authorizationpolicy/source", Check: checkAddressBlock},
			{Name: "not_ip_blocks", Feature: "addresses that connect, excluded", Case: "authorizationpolicy/source_not", Check: checkAddressBlock},
			{Name: "remote_ip_blocks", Feature: "the clients' addresses", Case: "authorizationpolicy/source", Check: checkAddressBlock},
			{Name: "not_remote_ip_blocks", Feature: "the clients' addresses, excluded", Case: "authorizationpolicy/source_not", Check: checkAddressBlock},
			{Name: "trust_domains", Feature: "trust domains by certificate", Case: "authorizationpolicy/source"},
			{Name: "not_trust_domains", Feature: "trust domains by certificate, excluded", Case: "authorizationpolicy/source_not"},
		}},
		{Message: of + "Operation", Check: checkOperation, Fields: []Field{
			{Name: "hosts", Feature: "hosts of requests, in any case and on any port", Case: "authorizationpolicy/operation"},
			{Name: "not_hosts", Feature: "hosts of requests, excluded", Case: "authorizationpolicy/operation_not"},
			{Name: "ports", Feature: "ports", Case: "authorizationpolicy/operation", Check: checkPortText},
			{Name: "not_ports", Feature: "ports, excluded", Case: "authorizationpolicy/operation_not", Check: checkPortText},
			{Name: "methods", Feature: "methods of requests", Case: "authorizationpolicy/operation"},
			{Name: "not_methods", Feature: "methods of requests, excluded", Case: "authorizationpolicy/operation_not"},
			{Name: "paths", Feature: "paths of requests, without query", Case: "authorizationpolicy/operation", Check: checkPolicyPath},
			{Name: "not_paths", Feature: "paths of requests, excluded", Case: "authorizationpolicy/operation_not", Check: checkPolicyPath},
		}},
		{Message: of + "Condition", Check: checkCondition, Fields: []Field{
			{Name: "key", Feature: "what is looked at", Case: "authorizationpolicy/when"},
			{Name: "values", Feature: "values that it may have", Case: "authorizationpolicy/when"},
			{Name: "not_values", Feature: "values that it may not have", Case: "authorizationpolicy/when_not"},
		}},
	}
}
