//go:build linux || darwin

package secrets_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/secrets"
)

const canary = "canary-7f3a"

func write(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask is
		t.Fatal(err)
	}
	return path
}

func fifo(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func link(t *testing.T, to string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestSources: each finds a value or says why not, and what a check can know
// it says as well.
func TestSources(t *testing.T) {
	t.Setenv("SECRETS_TEST", canary)
	t.Setenv("SECRETS_EMPTY", "")
	sh := func(script string) secrets.Source { return secrets.Source{Command: []string{"sh", "-c", script}} }
	tests := map[string]struct {
		source secrets.Source
		value  string
		is     error // of finding it
		says   string
		check  error // of checking it
	}{
		"variable":             {source: secrets.Source{Env: "SECRETS_TEST"}, value: canary},
		"empty variable":       {source: secrets.Source{Env: "SECRETS_EMPTY"}},
		"variable not set":     {source: secrets.Source{Env: "SECRETS_ABSENT"}, is: sandboxer.ErrNotFound, says: "SECRETS_ABSENT is not set", check: sandboxer.ErrNotFound},
		"file, byte by byte":   {source: secrets.Source{File: write(t, "f", canary+"\n\x00\xff\n", 0o600)}, value: canary + "\n\x00\xff\n"},
		"link to a file":       {source: secrets.Source{File: link(t, write(t, "f", canary, 0o400))}, value: canary},
		"file that is missing": {source: secrets.Source{File: "/nowhere/at/all"}, is: sandboxer.ErrNotFound, check: sandboxer.ErrNotFound},
		"file that a group may read": {
			source: secrets.Source{File: write(t, "f", canary, 0o640)}, is: sandboxer.ErrInvalid, says: "mode 0640", check: sandboxer.ErrInvalid,
		},
		"file that all may read, as meant": {source: secrets.Source{File: write(t, "f", canary, 0o644), Shared: true}, value: canary},
		"directory":                        {source: secrets.Source{File: t.TempDir()}, is: sandboxer.ErrInvalid, says: "not a regular file", check: sandboxer.ErrInvalid},
		"pipe that nobody writes to":       {source: secrets.Source{File: fifo(t)}, is: sandboxer.ErrInvalid, says: "not a regular file", check: sandboxer.ErrInvalid},
		"file without an end":              {source: secrets.Source{File: "/dev/zero", Shared: true}, is: sandboxer.ErrInvalid, says: "not a regular file", check: sandboxer.ErrInvalid},
		"file that is too large":           {source: secrets.Source{File: write(t, "f", strings.Repeat(canary, 6000), 0o600)}, is: sandboxer.ErrInvalid, says: "more than 65536 bytes"},
		"command, less a line end":         {source: sh("echo " + canary), value: canary},
		"command, less one line end":       {source: sh("printf 'a\\n\\n'"), value: "a\n"},
		"command without a shell":          {source: secrets.Source{Command: []string{"echo", "$HOME;id"}}, value: "$HOME;id"},
		"command that fails":               {source: sh("echo " + canary + "; echo " + canary + " >&2; exit 3"), says: "exit status 3"},
		"command that is missing":          {source: secrets.Source{Command: []string{"no-such-program"}}, is: sandboxer.ErrNotFound, check: sandboxer.ErrNotFound},
		"command that writes for ever":     {source: sh("yes " + canary), is: sandboxer.ErrInvalid, says: "more than 65536 bytes"},
		"command that waits for input":     {source: sh("cat; echo done"), value: "done"},
		"command that takes too long": {
			source: secrets.Source{Command: []string{"sleep", "60"}, Timeout: sandboxer.Duration(50 * time.Millisecond)}, says: "did not end within 50ms",
		},
		"command whose child stays": {source: sh("sleep 30 & echo " + canary), says: "WaitDelay"},
		"command's directory":       {source: sh("pwd"), value: "/"},
		"command's environment":     {source: sh("echo ${SECRETS_TEST-none} ${PATH:+path}"), value: "none path"},
		"command that is passed a variable": {
			source: secrets.Source{Command: []string{"sh", "-c", "echo $SECRETS_TEST"}, PassEnv: []string{"SECRETS_TEST"}}, value: canary,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all, req := secrets.Sources{"s": tt.source}, sandboxer.SecretRequest{Name: "s"}
			began := time.Now()
			value, err := all.ResolveSecret(t.Context(), req)
			if tt.is == nil && tt.says == "" && err != nil || string(value) != tt.value || !errors.Is(err, tt.is) && tt.is != nil || err == nil && tt.says != "" {
				t.Errorf("got %q, %v; want %q, %v %q", value, err, tt.value, tt.is, tt.says)
			}
			if err != nil && (!strings.Contains(err.Error(), tt.says) || strings.Contains(fmt.Sprintf("%+v %#v %s", err, err, sandboxer.Hint(err)), canary)) {
				t.Errorf("it says %v, want %q and no value", err, tt.says)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
			if err := all.CheckSecret(t.Context(), req); !errors.Is(err, tt.check) {
				t.Errorf("a check says %v, want %v", err, tt.check)
			}
		})
	}
}

// TestResolvers find by name, and the first that knows a name is asked no further.
func TestResolvers(t *testing.T) {
	t.Setenv("APP_token", "from the environment")
	dir := filepath.Dir(write(t, "token", "from the directory", 0o600))
	failing := sandboxer.SecretResolverFunc(func(context.Context, sandboxer.SecretRequest) ([]byte, error) { return nil, errors.New("broken") })
	first := secrets.First{secrets.Sources{"named": {Env: "APP_token"}}, secrets.Dir{Path: dir}, secrets.EnvPrefix("APP_")}
	for name, tt := range map[string]struct {
		resolver sandboxer.SecretResolver
		asked    string
		value    string
		is       error
	}{
		"prefix":                  {secrets.EnvPrefix("APP_"), "token", "from the environment", nil},
		"prefix, unknown":         {secrets.EnvPrefix("APP_"), "other", "", sandboxer.ErrNotFound},
		"directory":               {secrets.Dir{Path: dir}, "token", "from the directory", nil},
		"directory, unknown":      {secrets.Dir{Path: dir}, "other", "", sandboxer.ErrNotFound},
		"directory, outside":      {secrets.Dir{Path: dir}, "../x", "", sandboxer.ErrInvalid},
		"sources, unknown":        {secrets.Sources{}, "token", "", sandboxer.ErrNotFound},
		"first of several":        {first, "token", "from the directory", nil},
		"later ones":              {first, "named", "from the environment", nil},
		"none of several":         {first, "other", "", sandboxer.ErrNotFound},
		"none at all":             {secrets.First{}, "token", "", sandboxer.ErrNotFound},
		"one that fails is heard": {secrets.First{failing, secrets.Dir{Path: dir}}, "token", "", errAny},
	} {
		value, err := tt.resolver.ResolveSecret(t.Context(), sandboxer.SecretRequest{Name: tt.asked})
		if string(value) != tt.value || (tt.is == errAny) != (err != nil && err.Error() == "broken") || tt.is != errAny && !errors.Is(err, tt.is) {
			t.Errorf("%s: got %q, %v; want %q, %v", name, value, err, tt.value, tt.is)
		}
		if checker, ok := tt.resolver.(sandboxer.SecretChecker); ok && tt.is != errAny {
			if err := checker.CheckSecret(t.Context(), sandboxer.SecretRequest{Name: tt.asked}); !errors.Is(err, tt.is) {
				t.Errorf("%s: a check says %v, want %v", name, err, tt.is)
			}
		}
	}
}

var errAny = errors.New("any")

func TestParseConfig(t *testing.T) {
	good := "secrets:\n  a: {env: A}\n  b: {file: /b, shared: true}\n  c: {command: [pass, c], pass_env: [GNUPGHOME], timeout: 5s}\n"
	c, err := secrets.ParseConfig("secrets.yaml", []byte(good))
	if err != nil || len(c.Secrets) != 3 || c.Secrets["c"].Timeout != sandboxer.Duration(5*time.Second) {
		t.Fatalf("%+v %v", c, err)
	}
	for text, want := range map[string]string{
		"secrets:\n  a: {}\n":                            "secrets.yaml:2: secrets.a: needs exactly one of env, file and command",
		"secrets:\n  a: {env: A, file: /a}\n":            "secrets.yaml:2: secrets.a: needs exactly one of env, file and command",
		"secrets:\n  a:\n    env: A\n    x: 1\n":         "secrets.yaml:4: secrets.a.x: ",
		"secrets:\n  a:\n    file: a\n":                  "secrets.yaml:3: secrets.a.file: \"a\" is neither an absolute path nor one below ~/",
		"secrets:\n  a: {env: \"canary $7f3a\"}\n":       "secrets.yaml:2: secrets.a.env: is not the name of an environment variable; values do not belong here",
		"secrets:\n  a: {env: A, timeout: 5s}\n":         "secrets.yaml:2: secrets.a.command: is missing, to which pass_env and timeout belong",
		"secrets:\n  a: {command: [x], timeout: 2m}\n":   "secrets.yaml:2: secrets.a.timeout: 2m is not between 0 and 1m",
		"secrets:\n  a: {command: [\"\"]}\n":             "secrets.yaml:2: secrets.a.command: begins with nothing",
		"secrets:\n  a: {env: A, shared: true}\n":        "secrets.yaml:2: secrets.a.shared: says something of a file",
		"secrets:\n  a: {command: [x], pass_env: [=]}\n": "secrets.yaml:2: secrets.a.pass_env[0]: is not the name",
	} {
		_, err := secrets.ParseConfig("secrets.yaml", []byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "7f3a") || !errors.Is(err, sandboxer.ErrInvalid) {
			t.Errorf("%q: got %v, want %s…", text, err, want)
		}
	}
}

func TestParseSource(t *testing.T) {
	for text, want := range map[string]secrets.Source{"env:A_B": {Env: "A_B"}, "file:/a:b": {File: "/a:b"}} {
		if got, err := secrets.ParseSource(text); err != nil || got.Env != want.Env || got.File != want.File {
			t.Errorf("%s: %+v %v", text, got, err)
		}
	}
	for _, text := range []string{"", canary, "env:", "env:" + canary + " x", "command:id", "value:" + canary, "file:" + "rel"} {
		if _, err := secrets.ParseSource(text); !errors.Is(err, sandboxer.ErrInvalid) || strings.Contains(err.Error(), canary) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
