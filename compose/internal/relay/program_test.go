package relay_test

import (
	"bytes"
	"io"
	"net/netip"
	"slices"
	"testing"

	"github.com/sand-boxer/sandboxer/compose/internal/relay/wire"
)

func TestProgramEndsWithACodeAndAReason(t *testing.T) {
	s := newSite(t)
	nobody := netip.AddrPortFrom(s.addr, 1).String()
	refused := append([]byte{byte(wire.Failed), 0, 0, byte(len("connection refused"))}, "connection refused"...)
	end := []byte{byte(wire.End), 0, 0, 0}
	taken := []byte{byte(wire.Taken), 0, 0, 0}
	open := []byte{byte(wire.Open), 0, 0, 0}
	for name, test := range map[string]struct {
		args   []string
		input  []byte
		code   int
		output []byte
		reason string
	}{
		"orderly":           {[]string{"connect", netip.AddrPortFrom(s.addr, 9001).String()}, end, 0, slices.Concat(open, taken, end), ""},
		"refused":           {[]string{"connect", nobody}, nil, 1, refused, "connection refused\n"},
		"client leaves":     {[]string{"connect", netip.AddrPortFrom(s.addr, 9001).String()}, nil, 1, open, "the client has gone\n"},
		"client stammers":   {[]string{"connect", netip.AddrPortFrom(s.addr, 9001).String()}, []byte("GET / HTTP/1.1\r\n"), 1, open, "the client does not speak the relay's language\n"},
		"client is cut off": {[]string{"connect", netip.AddrPortFrom(s.addr, 9001).String()}, []byte{byte(wire.Data), 0, 0, 9, 'h', 'a'}, 1, open, "the client has gone\n"},
		"a name":            {[]string{"connect", "server:80"}, nil, 1, nil, "not an IP address and port: server:80\n"},
		"a zone":            {[]string{"connect", "[fe80::1%eth0]:80"}, nil, 1, nil, "not an IP address and port: [fe80::1%eth0]:80\n"},
		"no verb":           {nil, nil, 2, nil, "usage: relay hold | connect IP:PORT | probe MS IP:PORT... | clear DIR\n"},
		"unknown verb":      {[]string{"serve"}, nil, 2, nil, "usage: relay hold | connect IP:PORT | probe MS IP:PORT... | clear DIR\n"},
		"too many words":    {[]string{"connect", nobody, nobody}, nil, 2, nil, "usage: relay hold | connect IP:PORT | probe MS IP:PORT... | clear DIR\n"},
	} {
		t.Run(name, func(t *testing.T) {
			process, err := s.Exec(t.Context(), s.relay, append([]string{"/relay"}, test.args...)...)
			if err != nil {
				t.Fatal(err)
			}
			defer process.Close()
			connected := make([]byte, min(len(test.output), len(open)))
			if _, err := io.ReadFull(process, connected); err != nil {
				t.Fatal(err)
			}
			if _, err := process.Write(test.input); err != nil {
				t.Fatal(err)
			}
			if test.code != 0 && bytes.Equal(connected, open) {
				process.CloseWrite()
			}
			rest, err := io.ReadAll(process)
			if name == "orderly" && bytes.HasPrefix(rest, end) {
				rest = slices.Concat(rest[len(end):], end) // the two sides end independently
			}
			if output := slices.Concat(connected, rest); err != nil || !bytes.Equal(output, test.output) {
				t.Errorf("output %q %v, want %q", output, err, test.output)
			}
			if process.Stderr() != test.reason {
				t.Errorf("reason %q, want %q", process.Stderr(), test.reason)
			}
			if code, err := process.ExitCode(t.Context()); code != test.code || err != nil {
				t.Errorf("code %d %v, want %d", code, err, test.code)
			}
		})
	}
}

func TestHeaders(t *testing.T) {
	for _, kind := range []wire.Kind{wire.Open, wire.Data, wire.End, wire.Failed, wire.Taken} {
		for _, n := range []int{0, 1, 255, 256, wire.MaxPayload} {
			var b [wire.HeaderSize]byte
			wire.PutHeader(b[:], kind, n)
			if k, m, ok := wire.ParseHeader(b[:]); k != kind || m != n || !ok {
				t.Errorf("%d of %d bytes became %d of %d, %v", kind, n, k, m, ok)
			}
		}
	}
	for _, text := range []string{"OCI ", "\x00\x00\x00\x00", "\x06\x00\x00\x00", "\x02\x00\x80\x01", "\x02\x01\x00\x00", "runt"} {
		if kind, n, ok := wire.ParseHeader([]byte(text)); ok {
			t.Errorf("%q is taken for %d of %d bytes", text, kind, n)
		}
	}
}
