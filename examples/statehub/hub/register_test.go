package hub_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/examples/statehub/hub"
)

func (r *rig) put(f fields) answer {
	r.t.Helper()
	return r.send("PUT", "/v1/sandboxes/"+f["sandbox_id"].(string), encode(r.t, f), "Content-Type", jsonType)
}

// TestRegistration follows one from the first PUT to what is left after DELETE.
func TestRegistration(t *testing.T) {
	r := newRig(t, hub.Options{})
	l := newLife(idOf(1), time.Now().Add(-time.Hour)).by("shop", "builder", "sandboxer01").up(time.Minute)
	second, third := registrationOf(l.made[1]), registrationOf(l.made[2])
	type outcome struct {
		SandboxID string `json:"sandbox_id"`
		Changed   bool
	}
	for i, tt := range []struct {
		put     fields
		status  int
		changed bool
		state   string
	}{
		{second, http.StatusCreated, true, "provisioning"},
		{second.with("note", "again"), http.StatusOK, true, "provisioning"},
		{third, http.StatusOK, true, "ready"},
		{second, http.StatusOK, false, "ready"}, // overtaken
	} {
		a := r.put(tt.put)
		if got := decode[outcome](t, a); a.status != tt.status || got != (outcome{idOf(1), tt.changed}) {
			t.Errorf("put %d: %d %s", i+1, a.status, a.body)
		}
		v := r.sandbox(idOf(1))
		if string(v.State) != tt.state || !v.Registered || v.Registration.Document["state"] != tt.state {
			t.Errorf("after put %d: %+v, want %s", i+1, v, tt.state)
		}
	}
	// no event has come: all that the registration counts are missing
	if v := r.sandbox(idOf(1)); v.Seq != 3 || v.Events != 0 || len(v.Gaps) != 1 || v.Gaps[0] != (gap{1, 3}) || v.Consumer.Project != "shop" || v.Host != "sandboxer01" {
		t.Errorf("registered only: %+v", v)
	}
	r.must(l.made...)
	if v := r.sandbox(idOf(1)); v.Events != 3 || len(v.Gaps) != 0 || !v.StateSince.Equal(l.made[2].Time) {
		t.Errorf("with its events: %+v", v)
	}

	for range 2 { // the second time changes nothing
		if a := r.send("DELETE", "/v1/sandboxes/"+idOf(1), ""); a.status != http.StatusNoContent || a.body != "" {
			t.Errorf("delete: %d %s", a.status, a.body)
		}
	}
	gone := r.sandbox(idOf(1))
	if gone.Registered || gone.Registration.DeregisteredAt.IsZero() || gone.Consumer.Project != "shop" {
		t.Errorf("deregistered: %+v, want to know whose it was", gone)
	}
	r.put(third) // one that was under way all the time
	if v := r.sandbox(idOf(1)); v.Registered || !v.Registration.DeregisteredAt.Equal(gone.Registration.DeregisteredAt) {
		t.Errorf("an old registration came again: %+v", v)
	}
	r.put(registrationOf(l.down(time.Minute, "recreate").made[3]))
	if v := r.sandbox(idOf(1)); !v.Registered || v.State != "destroying" || len(v.Gaps) != 1 || v.Gaps[0] != (gap{4, 4}) {
		t.Errorf("a newer registration: %+v, want registered", v)
	}
}

func TestRefusedRegistrations(t *testing.T) {
	r := newRig(t, hub.Options{})
	good := registrationOf(newLife(idOf(1), time.Now()).up(time.Minute).made[0])
	for _, tt := range []struct {
		name        string
		put         fields
		contentType string
		status      int
		says        string
	}{
		{"content type", good, "text/plain", 415, jsonType},
		{"another sandbox", good.with("sandbox_id", idOf(2)), jsonType, 400, "must be equal"},
		{"no sandbox", good.with("sandbox_id", nil), jsonType, 400, "sandbox_id"},
		{"no seq", good.with("seq", nil), jsonType, 400, "seq"},
		{"no state", good.with("state", nil), jsonType, 400, "state is required"},
		{"no updated_at", good.with("updated_at", nil), jsonType, 400, "updated_at is required"},
		{"a time that is none", good.with("created_at", "soon"), jsonType, 400, "not a registration"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			refused(t, r.send("PUT", "/v1/sandboxes/"+idOf(1), encode(t, tt.put), "Content-Type", tt.contentType), tt.status, tt.says)
		})
	}
	refused(t, r.send("DELETE", "/v1/sandboxes/"+idOf(1), ""), 404, "never registered")
	refused(t, r.get("/v1/sandboxes/"+idOf(1)), 404, "not known")
	r.must(newLife(idOf(1), time.Now()).up(time.Minute).made...)
	refused(t, r.send("DELETE", "/v1/sandboxes/"+idOf(1), ""), 404, "never registered")
}
