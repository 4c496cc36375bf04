package sandboxer_test

import (
	"encoding/json"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sand-boxer/sandboxer"
)

var update = flag.Bool("update", false, "write the golden files under testdata")

// golden compares text with a file, or writes the file under -update.
func golden(t *testing.T, file, text string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// Every file under testdata/bad is refused in exactly the words beside it.
func TestBadDocuments(t *testing.T) {
	kinds := map[string]func(string, []byte) error{
		"profiles":  func(file string, data []byte) error { _, err := sandboxer.ParseProfile(file, data); return err },
		"manifests": func(file string, data []byte) error { _, err := sandboxer.ParseManifest(file, data); return err },
	}
	for kind, parse := range kinds {
		files, _ := filepath.Glob(filepath.Join("testdata", "bad", kind, "*.yaml"))
		if len(files) < 5 {
			t.Errorf("only %d bad %s", len(files), kind)
		}
		for _, file := range files {
			t.Run(kind+"/"+filepath.Base(file), func(t *testing.T) {
				data, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				err = parse(filepath.Base(file), data)
				if !errors.Is(err, sandboxer.ErrInvalid) {
					t.Fatalf("got %v, want ErrInvalid", err)
				}
				golden(t, strings.TrimSuffix(file, ".yaml")+".txt", err.Error()+"\n")
				for line := range strings.Lines(err.Error()) {
					if !strings.HasPrefix(line, filepath.Base(file)+":") {
						t.Errorf("does not name the file: %s", line)
					}
				}
			})
		}
	}
}

// Every file under testdata/good is accepted, and what was understood,
// written down again, is understood the same.
func TestGoodDocuments(t *testing.T) {
	files, _ := filepath.Glob("testdata/good/profiles/*")
	if len(files) < 3 {
		t.Errorf("only %d good profiles", len(files))
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		p, err := sandboxer.ParseProfile(file, data)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		sameAgain(t, p)
	}
}

func sameAgain(t *testing.T, p sandboxer.Profile) {
	t.Helper()
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatalf("an accepted profile does not marshal: %v", err)
	}
	again, err := sandboxer.ParseProfile("again.json", text)
	if err != nil {
		t.Fatalf("an accepted profile is refused when written again:\n%s\n%v", text, err)
	}
	if diff := cmp.Diff(p, again, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("written and read again (-first +second):\n%s", diff)
	}
}

