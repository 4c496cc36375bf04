//go:build linux

package host

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/remote"
	"github.com/sand-boxer/sandboxer/internal/sshtest"
)

// vaulted lists what lies of a sandbox, or of all of a root, in memory.
func vaulted(rootID, id string) []string {
	var found []string
	for _, pattern := range []string{"/", "/.new."} {
		below, _ := filepath.Glob("/dev/shm/sandboxer-" + rootID + pattern + id + "*")
		found = append(found, below...)
	}
	return found
}

func secretFiles(value string) []SecretFile {
	return []SecretFile{
		{Name: "0001-a", UID: 1234, GID: 50, Mode: 0o400, Value: sandboxer.NewSecret([]byte(value))},
		{Name: "0002-b", Mode: 0o444, Value: sandboxer.NewSecret([]byte(value + "\n\x00\xff"))},
	}
}

// listing is the directory as the host shows it: mode, owner and content.
func listing(t *testing.T, dir string) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", `cd "$1" && stat -c '%a %u' . && for f in $(ls -A); do stat -c '%n %a %u:%g' "$f"; od -An -c "$f" | tr -d ' \n'; echo; done`, "sh", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// TestSecretsArePlaced whole, in memory, in a closed directory, replaced until
// the job starts, and gone with the sandbox.
func TestSecretsArePlaced(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root gives files to other users")
	}
	onEach(t, func(t *testing.T, g *rig) {
		s := g.reserve(nil)
		if want := "/dev/shm/sandboxer-" + s.RootID + "/" + s.id; s.Secrets != want || !s.InMemory {
			t.Fatalf("they would lie in %s (in memory: %v), want %s", s.Secrets, s.InMemory, want)
		}
		if sight, err := g.Look(t.Context(), s.id); err != nil || sight.Secrets != "" {
			t.Errorf("before: %+v %v", sight, err)
		}
		for _, value := range []string{"first", "second"} {
			if err := g.PlaceSecrets(t.Context(), s.Reserved, secretFiles(value)); err != nil {
				t.Fatal(err)
			}
			want := "700 0\n0001-a 400 1234:50\n" + value + "\n0002-b 444 0:0\n" + value + "\\n\\0377\n"
			if got := listing(t, s.Secrets); got != want {
				t.Errorf("placed:\n%s\nwant:\n%s", got, want)
			}
		}
		if sight, err := g.Look(t.Context(), s.id); err != nil || sight.Secrets != s.Secrets {
			t.Errorf("after: %+v %v", sight, err)
		}
		s.mustRun(held(g.image()))
		if err := g.PlaceSecrets(t.Context(), s.Reserved, secretFiles("third")); err != nil {
			t.Fatal(err)
		}
		if got := listing(t, s.Secrets); !strings.Contains(got, "second") {
			t.Errorf("replaced under containers that run:\n%s", got)
		}
		removal, err := g.Teardown(t.Context(), s.id, 0)
		if err != nil {
			t.Fatal(err)
		}
		first := removal.Removed[0]
		if first != (sandboxer.Resource{Kind: "secrets", ID: s.Secrets, Name: s.Secrets}) {
			t.Errorf("removed first was %v, want the secrets", first)
		}
		if left := vaulted(s.RootID, ""); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
		if _, err := os.Stat("/dev/shm/sandboxer-" + s.RootID); !os.IsNotExist(err) {
			t.Errorf("the empty directory is left: %v", err)
		}
		if err := g.PlaceSecrets(t.Context(), s.Reserved, secretFiles("late")); !errors.Is(err, sandboxer.ErrConflict) || len(vaulted(s.RootID, "")) > 0 {
			t.Errorf("after the teardown: %v, %q", err, vaulted(s.RootID, ""))
		}
	})
}

