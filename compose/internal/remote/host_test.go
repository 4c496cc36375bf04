//go:build linux || darwin

package remote

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/internal/sshtest"
)

// TestMain runs more tests at once than there are processors, unless it is told
// how many: they wait more than they compute.
func TestMain(m *testing.M) {
	flag.Parse()
	told := false
	flag.Visit(func(f *flag.Flag) { told = told || f.Name == "test.parallel" })
	if !told {
		flag.Set("test.parallel", "6")
	}
	os.Exit(m.Run())
}

// TestHost is what every host has in common.
func TestHost(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*testing.T, Host){
		"run reports what a script did":              testRunReportsWhatAScriptDid,
		"vars arrive byte for byte":                  testVarsArriveByteForByte,
		"data after the script":                      testDataAfterTheScript,
		"output arrives as it is printed":            testOutputArrivesAsItIsPrinted,
		"output limits":                              testOutputLimits,
		"cancel ends the script, not the detached":   testCancelEndsTheScriptAndSparesTheDetached,
		"cancel is prompt whatever blocks":           testCancelIsPromptWhateverBlocks,
		"concurrent runs do not mix":                 testConcurrentRunsDoNotMix,
		"connections carry bytes both ways":          testConnectionsCarryBytesBothWays,
		"connections are net.Conns":                  testConnectionsAreNetConns,
		"output of an ended script is not lost":      testOutputOfAnEndedScriptIsNotLost,
		"what was written arrives after Close":       testWhatWasWrittenArrivesAfterClose,
		"HTTP over a socket":                         testHTTPOverASocket,
		"nothing listens":                            testNothingListens,
		"DialExec of a script that fails":            testDialExecOfAScriptThatFails,
		"closing an exec connection ends its script": testClosingAnExecConnectionEndsItsScript,
	}
	for kind, newHost := range kinds() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			for name, test := range tests {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					test(t, h)
				})
			}
		})
	}
}

// kinds are the implementations of Host.
func kinds() map[string]func(*testing.T) Host {
	return map[string]func(*testing.T) Host{
		"ssh": func(t *testing.T) Host {
			return connect(t, sshtest.Start(t, sshtest.Options{Home: t.TempDir()}))
		},
		"local": local,
	}
}

// configFor returns a configuration that leads to server.
func configFor(server *sshtest.Server) SSHConfig {
	return SSHConfig{
		Address: server.Addr, User: server.User,
		KnownHosts:    []string{server.KnownHosts},
		IdentityFiles: []string{server.IdentityFile},
	}
}

func connect(t *testing.T, server *sshtest.Server) Host {
	t.Helper()
	return open(t, configFor(server))
}

func open(t *testing.T, cfg SSHConfig) Host {
	t.Helper()
	h, err := SSH(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func local(t *testing.T) Host {
	t.Helper()
	h, err := Local()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// mustRun returns what a script printed that has to succeed.
func mustRun(t *testing.T, h Host, cmd Command) string {
	t.Helper()
	r, err := h.Run(t.Context(), cmd)
	if err != nil || r.ExitCode != 0 {
		t.Fatalf("exit %d, error %v, stderr %q", r.ExitCode, err, r.Stderr)
	}
	return string(r.Stdout)
}

// through returns a host that is reached over a proxy.
func through(t *testing.T, server *sshtest.Server, cfg SSHConfig) (Host, *sshtest.Proxy) {
	t.Helper()
	proxy := sshtest.NewProxy(t, server.Addr)
	cfg.Address = proxy.Addr
	cfg.KnownHosts = []string{server.KnownHostsFor(proxy.Addr)}
	cfg.User, cfg.IdentityFiles = server.User, []string{server.IdentityFile}
	return open(t, cfg), proxy
}

// alive reports whether the process runs whose id a script wrote to a file.
func alive(t *testing.T, file string) bool {
	t.Helper()
	pid, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	state, err := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/stat")
	if err != nil {
		return false
	}
	return !bytes.Contains(state, []byte(") Z "))
}

// eventually waits for ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// exists returns whether a file has content.
func exists(file string) func() bool {
	return func() bool {
		text, err := os.ReadFile(file)
		return err == nil && len(text) > 0
	}
}

// socketPath returns a path short enough for a unix socket.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}
