package translate

func peerAuthenticationTables() []Table {
	const of = "istio.security.v1beta1.PeerAuthentication"
	return []Table{
		{Message: of, Check: checkPeerAuthentication, Fields: []Field{
			{Name: "selector", Feature: "workloads by their labels", Case: "peerauthentication/selector"},
			{Name: "mtls", Feature: "how connections may come", Case: "peerauthentication/strict"},
			{Name: "port_level_mtls", Feature: "how connections to a port may come", Case: "peerauthentication/portLevelMtls"},
		}},
		{Message: of + ".MutualTLS", Fields: []Field{
			{Name: "mode", Feature: "mesh TLS, anything else, or both", Case: "peerauthentication/permissive", Check: checkPeerMode},
		}},
	}
}
