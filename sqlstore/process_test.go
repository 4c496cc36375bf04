//go:build unix

package sqlstore_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/sqlstore"
)

// The tests in this file run the test binary again as other processes, which
// do one of these jobs on a database file once their standard input ends.
var jobs = map[string]func(ctx context.Context, path string) error{
	"open":   openOnly,
	"work":   workTogether,
	"hammer": hammer,
	"modes":  printModes,
}

const jobVariable, fileVariable, umaskVariable = "SQLSTORE_TEST_JOB", "SQLSTORE_TEST_FILE", "SQLSTORE_TEST_UMASK"

func TestMain(m *testing.M) {
	job, ok := jobs[os.Getenv(jobVariable)]
	if !ok {
		os.Exit(m.Run())
	}
	if mask, err := strconv.ParseInt(os.Getenv(umaskVariable), 8, 0); err == nil {
		syscall.Umask(int(mask))
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := job(context.Background(), os.Getenv(fileVariable)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		fmt.Fprintln(os.Stderr, sandboxer.Hint(err))
		os.Exit(1)
	}
}

// A process works on a file once start is closed.
type process struct {
	*exec.Cmd
	start  io.Closer
	stdout *bufio.Scanner
	stderr *strings.Builder
}

func startProcess(t *testing.T, job, path string, settings ...string) *process {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	if _, err := os.Stat(cmd.Path); err != nil {
		cmd = exec.Command(os.Args[0])
	}
	cmd.Env = append(os.Environ(), append(settings, jobVariable+"="+job, fileVariable+"="+path)...)
	p := &process{Cmd: cmd, stderr: &strings.Builder{}}
	cmd.Stderr = p.stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.start, p.stdout = stdin, bufio.NewScanner(stdout)
	return p
}

func (p *process) run(t *testing.T) {
	t.Helper()
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Process.Kill() })
}

// lines reads all of the standard output and expects success.
func (p *process) lines(t *testing.T) []string {
	t.Helper()
	var lines []string
	for p.stdout.Scan() {
		lines = append(lines, p.stdout.Text())
	}
	if err := p.Wait(); err != nil {
		t.Errorf("a process failed: %v\n%s", err, p.stderr)
	}
	return lines
}

// releaseTogether lets all processes begin at the same moment.
func releaseTogether(t *testing.T, processes []*process) {
	t.Helper()
	for _, p := range processes {
		p.run(t)
	}
	for _, p := range processes {
		if err := p.start.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func openOnly(ctx context.Context, path string) error {
	s, err := sqlstore.Open(ctx, path)
	if err != nil {
		return err
	}
	return s.Close()
}

func TestManyProcessesOpenANewFileAtOnce(t *testing.T) {
	for range 15 {
		path := filepath.Join(t.TempDir(), "state", "sandboxer.db")
		processes := make([]*process, 8)
		for i := range processes {
			processes[i] = startProcess(t, "open", path)
		}
		releaseTogether(t, processes)
		for _, p := range processes {
			p.lines(t)
		}
		s := open(t, path)
		create(t, s, record(1))
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".new-*")); len(left) > 0 {
			t.Errorf("left beside the database: %v", left)
		}
	}
}

const (
	workers = 4
	rounds  = 25
)

// workTogether creates records, changes one that all change, and delivers
// whatever is due; it prints what it did.
func workTogether(ctx context.Context, path string) error {
	s, err := sqlstore.Open(ctx, path)
	if err != nil {
		return err
	}
	for range rounds {
		own := record(0)
		own.Sandbox.ID = fmt.Sprintf("p%019d", rand.Int64N(1e18))
		if err := s.Create(ctx, own, event(own, 1)...); err != nil {
			return err
		}
		revision, err := increment(ctx, s)
		if err != nil {
			return err
		}
		fmt.Println("revision", revision)
		if err := deliver(ctx, s); err != nil {
			return err
		}
	}
	return s.Close()
}

