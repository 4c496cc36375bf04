package secrets

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// A Source is where one secret comes from: exactly one of an environment
// variable, a file and a command.
type Source struct {
	// Env is the name of an environment variable of this process.
	Env string `json:"env,omitempty"`

	// File is the path of a regular file; absolute, or below "~/". Its bytes
	// are the value, at most 64 KiB. Only the account may be able to read it.
	File string `json:"file,omitempty"`

	// Shared allows that other accounts can read the file.
	Shared bool `json:"shared,omitempty"`

	// Command is a program and its arguments, run without a shell, in the
	// root directory, with nothing on its standard input. What it writes to
	// standard output is the value, less one line end; standard error is
	// dropped. Arguments are seen by all on this machine: they hold no secret.
	Command []string `json:"command,omitempty"`

	// PassEnv names environment variables that the command gets beside PATH, HOME
	// and the language.
	PassEnv []string `json:"pass_env,omitempty"`

	// Timeout bounds the command, at most 1m. 30s if zero.
	Timeout sandboxer.Duration `json:"timeout,omitempty"`
}

const (
	defaultTimeout = sandboxer.Duration(30 * time.Second)
	maxTimeout     = sandboxer.Duration(time.Minute)
)

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)

// Validate reports every problem at once, joined, each a
// [*sandboxer.FieldError]. It looks at no variable and no file.
func (s Source) Validate() error {
	var all []error
	for _, p := range s.problems() {
		all = append(all, p)
	}
	return errors.Join(all...)
}

func (s Source) problems() (problems []*sandboxer.FieldError) {
	bad := func(field, format string, args ...any) {
		problems = append(problems, &sandboxer.FieldError{Field: field, Reason: fmt.Sprintf(format, args...)})
	}
	given := 0
	for _, is := range []bool{s.Env != "", s.File != "", len(s.Command) > 0} {
		if is {
			given++
		}
	}
	if given != 1 {
		bad("", "needs exactly one of env, file and command")
	}
	if s.Env != "" && !variableName.MatchString(s.Env) {
		bad("env", "is not the name of an environment variable; values do not belong here")
	}
	if s.File != "" && !filepath.IsAbs(expandHome(s.File)) {
		bad("file", "%q is neither an absolute path nor one below ~/", s.File)
	}
	if s.Shared && s.File == "" {
		bad("shared", "says something of a file, and there is none")
	}
	if len(s.Command) > 0 && s.Command[0] == "" {
		bad("command", "begins with nothing: write the program, then its arguments")
	}
	if len(s.Command) == 0 && (len(s.PassEnv) > 0 || s.Timeout != 0) {
		bad("command", "is missing, to which pass_env and timeout belong")
	}
	for i, name := range s.PassEnv {
		if !variableName.MatchString(name) {
			bad(fmt.Sprintf("pass_env[%d]", i), "is not the name of an environment variable; values do not belong here")
		}
	}
	if s.Timeout < 0 || s.Timeout > maxTimeout {
		bad("timeout", "%v is not between 0 and %v", s.Timeout, maxTimeout)
	}
	return problems
}

// find returns the value. No error holds a part of it.
func (s Source) find(ctx context.Context) ([]byte, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	switch {
	case s.Env != "":
		value, ok := os.LookupEnv(s.Env)
		if !ok {
			return nil, s.check()
		}
		return []byte(value), nil
	case s.File != "":
		return s.read()
	}
	return s.run(ctx)
}

// check says whether there is something to find.
func (s Source) check() error {
	if err := s.Validate(); err != nil {
		return err
	}
	switch {
	case s.Env != "":
		if _, ok := os.LookupEnv(s.Env); !ok {
			return sandboxer.WithHint(fmt.Errorf("%w: the environment variable %s is not set", sandboxer.ErrNotFound, s.Env), "set %s where the program runs", s.Env)
		}
		return nil
	case s.File != "":
		info, err := os.Stat(expandHome(s.File))
		return cmp.Or(fileError(err), s.suits(info))
	}
	_, err := exec.LookPath(s.Command[0])
	return commandError(s.Command[0], err)
}

