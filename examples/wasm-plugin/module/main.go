//go:build wasip1

// Command module is a filter for Envoy (Proxy-Wasm ABI 0.2.1): requests need a key in header
// x-api-key, and the application learns in header x-user whose key it is. Its configuration is
// {"keys": {"<key>": "<user>"}}.
//
// It is built with Go alone: GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared
package main

import (
	"encoding/json"
	"unsafe"
)

// Of the ABI: kinds of maps and of buffers, and what a callback answers.
const (
	requestHeaders = 0
	pluginConfig   = 7
	goOn, pause    = 0, 1
	logError       = 4
)

//go:wasmimport env proxy_log
func log(level uint32, text string) uint32

//go:wasmimport env proxy_get_buffer_bytes
func getBuffer(kind, start, most uint32, data, size *uint32) uint32

//go:wasmimport env proxy_get_header_map_value
func getHeader(kind uint32, name string, data, size *uint32) uint32

//go:wasmimport env proxy_replace_header_map_value
func setHeader(kind uint32, name, value string) uint32

//go:wasmimport env proxy_send_local_response
func answer(status uint32, details, body, headers string, grpcStatus int32) uint32

// given are buffers that the host has asked for and this module has not read yet.
var given = map[uint32][]byte{}

//go:wasmexport proxy_on_memory_allocate
func allocate(size uint32) unsafe.Pointer {
	b := make([]byte, max(size, 1))
	p := unsafe.Pointer(&b[0])
	given[uint32(uintptr(p))] = b
	return p
}

func read(data, size uint32) string {
	b := given[data]
	delete(given, data)
	return string(b[:min(int(size), len(b))])
}

// users are by plugin context, keys by context: each of a plugin's configurations has its own.
var (
	users   = map[uint32]map[string]string{}
	plugins = map[uint32]uint32{}
)

//go:wasmexport proxy_abi_version_0_2_1
func version() {}

//go:wasmexport proxy_on_context_create
func create(context, parent uint32) { plugins[context] = parent }

//go:wasmexport proxy_on_delete
func remove(context uint32) { delete(plugins, context); delete(users, context) }

//go:wasmexport proxy_on_configure
func configure(context, size uint32) uint32 {
	var data, n uint32
	getBuffer(pluginConfig, 0, size, &data, &n)
	var c struct{ Keys map[string]string }
	if err := json.Unmarshal([]byte(read(data, n)), &c); err != nil {
		log(logError, "configuration: "+err.Error())
		return 0
	}
	users[context] = c.Keys
	return 1
}

//go:wasmexport proxy_on_request_headers
func onRequest(context, _, _ uint32) uint32 {
	var data, n uint32
	key := ""
	if getHeader(requestHeaders, "x-api-key", &data, &n) == 0 {
		key = read(data, n)
	}
	user, ok := users[plugins[context]][key]
	if !ok {
		answer(401, "no_key", "a key is needed in header x-api-key\n", "", -1)
		return pause
	}
	setHeader(requestHeaders, "x-user", user)
	return goOn
}

func main() {}