func TestWholeProfile(t *testing.T) {
	data, err := os.ReadFile("testdata/good/profiles/whole.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := sandboxer.ParseProfile("whole.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	want := sandboxer.Profile{
		ID: "profile.whole", Description: "everything at once", Extension: "ext.compose-ssh", Isolation: sandboxer.IsolationGVisor,
		Network:   sandboxer.Network{Egress: sandboxer.EgressAllowlist, Allow: []string{"example.org:443", "10.0.0.0/8:443"}, HostAccess: true, DNS: []string{"9.9.9.9"}},
		Workspace: sandboxer.Workspace{Mode: sandboxer.WorkspaceUpload, Exclude: []string{"*.log", "node_modules"}},
		Inputs: map[string]sandboxer.Input{
			"repo": {Description: "the working tree", Required: true},
			"ref":  {Default: "main", Public: true},
		},
		Scope: sandboxer.ScopeSession, TTL: sandboxer.Duration(90 * time.Minute), MaxTTL: sandboxer.Duration(8 * time.Hour),
		Bounds:    sandboxer.Bounds{Provision: sandboxer.Duration(10 * time.Minute), Ready: sandboxer.Duration(90 * time.Second), Teardown: sandboxer.Duration(2 * time.Minute)},
		Resources: sandboxer.Resources{CPUs: 1.5, Memory: 512 << 20, PIDs: 256, Disk: 2 << 30},
		Setup:     sandboxer.Setup{Metadata: map[string]string{"language": "go"}, SecretRefs: []string{"registry-token"}},
		Placement: sandboxer.Placement{Policy: sandboxer.PolicyLowestCost, Prefer: []string{"desk", "rack"}, Fallback: []string{"cloud"}},
		Expose:    []sandboxer.Expose{{Service: "api", Port: 8080, Name: "main"}},
		CostClass: "small", Labels: map[string]string{"team": "wise"},
		Config: json.RawMessage(`{"file":"e2e/compose.yaml","nested":{"day":"2026-01-01","depth":2,"none":null,"on":true},"profiles":["test"]}`),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("profile (-want +got):\n%s", diff)
	}
}

func TestJSONProfile(t *testing.T) {
	data, err := os.ReadFile("testdata/good/profiles/json.json")
	if err != nil {
		t.Fatal(err)
	}
	got, err := sandboxer.ParseProfile("json.json", data)
	if err != nil {
		t.Fatal(err)
	}
	if want := "tab-indented JSON \u2028 with <escapes> \"quoted\" and /slashes, \U0001f600 and \u007f"; got.Description != want {
		t.Errorf("description\n got %q\nwant %q", got.Description, want)
	}
	if want := `{"a":[1,2.5,"x",null,true],"big":9007199254740993}`; string(got.Config) != want {
		t.Errorf("config\n got %s\nwant %s", got.Config, want)
	}
}

func TestConfigOfTheExtension(t *testing.T) {
	type config struct {
		File   string             `json:"file"`
		Bound  sandboxer.Duration `json:"bound"`
		Nested struct {
			A int `json:"a"`
		} `json:"nested"`
		Several []string `json:"several"`
	}
	tests := map[string]struct {
		config string
		want   config
		err    string
	}{
		"absent leaves what was there": {"", config{File: "default"}, ""},
		"decoded": {`{"file":"x.yaml","bound":"90s","nested":{"a":2},"several":["b"]}`, config{File: "x.yaml", Bound: sandboxer.Duration(90 * time.Second), Nested: struct {
			A int `json:"a"`
		}{2}, Several: []string{"b"}}, ""},
		"unknown key":        {`{"fiel":"x"}`, config{}, `config.fiel: unknown key, did you mean "file"?`},
		"unknown key within": {`{"nested":{"b":2}}`, config{}, `config.nested.b: unknown key, did you mean "a"?`},
		"wrong type":         {`{"nested":{"a":"x"}}`, config{}, `config.nested.a: "x" is not a whole number`},
		"several":            {`{"file":1,"bound":"soon"}`, config{}, "config.file: is a number, want text: put it in quotes\nconfig.bound: \"soon\" is not a duration: write 90s, 30m or 1h30m"},
		"no mapping":         {`["x"]`, config{}, `config: is a list, want a mapping`},
	}
	for name, tt := range tests {
		p := sandboxer.Profile{Config: json.RawMessage(tt.config)}
		got := config{File: "default"}
		err := p.DecodeConfig(&got)
		if text(err) != tt.err {
			t.Errorf("%s:\n got %v\nwant %s", name, err, tt.err)
		}
		if err == nil && !cmp.Equal(got, tt.want) {
			t.Errorf("%s: got %+v, want %+v", name, got, tt.want)
		}
		if err != nil && !errors.Is(err, sandboxer.ErrInvalid) {
			t.Errorf("%s: %v does not match ErrInvalid", name, err)
		}
	}
}

// What YAML can say and JSON cannot is refused in the part that only the extension understands.
func TestConfigValues(t *testing.T) {
	tests := map[string]struct{ want, err string }{
		"07:30":         {`"07:30"`, ""},
		"2026-01-01":    {`"2026-01-01"`, ""},
		"on":            {`"on"`, ""},
		"true":          {`true`, ""},
		"0x10":          {`16`, ""},
		"1.50":          {`1.5`, ""},
		"~":             {`null`, ""},
		"!!str 5":       {`"5"`, ""},
		"[1, {a: b}]":   {`[1,{"a":"b"}]`, ""},
		".inf":          {"", `f.yaml:2: config.v: ".inf" is not a number`},
		"!!binary aGk=": {"", "f.yaml:2: config.v: the tag !!binary has no meaning in this document"},
		"!secret x":     {"", "f.yaml:2: config.v: the tag !secret has no meaning in this document"},
	}
	for value, tt := range tests {
		var v struct {
			Config json.RawMessage `json:"config"`
		}
		err := sandboxer.DecodeStrict("f.yaml", []byte("config:\n  v: "+value+"\n"), &v)
		if text(err) != tt.err {
			t.Errorf("%s: error %v, want %s", value, err, tt.err)
		}
		if want := `{"v":` + tt.want + `}`; err == nil && string(v.Config) != want {
			t.Errorf("%s reads %s, want %s", value, v.Config, want)
		}
	}
}

func TestSuggestionIsTheClosestKey(t *testing.T) {
	var v struct {
		Cat string `json:"cat"`
		Cut string `json:"cut"`
	}
	err := sandboxer.DecodeStrict("f.yaml", []byte("cuts: x"), &v)
	if want := `f.yaml:1: cuts: unknown key, did you mean "cut"?`; text(err) != want {
		t.Errorf("\n got %v\nwant %s", err, want)
	}
}

func TestLoadProfiles(t *testing.T) {
	file := func(id string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte("id: " + id + "\nisolation: container\nttl: 1h\nmax_ttl: 1h\ninputs: {repo: {}}\n")}
	}
	got, err := sandboxer.LoadProfiles(fstest.MapFS{"b.yaml": file("profile.b"), "a.yaml": file("profile.a"), "README.md": file("profile.c"), "deep/d.yaml": file("profile.d")})
	if err != nil || len(got) != 2 || got[0].ID != "profile.a" || got[1].ID != "profile.b" {
		t.Errorf("loaded %v, %v", got, err)
	}
	got, err = sandboxer.LoadProfiles(fstest.MapFS{
		"1.yaml": file("profile.same"), "2.yaml": file("profile.same"), "3.yaml": {Data: []byte("id: profile.x\ncolour: red\n")}, "4.yaml": file("profile.good"), "5.yaml": {},
	})
	want := `2.yaml: id: profile.same is already defined in 1.yaml
3.yaml:2: colour: unknown key: known here are bounds, config, cost_class, description, expose, extension, id, inputs, isolation, labels, max_ttl, network, placement, require, resources, scope, setup, ttl, workspace
5.yaml: is empty`
	if text(err) != want {
		t.Errorf("\n got %v\nwant %s", err, want)
	}
	if len(got) != 2 {
		t.Errorf("the good ones are %v", got)
	}
	if got, err := sandboxer.LoadProfiles(fstest.MapFS{}); err != nil || len(got) > 0 {
		t.Errorf("an empty directory: %v, %v", got, err)
	}
}

