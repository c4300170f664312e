// Package report writes what ask, test, diff and lint find as HTML: as one file
// for a pull request, and as the page of a running mesh, where requests can be
// asked about.
//
// It consumes configuration and the results of packages simulate and meshtest,
// and produces HTML that loads nothing and needs no scripts. Only commands and
// package up may import it.
package report
