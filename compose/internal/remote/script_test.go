//go:build linux || darwin

package remote

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer/internal/sshtest"
)

// torture is a script and its data that go wrong in a shell which reads ahead,
// decodes text, or treats a line as a command line.
func torture() (cmd Command, want string) {
	var every bytes.Buffer
	for b := 1; b < 256; b++ {
		if b != '\r' {
			every.WriteByte(byte(b))
		}
	}
	data := strings.Repeat("data \x00\xff\n", 10000)
	return Command{
		Script: "# a comment: don't\nprintf '%s|' \"$value\"\ndd bs=5 count=1 2>/dev/null; cat\nexit 6",
		Vars:   map[string]string{"value": every.String()},
		Stdin:  strings.NewReader(data),
	}, every.String() + "|" + data
}

func TestEveryShellThatMayBeBinSh(t *testing.T) {
	t.Parallel()
	for _, shell := range shells(t) {
		t.Run(strings.Join(shell, " "), func(t *testing.T) {
			h := newLocalHost(shell...)
			defer h.Close()
			cmd, want := torture()
			r, err := h.Run(t.Context(), cmd)
			if err != nil || r.ExitCode != 6 || string(r.Stdout) != want {
				t.Errorf("with input: exit %d, %d bytes, want 6, %d; error %v, stderr %q", r.ExitCode, len(r.Stdout), len(want), err, r.Stderr)
			}
			r, err = h.Run(t.Context(), Command{Script: "cat\n( sleep 0.01 ) &\nwait\necho \"$v\"\nexit 9", Vars: map[string]string{"v": "it's"}})
			if err != nil || r.ExitCode != 9 || string(r.Stdout) != "it's\n" || len(r.Stderr) != 0 {
				t.Errorf("without input: exit %d, stdout %q, stderr %q, error %v", r.ExitCode, r.Stdout, r.Stderr, err)
			}
		})
	}
}

// shells returns the commands here that may be /bin/sh elsewhere.
func shells(t *testing.T) [][]string {
	t.Helper()
	found := [][]string{{"/bin/sh"}}
	for _, shell := range [][]string{
		{"dash"}, {"bash"}, {"bash", "--posix"}, {"busybox", "sh"},
		{"zsh", "--emulate", "sh"}, {"ksh"}, {"mksh"}, {"yash"},
	} {
		if _, err := exec.LookPath(shell[0]); err == nil {
			found = append(found, shell)
		}
	}
	return found
}

func TestEveryShellEndsAScriptWhoseCallerIsGone(t *testing.T) {
	t.Parallel()
	type orphan struct {
		name, pid string
		*localProcess
	}
	var orphans []orphan
	for _, shell := range shells(t) {
		for name, form := range map[string]string{"without input": formNoInput, "with input": formInput} {
			pid := filepath.Join(t.TempDir(), "pid")
			text, err := encode(form, newNonce(), Command{
				Script: `sh -c 'echo $$ >"$1"; exec sleep 60' sh "$pid"`, Vars: map[string]string{"pid": pid},
			})
			if err != nil {
				t.Fatal(err)
			}
			p, err := startLocal(shell)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(p, text); err != nil {
				t.Fatal(err)
			}
			orphans = append(orphans, orphan{strings.Join(shell, " ") + " " + name, pid, p})
		}
	}
	for _, o := range orphans {
		eventually(t, o.name+": the script is under way", exists(o.pid))
		o.closePipes() // as a crash of this process would
	}
	for _, o := range orphans {
		eventually(t, o.name+": the script ends", func() bool { return !alive(t, o.pid) })
		<-o.gone()
	}
}

