// Package extensions holds tests of filters that users bring, Wasm modules and
// Lua scripts, in real Envoys: how they come to the proxy, and what happens when
// they do not.
package extensions
