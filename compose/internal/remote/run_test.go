//go:build linux || darwin

package remote

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"
)

func testRunReportsWhatAScriptDid(t *testing.T, h Host) {
	tests := []struct {
		name           string
		script         string
		stdout, stderr string
		exit           int
	}{
		{name: "output", script: "echo out; echo err >&2", stdout: "out\n", stderr: "err\n"},
		{name: "no newline at the end", script: "printf out; printf err >&2", stdout: "out", stderr: "err"},
		{name: "nothing", script: ""},
		{name: "exit code", script: "echo before; exit 3; echo after", stdout: "before\n", exit: 3},
		{name: "code of the last command", script: "echo x\nfalse", stdout: "x\n", exit: 1},
		{name: "set -e", script: "set -e\nfalse\necho unreachable", exit: 1},
		{name: "exec", script: "exec sh -c 'echo inner; exit 7'", stdout: "inner\n", exit: 7},
		{name: "killed by a signal", script: "sh -c 'kill -KILL $$'", exit: 137, stderr: "?"},
		{name: "no such command", script: "no-such-command-here", exit: 127, stderr: "?"},
		{name: "syntax error", script: "echo 'unterminated", exit: -1, stderr: "?"},
		{name: "closed outputs", script: "exec >&- 2>&-; exit 4", exit: 4},
		{name: "empty input", script: "cat; echo done", stdout: "done\n"},
		{name: "directory, umask, locale", script: "pwd; umask; echo $LC_ALL", stdout: "/\n0077\nC\n"},
		{name: "search path", script: `case :$PATH: in *:/usr/sbin:*:/snap/bin:*":$HOME/bin:"*) echo ok;; *) echo "$PATH";; esac`, stdout: "ok\n"},
		{name: "several lines, tabs, backslashes", script: "x='a\tb \\n\\\n c'\nprintf '%s' \"$x\"", stdout: "a\tb \\n\\\n c"},
		{name: "here document", script: "cat <<'END'\n  $x `y` \\\nEND\n", stdout: "  $x `y` \\\n"},
		{name: "waits for its own background jobs only", script: "( sleep 0.1; echo late ) & wait; echo end", stdout: "late\nend\n"},
		{name: "wants the protocol's variables unset", script: `echo "${SBX-}${SBX_NL-}"`, stdout: "\n"},
		{name: "prints a marker like ours", script: "echo sbx-00000000000000000000000000000000 end 0", stdout: "sbx-00000000000000000000000000000000 end 0\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := h.Run(t.Context(), Command{Script: tt.script})
			if err != nil {
				t.Fatal(err)
			}
			if string(r.Stdout) != tt.stdout {
				t.Errorf("stdout %q, want %q", r.Stdout, tt.stdout)
			}
			if tt.stderr != "?" && string(r.Stderr) != tt.stderr {
				t.Errorf("stderr %q, want %q", r.Stderr, tt.stderr)
			}
			if tt.exit >= 0 && r.ExitCode != tt.exit || tt.exit < 0 && r.ExitCode == 0 {
				t.Errorf("exit code %d, want %d", r.ExitCode, tt.exit)
			}
		})
	}
}

func testVarsArriveByteForByte(t *testing.T, h Host) {
	var every strings.Builder
	for b := 1; b < 256; b++ {
		if b != '\r' {
			every.WriteByte(byte(b))
		}
	}
	values := []string{
		"", " ", "plain", "two words", "it's", `'"'`, `"; echo injected; "`, "$HOME `id` $(id)",
		"-n", "\\", `\n`, "a\nb", "\n", "ends with newlines\n\n\n", "  spaces around\t ", "!event", "*", "~",
		"ünïcödé", "\xff\xfe", "\x81\x82\x83\x84\x85\x86\x87\x88", every.String(), strings.Repeat("long ", 20000),
	}
	for _, value := range values {
		got := mustRun(t, h, Command{Script: `printf '%s' "$value"`, Vars: map[string]string{"value": value, "other_1": "'"}})
		if got != value {
			t.Errorf("value %.60q arrived as %.60q", value, got)
		}
	}
}