func TestEveryLoginShell(t *testing.T) {
	t.Parallel()
	server, become := shellServer(t, sshtest.Options{Home: t.TempDir()})
	cmd, want := torture()
	for _, shell := range []string{"/bin/sh", "/bin/dash", "/bin/bash", "/usr/bin/fish", "/bin/tcsh", "/bin/csh", "/bin/zsh", "/bin/mksh"} {
		if _, err := os.Stat(shell); err != nil {
			continue
		}
		t.Run(filepath.Base(shell), func(t *testing.T) {
			become(`exec ` + shell + ` "$@"`)
			cmd.Stdin.(io.Seeker).Seek(0, io.SeekStart)
			h := connect(t, server)
			r, err := h.Run(t.Context(), cmd)
			if err != nil || r.ExitCode != 6 || string(r.Stdout) != want {
				t.Errorf("exit %d, %d bytes, want 6, %d; error %v, stderr %q", r.ExitCode, len(r.Stdout), len(want), err, r.Stderr)
			}
			// A script whose caller is gone can be ended with all it started.
			mustRun(t, h, Command{Script: "kill -0 -$$"})
		})
	}
}

// shellServer starts a server whose login shell is a bash script that can be
// changed.
func shellServer(t *testing.T, opts sshtest.Options) (server *sshtest.Server, become func(script string)) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "shell")
	become = func(script string) {
		if err := os.WriteFile(file, []byte("#!/bin/bash\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	opts.LoginShell = file
	return sshtest.Start(t, opts), become
}

func TestNoisyLoginShellIsNotTakenForTheScript(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	rc := `
		echo noise on stdout; printf 'sbx-0 begin\n'; echo noise on stderr >&2
		trap 'echo noise at the end' EXIT
		alias echo=false; cd /tmp; IFS=x; PATH=/opt/nothing:$PATH`
	for _, name := range []string{".bashrc", ".profile", ".zshenv", ".cshrc"} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(rc), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	withRC, become := shellServer(t, sshtest.Options{Home: home})
	become(`. "$HOME/.bashrc"; eval "$2"`)
	for name, server := range map[string]*sshtest.Server{
		"the account's own shell":    sshtest.Start(t, sshtest.Options{Home: home}),
		"a shell that reads .bashrc": withRC,
	} {
		t.Run(name, func(t *testing.T) {
			h := connect(t, server)
			r, err := h.Run(t.Context(), Command{Script: "pwd; cat; echo err >&2; exit 2", Stdin: strings.NewReader("data")})
			if err != nil || string(r.Stdout) != "/\ndata" || string(r.Stderr) != "err\n" || r.ExitCode != 2 {
				t.Errorf("stdout %q, stderr %q, exit %d, error %v", r.Stdout, r.Stderr, r.ExitCode, err)
			}
			c, err := h.DialExec(t.Context(), Command{Script: "exec cat"})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.Write([]byte("echo"))
			got := make([]byte, 100)
			if n, err := c.Read(got); string(got[:n]) != "echo" {
				t.Errorf("DialExec read %q, %v; want what was written", got[:n], err)
			}
		})
	}
}

func TestLoginShellThatRunsNothing(t *testing.T) {
	t.Parallel()
	server, become := shellServer(t, sshtest.Options{Home: t.TempDir()})
	for name, script := range map[string]string{
		"refuses":          "echo This account is not available.; exit 1",
		"refuses silently": "exit 1",
		"restricted":       "set -r; eval \"$2\"",
	} {
		t.Run(name, func(t *testing.T) {
			become(script)
			h := connect(t, server)
			_, err := h.Run(t.Context(), Command{Script: "echo"})
			var refused *ShellError
			if !errors.As(err, &refused) || errors.Is(err, ErrInterrupted) || Temporary(err) {
				t.Errorf("Run: %v, want a ShellError", err)
			}
			_, err = h.DialExec(t.Context(), Command{Script: "echo"})
			if !errors.As(err, &refused) {
				t.Errorf("DialExec: %v, want a ShellError", err)
			}
			if name == "refuses" && !strings.Contains(err.Error(), "This account is not available") {
				t.Errorf("message %q does not say what the shell said", err)
			}
		})
	}
}

func TestCommandLineMeansTheSameToEveryLoginShell(t *testing.T) {
	if strings.ContainsAny(loginCommand, "\\!\n\r`~{}[]*?<>;#%^") {
		t.Errorf("command line %q has characters that shells read differently", loginCommand)
	}
	if n := strings.Count(loginCommand, "'"); n != 2 {
		t.Errorf("command line %q has %d quotes, want one quoted argument", loginCommand, n)
	}
}
