package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// asCommand makes the test binary be the command itself, so that a whole
// process can be killed.
const asCommand = "SANDBOXER_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) == "1" {
		os.Exit(run(context.Background(), os.Args[1:], streams{in: os.Stdin, out: os.Stdout, err: os.Stderr}))
	}
	os.Exit(m.Run())
}

// start begins the command in a process of its own.
func (c *cli) start(args ...string) (*exec.Cmd, *bytes.Buffer) {
	c.t.Helper()
	var out bytes.Buffer
	cmd := exec.Command(os.Args[0], append([]string{"--db", c.db, "--hosts", c.hosts}, args...)...)
	cmd.Env = append(os.Environ(), asCommand+"=1")
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	return cmd, &out
}

// killAfter runs the command and kills it with SIGKILL after d. It reports
// whether the command had ended by itself before.
func (c *cli) killAfter(d time.Duration, args ...string) (ended bool) {
	c.t.Helper()
	cmd, out := c.start(args...)
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			c.t.Errorf("sandbox %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return true
	case <-time.After(d):
		_ = cmd.Process.Kill()
		<-done
		return false
	}
}

// moments is how many points in time of each operation are tried.
const moments = 10

// TestKill kills the command at ten different moments of create and of
// destroy. A reconcile afterwards leaves nothing, the record true and the
// event numbers without gaps.
func TestKill(t *testing.T) {
	requireEngine(t)
	c := newCLI(t, `address: "local:"`)
	repo := smallRepo(t)
	start := time.Now()
	id := strings.TrimSpace(c.must("create", "-q", "--input", "repo="+repo))
	whole := time.Since(start)
	start = time.Now()
	c.must("destroy", id)
	end := time.Since(start)
	t.Logf("an undisturbed create takes %v, a destroy %v", whole, end)

	for i := range moments {
		at := whole * time.Duration(2*i+1) / (2 * moments)
		t.Run(fmt.Sprintf("create at %v", at.Round(time.Millisecond)), func(t *testing.T) {
			c := c.with(t)
			ended := c.killAfter(at, "create", "--input", "repo="+repo)
			c.must("reconcile")
			if ended {
				c.must("destroy", firstID(c))
			}
			c.assertHistory()
		})
	}
	for i := range moments {
		at := end * time.Duration(2*i+1) / (2 * moments)
		t.Run(fmt.Sprintf("destroy at %v", at.Round(time.Millisecond)), func(t *testing.T) {
			c := c.with(t)
			id := strings.TrimSpace(c.must("create", "-q", "--input", "repo="+repo))
			c.killAfter(at, "destroy", id)
			c.must("reconcile")
			// killed before it had recorded anything, it is an ordinary ready sandbox
			c.must("destroy", id)
			c.assertHistory()
		})
	}
}

// with is the same command for a subtest.
func (c *cli) with(t *testing.T) *cli {
	sub := *c
	sub.t = t
	return &sub
}

func firstID(c *cli) string {
	return strings.Fields(c.must("list", "-q"))[0]
}
