package translate

func serviceEntryTables() []Table {
	return []Table{
		{Message: "istio.networking.v1alpha3.ServiceEntry", Check: checkServiceEntry, Fields: []Field{
			{Name: "hosts", Feature: "names of the service", Case: "serviceentry/hosts"},
			{Name: "addresses", Feature: "virtual addresses and CIDRs", Case: "serviceentry/addresses", Check: checkSubnet},
			{Name: "ports", Feature: "ports of the service", Case: "serviceentry/ports"},
			{Name: "location", Feature: "inside or outside of the mesh", Case: "serviceentry/location", Check: checkLocation},
			{Name: "resolution", Feature: "how endpoints are found", Case: "serviceentry/resolution-static", Check: checkResolution},
			{Name: "endpoints", Feature: "endpoints of the service", Case: "serviceentry/endpoints"},
			{Name: "workload_selector", Feature: "endpoints by the labels of Pods and WorkloadEntries", Case: "serviceentry/workloadSelector"},
			{Name: "export_to", Feature: "namespaces that see the service", Case: "serviceentry/exportTo"},
			{Name: "subject_alt_names", Feature: "names that the servers' certificates may have", Case: "serviceentry/subjectAltNames"},
		}},
		{Message: "istio.networking.v1alpha3.ServicePort", Check: checkServicePort, Fields: []Field{
			{Name: "number", Feature: "the port's number", Case: "serviceentry/ports"},
			{Name: "protocol", Feature: "the port's protocol", Case: "serviceentry/ports", Check: checkProtocol},
			{Name: "name", Feature: "the port's name", Case: "serviceentry/ports"},
			{Name: "target_port", Feature: "the endpoints' port", Case: "serviceentry/targetPort", Check: checkPort},
		}},
	}
}