// Profiles built by a program are judged like those in files.
func TestProfilesBuiltInGo(t *testing.T) {
	tests := map[string]struct {
		change func(*sandboxer.Profile)
		want   string
	}{
		"good":               {func(*sandboxer.Profile) {}, ""},
		"config is not JSON": {func(p *sandboxer.Profile) { p.Config = json.RawMessage(`{"a":`) }, "config: is not valid JSON"},
		"no number":          {func(p *sandboxer.Profile) { p.Resources.CPUs = math.NaN() }, "resources: has an amount that is negative or no number"},
		"no end":             {func(p *sandboxer.Profile) { p.Resources.CPUs = math.Inf(1) }, "resources: has an amount that is negative or no number"},
		"negative":           {func(p *sandboxer.Profile) { p.Resources.Memory = -1 }, "resources: has an amount that is negative or no number"},
		"no life":            {func(p *sandboxer.Profile) { p.TTL = 0 }, "ttl: is required and positive, such as 30m"},
		"no workspace": {func(p *sandboxer.Profile) { p.Inputs = nil },
			`inputs: must declare "repo", which names the working tree to upload`},
		"bounds in a fixed order": {func(p *sandboxer.Profile) {
			p.Bounds = sandboxer.Bounds{Provision: -1, Ready: -1, Teardown: -1}
		}, "bounds.provision: is negative; bounds.ready: is negative; bounds.teardown: is negative"},
	}
	for name, tt := range tests {
		for range 5 { // in the same words each time
			p := basicProfile()
			tt.change(&p)
			err := p.Validate()
			if text(err) != tt.want {
				t.Errorf("%s:\n got %v\nwant %s", name, err, tt.want)
			}
			_, err = sandboxer.New(sandboxer.Config{Profiles: []sandboxer.Profile{p}, Extensions: []sandboxer.Extension{fakeExtension("ext.fake", "one")}, Store: sandboxer.NewMemoryStore()})
			if (err == nil) != (tt.want == "") {
				t.Errorf("%s: New returned %v", name, err)
			}
		}
	}
}
