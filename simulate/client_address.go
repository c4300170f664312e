package simulate

import (
	"net/netip"
	"strings"
)

const forwardedFor = "x-forwarded-for"

// clientAddress finds out whose request it is, and says so to those behind
// (envoy HttpConnectionManager.use_remote_address and xff_num_trusted_hops): an
// edge takes the address of the connection, or what the proxies that it trusts
// have added before theirs; others take the last one that was added.
func (r *request) clientAddress() {
	m := r.manager
	r.client = r.conn.Source
	if len(m.GetOriginalIpDetectionExtensions()) > 0 {
		r.hop.unknown("the connection manager finds the client's address by an extension")
	}
	hops := int(m.GetXffNumTrustedHops())
	if !m.GetUseRemoteAddress().GetValue() {
		if a := r.forwarded(hops); a.IsValid() {
			r.client = a
		}
		return
	}
	if hops > 0 {
		if a := r.forwarded(hops - 1); a.IsValid() {
			r.client = a
		}
	}
	if m.GetSkipXffAppend() {
		return
	}
	value := r.conn.Source.String()
	if had, there := r.http.get(forwardedFor); there {
		value = had + "," + value
	}
	r.http.Header = append(r.http.Header.without(forwardedFor), Field{forwardedFor, value})
}

// forwarded is the address in X-Forwarded-For before the last ones.
func (r *request) forwarded(skipped int) netip.Addr {
	text, there := r.http.get(forwardedFor)
	if !there {
		return netip.Addr{}
	}
	list := strings.Split(text, ",")
	if skipped >= len(list) {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(strings.TrimSpace(list[len(list)-1-skipped]))
	if err != nil {
		return netip.Addr{}
	}
	return a
}
