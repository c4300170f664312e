// Package makerun starts `make run` as a newcomer does, uses its page in a real
// Chromium and stops it. It holds tests only.
package makerun
