package statehub_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/statehub"
)

const (
	secret = "to-ken.0123456789_AbCdEf=="
	apiKey = "api-key-of-the-gateway"
)

// authorizations is what came with each request.
func authorizations(h *hub) []string {
	var all []string
	for _, r := range h.seen() {
		all = append(all, strings.Join(r.Header.Values("Authorization"), ","))
	}
	return all
}

// TestToken: where it comes from, for registration and event alike.
func TestToken(t *testing.T) {
	t.Setenv("STATEHUB_TEST_TOKEN", " "+secret+"\n")
	file := filepath.Join(t.TempDir(), "token")
	writeFile(t, file, secret+"\r\n")
	t.Setenv("HOME", filepath.Dir(file))
	for name, cfg := range map[string]statehub.Config{
		"given":                {Token: secret},
		"environment":          {TokenEnv: "STATEHUB_TEST_TOKEN"},
		"file":                 {TokenFile: file},
		"file below the home":  {TokenFile: "~/token"},
		"and headers, of ours": {Token: secret, Headers: map[string]string{"x-api-key": apiKey, "User-Agent": "ci"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := startHub(t, nil)
			cfg.URL = h.URL
			if err := emit(t, newSink(t, cfg), ready()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"Bearer " + secret, "Bearer " + secret}, authorizations(h)); diff != "" {
				t.Errorf("Authorization (-want +got):\n%s", diff)
			}
			for _, r := range h.seen() {
				for key, value := range cfg.Headers {
					if r.Header.Get(key) != value {
						t.Errorf("%v: the header %s is %q, want %q", r, key, r.Header.Get(key), value)
					}
				}
			}
		})
	}
}

func TestNoToken(t *testing.T) {
	h := startHub(t, nil)
	if err := emit(t, newSink(t, statehub.Config{URL: h.URL}), ready()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"", ""}, authorizations(h)); diff != "" {
		t.Errorf("Authorization (-want +got):\n%s", diff)
	}
}

// TestTokenIsReplaced while the program runs. Without a token that was
// promised nothing is sent, and the event waits.
func TestTokenIsReplaced(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	for name, test := range map[string]struct {
		cfg    statehub.Config
		put    func(token string)
		remove func()
	}{
		"environment": {
			statehub.Config{TokenEnv: "STATEHUB_TEST_TOKEN"},
			func(token string) { t.Setenv("STATEHUB_TEST_TOKEN", token) }, func() { os.Unsetenv("STATEHUB_TEST_TOKEN") },
		},
		"file": {
			statehub.Config{TokenFile: file},
			func(token string) { writeFile(t, file, token) }, func() { os.Remove(file) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := startHub(t, nil)
			cfg := test.cfg
			cfg.URL, cfg.Register = h.URL, statehub.RegisterOff
			s := newSink(t, cfg)
			test.put("first")
			wantVerdict(t, emit(t, s, ready()), taken)
			test.put("second")
			wantVerdict(t, emit(t, s, ready()), taken)
			for _, bad := range []string{"", "two words", "line\nbreak", strings.Repeat("long", 3000), "ümlaut"} {
				test.put(bad)
				err := emit(t, s, ready())
				wantVerdict(t, err, retried)
				if err == nil || bad != "" && strings.Contains(err.Error(), bad) || strings.Contains(err.Error(), "there is none") != (bad == "") {
					t.Errorf("the error does not say what is wrong, or shows what was read: %v", err)
				}
			}
			test.remove()
			err := emit(t, s, ready())
			wantVerdict(t, err, retried)
			if sandboxer.Hint(err) == "" {
				t.Errorf("%v has no hint", err)
			}
			test.put("third")
			wantVerdict(t, emit(t, s, ready()), taken)
			if diff := cmp.Diff([]string{"Bearer first", "Bearer second", "Bearer third"}, authorizations(h)); diff != "" {
				t.Errorf("Authorization (-want +got):\n%s", diff)
			}
		})
	}
}

