//go:build linux || darwin

package remote

import (
	"bytes"
	"errors"
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
		Script: "# a comment: don't\nprintf '%s|' \"$value\"\nhead -c 5; cat\nexit 6",
		Vars:   map[string]string{"value": every.String()},
		Stdin:  strings.NewReader(data),
	}, every.String() + "|" + data
}

func TestEveryShellThatMayBeBinSh(t *testing.T) {
	shells := [][]string{
		{"sh"}, {"dash"}, {"bash"}, {"bash", "--posix"}, {"busybox", "sh"},
		{"zsh", "--emulate", "sh"}, {"ksh"}, {"mksh"}, {"yash"},
	}
	tested := 0
	for _, shell := range shells {
		if _, err := exec.LookPath(shell[0]); err != nil {
			continue
		}
		tested++
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
	if tested == 0 {
		t.Error("no shell found")
	}
}

func TestEveryLoginShell(t *testing.T) {
	shells := []string{"/bin/sh", "/bin/dash", "/bin/bash", "/usr/bin/fish", "/bin/tcsh", "/bin/csh", "/bin/zsh", "/bin/mksh"}
	tested := 0
	for _, shell := range shells {
		if _, err := os.Stat(shell); err != nil {
			continue
		}
		tested++
		t.Run(filepath.Base(shell), func(t *testing.T) {
			server := sshtest.Start(t, sshtest.Options{Home: t.TempDir(), LoginShell: shell})
			cmd, want := torture()
			r, err := connect(t, server).Run(t.Context(), cmd)
			if err != nil || r.ExitCode != 6 || string(r.Stdout) != want {
				t.Errorf("exit %d, %d bytes, want 6, %d; error %v, stderr %q", r.ExitCode, len(r.Stdout), len(want), err, r.Stderr)
			}
		})
	}
	if tested == 0 {
		t.Error("no shell found")
	}
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
	for name, shell := range map[string]string{"the account's own shell": "", "a shell that reads .bashrc": rcReader(t)} {
		t.Run(name, func(t *testing.T) {
			h := connect(t, sshtest.Start(t, sshtest.Options{Home: home, LoginShell: shell}))
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

// rcReader returns a login shell that reads $HOME/.bashrc first, as bash does
// for a remote command where it is the account's shell.
func rcReader(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "shell")
	if err := os.WriteFile(file, []byte("#!/bin/bash\n. \"$HOME/.bashrc\"\neval \"$2\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestLoginShellThatRunsNothing(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"refuses":          "#!/bin/sh\necho This account is not available.\nexit 1\n",
		"refuses silently": "#!/bin/sh\nexit 1\n",
		"restricted":       "#!/bin/bash -r\neval \"$2\"\n",
	} {
		t.Run(name, func(t *testing.T) {
			shell := filepath.Join(t.TempDir(), "shell")
			if err := os.WriteFile(shell, []byte(text), 0o700); err != nil {
				t.Fatal(err)
			}
			h := connect(t, sshtest.Start(t, sshtest.Options{Home: t.TempDir(), LoginShell: shell}))
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