// increment adds one to the generation of record 1.
func increment(ctx context.Context, s *sqlstore.Store) (revision int64, err error) {
	for {
		r, err := s.Get(ctx, record(1).Sandbox.ID)
		if err != nil {
			return 0, err
		}
		r.Sandbox.Generation++
		if err = s.Update(ctx, r, event(r, 1)...); !errors.Is(err, sandboxer.ErrConflict) {
			return r.Revision, err
		}
	}
}

func deliver(ctx context.Context, s *sqlstore.Store) error {
	claims, err := s.ClaimEvents(ctx, time.Now().Add(time.Hour), 10)
	if err != nil {
		return err
	}
	for _, c := range claims {
		for _, e := range c.Events {
			fmt.Println("event", e.ID)
			if err := s.AckEvents(ctx, c, e.Seq); err != nil {
				return err
			}
		}
	}
	return nil
}

func TestProcessesShareAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sandboxer.db")
	s := open(t, path)
	create(t, s, record(1))
	processes := make([]*process, workers)
	for i := range processes {
		processes[i] = startProcess(t, "work", path)
	}
	releaseTogether(t, processes)
	seen := map[string]int{}
	for _, p := range processes {
		for _, line := range p.lines(t) {
			seen[line]++
		}
	}

	r, err := s.Get(t.Context(), record(1).Sandbox.ID)
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(1 + workers*rounds); r.Revision != want || int64(r.Sandbox.Generation) != want || r.Seq != want {
		t.Errorf("revision %d, generation %d, seq %d, want %d of each", r.Revision, r.Sandbox.Generation, r.Seq, want)
	}
	records, err := s.List(t.Context(), sandboxer.Filter{})
	if err != nil || len(records) != 1+workers*rounds {
		t.Errorf("%d records, %v, want %d", len(records), err, 1+workers*rounds)
	}
	rest, err := s.ClaimEvents(t.Context(), time.Now().Add(time.Hour), 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range rest {
		for _, e := range c.Events {
			seen["event "+e.ID]++
		}
	}
	all, err := s.Events(t.Context(), "", 0)
	if err != nil || len(all) != 1+2*workers*rounds {
		t.Errorf("%d events, %v, want %d", len(all), err, 1+2*workers*rounds)
	}
	for _, e := range all {
		if n := seen["event "+e.ID]; n != 1 {
			t.Errorf("event %s was delivered %d times", e.ID, n)
		}
	}
	for revision := range workers * rounds {
		if n := seen[fmt.Sprint("revision ", revision+2)]; n != 1 {
			t.Errorf("revision %d was given %d times", revision+2, n)
		}
	}
	sound(t, path, s)
}

// hammer changes record 1 until it is killed, and prints each revision once
// it is stored.
func hammer(ctx context.Context, path string) error {
	s, err := sqlstore.Open(ctx, path)
	if err != nil {
		return err
	}
	for {
		revision, err := increment(ctx, s)
		if err != nil {
			return err
		}
		fmt.Println(revision)
	}
}

func TestKilledWritersLeaveASoundFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sandboxer.db")
	func() {
		s, err := sqlstore.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		create(t, s, record(1))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	for range 12 {
		processes := []*process{startProcess(t, "hammer", path), startProcess(t, "hammer", path)}
		releaseTogether(t, processes)
		for _, p := range processes {
			p.stdout.Scan() // it is at work
		}
		time.Sleep(rand.N(30 * time.Millisecond))
		for _, p := range processes {
			_ = p.Process.Kill()
		}
		var stored int64
		for _, p := range processes {
			for p.stdout.Scan() {
				if revision, err := strconv.ParseInt(p.stdout.Text(), 10, 64); err == nil {
					stored = max(stored, revision)
				}
			}
			_ = p.Wait()
			if p.stderr.Len() > 0 {
				t.Error(p.stderr)
			}
		}
		s := open(t, path)
		sound(t, path, s)
		r, err := s.Get(t.Context(), record(1).Sandbox.ID)
		if err != nil {
			t.Fatal(err)
		}
		if r.Revision < stored {
			t.Errorf("revision %d is stored, %d was reported as stored", r.Revision, stored)
		}
		if _, err := increment(t.Context(), s); err != nil {
			t.Error(err)
		}
	}
}

