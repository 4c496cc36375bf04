package admission_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/admission"
)

// TestFindingsAreFound: every violation at once, each with the file and line
// that gives the attribute its value.
func TestFindingsAreFound(t *testing.T) {
	tree := memoryTree{
		"e2e/compose.yaml": `x-base: &base
  image: alpine
  privileged: true
include:
  - ../infra/db.yml
services:
  api:
    <<: *base
    pid: host
    volumes:
      - data:/data
      - /etc:/host
    environment:
      - A=1
    extra_hosts:
      - "h:host-gateway"
  web:
    extends:
      file: ../common/base.yml
      service: web
  worker:
    extends: api
    network_mode: host
    scale: 99
  my.svc:
    image: "UPPER case"
volumes:
  data:
    external: true
`,
		"infra/db.yml": `services:
  db:
    image: postgres:16
    devices:
      - /dev/kvm
`,
		"common/base.yml": `services:
  web:
    image: nginx

    cap_add: [SYS_ADMIN]
    extends: {service: deep}
  deep:
    ipc: host
`,
	}
	_, a, err := admission.Check(t.Context(), request(tree))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range a.Violations {
		got = append(got, fmt.Sprintf("%s:%d %s %s", v.File, v.Line, v.Path, v.Rule))
		if v.Service != "" && !strings.HasPrefix(v.Path, "services."+v.Service) {
			t.Errorf("service %s of %s", v.Service, v.Path)
		}
	}
	want := []string{
		"common/base.yml:5 services.web.cap_add[0] CAP-ADD",
		"common/base.yml:8 services.web.ipc IPC-MODE",
		"e2e/compose.yaml:3 services.api.privileged PRIVILEGED",
		"e2e/compose.yaml:3 services.worker.privileged PRIVILEGED",
		"e2e/compose.yaml:9 services.api.pid PID-MODE",
		"e2e/compose.yaml:9 services.worker.pid PID-MODE",
		"e2e/compose.yaml:12 services.api.volumes[1] BIND-OUTSIDE",
		"e2e/compose.yaml:12 services.worker.volumes[1] BIND-OUTSIDE",
		"e2e/compose.yaml:16 services.api.extra_hosts.h EXTRA-HOSTS",
		"e2e/compose.yaml:16 services.worker.extra_hosts.h EXTRA-HOSTS",
		"e2e/compose.yaml:23 services.worker.network_mode NETWORK-MODE",
		"e2e/compose.yaml:24 services.worker.scale SCALE",
		"e2e/compose.yaml:26 services.my.svc.image IMAGE",
		"e2e/compose.yaml:29 volumes.data.external VOL-EXTERNAL",
		"infra/db.yml:5 services.db.devices[0] DEVICES",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestManyFindings: of very many, those that come first are told, and how many there are besides.
func TestManyFindings(t *testing.T) {
	_, a, err := admission.Check(t.Context(), request(memoryTree{
		"compose.yaml": "services: {a: {image: x, sysctls: {" + numbered(700, "v%03d: 1, ") + "}, environment: {" + numbered(800, "V%03d: , ") + "}}}",
	}))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(a.Violations); n != 501 || a.Violations[499].Path != "services.a.sysctls.v499" || a.Violations[500].Message != "and 200 more, which are not listed" {
		t.Errorf("%d violations, the last: %+v", n, a.Violations[n-1])
	}
	if n := len(a.Rewrites); n != 501 || a.Rewrites[499].Path != "services.a.environment.V499" || a.Rewrites[500].Path != "compose.yaml" || a.Rewrites[500].Message != "and 300 more, which are not listed" {
		t.Errorf("%d rewrites, the last: %+v", n, a.Rewrites[n-1])
	}
}

// TestManyFindingsOfAnUnreadableFile: there is more to tell than there is a file to tell it of.
func TestManyFindingsOfAnUnreadableFile(t *testing.T) {
	_, a, err := admission.Check(t.Context(), request(memoryTree{"compose.yaml": "- a", ".env": numbered(600, "COMPOSE_%d=x\n")}))
	if err != nil || len(a.Violations) != 1 || len(a.Rewrites) != 501 {
		t.Errorf("%v, %d rewrites, %v", a.Violations, len(a.Rewrites), err)
	}
}

// TestBrokenFiles: what cannot be loaded says where and why, without a path of this machine.
func TestBrokenFiles(t *testing.T) {
	tests := map[string]struct {
		tree memoryTree
		want []string // FILE:LINE RULE, and a part of the message
	}{
		"syntax":             {memoryTree{"compose.yaml": "services:\n  a:\n    image: x\n   b: 1\n"}, []string{"compose.yaml:4 YAML", "did not find expected"}},
		"tab":                {memoryTree{"compose.yaml": "services:\n\ta: 1\n"}, []string{"compose.yaml:2 YAML", "token"}},
		"empty":              {memoryTree{"compose.yaml": ""}, []string{"compose.yaml:1 LOAD", "no mapping"}},
		"a list":             {memoryTree{"compose.yaml": "- a\n"}, []string{"compose.yaml:1 LOAD", "no mapping"}},
		"two documents":      {memoryTree{"compose.yaml": "services: {}\n---\nservices: {}\n"}, []string{"compose.yaml:1 YAML", "more than one document"}},
		"unknown attribute":  {memoryTree{"compose.yaml": "services:\n  a:\n    image: x\n    prots: [80]\n"}, []string{`compose.yaml:4 LOAD "services.a.prots" is no attribute`}},
		"wrong type":         {memoryTree{"compose.yaml": "services:\n  a:\n    image: x\n    ports: 80\n"}, []string{"compose.yaml:4 LOAD", "must be a list"}},
		"undefined volume":   {memoryTree{"compose.yaml": "services:\n  a:\n    image: x\n    volumes: ['v1:/v']\n"}, []string{"compose.yaml:2 LOAD", "undefined volume v1"}},
		"undefined service":  {memoryTree{"compose.yaml": "services:\n\n  a:\n    image: x\n    depends_on: [b]\n"}, []string{"compose.yaml:3 LOAD", `"b"`}},
		"dependency ring":    {memoryTree{"compose.yaml": "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [a]}\n"}, []string{"compose.yaml:1 LOAD", "cycle"}},
		"no services":        {memoryTree{"compose.yaml": "services: {a: {image: x, profiles: [p]}}\n"}, []string{"compose.yaml:1 LOAD", "no service that runs"}},
		"required variable":  {memoryTree{"compose.yaml": "services:\n  a:\n    image: ${TAG:?which one}\n"}, []string{"compose.yaml:3 LOAD", "requires the variable TAG: which one"}},
		"two of them":        {memoryTree{"compose.yaml": "services:\n  a:\n    image: ${TAG?}\n    user: ${USER?}\n"}, []string{"compose.yaml:3 LOAD", "compose.yaml:4 LOAD"}},
		"bad variable":       {memoryTree{"compose.yaml": "services:\n  a:\n    image: x\n    command: ['${1}']\n"}, []string{"compose.yaml:4 LOAD", "write $$"}},
		"in an include":      {memoryTree{"compose.yaml": "include: [sub/a.yml]\n", "sub/a.yml": "services:\n  a:\n    image: [x]\n"}, []string{"sub/a.yml:3 LOAD", "string"}},
		"syntax of include":  {memoryTree{"compose.yaml": "include: [sub/a.yml]\n", "sub/a.yml": "services:\n  a: b: c\n"}, []string{"sub/a.yml:2 YAML"}},
		"extends nobody":     {memoryTree{"compose.yaml": "services:\n  a:\n    extends: {file: b.yml, service: c}\n", "b.yml": "services: {a: {image: x}}\n"}, []string{"compose.yaml:2 LOAD", `"c" not found`}},
		"env file":           {memoryTree{"compose.yaml": "services: {a: {image: x, env_file: a.env}}\n", "a.env": "A=1\n\nB C=2\n"}, []string{"a.env:3 ENVFILE"}},
		"raw env file":       {memoryTree{"compose.yaml": "services: {a: {image: x, env_file: [{path: a.env, format: raw}]}}\n", "a.env": "A=1\n=2\n"}, []string{"a.env:2 ENVFILE"}},
		"binary env file":    {memoryTree{"compose.yaml": "services: {a: {image: x, env_file: a.env}}\n", "a.env": "A=\xff\n"}, []string{"a.env:1 ENVFILE", "UTF-8"}},
		"missing env file":   {memoryTree{"compose.yaml": "services:\n  a:\n    image: x\n    env_file:\n      - gone.env\n"}, []string{"compose.yaml:5 ENVFILE", "does not exist"}},
		"missing bind":       {memoryTree{"compose.yaml": "services:\n  a:\n    image: x\n    volumes:\n      - {type: bind, source: ./gone, target: /g, bind: {create_host_path: false}}\n"}, []string{"compose.yaml:5 BIND-MISSING"}},
		"image by id":        {memoryTree{"compose.yaml": "services:\n  a:\n    image: sha256:" + strings.Repeat("a", 64) + "\n"}, []string{"compose.yaml:3 IMAGE"}},
		"image by bare id":   {memoryTree{"compose.yaml": "services:\n  a:\n    image: " + strings.Repeat("a", 64) + "\n"}, []string{"compose.yaml:3 IMAGE"}},
		"host binding":       {memoryTree{"compose.yaml": "services: {a: {image: x}}\nnetworks:\n  default:\n    driver_opts: {com.docker.network.bridge.host_binding_ipv4: 0.0.0.0}\n"}, []string{"compose.yaml:4 NET-DRIVER-OPTS"}},
		"legacy external":    {memoryTree{"compose.yaml": "services: {a: {image: x, networks: [n]}}\nnetworks:\n  n:\n    external: {name: victim}\n"}, []string{"compose.yaml:4 NET-EXTERNAL"}},
		"privileged by yes":  {memoryTree{"compose.yaml": "services:\n  a: {image: x, privileged: 'yes'}\n"}, []string{"compose.yaml:2 PRIVILEGED"}},
		"git":                {memoryTree{"compose.yaml": "services:\n  a:\n    image: x\n    volumes: ['./sub/.GIT/hooks:/h']\n"}, []string{"compose.yaml:4 BIND-GIT"}},
		"git as context":     {memoryTree{"compose.yaml": "services:\n  a:\n    build: ./.git\n"}, []string{"compose.yaml:3 BUILD-CONTEXT"}},
		"missing context":    {memoryTree{"compose.yaml": "services:\n  a:\n    build: ./gone\n"}, []string{"compose.yaml:3 BUILD-CONTEXT", "does not exist"}},
		"link in context":    {memoryTree{"compose.yaml": "services:\n  a:\n    build: ./l/x\n", "l": "-> y", "y/x/Dockerfile": ""}, []string{"compose.yaml:3 BUILD-SYMLINK"}},
		"missing Dockerfile": {memoryTree{"compose.yaml": "services:\n  a:\n    build: .\n"}, []string{"compose.yaml:3 BUILD-DOCKERFILE", "Dockerfile, which does not exist"}},
		"file as context":    {memoryTree{"compose.yaml": "services:\n  a:\n    build: ./f\n", "f": ""}, []string{"compose.yaml:3 BUILD-CONTEXT", "is a file"}},
		"missing secret":     {memoryTree{"compose.yaml": "services: {a: {image: x, secrets: [s]}}\nsecrets:\n  s: {file: ./d}\n"}, []string{"compose.yaml:3 SECRET-FILE", "does not exist"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			plan, a, err := admission.Check(t.Context(), request(test.tree))
			if err != nil || plan != nil {
				t.Fatalf("accepted, or %v", err)
			}
			var seen strings.Builder
			for _, v := range a.Violations {
				fmt.Fprintf(&seen, "%s:%d %s %q %s | %s\n", v.File, v.Line, v.Rule, v.Path, v.Message, v.Hint)
			}
			for _, want := range test.want {
				if !strings.Contains(seen.String(), want) {
					t.Errorf("no %q in\n%s", want, seen.String())
				}
			}
			if strings.Contains(seen.String(), "/tmp") || strings.Contains(seen.String(), "sandboxer-") {
				t.Errorf("names a path of this machine:\n%s", seen.String())
			}
			if slices.ContainsFunc(a.Violations, func(v sandboxer.Violation) bool { return strings.Contains(v.Message, "\n") }) {
				t.Errorf("a message of several lines:\n%s", seen.String())
			}
		})
	}
}
