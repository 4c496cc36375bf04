// Package allowlist says which destinations a profile with egress allowlist
// lets a sandbox reach.
package allowlist

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// An Entry is one line of an allowlist: a host name, "*.NAME" for all names
// below it, an address or a range of addresses; with a port, or without one
// for those of the web.
type Entry struct {
	name   string       // lower case, without the asterisk; or
	below  bool         // the name stands for those below it
	prefix netip.Prefix // if it is no name
	port   uint16       // 0: webPorts
}

// webPorts are those of an entry that names none.
var webPorts = [...]uint16{80, 443}

var hostName = regexp.MustCompile(`^([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Parse reads an entry: "example.com", "*.example.com:443", "10.0.0.0/8:5432",
// "192.0.2.7:443", "[2001:db8::/32]:443".
func Parse(text string) (Entry, error) {
	host, port, err := split(text)
	if err != nil {
		return Entry{}, err
	}
	if prefix, ok := parsePrefix(host); ok {
		if prefix != prefix.Masked() {
			return Entry{}, fmt.Errorf("%q has bits set after the prefix: did you mean %v?", text, prefix.Masked())
		}
		return Entry{prefix: prefix, port: port}, nil
	}
	name, below := strings.CutPrefix(strings.ToLower(strings.TrimSuffix(host, ".")), "*.")
	if len(name) > 253 || !hostName.MatchString(name) || numeric(name) {
		return Entry{}, fmt.Errorf("%q is neither a host name (example.com:443, *.example.com) nor a range of addresses (10.0.0.0/8:5432)", text)
	}
	return Entry{name: name, below: below, port: port}, nil
}

// numeric names are not names: resolvers take them for addresses.
func numeric(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	return strings.Trim(last, "0123456789") == ""
}

// split parts the port, if any, from the rest.
func split(text string) (host string, port uint16, err error) {
	host, digits, has := text, "", false
	if rest, ok := strings.CutPrefix(text, "["); ok {
		inner, after, closed := strings.Cut(rest, "]")
		if !closed {
			return "", 0, errors.New("a bracket is not closed")
		}
		host = inner
		digits, has = strings.CutPrefix(after, ":")
		if !has && after != "" {
			return "", 0, fmt.Errorf("%q goes on after the bracket", text)
		}
	} else if strings.Count(text, ":") == 1 {
		host, digits, has = strings.Cut(text, ":")
	}
	if !has {
		return host, 0, nil
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("%q has a port that is not between 1 and 65535", text)
	}
	return host, uint16(n), nil
}

func parsePrefix(text string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	p, err := netip.ParsePrefix(text)
	return p, err == nil
}

func (e Entry) hasPort(port uint16) bool {
	if e.port != 0 {
		return e.port == port
	}
	for _, p := range webPorts {
		if p == port {
			return true
		}
	}
	return false
}

// A List is an allowlist. It is immutable.
type List []Entry

// ParseList reads all entries; the error is of the first that is wrong.
func ParseList(texts []string) (List, error) {
	list := make(List, 0, len(texts))
	for _, text := range texts {
		e, err := Parse(text)
		if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, nil
}

// AllowsName reports whether a host may be reached by its name. Where the name
// leads is for [List.AllowsAddress] of what it resolves to.
func (l List) AllowsName(name string, port uint16) bool {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	for _, e := range l {
		if e.name == "" || !e.hasPort(port) {
			continue
		}
		if !e.below && name == e.name || e.below && strings.HasSuffix(name, "."+e.name) {
			return true
		}
	}
	return false
}

// Lists reports whether an entry names the address itself or its range.
func (l List) Lists(a netip.Addr, port uint16) bool {
	a = a.Unmap().WithZone("")
	for _, e := range l {
		if e.name == "" && e.hasPort(port) && e.prefix.Contains(a) {
			return true
		}
	}
	return false
}

// AllowsAddress reports whether a connection may go to an address that an
// allowed name resolved to: a public one, or one that is listed. A name's
// owner must not be able to open private networks.
func (l List) AllowsAddress(a netip.Addr, port uint16) bool {
	return Public(a) || l.Lists(a, port)
}

// special are the ranges of the IANA special-purpose registries that are not
// somebody's public address, besides those that package netip knows.
var special = [...]netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("2001::/23"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2002::/16"),
}

// Public reports whether an address is a public unicast address (RFC 6890):
// not private, loopback, link-local (the metadata address of clouds), shared,
// reserved, or a translation of such.
func Public(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, p := range special {
		if p.Contains(a) {
			return false
		}
	}
	return true
}