func TestScriptsAndVarsThatCannotTravelAreRefused(t *testing.T) {
	h := local(t)
	for name, cmd := range map[string]Command{
		"NUL in script":             {Script: "echo \x00"},
		"carriage return in script": {Script: "echo x\r\n"},
		"NUL in value":              {Vars: map[string]string{"a": "\x00"}},
		"carriage return in value":  {Vars: map[string]string{"a": "\r"}},
		"upper case name":           {Vars: map[string]string{"PATH": "x"}},
		"name with a space":         {Vars: map[string]string{"a b": "x"}},
		"name with a newline":       {Vars: map[string]string{"a\n": "x"}},
		"empty name":                {Vars: map[string]string{"": "x"}},
	} {
		marker := filepath.Join(t.TempDir(), "ran")
		cmd.Script += "\n: >" + quote(marker)
		if _, err := h.Run(t.Context(), cmd); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, err := os.Stat(marker); err == nil {
			t.Errorf("%s: the script ran", name)
		}
	}
}

func testDataAfterTheScript(t *testing.T, h Host) {
	data := make([]byte, 10<<20)
	rand.Read(data)
	// What a shell reading ahead, or reading text, would swallow or change.
	copy(data, "\n\x00\xff 'echo injected'\nsbx-\n")

	t.Run("goes up unchanged", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "upload")
		mustRun(t, h, Command{
			Script: `cat >"$file"`, Vars: map[string]string{"file": file}, Stdin: bytes.NewReader(data),
		})
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, data) {
			t.Errorf("%d bytes arrived with sum %x, want %d with %x", len(got), sha256.Sum256(got), len(data), sha256.Sum256(data))
		}
	})
	t.Run("comes back unchanged", func(t *testing.T) {
		sum := sha256.New()
		r, err := h.Run(t.Context(), Command{Script: "cat", Stdin: bytes.NewReader(data), Stdout: sum})
		if err != nil || r.ExitCode != 0 || len(r.Stdout) != 0 {
			t.Fatalf("exit %d, %d bytes in result, error %v", r.ExitCode, len(r.Stdout), err)
		}
		if want := sha256.Sum256(data); !bytes.Equal(sum.Sum(nil), want[:]) {
			t.Errorf("sum %x, want %x", sum.Sum(nil), want)
		}
	})
	t.Run("in several commands", func(t *testing.T) {
		got := mustRun(t, h, Command{Script: "read -r first; echo got $first; cat", Stdin: strings.NewReader("one\ntwo\nthree")})
		if got != "got one\ntwo\nthree" {
			t.Errorf("script saw %q", got)
		}
	})
	t.Run("may be left unread", func(t *testing.T) {
		r, err := h.Run(t.Context(), Command{Script: "head -c 3; exit 5", Stdin: bytes.NewReader(data)})
		if err != nil || r.ExitCode != 5 || string(r.Stdout) != string(data[:3]) {
			t.Errorf("exit %d, stdout %q, error %v", r.ExitCode, r.Stdout, err)
		}
	})
	t.Run("whose reader fails is not taken for complete", func(t *testing.T) {
		broken := errors.New("disk on fire")
		_, err := h.Run(t.Context(), Command{
			Script: "cat >/dev/null", Stdin: io.MultiReader(bytes.NewReader(data[:1<<20]), iotest.ErrReader(broken)),
		})
		if !errors.Is(err, broken) {
			t.Errorf("error %v, want the reader's", err)
		}
	})
}

