package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/hosttest"
	"github.com/sand-boxer/sandboxer/internal/repotest"
)

// validated runs the program and returns its report. Nothing may be left.
func validated(t *testing.T, host *hosttest.Host, args ...string) (code int, r report, said string) {
	t.Helper()
	var out, errOut bytes.Buffer
	args = append([]string{"-hosts", host.File, "-db", filepath.Join(t.TempDir(), "records.db")}, args...)
	code = run(t.Context(), args, &out, &errOut)
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v in %q; ended with %d: %s", err, &out, code, &errOut)
	}
	if r.Sandbox != "" {
		host.AssertNothing(r.Sandbox)
	}
	return code, r, errOut.String()
}

// TestDemoRepository: the e2e/ directory of a repository is followed to the
// end, and the report says when its environment was proved absent.
func TestDemoRepository(t *testing.T) {
	host := hosttest.Local(t)
	code, r, said := validated(t, host, "-repo", repotest.Demo(t), "-run", "4711")
	if code != exitPassed || r.Verdict != passed || r.Host != "here" {
		t.Errorf("ended with %d and %+v\n%s", code, r, said)
	}
	if len(r.Checks) != 2 || !r.Checks[0].Passed || !r.Checks[1].Passed {
		t.Errorf("checks: %+v", r.Checks)
	}
	if r.ProvedAbsent.IsZero() {
		t.Error("it is not said when the environment was proved absent")
	}
}

// TestRepositoryAtFault: each is a verdict on the repository, and explained.
func TestRepositoryAtFault(t *testing.T) {
	host := hosttest.Local(t)
	const suite = "version: 1\ncompose: compose.yaml\nchecks: [{name: web answers, service: web, port: 8080, path: /, expect: {status: 200, json: {state: fine}}}]\n"
	serves := func(text string) string {
		return fmt.Sprintf("services: {web: {build: .., command: [serve, \"8080\", %q]}}\n", text)
	}
	for _, tt := range []struct {
		name, suite, compose string
		code, says           string
	}{
		{"no e2e.yml", "", serves(""), "", "e2e.yml"},
		{"unknown key in e2e.yml", "version: 1\nretries: 3\n", serves(""), "", "retries"},
		{"no compose file", strings.Replace(suite, "compose.yaml", "none.yaml", 1), serves(""), "", "none.yaml"},
		{"refused by admission", suite, "services: {web: {build: .., privileged: true}}\n", "admission", "services.web.privileged"},
		{"never ready", suite, "services: {web: {build: .., command: [exit, \"3\", 0s]}}\n", "not_ready", "web"},
		{"a check fails", suite, serves(`{"state":"broken"}`), "", "state is broken, want fine"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := map[string]string{"e2e/compose.yaml": tt.compose}
			if tt.suite != "" {
				files["e2e/e2e.yml"] = tt.suite
			}
			code, r, _ := validated(t, host, "-repo", repotest.New(t, files), "-patience", "100ms")
			if code != exitFailed || r.Verdict != failed || r.Code != tt.code {
				t.Errorf("ended with %d, %s, %q: %s", code, r.Verdict, r.Code, r.Why)
			}
			told := r.Why
			for _, c := range r.Checks {
				told += c.Problem
			}
			if !strings.Contains(told, tt.says) {
				t.Errorf("said %q, want %q", told, tt.says)
			}
		})
	}
}

// TestVerdicts: what is the repository's fault is told from what is not.
func TestVerdicts(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want verdict
	}{
		{sandboxer.ErrAdmission, failed},
		{sandboxer.ErrProvision, failed},
		{sandboxer.ErrNotReady, failed},
		{sandboxer.ErrReadyTimeout, failed},
		{errSuite, failed},
		{errors.Join(sandboxer.ErrNotReady, sandboxer.ErrResidue), failed},
		{sandboxer.ErrNoRoute, unknown},
		{sandboxer.ErrUnavailable, unknown},
		{sandboxer.ErrHostKey, unknown},
		{sandboxer.ErrAuth, unknown},
		{sandboxer.ErrLimit, unknown},
		{sandboxer.ErrUnsupported, unknown},
		{sandboxer.ErrState, unknown},
		{sandboxer.ErrInvalid, unknown},
		{sandboxer.ErrResidue, unknown},
		{sandboxer.ErrConflict, unknown},
		{sandboxer.ErrNotFound, unknown},
		{context.Canceled, unknown},
	} {
		var r report
		if r.blame(fmt.Errorf("create: %w", tt.err)); r.Verdict != tt.want {
			t.Errorf("%v: %s, want %s", tt.err, r.Verdict, tt.want)
		}
	}
}

// TestHostAtFault: where there is no host, nothing is said of the repository.
func TestHostAtFault(t *testing.T) {
	host, server := hosttest.SSH(t)
	server.Stop()
	code, r, _ := validated(t, host, "-repo", repotest.Demo(t))
	if code != exitUnknown || r.Verdict != unknown || r.Code != "no_route" {
		t.Errorf("ended with %d and %+v", code, r)
	}
}

func TestHelpIsNoFailure(t *testing.T) {
	var out, errOut strings.Builder
	if code := run(t.Context(), []string{"--help"}, &out, &errOut); code != exitPassed || !strings.Contains(errOut.String(), "-repo") {
		t.Errorf("exit code %d, %q", code, errOut.String())
	}
}
