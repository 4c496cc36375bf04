// Package host is the protocol spoken with a machine that holds sandboxes:
// what lies where, who may change it, and how it goes away again.
//
// Nothing is installed. Every step is a POSIX shell script under scripts/ that
// travels with its values; the machine needs tar, gzip, flock, setsid and a
// Docker Engine with the compose plugin. Under the root directory, mode 0700:
//
//	host.json               schema and a random id of this root
//	lock/<id>               one lock per sandbox, gone with it
//	net/<block>             who claimed a block of 16 addresses
//	cache/src/<digest>/     an uploaded tree, never written by a container: tree/ manifest source used
//	cache/steps/            images that builds left and that others may still stand on
//	slots/                  locks for admission, the cache, builds and heavy work; the reaper
//	sb/<id>/                meta.json lease attempt tree networks plan.json
//	                        compose.yaml pins/ src/ jobs/up/{run,pid,out,stage,rc}
//
// Secrets lie in /dev/shm/sandboxer-<root's id>/<id>/ where that is memory, else
// in sb/<id>/secrets/, and nowhere else.
//
// The directory sb/<id> appears complete, by rename, before the first engine
// object and goes, by rename, after the last. A step that changes something
// stands on lock/<id>, so that a teardown can end it, and checks that the
// directory still belongs to its attempt. The long step is a detached job that
// inherits the lock. Steps may be repeated: a broken link is answered by
// running the script again.
package host

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/engine"
	"github.com/sand-boxer/sandboxer/compose/internal/remote"
)

//go:embed scripts/*.sh
var scripts embed.FS

// script joins the library and the named scripts into one, without what is for
// people only: a shell on the host reads its script byte by byte.
func script(names ...string) string {
	var b strings.Builder
	for _, name := range append([]string{"lib"}, names...) {
		text, err := scripts.ReadFile("scripts/" + name + ".sh")
		if err != nil {
			panic("no script " + name) // names are constants of this package
		}
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimLeft(line, "\t"); line != "\n" && line[0] != '#' {
				b.WriteString(line)
			}
		}
	}
	return b.String()
}

// Config says how a machine is used.
type Config struct {
	Name     string
	Root     string        // empty: the account's default, see scripts/lib.sh
	Socket   string        // of the engine; empty: found by the probe
	Slots    int           // most sandboxes at once; 0 is no limit
	CacheTTL time.Duration // how long an unused uploaded tree stays; 0: not at all
}

// A Machine is one host. It is safe for concurrent use.
type Machine struct {
	cfg     Config
	remote  remote.Host
	engine  *engine.Client
	probing chan struct{} // holds a token while somebody probes

	mu     sync.Mutex
	facts  *Facts
	probed time.Time
	socket string // the engine's, as last probed
}

// New returns a Machine that speaks through r and closes it with Close. No I/O.
func New(cfg Config, r remote.Host) *Machine {
	if cfg.Root != "" {
		cfg.Root = path.Clean(cfg.Root) // a link with a slash behind it would not be seen as one
	}
	m := &Machine{cfg: cfg, remote: r, probing: make(chan struct{}, 1)}
	m.engine = engine.New(m.dialEngine)
	return m
}

// Close ends all connections to the machine.
func (m *Machine) Close() error {
	m.engine.Close()
	return m.remote.Close()
}

// killedCode is what a script ends with that was killed, by a teardown for
// instance; asked again, the host says why.
const killedCode = 128 + 9

// tries is how often a script is run when the link breaks under it.
const tries = 4

// A step is one or more scripts, run as one, with their values.
type step struct {
	names      []string
	vars       map[string]string
	before     func(vars map[string]string) // adjusts the values of every try
	stdin      func() io.ReadCloser         // a fresh reader for every try, closed after it; nil: none
	stdout     io.Writer
	persistent bool // tried until ctx ends, also while the host cannot be reached
}

// run executes a step, again after a broken link, and turns its exit code
// into an error of this project.
func (m *Machine) run(ctx context.Context, s step) ([]byte, error) {
	vars := map[string]string{"root": m.cfg.Root, "socket": m.cfg.Socket}
	maps.Copy(vars, s.vars)
	for try := 1; ; try++ {
		if s.before != nil {
			s.before(vars)
		}
		result, err := m.try(ctx, s, vars)
		if err == nil && result.ExitCode == killedCode {
			err = fmt.Errorf("%w: the script was killed", remote.ErrInterrupted)
		}
		again := errors.Is(err, remote.ErrInterrupted) && try < tries || s.persistent && remote.Temporary(err)
		switch {
		case err == nil:
			return result.Stdout, exitError(result)
		case ctx.Err() != nil:
			return nil, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case !again:
			return nil, Classify(err)
		}
		if err := pause(ctx, min(time.Duration(try)*200*time.Millisecond, 2*time.Second)); err != nil {
			return nil, err
		}
	}
}

