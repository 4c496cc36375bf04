package server_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/api"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/server"
	"github.com/sand-boxer/sandboxer/extensiontest"
)

// Whoever is told that no host takes the sandbox is told to come back only
// where that can help.
func TestRoutesThatCannotBe(t *testing.T) {
	for _, r := range noRoutes() {
		t.Run(r.name, func(t *testing.T) {
			w := newWorld(t, sandboxer.Host{Name: "one", Address: "fake://one", Slots: 1})
			w.isolation = r.isolation
			w.fault = extensiontest.FailAt("probe", "", r.probe)
			running := w.start(t, server.Config{})
			if r.full {
				running.create()
			}
			a := running.send("POST", "/v1/sandboxes", strings.Replace(body, "{", `{"host":"`+r.host+`",`, 1))
			if p := a.problem(t, r.status, r.code); p.Class != r.class || p.Route == nil {
				t.Errorf("problem %+v, want class %s", p, r.class)
			}
			if got := a.header.Get("Retry-After") != ""; got != r.retry {
				t.Errorf("Retry-After is there: %v, want %v", got, r.retry)
			}
		})
	}
}

type noRoute struct {
	name, host string
	isolation  sandboxer.Isolation // that the profile asks for
	probe      error
	full       bool
	status     int
	code       string
	class      api.Class
	retry      bool
}

func noRoutes() []noRoute {
	return []noRoute{
		{name: "away", probe: sandboxer.ErrUnavailable, status: 503, code: "no_route", class: api.ClassNoHost, retry: true},
		{name: "full", full: true, status: 503, code: "limit", class: api.ClassNoHost, retry: true},
		{name: "isolation", isolation: "vm", status: 503, code: "unsupported", class: api.ClassNoHost},
		{name: "unknown key", probe: sandboxer.ErrHostKey, status: 503, code: "host_key", class: api.ClassNoHost},
		{name: "refused", probe: sandboxer.ErrAuth, status: 503, code: "auth", class: api.ClassNoHost},
		{name: "unknown host", host: "none", status: 404, code: "no_route", class: api.ClassNotFound},
	}
}

// The table of docs/sandboxd.md is what is answered: no line less, no line more.
func TestTableOfProblems(t *testing.T) {
	answered := map[string]bool{}
	add := func(status int, code string, class api.Class) {
		answered[fmt.Sprintf("%d %s %s (%d)", status, code, class, class.Exit())] = true
	}
	errs := append(server.OwnErrors(), errors.New("a defect"), context.Canceled, context.DeadlineExceeded,
		sandboxer.ErrNotFound, sandboxer.ErrExists, sandboxer.ErrInvalid, sandboxer.ErrAdmission, sandboxer.ErrUnsupported, sandboxer.ErrState,
		sandboxer.ErrConflict, sandboxer.ErrLimit, &sandboxer.RouteError{}, sandboxer.ErrUnavailable, sandboxer.ErrHostKey, sandboxer.ErrAuth,
		sandboxer.ErrProvision, sandboxer.ErrReadyTimeout, sandboxer.ErrNotReady, sandboxer.ErrResidue)
	codes := map[string]bool{}
	for _, err := range errs {
		p := server.ProblemOf(err)
		codes[p.Code] = true
		add(p.Status, p.Code, p.Class)
	}
	for _, m := range regexp.MustCompile(`\{(?:Err|context\.)[A-Za-z]+, "([a-z_]+)"\}`).FindAllStringSubmatch(source(t, "../../../errors.go"), -1) {
		if !codes[m[1]] {
			t.Errorf("this test does not try an error of code %s", m[1])
		}
	}
	for _, r := range noRoutes() {
		add(r.status, r.code, r.class)
	}
	refusal := regexp.MustCompile(`refuse\(http\.Status(\w+), "(\w+)", api\.Class(\w+),`)
	statuses := map[string]int{"BadRequest": 400, "Unauthorized": 401, "Forbidden": 403, "NotFound": 404, "MethodNotAllowed": 405, "RequestTimeout": 408,
		"RequestEntityTooLarge": 413, "UnsupportedMediaType": 415, "PreconditionRequired": 428, "ServiceUnavailable": 503}
	classes := map[string]api.Class{"Failed": api.ClassFailed, "Usage": api.ClassUsage, "NotFound": api.ClassNotFound, "Refused": api.ClassRefused, "NoHost": api.ClassNoHost, "Conflict": api.ClassConflict}
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		for _, m := range refusal.FindAllStringSubmatch(source(t, file), -1) {
			if statuses[m[1]] == 0 || classes[m[3]] == "" {
				t.Errorf("%s: this test does not know %s or %s", file, m[1], m[3])
			}
			add(statuses[m[1]], m[2], classes[m[3]])
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(answered)), documented(t)); diff != "" {
		t.Errorf("-answered +documented:\n%s", diff)
	}
}

func source(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// documented are the lines of the table: several statuses go with as many
// codes, one status with every code of its line.
func documented(t *testing.T) []string {
	t.Helper()
	_, table, ok := strings.Cut(source(t, "../../../docs/sandboxd.md"), "| Status | `code` | `class` | When |\n|---|---|---|---|\n")
	if !ok {
		t.Fatal("docs/sandboxd.md has no table of problems")
	}
	all := map[string]bool{}
	for line := range strings.Lines(table) {
		cells := strings.Split(line, " | ")
		if len(cells) < 4 {
			break
		}
		statuses, codes := strings.Split(strings.TrimPrefix(cells[0], "| "), ", "), strings.Split(cells[1], ", ")
		for i, code := range codes {
			status := statuses[0]
			if len(statuses) > 1 {
				status = statuses[i]
			}
			all[status+" "+code+" "+cells[2]] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}
