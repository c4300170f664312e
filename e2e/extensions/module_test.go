package extensions

// module is a Wasm module, assembled here, of Proxy-Wasm's ABI 0.2.1: it adds a
// response header whose value is the plugin's configuration, and in front of
// connections it closes them, if it is told so. salt makes modules of the same
// behaviour differ.
func module(header, salt string, closes bool) []byte {
	const (
		i32 = 0x7f
		// Where the module keeps the configuration's address and length, and
		// the header's name.
		at, length, name = 16, 20, 32
	)
	funcType := func(params, results int) []byte {
		out := []byte{0x60, byte(params)}
		for range params {
			out = append(out, i32)
		}
		out = append(out, byte(results))
		for range results {
			out = append(out, i32)
		}
		return out
	}
	text := func(s string) []byte { return append([]byte{byte(len(s))}, s...) }
	vec := func(items ...[]byte) []byte {
		out := []byte{byte(len(items))}
		for _, i := range items {
			out = append(out, i...)
		}
		return out
	}
	imported := func(name string, kind byte) []byte {
		return append(append(text("env"), text(name)...), 0x00, kind)
	}
	exported := func(name string, kind, index byte) []byte { return append(text(name), kind, index) }
	body := func(code ...byte) []byte { // no locals
		code = append(append([]byte{0}, code...), 0x0b)
		return append(leb(len(code)), code...)
	}
	const (
		constant, get, globalGet, globalSet, add, call, drop, load = 0x41, 0x20, 0x23, 0x24, 0x6a, 0x10, 0x1a, 0x28
	)
	out := []byte("\x00asm\x01\x00\x00\x00")
	section := func(id byte, content []byte) { out = append(append(append(out, id), leb(len(content))...), content...) }
	section(1, vec(funcType(0, 0), funcType(2, 0), funcType(2, 1), funcType(3, 1), funcType(5, 1), funcType(1, 1)))
	section(2, vec(imported("proxy_add_header_map_value", 4), imported("proxy_get_buffer_bytes", 4), imported("proxy_close_stream", 5)))
	section(3, vec([]byte{0}, []byte{5}, []byte{1}, []byte{2}, []byte{2}, []byte{3}, []byte{5}))
	section(5, vec([]byte{0, 1}))
	section(6, vec([]byte{i32, 1, constant, 0x80, 0x08, 0x0b})) // the heap begins at 1024
	section(7, vec(
		exported("memory", 2, 0), exported("proxy_abi_version_0_2_1", 0, 3), exported("proxy_on_memory_allocate", 0, 4),
		exported("proxy_on_context_create", 0, 5), exported("proxy_on_vm_start", 0, 6), exported("proxy_on_configure", 0, 7),
		exported("proxy_on_response_headers", 0, 8), exported("proxy_on_new_connection", 0, 9),
	))
	connected := []byte{constant, 0}
	if closes {
		connected = append([]byte{constant, 2, call, 2, drop}, connected...) // 2: the client's side
	}
	section(10, vec(
		body(),
		body(globalGet, 0, globalGet, 0, get, 0, add, globalSet, 0),
		body(),
		body(constant, 1),
		body(constant, 7, constant, 0, get, 1, constant, at, constant, length, call, 1, drop, constant, 1), // 7: the plugin's configuration
		body(constant, 2, constant, name, constant, byte(len(header)), // 2: response headers
			constant, at, load, 2, 0, constant, length, load, 2, 0, call, 0, drop, constant, 0),
		body(connected...),
	))
	section(11, vec(append([]byte{0, constant, name, 0x0b}, text(header)...)))
	section(0, append(text("salt"), salt...))
	return out
}

// leb is an unsigned number as Wasm writes it.
func leb(n int) []byte {
	var out []byte
	for n >= 0x80 {
		out = append(out, byte(n)|0x80)
		n >>= 7
	}
	return append(out, byte(n))
}
