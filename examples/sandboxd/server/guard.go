package server

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"

	"github.com/sand-boxer/sandboxer/examples/sandboxd/api"
)

// guard keeps web pages from using a server through the browser of somebody
// who may. Where there are tokens a page has none to send. Where there are
// none, a page of another origin is told by Origin and Sec-Fetch-Site, and
// one whose name was made to resolve to this machine by Host.
func (s *Server) guard(r *http.Request) error {
	if len(s.cfg.Tokens) > 0 {
		return nil
	}
	if !loopbackName(r.Host) {
		return refuse(http.StatusForbidden, "forbidden", api.ClassRefused, "the host name %q is not one of this machine: without tokens only localhost, 127.0.0.1 and [::1] are answered", brief(r.Host))
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		if u, err := url.Parse(origin); err != nil || u.Host != r.Host {
			return refuse(http.StatusForbidden, "forbidden", api.ClassRefused, "pages of %q may not use this server", brief(origin))
		}
	}
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
	default:
		if !reads {
			return refuse(http.StatusForbidden, "forbidden", api.ClassRefused, "pages of other sites may not use this server")
		}
	}
	return nil
}

// loopbackName reports whether a Host header names this machine by loopback.
func loopbackName(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	} else if len(name) > 1 && name[0] == '[' && name[len(name)-1] == ']' {
		name = name[1 : len(name)-1]
	}
	if name == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && addr.IsLoopback()
}
