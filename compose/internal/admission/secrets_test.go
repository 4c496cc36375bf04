package admission_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/admission"
)

const secretDir = "/dev/shm/sandboxer-1/x"

// TestSecretsOfTheProfile: a file gets them by the key, the name or the
// variable it gives, wherever it wants them from, and runs unedited.
func TestSecretsOfTheProfile(t *testing.T) {
	mounted := func(file, target string) map[string]any {
		return map[string]any{"type": "bind", "source": secretDir + "/" + file, "target": target, "read_only": true, "bind": map[string]any{"create_host_path": false}}
	}
	everybody := func(name, secret string) admission.SecretFile {
		return admission.SecretFile{Name: name, Secret: secret, Mode: 0o444}
	}
	tests := map[string]struct {
		services, secrets string
		volumes           []any // of service a
		files             []admission.SecretFile
	}{
		"by key, from a file that is not there": {
			"a: {image: x, secrets: [db]}", "db: {file: ./missing.txt}",
			[]any{mounted("0001-db", "/run/secrets/db")}, []admission.SecretFile{everybody("0001-db", "db")},
		},
		"by key, from a file outside": {
			"a: {image: x, secrets: [db]}", "db: {file: ../../etc/shadow}",
			[]any{mounted("0001-db", "/run/secrets/db")}, []admission.SecretFile{everybody("0001-db", "db")},
		},
		"by key, from a file of the repository": {
			"a: {image: x, secrets: [db]}", "db: {file: ./there.txt}",
			[]any{mounted("0001-db", "/run/secrets/db")}, []admission.SecretFile{everybody("0001-db", "db")},
		},
		"by variable": {
			"a: {image: x, secrets: [{source: pw, target: password}]}", "pw: {environment: DB_PASSWORD}",
			[]any{mounted("0001-DB_PASSWORD", "/run/secrets/password")}, []admission.SecretFile{everybody("0001-DB_PASSWORD", "DB_PASSWORD")},
		},
		"external, by key": {
			"a: {image: x, secrets: [{source: db, target: /etc/db}]}", "db: {external: true}",
			[]any{mounted("0001-db", "/etc/db")}, []admission.SecretFile{everybody("0001-db", "db")},
		},
		"external, by name": {
			"a: {image: x, secrets: [pw]}", "pw: {external: true, name: db}",
			[]any{mounted("0001-db", "/run/secrets/pw")}, []admission.SecretFile{everybody("0001-db", "db")},
		},
		"external, in the old way": {
			"a: {image: x, secrets: [pw]}", "pw: {external: {name: db}}",
			[]any{mounted("0001-db", "/run/secrets/pw")}, []admission.SecretFile{everybody("0001-db", "db")},
		},
		"of a driver": {
			"a: {image: x, secrets: [db]}", "db: {file: x, driver: vault, driver_opts: {a: b}, template_driver: golang}",
			[]any{mounted("0001-db", "/run/secrets/db")}, []admission.SecretFile{everybody("0001-db", "db")},
		},
		"one file for two services": {
			"a: {image: x, secrets: [db]}\n  b: {image: x, secrets: [db]}", "db: {external: true}",
			[]any{mounted("0001-db", "/run/secrets/db")}, []admission.SecretFile{everybody("0001-db", "db")},
		},
		"for a user that is a number": {
			"a: {image: x, user: '1000:50', secrets: [db]}\n  b: {image: x, user: node, secrets: [db]}", "db: {external: true}",
			[]any{mounted("0001-db", "/run/secrets/db")}, []admission.SecretFile{{Name: "0001-db", Secret: "db", UID: 1000, GID: 50, Mode: 0o400}, everybody("0002-db", "db")},
		},
		"for root, who may give that up": {
			"a: {image: x, user: '0', secrets: [db]}", "db: {external: true}",
			[]any{mounted("0001-db", "/run/secrets/db")}, []admission.SecretFile{everybody("0001-db", "db")},
		},
		"with an owner and a mode, where compose heeds them": {
			"a: {image: x, user: '7', secrets: [{source: db, uid: '103', gid: '104', mode: 0640}]}", "db: {environment: DB_PASSWORD}",
			[]any{mounted("0001-db", "/run/secrets/db")}, []admission.SecretFile{{Name: "0001-db", Secret: "db", UID: 103, GID: 104, Mode: 0o440}},
		},
		"with an owner and a mode, where compose does not": {
			"a: {image: x, secrets: [{source: db, uid: '103', mode: 0400}]}", "db: {file: db.txt}",
			[]any{mounted("0001-db", "/run/secrets/db")}, []admission.SecretFile{everybody("0001-db", "db")},
		},
		"below a directory that is bound": {
			"a: {image: x, volumes: ['.:/run/secrets'], secrets: [db]}", "db: {external: true}",
			[]any{map[string]any{"type": "bind", "source": workdir, "target": "/run/secrets", "bind": map[string]any{"create_host_path": false}}, mounted("0001-db", "/run/secrets/db")},
			[]admission.SecretFile{everybody("0001-db", "db")},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			req := request(memoryTree{"compose.yaml": "services:\n  " + tt.services + "\nsecrets:\n  " + tt.secrets + "\n", "there.txt": "of the repository"})
			req.Policy.Secrets = []string{"db", "DB_PASSWORD"}
			plan, _, file := accept(t, req)
			if diff := cmp.Diff(tt.files, plan.SecretFiles); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if len(plan.Pins) > 0 {
				t.Errorf("pinned: %+v", plan.Pins)
			}
			if diff := cmp.Diff(any(tt.volumes), at(file, "services/a/volumes")); diff != "" {
				t.Errorf("volumes (-want +got):\n%s", diff)
			}
			if got := at(file, "secrets"); got != nil {
				t.Errorf("the file still has secrets: %v", got)
			}
		})
	}
}