// TestSecretsAreNotTold by a hub that shows what it was sent, whatever the status.
func TestSecretsAreNotTold(t *testing.T) {
	book := &logBook{}
	for _, status := range []int{302, 400, 401, 403, 404, 429, 500, 501, 503} {
		h := startHub(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/login/"+strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
			w.WriteHeader(status)
			fmt.Fprintf(w, "you sent %s and %s", r.Header.Get("Authorization"), r.Header.Get("X-Api-Key"))
		})
		s := newSink(t, statehub.Config{URL: h.URL, Token: secret, Headers: map[string]string{"X-Api-Key": apiKey}, Logger: book.logger()})
		for _, e := range []sandboxer.Event{ready(), destroyed()} {
			err := emit(t, s, e)
			if err == nil {
				t.Errorf("%d was taken", status)
				continue
			}
			if text := err.Error() + sandboxer.Hint(err) + fmt.Sprintf("%+v", err); strings.Contains(text, secret) || strings.Contains(text, apiKey) {
				t.Errorf("%d: the error tells: %v", status, err)
			} else if status != 501 && !strings.Contains(text, "you sent Bearer [token] and [X-Api-Key]") {
				t.Errorf("%d: the error does not show the answer: %v", status, err)
			}
		}
	}
	// A server that does not speak HTTP repeats it.
	h := listen(t, echo)
	s := newSink(t, statehub.Config{URL: h, Token: secret, Register: statehub.RegisterOff, Logger: book.logger()})
	if err := emit(t, s, ready()); err == nil || strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), "[token]") {
		t.Errorf("got %v, want an error that shows [token]", err)
	}
	if strings.Contains(book.String(), secret) || strings.Contains(book.String(), apiKey) {
		t.Errorf("the log tells:\n%s", book)
	}
	if !strings.Contains(book.String(), "registration refused") {
		t.Errorf("nothing was logged: this test looks for the wrong thing:\n%s", book)
	}
}

// TestPrintedConfig: no way of printing shows a secret, one in the wrong place
// included.
func TestPrintedConfig(t *testing.T) {
	cfg := statehub.Config{
		URL: "https://account:" + secret + "@hub.example.net/x?key=" + secret, Token: secret, TokenEnv: secret,
		Headers: map[string]string{"X-Api-Key": secret},
	}
	var texts []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X", "%t"} {
		texts = append(texts, fmt.Sprintf(verb, cfg), fmt.Sprintf(verb, &cfg), fmt.Sprintf(verb, struct{ Hub statehub.Config }{cfg}), fmt.Sprintf(verb, []statehub.Config{cfg}))
	}
	texts = append(texts, fmt.Sprint(cfg), cfg.String())
	var b bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&b, nil), slog.NewJSONHandler(&b, nil)} {
		slog.New(handler).Info("configured", "hub", cfg, "pointer", &cfg, "within", []statehub.Config{{Token: secret}})
	}
	texts = append(texts, b.String())
	document, err := json.Marshal(statehub.Config{URL: "https://hub.example.net", Token: secret})
	if err != nil {
		t.Fatal(err)
	}
	texts = append(texts, string(document))
	sink := newSink(t, statehub.Config{URL: "https://hub.example.net", Token: secret})
	texts = append(texts, fmt.Sprintf("%v %+v %#v", sink, sink, sink))
	hex := fmt.Sprintf("%x", secret)
	for _, text := range texts {
		if strings.Contains(text, secret) || strings.Contains(strings.ToLower(text), hex) {
			t.Errorf("this tells: %s", text)
		}
	}
	if got, want := cfg.String(), "State Hub https://hub.example.net/x (cloudevents, token given)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !strings.Contains(b.String(), "hub.url=https://hub.example.net/x hub.shape=cloudevents") {
		t.Errorf("logged was:\n%s", b.String())
	}
	if err := cfg.Validate(); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("got %v, want an error that does not tell", err)
	}
}