func testOutputArrivesAsItIsPrinted(t *testing.T, h Host) {
	r, w := io.Pipe()
	done := make(chan error, 1)
	// The script goes on only when we have seen its first line.
	fifo := filepath.Join(t.TempDir(), "go")
	go func() {
		_, err := h.Run(t.Context(), Command{
			Script: `mkfifo "$fifo"; echo first; read -r _ <"$fifo"; echo second`,
			Vars:   map[string]string{"fifo": fifo}, Stdout: w,
		})
		w.Close()
		done <- err
	}()
	line := make([]byte, 100)
	if n, err := r.Read(line); string(line[:n]) != "first\n" {
		t.Fatalf("read %q, %v before the script's end", line[:n], err)
	}
	if err := os.WriteFile(fifo, []byte("\n"), 0); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(r); string(rest) != "second\n" {
		t.Errorf("then %q, %v", rest, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func testOutputLimits(t *testing.T, h Host) {
	if _, err := h.Run(t.Context(), Command{Script: "exec yes"}); !errors.Is(err, ErrOutputLimit) {
		t.Errorf("endless output: error %v, want ErrOutputLimit", err)
	}
	full := errors.New("full")
	if _, err := h.Run(t.Context(), Command{Script: "exec yes", Stdout: failingWriter{full}}); !errors.Is(err, full) {
		t.Errorf("output nobody takes: error %v, want the writer's", err)
	}
	r, err := h.Run(t.Context(), Command{Script: "yes err | head -n 100000 >&2; printf last >&2"})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Stderr) != maxStderr || !bytes.HasSuffix(r.Stderr, []byte("err\nlast")) {
		t.Errorf("kept %d bytes of stderr, ending in %q", len(r.Stderr), r.Stderr[max(0, len(r.Stderr)-20):])
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func testCancelEndsTheScriptAndSparesTheDetached(t *testing.T, h Host) {
	const script = `
		setsid sh -c 'echo $$ >"$1/detached"; exec sleep 60' sh "$dir" >/dev/null 2>&1 </dev/null &
		sh -c 'trap "" TERM; echo $$ >"$1/stubborn"; while :; do sleep 1; done' sh "$dir" &
		while ! [ -s "$dir/detached" ] || ! [ -s "$dir/stubborn" ]; do sleep 0.01; done
		sh -c 'echo $$ >"$1/attached"; exec sleep 60' sh "$dir"`

	dirs := map[string]io.Reader{t.TempDir(): nil, t.TempDir(): strings.NewReader("unread")}
	for dir, input := range dirs {
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := h.Run(ctx, Command{Script: script, Vars: map[string]string{"dir": dir}, Stdin: input})
			done <- err
		}()
		eventually(t, "the script is under way", exists(filepath.Join(dir, "attached")))
		defer mustRun(t, local(t), Command{Script: `kill "$(cat "$dir/detached")"`, Vars: map[string]string{"dir": dir}})

		start := time.Now()
		impatience := errors.New("changed my mind")
		cancel(impatience)
		err := <-done
		if took := time.Since(start); took > time.Second {
			t.Errorf("Run returned %v after its context ended", took)
		}
		for _, want := range []error{ErrInterrupted, context.Canceled, impatience} {
			if !errors.Is(err, want) {
				t.Errorf("error %q is not %q", err, want)
			}
		}
	}
	for dir, input := range dirs {
		eventually(t, fmt.Sprintf("with input %v, the process ends", input), func() bool { return !alive(t, filepath.Join(dir, "attached")) })
		if input == nil { // the other takes as long again
			eventually(t, "the process that ignores SIGTERM ends", func() bool { return !alive(t, filepath.Join(dir, "stubborn")) })
		}
		if !alive(t, filepath.Join(dir, "detached")) {
			t.Error("the detached process ended too")
		}
	}
	if got := mustRun(t, h, Command{Script: "echo again"}); got != "again\n" {
		t.Errorf("afterwards: %q", got)
	}
}

func testCancelIsPromptWhateverBlocks(t *testing.T, h Host) {
	stuck, w := io.Pipe()
	t.Cleanup(func() { w.Close() })
	for name, cmd := range map[string]Command{
		"input that never comes":   {Script: "cat", Stdin: stuck},
		"input nobody takes":       {Script: "exec sleep 60", Stdin: neverEnding{}},
		"output of a silent child": {Script: "exec sleep 60"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
		start := time.Now()
		_, err := h.Run(ctx, cmd)
		cancel()
		if took := time.Since(start); took > 2*time.Second || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v after %v", name, err, took)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Run(ctx, Command{Script: "echo"}); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that had ended: %v", err)
	}
}

type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) { return len(p), nil }

func testConcurrentRunsDoNotMix(t *testing.T, h Host) {
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			want := strings.Repeat(fmt.Sprintf("run %d ", i), 1000)
			r, err := h.Run(t.Context(), Command{Script: "cat", Stdin: strings.NewReader(want)})
			if err != nil || string(r.Stdout) != want {
				t.Errorf("run %d: %d bytes, %v", i, len(r.Stdout), err)
			}
		})
	}
	all.Wait()
}

func TestClosedHost(t *testing.T) {
	t.Parallel()
	for kind, newHost := range kinds() {
		h := newHost(t)
		mustRun(t, h, Command{Script: ":"})
		interrupted := make(chan error, 1)
		started, w := io.Pipe()
		go func() {
			_, err := h.Run(t.Context(), Command{Script: "echo; exec sleep 60", Stdout: w})
			interrupted <- err
		}()
		started.Read(make([]byte, 1))
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		if err := <-interrupted; !errors.Is(err, ErrInterrupted) {
			t.Errorf("%s: a run during Close: %v, want ErrInterrupted", kind, err)
		}
		closedErrors(t, h)
		if err := h.Close(); err != nil {
			t.Errorf("%s: second Close: %v", kind, err)
		}
	}
}