func (m *Machine) try(ctx context.Context, s step, vars map[string]string) (remote.Result, error) {
	cmd := remote.Command{Script: script(s.names...), Vars: vars, Stdout: s.stdout}
	if s.stdin != nil {
		stdin := s.stdin()
		defer stdin.Close()
		cmd.Stdin = stdin
	}
	return m.remote.Run(ctx, cmd)
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Exit codes of the scripts that mean something here; scripts/lib.sh lists all.
const (
	exitGone       = 65
	exitGeneration = 66
	exitNoSlot     = 67
	exitSubnet     = 68
	exitResidue    = 69
	exitDisk       = 71
	exitDestroying = 72
	exitNewer      = 73
	exitFiles      = 74
	exitJobFailed  = 77
	exitEngine     = 78
	exitTree       = 81
	exitFirewall   = 82
)

// An ExitError is a script's own refusal.
type ExitError struct {
	Code    int
	Message string
}

func (e *ExitError) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("the host's script ended with code %d", e.Code)
	}
	return e.Message
}

// Is maps the protocol's exit codes to the project's sentinels.
func (e *ExitError) Is(target error) bool {
	switch e.Code {
	case exitGone, exitGeneration, exitDestroying, exitNewer:
		return target == sandboxer.ErrConflict
	case exitNoSlot, exitDisk:
		return target == sandboxer.ErrLimit || target == sandboxer.ErrUnavailable
	case exitResidue, exitFiles:
		return target == sandboxer.ErrResidue
	}
	return target == sandboxer.ErrUnavailable
}

func exitError(r remote.Result) error {
	if r.ExitCode == 0 {
		return nil
	}
	return &ExitError{Code: r.ExitCode, Message: lastLines(string(r.Stderr), 3)}
}

func isExit(err error, code int) bool {
	var exit *ExitError
	return errors.As(err, &exit) && exit.Code == code
}

// lastLines joins the last n lines that differ.
func lastLines(s string, n int) string {
	lines := slices.Compact(strings.Split(strings.TrimSpace(s), "\n"))
	return strings.Join(lines[max(0, len(lines)-n):], "; ")
}

// Classify gives the errors of the transport and of the engine their
// sentinels and remedies.
func Classify(err error) error {
	var key *remote.HostKeyError
	var auth *remote.AuthError
	var unreachable *remote.UnreachableError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &key):
		return sandboxer.WithHint(fmt.Errorf("%w: %w", sandboxer.ErrHostKey, err), "compare the fingerprint with the one the host itself shows (ssh-keygen -lf), then pin it as host_key or add it to known_hosts")
	case errors.As(err, &auth):
		return sandboxer.WithHint(fmt.Errorf("%w: %w", sandboxer.ErrAuth, err), "add the public key to the account's authorized_keys, or name another identity file for the host")
	case errors.As(err, &unreachable):
		return sandboxer.WithHint(fmt.Errorf("%w: %w", sandboxer.ErrUnavailable, err), "check that the host is up and sshd listens there")
	case errors.Is(err, engine.ErrUnreachable):
		return sandboxer.WithHint(fmt.Errorf("%w: %w", sandboxer.ErrUnavailable, err), "start the Docker Engine on the host")
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return fmt.Errorf("%w: %w", sandboxer.ErrUnavailable, err)
}

// Engine returns the client of the machine's Docker Engine, probing first if
// that has not been done.
func (m *Machine) Engine(ctx context.Context) (*engine.Client, error) {
	if _, err := m.Probe(ctx); err != nil {
		return nil, err
	}
	return m.engine, nil
}

// dialEngine prefers the socket itself, which costs no session, and falls back
// to the docker CLI's own relay where sshd does not forward.
func (m *Machine) dialEngine(ctx context.Context) (net.Conn, error) {
	m.mu.Lock()
	socket := m.socket
	m.mu.Unlock()
	conn, err := m.remote.DialUnix(ctx, socket)
	if errors.Is(err, remote.ErrForwardingRefused) {
		return m.remote.DialExec(ctx, remote.Command{
			Script: "DOCKER_HOST=unix://$socket exec docker system dial-stdio\n",
			Vars:   map[string]string{"socket": socket},
		})
	}
	return conn, err
}