// TestSecretsThatTheProfileDoesNotProvide stay what they were.
func TestSecretsThatTheProfileDoesNotProvide(t *testing.T) {
	req := request(memoryTree{"compose.yaml": "services: {a: {image: x, secrets: [e, o, f]}}\nsecrets:\n  e: {external: true}\n  o: {environment: OTHER}\n  f: {file: ../f}\n"})
	req.Policy.Secrets = []string{"db"}
	_, verdict, err := admission.Check(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	var rules []string
	for _, v := range verdict.Violations {
		rules = append(rules, v.Rule)
	}
	if got := strings.Join(rules, " "); got != "SECRET-EXTERNAL SECRET-ENV SECRET-FILE" {
		t.Errorf("refused by %s", got)
	}
}

// TestPlanTellsOfSecrets: which the file gets, and which nobody asks for.
func TestPlanTellsOfSecrets(t *testing.T) {
	req := request(memoryTree{"compose.yaml": "services: {a: {image: x, secrets: [pw]}}\nsecrets: {pw: {environment: db}}\n"})
	req.Policy.Secrets = []string{"db", "spare"}
	_, verdict, _ := accept(t, req)
	var told []string
	for _, r := range verdict.Rewrites {
		if r.Rule == "SECRET-REF" {
			told = append(told, r.Path+" "+r.Message)
		}
	}
	want := []string{
		"secrets.pw is the profile's secret db, whatever the file says of its source",
		"setup.secret_refs names spare, which no service asks for: it is not brought to the host",
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

// TestBuildsGetNoSecrets unless the profile says so: a build may use the
// network, whatever the sandbox may.
func TestBuildsGetNoSecrets(t *testing.T) {
	req := request(memoryTree{"compose.yaml": "services: {a: {build: {context: ., secrets: [db]}}}\nsecrets: {db: {environment: DB}}\n", "Dockerfile": "FROM scratch"})
	req.Policy.Secrets = []string{"db"}
	_, verdict, err := admission.Check(t.Context(), req)
	if err != nil || verdict.Verdict != sandboxer.Deny || verdict.Violations[0].Rule != "BUILD-SECRET-REF" {
		t.Fatalf("%v %+v, want BUILD-SECRET-REF", err, verdict)
	}
	req.Policy.Allow = []string{"BUILD-SECRET-REF"}
	plan, _, file := accept(t, req)
	if diff := cmp.Diff([]admission.SecretFile{{Name: "0001-db", Secret: "db", Mode: 0o400}}, plan.SecretFiles); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if got := at(file, "secrets/db/file"); got != secretDir+"/0001-db" {
		t.Errorf("the build reads %v", got)
	}
}

// TestSecretDirectory must be one that no container can change.
func TestSecretDirectory(t *testing.T) {
	req := request(memoryTree{"compose.yaml": "services: {a: {image: x, secrets: [db]}}\nsecrets: {db: {external: true}}\n"})
	req.Policy.Secrets = []string{"db"}
	plan, _, _ := accept(t, req)
	for _, dir := range []string{"", "relative", "/", workdir, workdir + "/secrets", "/a/../b"} {
		place := placement(plan)
		place.SecretDir = dir
		if _, err := plan.Render(place); err == nil || !strings.Contains(err.Error(), "secret directory") {
			t.Errorf("%q: %v", dir, err)
		}
	}
}
