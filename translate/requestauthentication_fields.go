package translate

import "slices"

// securityTables are those of who may call whom.
func securityTables() []Table {
	return slices.Concat(peerAuthenticationTables(), requestAuthenticationTables(), authorizationPolicyTables())
}

func requestAuthenticationTables() []Table {
	const of = "istio.security.v1beta1."
	return []Table{
		{Message: of + "RequestAuthentication", Check: checkRequestAuthentication, Fields: []Field{
			{Name: "selector", Feature: "workloads by their labels", Case: "requestauthentication/selector"},
			{Name: "targetRef", Feature: "the Gateway of the Gateway API that a workload serves", Case: "requestauthentication/targetRefs"},
			{Name: "targetRefs", Feature: "the Gateways of the Gateway API that a workload serves", Case: "requestauthentication/targetRefs"},
			{Name: "jwt_rules", Feature: "tokens that must be good", Case: "requestauthentication/jwks"},
		}},
		{Message: of + "JWTRule", Check: checkJWTRule, Fields: []Field{
			{Name: "issuer", Feature: "who issued the token", Case: "requestauthentication/jwks", Check: checkIssuer},
			{Name: "audiences", Feature: "whom the token is for", Case: "requestauthentication/audiences"},
			{Name: "jwks_uri", Feature: "keys that the control plane fetches", Case: "requestauthentication/jwksUri", Check: checkKeysURI},
			{Name: "jwks", Feature: "keys", Case: "requestauthentication/jwks", Check: checkKeys},
			{Name: "from_headers", Feature: "headers that hold a token", Case: "requestauthentication/from"},
			{Name: "from_params", Feature: "query parameters that hold a token", Case: "requestauthentication/from"},
			{Name: "from_cookies", Feature: "cookies that hold a token", Case: "requestauthentication/from"},
			{Name: "output_payload_to_header", Feature: "header with the token's payload", Case: "requestauthentication/output", Check: checkTokenHeader},
			{Name: "output_claim_to_headers", Feature: "headers with the token's claims", Case: "requestauthentication/output"},
			{Name: "forward_original_token", Feature: "the token stays in the request", Case: "requestauthentication/output"},
			{Name: "timeout", Feature: "time to fetch the keys", Case: "requestauthentication/jwksUri", Check: checkDuration},
			{Name: "space_delimited_claims", Feature: "claims that are lists in one text", Case: "requestauthentication/output"},
		}},
		{Message: of + "JWTHeader", Fields: []Field{
			{Name: "name", Feature: "header that holds a token", Case: "requestauthentication/from", Check: checkTokenHeader},
			{Name: "prefix", Feature: "what is before the token", Case: "requestauthentication/from"},
		}},
		{Message: of + "ClaimToHeader", Fields: []Field{
			{Name: "header", Feature: "header with a claim", Case: "requestauthentication/output", Check: checkTokenHeader},
			{Name: "claim", Feature: "claim, nested ones with dots", Case: "requestauthentication/output"},
		}},
		{Message: "istio.type.v1beta1.PolicyTargetReference", Fields: []Field{
			{Name: "group", Feature: "gateway.networking.k8s.io", Case: "requestauthentication/targetRefs"},
			{Name: "kind", Feature: "Gateway", Case: "requestauthentication/targetRefs"},
			{Name: "name", Feature: "the Gateway's name", Case: "requestauthentication/targetRefs"},
			{Name: "namespace", Feature: "the policy's own", Case: "requestauthentication/targetRefs"},
		}},
	}
}
