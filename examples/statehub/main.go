// Command statehub is the reference State Hub: it keeps the events of
// sandboxes in an SQLite file, shows them on a page and answers questions
// about them. Everything it does is package hub.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/statehub/hub"
	"github.com/sand-boxer/sandboxer/sqlstore"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the program
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	cmd := command(out, errOut)
	cmd.SetArgs(args)
	cmd.SetOut(out)
	cmd.SetErr(errOut)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	fmt.Fprintln(errOut, "statehub:", err)
	if hint := sandboxer.Hint(err); hint != "" {
		fmt.Fprintln(errOut, " ", hint)
	}
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

// usageError marks what the caller typed wrong.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

const long = `statehub is a reference State Hub. It keeps the events of sandboxes in an SQLite
file, each once, shows them as a timeline and answers questions about them. What
it has acknowledged is on the disk.

  POST /v1/events              a CloudEvent with an event of a sandbox
  POST /progress               the same in the hub's own form
  PUT, DELETE /v1/sandboxes/ID registration of a sandbox
  GET  /v1/sandboxes[/ID]      whose a sandbox is, where it stands, what is missing
  GET  /v1/events              events, by sandbox and number
  GET  /v1/usage               usage by consumer, project, host, profile or sandbox
  GET  /                       the timeline

It prints the address it listens on and runs until it is interrupted. Exit
codes: 0 done, 1 failed, 2 usage.`

const examples = `  statehub
  statehub --addr 127.0.0.1:0 --db /tmp/hub.db
  HUB_TOKEN=… statehub --addr :8070 --token-env HUB_TOKEN
  curl 'http://127.0.0.1:8070/v1/usage?by=project&since=24h'`

// settings are the flags.
type settings struct {
	addr, db            string
	tokenEnv, tokenFile string
	openReads           bool
}

func command(out, errOut io.Writer) *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use: "statehub", Short: "Keep and show what happens to sandboxes", Long: long, Example: examples,
		SilenceErrors: true, SilenceUsage: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unexpected argument %q, see statehub --help", args[0])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(cmd.Context(), s, out, slog.New(slog.NewTextHandler(errOut, nil)))
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w, see statehub --help", err)}
	})
	f := cmd.Flags()
	f.StringVar(&s.addr, "addr", "127.0.0.1:8070", "address to listen on; port 0 is any free one")
	f.StringVar(&s.db, "db", "", "database file (default statehub.db in $XDG_STATE_HOME/sandboxer)")
	f.StringVar(&s.tokenEnv, "token-env", "", "name of the environment variable that holds the token every request needs")
	f.StringVar(&s.tokenFile, "token-file", "", "file that holds the token every request needs")
	f.BoolVar(&s.openReads, "open-reads", false, "with a token: let everybody read without it")
	return cmd
}

func serve(ctx context.Context, s settings, out io.Writer, log *slog.Logger) (err error) {
	token, err := s.token()
	if err != nil {
		return err
	}
	path, err := s.path()
	if err != nil {
		return err
	}
	h, err := hub.Open(ctx, path, hub.Options{Token: token, OpenReads: s.openReads, Logger: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.addr)
	if err != nil {
		return sandboxer.WithHint(err, "another program may use the port: choose one with --addr, port 0 for any")
	}
	if addr := l.Addr().(*net.TCPAddr); token == "" && !addr.IP.IsLoopback() {
		log.Warn("whoever reaches this address may read and write: give a token with --token-env or --token-file", "address", addr)
	}
	fmt.Fprintf(out, "listening on http://%s/\n", reachable(l.Addr().(*net.TCPAddr)))
	return h.Serve(ctx, l)
}

// reachable is an address as a person may open it on this machine.
func reachable(addr *net.TCPAddr) string {
	if addr.IP.IsUnspecified() {
		return fmt.Sprintf("localhost:%d", addr.Port)
	}
	return addr.String()
}

// token is empty only if none was asked for.
func (s settings) token() (string, error) {
	var token, from string
	switch {
	case s.tokenEnv != "" && s.tokenFile != "":
		return "", usageError{errors.New("--token-env and --token-file: give one of them")}
	case s.tokenEnv != "":
		token, from = os.Getenv(s.tokenEnv), "environment variable "+s.tokenEnv
	case s.tokenFile != "":
		text, err := os.ReadFile(s.tokenFile)
		if err != nil {
			return "", usageError{fmt.Errorf("token file: %w", err)}
		}
		token, from = string(text), s.tokenFile
	case s.openReads:
		return "", usageError{errors.New("--open-reads is of use only with a token: give --token-env or --token-file")}
	default:
		return "", nil
	}
	token = strings.TrimSpace(token)
	if token == "" {
		return "", usageError{fmt.Errorf("%s holds no token", from)}
	}
	return token, nil
}

func (s settings) path() (string, error) {
	if s.db != "" {
		return s.db, nil
	}
	shared, err := sqlstore.DefaultPath()
	if err != nil {
		return "", err
	}
	return filepath.Join(filepath.Dir(shared), "statehub.db"), nil
}
