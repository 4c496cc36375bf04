package hub_test

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/examples/statehub/hub"
)

// TestToken asks every path with every kind of credentials.
func TestToken(t *testing.T) {
	e := newLife(idOf(1), time.Now()).up(time.Minute).made[0]
	basic := func(password string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte("me:"+password))
	}
	writes := []struct{ method, target, contentType, body string }{
		{"POST", "/v1/events", cloudType, encode(t, cloudEvent(e))},
		{"POST", "/progress", jsonType, encode(t, progress(e))},
		{"PUT", "/v1/sandboxes/" + idOf(1), jsonType, encode(t, registrationOf(e))},
		{"DELETE", "/v1/sandboxes/" + idOf(1), "", ""},
		{"POST", "/nothing", "", ""},
	}
	reads := []string{"/", "/sandboxes/" + idOf(1), "/v1/events", "/v1/sandboxes", "/v1/sandboxes/" + idOf(1), "/v1/usage", "/nothing"}
	for _, tt := range []struct {
		name, authorization string
		opts                hub.Options
		writes, reads       bool
	}{
		{"no token is asked for", "", hub.Options{}, true, true},
		{"right", "Bearer secret", hub.Options{Token: "secret"}, true, true},
		{"scheme in other letters", "bearer secret", hub.Options{Token: "secret"}, true, true},
		{"none", "", hub.Options{Token: "secret"}, false, false},
		{"wrong", "Bearer secreT", hub.Options{Token: "secret"}, false, false},
		{"its beginning", "Bearer secre", hub.Options{Token: "secret"}, false, false},
		{"longer", "Bearer secretsecret", hub.Options{Token: "secret"}, false, false},
		{"empty", "Bearer ", hub.Options{Token: "secret"}, false, false},
		{"no scheme", "secret", hub.Options{Token: "secret"}, false, false},
		{"another scheme", "Digest secret", hub.Options{Token: "secret"}, false, false},
		{"a person's browser", basic("secret"), hub.Options{Token: "secret"}, false, true},
		{"a person's typing error", basic("Secret"), hub.Options{Token: "secret"}, false, false},
		{"open reads", "", hub.Options{Token: "secret", OpenReads: true}, false, true},
		{"open reads with a wrong token", "Bearer x", hub.Options{Token: "secret", OpenReads: true}, false, true},
		{"open reads with the token", "Bearer secret", hub.Options{Token: "secret", OpenReads: true}, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, tt.opts)
			for _, w := range writes {
				a := r.send(w.method, w.target, w.body, "Content-Type", w.contentType, "Authorization", tt.authorization)
				if allowed := a.status != http.StatusUnauthorized; allowed != tt.writes {
					t.Errorf("%s %s: %d %s", w.method, w.target, a.status, a.body)
				}
				if !tt.writes {
					refused(t, a, http.StatusUnauthorized, "Authorization: Bearer")
					if asks := a.header.Values("WWW-Authenticate"); len(asks) != 1 || !strings.HasPrefix(asks[0], "Bearer ") {
						t.Errorf("a write asks for %q", asks)
					}
				}
			}
			for _, target := range reads {
				a := r.send("GET", target, "", "Authorization", tt.authorization)
				if allowed := a.status != http.StatusUnauthorized; allowed != tt.reads {
					t.Errorf("GET %s: %d", target, a.status)
				}
				basic := slices.ContainsFunc(a.header.Values("WWW-Authenticate"), func(s string) bool { return strings.HasPrefix(s, "Basic ") })
				if basic == tt.reads {
					t.Errorf("GET %s asks a browser for a password: %v", target, basic)
				}
			}
			if a := r.get("/healthz"); a.status != http.StatusOK {
				t.Errorf("health: %d", a.status)
			}
			if tt.reads {
				a := r.send("GET", "/v1/events", "", "Authorization", tt.authorization)
				if stored := len(decode[eventList](t, a).Events) > 0; stored != tt.writes {
					t.Errorf("stored: %v", stored)
				}
			}
		})
	}
}