func TestKilledWhileMakingTheFile(t *testing.T) {
	for range 15 {
		path := filepath.Join(t.TempDir(), "sandboxer.db")
		p := startProcess(t, "open", path)
		releaseTogether(t, []*process{p})
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
			if _, err := os.Stat(path); err == nil { // from here on it fills the file
				break
			}
		}
		time.Sleep(rand.N(15 * time.Millisecond))
		_ = p.Process.Kill()
		_ = p.Wait()
		s := open(t, path)
		create(t, s, record(1))
		sound(t, path, s)
	}
}

// sound is the check of SQLite itself, and that numbers fit together.
func sound(t *testing.T, path string, s *sqlstore.Store) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var verdict string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		t.Errorf("integrity check: %s, %v", verdict, err)
	}
	rows, err := db.Query("PRAGMA foreign_key_check")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	if rows.Next() {
		t.Error("a row refers to a sandbox that is not there")
	}
	records, err := s.List(t.Context(), sandboxer.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		events, err := s.Events(t.Context(), r.Sandbox.ID, 0)
		if err != nil {
			t.Fatal(err)
		}
		if int64(len(events)) != r.Seq || r.Seq != r.Revision {
			t.Errorf("%s: %d events, seq %d, revision %d, want the same", r.Sandbox.ID, len(events), r.Seq, r.Revision)
		}
		for i, e := range events {
			if e.Seq != int64(i+1) {
				t.Errorf("%s: event %d has seq %d", r.Sandbox.ID, i+1, e.Seq)
			}
		}
	}
}

// printModes shows who may read the files of an open database.
func printModes(ctx context.Context, path string) error {
	s, err := sqlstore.Open(ctx, path)
	if err != nil {
		return err
	}
	defer s.Close()
	r := record(1)
	if err := s.Create(ctx, r, event(r, 1)...); err != nil {
		return err
	}
	for _, file := range []string{filepath.Dir(path), path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		fmt.Println(info.Mode())
	}
	return nil
}

func TestFilesArePrivateUnderAnyUmask(t *testing.T) {
	for _, umask := range []string{"0", "22", "77", "177"} {
		t.Run(umask, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state", "sandboxer.db")
			if umask == "177" { // under which no usable directory can be made
				if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			p := startProcess(t, "modes", path, umaskVariable+"="+umask)
			releaseTogether(t, []*process{p})
			if got, want := strings.Join(p.lines(t), " "), "drwx------ -rw------- -rw------- -rw-------"; got != want {
				t.Errorf("modes of directory, file, -wal and -shm: %s, want %s", got, want)
			}
		})
	}
}

// TestWithoutPermission does what an unprivileged user would, also when the tests run as root.
func TestWithoutPermission(t *testing.T) {
	const nobody = 65534
	refused := func(t *testing.T, path string) string {
		t.Helper()
		p := startProcess(t, "modes", path)
		if os.Getuid() == 0 {
			p.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		}
		releaseTogether(t, []*process{p})
		if p.Wait() == nil {
			t.Fatal("written without permission")
		}
		return p.stderr.String()
	}
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			break // not ours
		}
	}
	locked, shared := filepath.Join(dir, "locked"), filepath.Join(dir, "shared")
	if err := errors.Join(os.Mkdir(locked, 0o555), os.Mkdir(shared, 0o777), os.Chmod(shared, 0o777)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(locked, 0o755) })

	t.Run("directory", func(t *testing.T) {
		said := refused(t, filepath.Join(locked, "sandboxer.db"))
		if !strings.Contains(said, "permission denied") || !strings.Contains(said, "let this user write to "+locked+", or give another path") {
			t.Error(said)
		}
	})
	t.Run("file", func(t *testing.T) {
		path := filepath.Join(shared, "sandboxer.db")
		if err := openOnly(t.Context(), path); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o444); err != nil {
			t.Fatal(err)
		}
		said := refused(t, path)
		if !strings.Contains(said, path+" cannot be opened or written") || !strings.Contains(said, "let this user write to the file and to "+shared) {
			t.Error(said)
		}
	})
}
