// Package validate refuses configuration that cannot be put into effect, and
// warns of what is valid and has no effect: the validating webhook.
//
// It consumes admission requests and the Mesh, and produces answers for the
// user. It has no rules of its own: what is wrong is what translate.Check and
// translate.Index.Problems find, as in translation and on the pages.
// Translation must not import it.
package validate