// TestSecretsWithoutMemory lie in the sandbox's directory, and everybody is told.
func TestSecretsWithoutMemory(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can take /dev/shm away from a session")
	}
	disk, shell := t.TempDir(), filepath.Join(t.TempDir(), "shell")
	put(t, shell, []byte("#!/bin/sh\nexec unshare -m sh -c 'mount --bind "+disk+" /dev/shm && exec /bin/sh \"$@\"' sh \"$@\"\n"), 0o755)
	server := sshtest.Start(t, sshtest.Options{LoginShell: shell})
	g := newRig(t, Config{}, func() remote.Host { return sshHost(t, server, server.Addr) })
	s := g.reserve(nil)
	if s.InMemory || s.Secrets != s.Dir()+"/secrets" {
		t.Fatalf("they would lie in %s (in memory: %v)", s.Secrets, s.InMemory)
	}
	facts, err := g.Probe(t.Context())
	if err != nil || facts.InMemory || !strings.Contains(strings.Join(facts.Warnings, "\n"), "no tmpfs at /dev/shm") {
		t.Errorf("facts %+v, %v", facts, err)
	}
	if err := g.PlaceSecrets(t.Context(), s.Reserved, secretFiles("x")); err != nil {
		t.Fatal(err)
	}
	if got := listing(t, s.Secrets); !strings.HasPrefix(got, "700 0\n0001-a 400 1234:50\n") {
		t.Errorf("placed:\n%s", got)
	}
	s.mustRun(held(g.image()))
	removal, err := g.Teardown(t.Context(), s.id, 0)
	if err != nil || removal.Removed[0].Kind != "secrets" {
		t.Errorf("teardown: %v %v", removal.Removed, err)
	}
}

// TestVaultOfSomebodyElse: a directory that another account made, or a link,
// is not written to, and the root's own disk is used.
func TestVaultOfSomebodyElse(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can stand in for another account")
	}
	for name, squat := range map[string]func(t *testing.T, vault string) error{
		"directory": func(_ *testing.T, vault string) error {
			return errors.Join(os.Mkdir(vault, 0o777), os.Chown(vault, 12345, 12345))
		},
		"link": func(t *testing.T, vault string) error { return os.Symlink(t.TempDir(), vault) },
		"file": func(_ *testing.T, vault string) error { return os.WriteFile(vault, nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			g := localRig(t, Config{})
			facts, err := g.Probe(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			vault := "/dev/shm/sandboxer-" + facts.RootID
			if err := squat(t, vault); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(vault) })
			s := g.reserve(nil)
			if s.InMemory || s.Secrets != s.Dir()+"/secrets" {
				t.Errorf("they would lie in %s", s.Secrets)
			}
			if err := g.PlaceSecrets(t.Context(), s.Reserved, secretFiles("x")); err != nil {
				t.Fatal(err)
			}
			if below, _ := filepath.Glob(vault + "/*"); len(below) > 0 {
				t.Errorf("written there: %q", below)
			}
			s.destroy()
		})
	}
}

// TestSecretsOfTheDead are removed by the host itself: when the lease ends, and
// when a script was killed that no teardown knows of.
func TestSecretsOfTheDead(t *testing.T) {
	t.Parallel()
	g := localRig(t, Config{})
	s := g.reserveFor(time.Hour)
	if err := g.PlaceSecrets(t.Context(), s.Reserved, secretFiles("x")); err != nil {
		t.Fatal(err)
	}
	vault, stray := filepath.Dir(s.Secrets), newID()
	put(t, filepath.Join(vault, stray, "0001-a"), []byte("x"), 0o400)
	put(t, filepath.Join(vault, ".new."+stray+".77", "0001-a"), []byte("x"), 0o400)
	s.endsAt(time.Now())
	if !eventually(reapLimit, func() bool { return len(vaulted(s.RootID, "")) == 0 && s.isGone() }) {
		t.Errorf("left: %q", vaulted(s.RootID, ""))
	}
}

// TestTeardownWhileSecretsArrive: the script is in the middle of its input, as
// it is when its client is killed.
func TestTeardownWhileSecretsArrive(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, g *rig) {
		s := g.reserve(nil)
		packed, err := packSecrets(secretFiles(strings.Repeat("half a secret ", 4000)))
		if err != nil {
			t.Fatal(err)
		}
		in, out := io.Pipe()
		defer out.Close()
		ended := make(chan error)
		go func() {
			_, err := g.run(t.Context(), step{names: []string{"secrets"}, vars: s.vars(), stdin: func() io.ReadCloser { return in }})
			ended <- err
		}()
		if _, err := out.Write(packed[:len(packed)/2]); err != nil {
			t.Fatal(err)
		}
		if !eventually(10*time.Second, func() bool { return len(vaulted(s.RootID, s.id)) > 0 }) {
			t.Fatal("nothing is on its way")
		}
		if _, err := os.Stat(s.Secrets); !os.IsNotExist(err) {
			t.Errorf("half of them are in place: %v", err)
		}
		if _, err := g.another().Teardown(t.Context(), s.id, 0); err != nil {
			t.Error(err)
		}
		if left := vaulted(s.RootID, ""); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
		out.Close()
		if err := <-ended; err == nil {
			t.Error("the script says that it is done")
		}
		if left := vaulted(s.RootID, ""); len(left) > 0 {
			t.Errorf("left after the script: %q", left)
		}
	})
}
