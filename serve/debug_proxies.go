package serve

import "net/http"

// proxyPages are the pages about connected proxies.
func (p *Pages) proxyPages(mux *http.ServeMux) {}
