package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/hosttest"
	"github.com/sand-boxer/sandboxer/internal/repotest"
	"github.com/sand-boxer/sandboxer/sqlstore"
)

// TestShell: validate.sh comes to the verdicts of the program with the command
// line alone.
func TestShell(t *testing.T) {
	host := hosttest.Local(t)
	command := hosttest.Program(t, "examples/sandbox")
	serves := repotest.New(t, map[string]string{"compose.yaml": "services: {web: {build: ., command: [serve, \"8080\", hello]}}\n"})
	refused := repotest.New(t, map[string]string{"compose.yaml": "services: {web: {build: ., privileged: true}}\n"})
	missing := filepath.Join(t.TempDir(), "none")
	for _, tt := range []struct {
		name string
		args []string
		code int
		says string // a regular expression for the whole of standard output
	}{
		{"passed", []string{serves, "web:8080/env", "web:8080/"},
			exitPassed, `passed  web:8080/env\npassed  web:8080/\nabsent  sandbox [a-z0-9]{20}, proved at \S+Z\n`},
		{"a check fails", []string{serves, "web:8080/file?path=/none", "web:9/", "web:8080/"},
			exitFailed, `failed  web:8080/file\?path=/none: .*404.*\nfailed  web:9/: .*refused.*\npassed  web:8080/\nabsent  .*\n`},
		{"refused by admission", []string{refused, "web:8080/"}, exitFailed, ``},
		{"not a working tree", []string{missing, "web:8080/"}, exitUnknown, ``},
		{"no check", []string{missing}, exitUnknown, ``},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run := newShell(t, command, host, "PATIENCE=1", tt.args...)
			err := run.Run()
			run.verify(err, tt.code, tt.says)
		})
	}
	t.Run("interrupted", func(t *testing.T) {
		run := newShell(t, command, host, "PATIENCE=60", serves, "web:9/")
		if err := run.Start(); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(2 * time.Minute)
		for ready := false; !ready && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			for _, box := range run.boxes() {
				ready = box.State == sandboxer.StateReady
			}
		}
		if err := run.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		run.verify(run.Wait(), exitUnknown, `absent  .*\n`)
	})
}

// A shell is one run of validate.sh with records of its own.
type shell struct {
	*exec.Cmd
	t           *testing.T
	host        *hosttest.Host
	db          string
	out, errOut bytes.Buffer
}

func newShell(t *testing.T, command string, host *hosttest.Host, patience string, args ...string) *shell {
	s := &shell{t: t, host: host, db: filepath.Join(t.TempDir(), "records.db")}
	s.Cmd = exec.Command("sh", append([]string{"validate.sh"}, args...)...)
	s.Env = append(os.Environ(), patience, fmt.Sprintf("SANDBOX=%s --hosts %s --db %s", command, host.File, s.db))
	s.Stdout, s.Stderr = &s.out, &s.errOut
	return s
}

// verify wants the exit code and the output, and nothing left of any sandbox.
func (s *shell) verify(err error, code int, says string) {
	s.t.Helper()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		s.t.Fatal(err)
	}
	if got := s.ProcessState.ExitCode(); got != code || !regexp.MustCompile(`^`+says+`$`).MatchString(s.out.String()) {
		s.t.Errorf("ended with %d, saying %s\n%s\nwant %d and %s", got, &s.out, &s.errOut, code, says)
	}
	for _, box := range s.boxes() {
		if box.State != sandboxer.StateDestroyed {
			s.t.Errorf("%s is %s, want destroyed", box.ID, box.State)
		}
		s.host.AssertNothing(box.ID)
	}
}

// boxes are all that was recorded.
func (s *shell) boxes() []sandboxer.Sandbox {
	s.t.Helper()
	store, err := sqlstore.Open(context.Background(), s.db)
	if err != nil {
		s.t.Fatal(err)
	}
	defer store.Close()
	records, err := store.List(context.Background(), sandboxer.Filter{})
	if err != nil {
		s.t.Fatal(err)
	}
	var all []sandboxer.Sandbox
	for _, r := range records {
		all = append(all, r.Sandbox)
	}
	return all
}