func (s Source) read() ([]byte, error) {
	if err := s.check(); err != nil { // before it is opened: a pipe would wait for its writer
		return nil, err
	}
	f, err := os.Open(expandHome(s.File))
	if err != nil {
		return nil, fileError(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err := cmp.Or(fileError(err), s.suits(info)); err != nil {
		return nil, err
	}
	value, err := io.ReadAll(io.LimitReader(f, sandboxer.MaxSecret+1))
	if err != nil {
		return nil, fileError(err)
	}
	return bounded(value)
}

func fileError(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", sandboxer.ErrNotFound, err)
	}
	return err
}

// suits reports whether a file is one, and this account's own.
func (s Source) suits(info fs.FileInfo) error {
	switch {
	case info == nil:
		return nil // its error was returned
	case !info.Mode().IsRegular():
		return fmt.Errorf("%w: %s is not a regular file", sandboxer.ErrInvalid, s.File)
	case runtime.GOOS != "windows" && !s.Shared && info.Mode()&0o077 != 0:
		return sandboxer.WithHint(fmt.Errorf("%w: other accounts may open %s, which has mode %04o", sandboxer.ErrInvalid, s.File, info.Mode().Perm()),
			"chmod 600 it, or say shared: true where that is meant to be")
	}
	return nil
}

func bounded(value []byte) ([]byte, error) {
	if len(value) > sandboxer.MaxSecret {
		return nil, fmt.Errorf("%w: its value has more than %d bytes", sandboxer.ErrInvalid, sandboxer.MaxSecret)
	}
	return value, nil
}

// run returns what the command writes. Its standard error may hold anything,
// so nobody reads it.
func (s Source) run(ctx context.Context) ([]byte, error) {
	bound := cmp.Or(s.Timeout, defaultTimeout)
	late := fmt.Errorf("%s did not end within %v", s.Command[0], bound)
	ctx, cancel := context.WithTimeoutCause(ctx, bound.Std(), late)
	defer cancel()
	var out capped
	cmd := exec.CommandContext(ctx, s.Command[0], s.Command[1:]...)
	cmd.Env, cmd.Dir, cmd.Stdout = s.environment(), rootDir(), &out
	cmd.WaitDelay = time.Second // a child of its own may hold the output open
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case out.full:
		return bounded(out.b)
	case err != nil:
		return nil, commandError(s.Command[0], err)
	}
	return bytes.TrimSuffix(bytes.TrimSuffix(out.b, []byte("\n")), []byte("\r")), nil
}

func commandError(program string, err error) error {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit):
		return sandboxer.WithHint(fmt.Errorf("%s ended with %s", program, exit.ProcessState), "run it by hand: what it says on standard error is not shown here")
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", sandboxer.ErrNotFound, err)
	}
	return err
}

// environment is what a program needs to work at all, and what was asked for.
func (s Source) environment() []string {
	names := append([]string{"PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "USER"}, s.PassEnv...)
	if runtime.GOOS == "windows" {
		names = append(names, "SYSTEMROOT", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "TEMP", "TMP")
	}
	slices.Sort(names)
	env := []string{}
	for _, name := range slices.Compact(names) {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// rootDir is no directory of a repository that this program was started in.
func rootDir() string {
	if runtime.GOOS == "windows" {
		return os.TempDir()
	}
	return "/"
}

// capped keeps a little more than a secret may have and ends whoever writes more.
type capped struct {
	b    []byte
	full bool
}

func (c *capped) Write(p []byte) (int, error) {
	if c.b = append(c.b, p...); len(c.b) > sandboxer.MaxSecret+2 {
		c.full = true
		return 0, errors.New("too much")
	}
	return len(p), nil
}
