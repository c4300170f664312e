// Package meshtest tests mesh configuration as code is tested: files of cases
// with what each is expected to come to, what no case reaches, what two states
// of a configuration answer differently, and what is wrong with one.
//
// It consumes a config.Mesh and test files and produces values for the command
// line: results, findings, differences. It asks package simulate, or whatever
// Engine it is given. It does no I/O. Only commands and tests may import it.
package meshtest
