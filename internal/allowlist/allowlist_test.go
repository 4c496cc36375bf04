package allowlist

import (
	"net/netip"
	"strings"
	"testing"
)

func TestEntriesThatAreNone(t *testing.T) {
	for text, says := range map[string]string{
		"":                                "neither",
		"*":                               "neither",
		"*.":                              "neither",
		"a b":                             "neither",
		"http://example.com":              "port",
		"example.com/path":                "neither",
		"ex*mple.com":                     "neither",
		"10.0.0.0/33":                     "neither",
		"10.1.2":                          "neither",
		"10.0.0.1/8:443":                  "did you mean 10.0.0.0/8?",
		"example.com:0":                   "between 1 and 65535",
		"example.com:65536":               "between 1 and 65535",
		"example.com:https":               "between 1 and 65535",
		"example.com:":                    "between 1 and 65535",
		"[2001:db8::/32":                  "not closed",
		"[2001:db8::/32]443":              "goes on",
		"fe80::1%eth0":                    "neither",
		strings.Repeat("a.", 130) + "com": "neither",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: error %v, want one that says %q", text, err, says)
		}
	}
}

func TestNames(t *testing.T) {
	list, err := ParseList([]string{"example.com", "*.pkg.example.org:443", "API.example.net.:8443", "10.0.0.0/8:5432"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		port uint16
		want bool
	}{
		{"example.com", 443, true},
		{"EXAMPLE.com.", 80, true},
		{"example.com", 22, false},
		{"www.example.com", 443, false},
		{"notexample.com", 443, false},
		{"a.pkg.example.org", 443, true},
		{"a.b.pkg.example.org", 443, true},
		{"pkg.example.org", 443, false},
		{"evilpkg.example.org", 443, false},
		{"a.pkg.example.org", 80, false},
		{"api.example.net", 8443, true},
		{"api.example.net", 443, false},
		{"10.1.2.3", 5432, false},
		{"", 443, false},
	} {
		if got := list.AllowsName(c.name, c.port); got != c.want {
			t.Errorf("%s:%d allowed = %v, want %v", c.name, c.port, got, c.want)
		}
	}
}

func TestAddresses(t *testing.T) {
	list, err := ParseList([]string{"example.com", "10.1.0.0/16:5432", "192.0.2.7", "[fd00::/8]:443", "2001:db8::1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		address string
		port    uint16
		listed  bool
		allowed bool // once a name that is allowed led there
	}{
		{"93.184.215.14", 443, false, true},
		{"2606:4700::1111", 443, false, true},
		{"10.1.2.3", 5432, true, true},
		{"::ffff:10.1.2.3", 5432, true, true},
		{"10.1.2.3", 443, false, false},
		{"10.2.2.3", 5432, false, false},
		{"192.0.2.7", 80, true, true},
		{"192.0.2.8", 80, false, false},
		{"fd12::1", 443, true, true},
		{"fd12::1", 80, false, false},
		{"2001:db8::1", 443, true, true},
		{"127.0.0.1", 443, false, false},
		{"::ffff:127.0.0.1", 443, false, false},
		{"169.254.169.254", 80, false, false},
		{"fe80::1", 80, false, false},
		{"64:ff9b::a9fe:a9fe", 80, false, false},
		{"2002:a9fe:a9fe::", 80, false, false},
		{"0.0.0.0", 80, false, false},
		{"100.64.1.1", 80, false, false},
		{"224.0.0.1", 80, false, false},
		{"255.255.255.255", 80, false, false},
		{"172.17.0.1", 80, false, false},
	} {
		a := netip.MustParseAddr(c.address)
		if got := list.Lists(a, c.port); got != c.listed {
			t.Errorf("%s:%d listed = %v, want %v", c.address, c.port, got, c.listed)
		}
		if got := list.AllowsAddress(a, c.port); got != c.allowed {
			t.Errorf("%s:%d allowed = %v, want %v", c.address, c.port, got, c.allowed)
		}
	}
}
