module github.com/pilotfish-mesh/pilotfish/examples/wasm-plugin/module

go 1.26
