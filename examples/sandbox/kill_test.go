package main

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/hosttest"
)

// asCommand makes the test binary be the command itself, so that a whole
// process can be killed.
const asCommand = "SANDBOXER_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) == "1" {
		main()
	}
	os.Exit(m.Run())
}

// command is the command as a process of its own, not yet started.
func (c *cli) command(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], append(c.global(), args...)...)
	cmd.Env = append(os.Environ(), asCommand+"=1")
	return cmd
}

// A point is when in its run the command is killed: so long
// after it reported a stage, or after its start if stage is empty.
type point struct {
	stage string
	after time.Duration
}

func (m point) String() string { return fmt.Sprintf("%v after %s", m.after, cmp.Or(m.stage, "start")) }

// killAt runs the command and kills it with SIGKILL at a moment. It reports
// whether the command had ended by itself before.
func (c *cli) killAt(m point, args ...string) (ended bool) {
	c.t.Helper()
	cmd := c.command(args...)
	progress, err := cmd.StderrPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	reached, done := make(chan struct{}), make(chan error, 1)
	var said bytes.Buffer
	go func() {
		untilStage(io.TeeReader(progress, &said), m.stage, reached)
		done <- cmd.Wait()
	}()
	select {
	case <-reached:
	case err = <-done:
		c.t.Fatalf("sandbox %s never reported stage %s: %v\n%s", strings.Join(args, " "), m.stage, err, &said)
	}
	select {
	case err = <-done:
		ended = true
	case <-time.After(m.after):
		_ = cmd.Process.Kill()
		<-done
		ended = cmd.ProcessState.Exited()
	}
	if ended && err != nil {
		c.t.Errorf("sandbox %s: %v\n%s", strings.Join(args, " "), err, &said)
	}
	return ended
}

// untilStage closes reached at the first line of a stage, and reads to the end.
func untilStage(progress io.Reader, stage string, reached chan<- struct{}) {
	if stage == "" {
		close(reached)
		reached = nil
	}
	lines := bufio.NewScanner(progress)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); reached != nil && len(fields) > 1 && fields[1] == stage {
			close(reached)
			reached = nil
		}
	}
}

// TestKill kills the command at different moments of create and of destroy. A
// reconcile afterwards leaves nothing of what was not finished, the record
// true and the event numbers without gaps.
func TestKill(t *testing.T) {
	hosttest.Require(t)
	c := newCLI(t, `address: "local:"`)
	repo := smallRepo(t)
	create := func(label string) []string {
		return []string{"create", "--input", "repo=" + repo, "--label", "moment=" + label}
	}
	for i, m := range []point{
		{"workspace", 0}, {"route", 0}, {"reserve", 0}, {"upload", 0}, {"upload", 20 * time.Millisecond}, {"queue", 100 * time.Millisecond},
		{"build", 0}, {"build", time.Second}, {"up", 0}, {"up", 300 * time.Millisecond}, {"ready", 0}, {"ready", 500 * time.Millisecond},
	} {
		t.Run("create "+m.String(), func(t *testing.T) {
			c := c.with(t)
			label := fmt.Sprint(i)
			ended := c.killAt(m, create(label)...)
			c.must("reconcile")
			for _, s := range c.labelled("moment=" + label) {
				// what was recorded as ready before the end is an ordinary sandbox
				if s.State == sandboxer.StateReady {
					c.must("destroy", s.ID)
				} else if ended {
					t.Errorf("the create ended and left %s %s", s.ID, s.State)
				}
			}
			c.assertHistory()
		})
	}
	id := strings.TrimSpace(c.must("create", "-q", "--input", "repo="+repo))
	start := time.Now()
	c.must("destroy", id)
	whole := time.Since(start)
	t.Logf("an undisturbed destroy takes %v", whole)
	const moments = 10
	for i := range moments {
		m := point{after: whole * time.Duration(2*i+1) / (2 * moments)}
		t.Run("destroy "+m.String(), func(t *testing.T) {
			c := c.with(t)
			id := strings.TrimSpace(c.must("create", "-q", "--input", "repo="+repo))
			c.killAt(m, "destroy", id)
			c.must("reconcile")
			// killed before it had recorded anything, it is an ordinary ready sandbox
			c.must("destroy", id)
			c.assertHistory()
		})
	}
}

// labelled lists the sandboxes with a label, destroyed ones too.
func (c *cli) labelled(label string) []sandboxer.Sandbox {
	c.t.Helper()
	return decode[[]sandboxer.Sandbox](c.t, c.must("list", "--all", "--label", label, "--json"))
}

// with is the same command for a subtest.
func (c *cli) with(t *testing.T) *cli {
	sub := *c
	sub.t = t
	return &sub
}
