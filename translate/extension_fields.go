package translate

import "slices"

// extensionTables are those of filters that users bring.
func extensionTables() []Table {
	return slices.Concat(wasmPluginTables(), trafficExtensionTables())
}

const keyOfTheFuture = "the API reserves it: how modules are signed is not settled, and it has no effect in Istio either"

func wasmPluginTables() []Table {
	const of = "istio.extensions.v1alpha1."
	return []Table{
		{Message: of + "WasmPlugin", Check: checkWasmPlugin, Fields: []Field{
			{Name: "selector", Feature: "workloads by their labels", Case: "wasmplugin/selector"},
			{Name: "targetRef", Feature: "the Gateway of the Gateway API that a workload serves", Case: "wasmplugin/targetRefs"},
			{Name: "targetRefs", Feature: "the Gateways of the Gateway API that a workload serves", Case: "wasmplugin/targetRefs"},
			{Name: "url", Feature: "where the module is", Case: "wasmplugin/url", Check: checkModuleURL},
			{Name: "sha256", Feature: "checksum of the module or image", Case: "wasmplugin/url", Check: checkChecksum},
			{Name: "image_pull_policy", Feature: "whether a module is fetched again", Case: "wasmplugin/imagePull", Check: checkPullPolicy},
			{Name: "image_pull_secret", Feature: "credentials of the image's registry", Case: "wasmplugin/imagePull"},
			{Name: "verification_key", Unsupported: keyOfTheFuture},
			{Name: "plugin_config", Feature: "configuration of the plugin", Case: "wasmplugin/pluginConfig"},
			{Name: "plugin_name", Feature: "name by which the module knows the plugin", Case: "wasmplugin/pluginConfig"},
			{Name: "phase", Feature: "place among the filters", Case: "wasmplugin/phase", Check: checkPluginPhase},
			{Name: "priority", Feature: "place among those of a phase", Case: "wasmplugin/phase"},
			{Name: "fail_strategy", Feature: "what becomes of traffic if the plugin fails", Case: "wasmplugin/failStrategy", Check: checkFailStrategy},
			{Name: "vm_config", Feature: "environment of the plugin", Case: "wasmplugin/vmConfig"},
			{Name: "match", Feature: "traffic by side and port", Case: "wasmplugin/match"},
			{Name: "type", Feature: "a filter of requests, or of connections", Case: "wasmplugin/type", Check: checkPluginType},
		}},
		{Message: of + "WasmPlugin.TrafficSelector", Fields: selectorFields("wasmplugin/match")},
		{Message: of + "VmConfig", Check: checkVMConfig, Fields: []Field{
			{Name: "env", Feature: "environment variables", Case: "wasmplugin/vmConfig"},
		}},
		{Message: of + "EnvVar", Check: checkEnvVar, Fields: []Field{
			{Name: "name", Feature: "variable", Case: "wasmplugin/vmConfig"},
			{Name: "value_from", Feature: "the value here, or the proxy's own", Case: "wasmplugin/vmConfig", Check: checkEnvSource},
			{Name: "value", Feature: "its value", Case: "wasmplugin/vmConfig"},
		}},
		{Message: "istio.type.v1beta1.PortSelector", Fields: []Field{
			{Name: "number", Feature: "port", Case: "wasmplugin/match", Check: checkPort},
		}},
	}
}

func selectorFields(proof string) []Field {
	return []Field{
		{Name: "mode", Feature: "as client, as server", Case: proof, Check: checkWorkloadMode},
		{Name: "ports", Feature: "ports", Case: proof},
	}
}

func trafficExtensionTables() []Table {
	const of = "istio.extensions.v1alpha1."
	return []Table{
		{Message: of + "TrafficExtension", Check: checkTrafficExtension, Fields: []Field{
			{Name: "selector", Feature: "workloads by their labels", Case: "trafficextension/wasm"},
			{Name: "targetRefs", Feature: "the Gateways of the Gateway API that a workload serves", Case: "trafficextension/targetRefs"},
			{Name: "phase", Feature: "place among the filters", Case: "trafficextension/lua", Check: checkExecutionPhase},
			{Name: "priority", Feature: "place among those of a phase", Case: "trafficextension/lua"},
			{Name: "match", Feature: "traffic by side and port", Case: "trafficextension/wasm"},
			{Name: "wasm", Feature: "a Wasm module", Case: "trafficextension/wasm"},
			{Name: "lua", Feature: "a Lua script", Case: "trafficextension/lua"},
		}},
		{Message: of + "TrafficSelector", Fields: selectorFields("trafficextension/wasm")},
		{Message: of + "LuaConfig", Check: checkLua, Fields: []Field{
			{Name: "inline_code", Feature: "the script", Case: "trafficextension/lua"},
		}},
		{Message: of + "WasmConfig", Check: checkWasmConfig, Fields: []Field{
			{Name: "url", Feature: "where the module is", Case: "trafficextension/wasm", Check: checkModuleURL},
			{Name: "sha256", Feature: "checksum of the module or image", Case: "trafficextension/wasm", Check: checkChecksum},
			{Name: "image_pull_policy", Feature: "whether a module is fetched again", Case: "trafficextension/wasm", Check: checkPullPolicy},
			{Name: "image_pull_secret", Feature: "credentials of the image's registry", Case: "trafficextension/wasm"},
			{Name: "verification_key", Unsupported: keyOfTheFuture},
			{Name: "plugin_config", Feature: "configuration of the plugin", Case: "trafficextension/wasm"},
			{Name: "plugin_name", Feature: "name by which the module knows the plugin", Case: "trafficextension/wasm"},
			{Name: "fail_strategy", Feature: "what becomes of traffic if the plugin fails", Case: "trafficextension/wasm", Check: checkFailStrategy},
			{Name: "vm_config", Feature: "environment of the plugin", Case: "trafficextension/wasm"},
			{Name: "type", Feature: "a filter of requests, or of connections", Case: "trafficextension/wasm", Check: checkPluginType},
		}},
	}
}
