package profiles_test

import (
	"errors"
	"io/fs"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/profiles"
)

// What the reference profile promises to those who name it.
func TestReferenceProfile(t *testing.T) {
	all, err := profiles.Load()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 || all[0].ID != "profile.compose-e2e" {
		t.Fatalf("got %+v", all)
	}
	p := all[0]
	if p.Extension != "ext.compose-ssh" || p.Isolation != sandboxer.IsolationContainer || p.Network.Egress != sandboxer.EgressDeny || p.Network.HostAccess {
		t.Errorf("not isolated as promised: %+v", p)
	}
	if p.TTL.Std() != time.Hour || p.MaxTTL.Std() != 8*time.Hour {
		t.Errorf("lives for %v, at most %v", p.TTL, p.MaxTTL)
	}
	if !p.Inputs["repo"].Required || p.Inputs["compose_file"].Required || len(p.Inputs) != 3 {
		t.Errorf("takes %+v", p.Inputs)
	}
	if p.Resources.CPUs == 0 || p.Resources.Memory == 0 || p.Resources.PIDs == 0 {
		t.Errorf("has no caps: %+v", p.Resources)
	}
}

func TestLoadLaysOwnProfilesOverTheReference(t *testing.T) {
	reference, err := fs.ReadFile(profiles.FS(), "profile.compose-e2e.yaml")
	if err != nil {
		t.Fatal(err)
	}
	const short = "isolation: container\nttl: 5m\nmax_ttl: 5m\ninputs: {repo: {}}\n"
	first := fstest.MapFS{
		"mine.yaml":  {Data: []byte("id: profile.compose-e2e\n" + short)},
		"other.yaml": {Data: []byte("id: profile.a\n" + short)},
		"notes.txt":  {Data: []byte("not a profile")},
	}
	all, err := profiles.Load(first)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || all[0].ID != "profile.a" || all[1].ID != "profile.compose-e2e" {
		t.Fatalf("got %+v", all)
	}
	if all[1].TTL.Std() != 5*time.Minute || all[1].Extension != "" {
		t.Errorf("mixed with the reference: %+v", all[1])
	}

	back := fstest.MapFS{"reference.yaml": {Data: reference}}
	if all, err = profiles.Load(first, back); err != nil || all[1].TTL.Std() != time.Hour {
		t.Errorf("the last does not win: %+v, %v", all, err)
	}
}

func TestLoadNamesEveryProblem(t *testing.T) {
	all, err := profiles.Load(fstest.MapFS{"mine.yaml": {Data: []byte("id: profile.mine\ntimeout: 3m\n")}})
	want := "profiles: mine.yaml:2: timeout: unknown key: known here are bounds, config, cost_class, description, expose, extension, id, inputs, isolation, labels, max_ttl, network, placement, require, resources, scope, setup, ttl, workspace"
	if all != nil || err == nil || err.Error() != want || !errors.Is(err, sandboxer.ErrInvalid) {
		t.Errorf("got  %v, %v\nwant %s", all, err, want)
	}
}
