// Package jwks fetches the keys of token issuers, as RequestAuthentications name
// them, before translation sees a Mesh.
//
// It consumes Meshes and produces Meshes with KeySets. Who asks for keys may be
// anybody who can write a RequestAuthentication, so what it connects to is
// limited. Packages below the Store must not import it.
package jwks
