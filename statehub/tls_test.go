package statehub_test

import (
	"encoding/pem"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer"
)

// TestTLS: a certificate is verified, always; an authority can be added.
func TestTLS(t *testing.T) {
	h := newHub(t, nil)
	h.StartTLS()
	authority := filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, authority, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw})))
	byName := strings.Replace(h.URL, "127.0.0.1", "localhost", 1) // which is not in the certificate
	for _, test := range []struct {
		name, url, file string
		want            verdict
	}{
		{"unknown authority", h.URL, "", retried},
		{"known authority", h.URL, authority, taken},
		{"another name", byName, authority, retried},
		{"no TLS at the hub's port", strings.Replace(h.URL, "https:", "http:", 1), "", refused},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := eventsOnly(test.url)
			cfg.CAFile = test.file
			cfg.Token = "to-ken-0123456789"
			before := len(h.seen())
			err := emit(t, newSink(t, cfg), ready())
			wantVerdict(t, err, test.want)
			if got := len(h.seen()) - before; got != 0 && !test.want.Taken {
				t.Errorf("%d requests reached the hub", got)
			}
			if strings.Contains(test.name, "authority") && err != nil && !strings.Contains(sandboxer.Hint(err), "ca_file") {
				t.Errorf("%v: the hint %q does not name ca_file", err, sandboxer.Hint(err))
			}
		})
	}
}

// TestHTTPSToPlainServer: nothing falls back to plain HTTP.
func TestHTTPSToPlainServer(t *testing.T) {
	h := startHub(t, nil)
	wantVerdict(t, emit(t, newSink(t, eventsOnly(strings.Replace(h.URL, "http:", "https:", 1))), ready()), retried)
	if got := h.lines(); got != "" {
		t.Errorf("the hub saw %s", got)
	}
}
