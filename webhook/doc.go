// Package webhook speaks the API server's admission protocol: it reads
// AdmissionReviews over HTTP within bounds of size, time and memory, lets
// somebody decide, and answers in the version that was asked in.
//
// It consumes HTTP requests and produces answers; webhook/inject and
// webhook/validate decide. Translation must not import it.
package webhook
