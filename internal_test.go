package sandboxer

import (
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"
)

func TestThisProcessIsAlive(t *testing.T) {
	p := currentProcess()
	if p.PID != os.Getpid() || p.Machine == "" || p.gone() {
		t.Errorf("%+v is taken for gone", p)
	}
}

func TestRunningChildIsAliveUntilItEnds(t *testing.T) {
	child := exec.Command(os.Args[0], "-test.run=^TestHelperThatWaits$")
	child.Env = append(os.Environ(), "SANDBOXER_TEST_WAIT=1")
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	start, exists := processStart(child.Process.Pid)
	p := Process{Machine: machine(), PID: child.Process.Pid, Start: start}
	if !exists || p.gone() {
		t.Errorf("the running child %+v is taken for gone", p)
	}
	_ = stdin.Close()
	// a zombie does no work; other systems do not tell
	for limit := time.Now().Add(10 * time.Second); runtime.GOOS == "linux" && !p.gone(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("the child has ended, unwaited for, and is taken for alive")
		}
	}
	_ = child.Wait()
	if !p.gone() {
		t.Errorf("the child %+v has ended and is taken for alive", p)
	}
}

// TestHelperThatWaits is the child of the test above; elsewhere it does nothing.
func TestHelperThatWaits(*testing.T) {
	if os.Getenv("SANDBOXER_TEST_WAIT") != "" {
		_, _ = os.Stdin.Read(make([]byte, 1))
	}
}

func TestAnotherProcessWithTheSameNumberIsNotTheSame(t *testing.T) {
	p := currentProcess()
	if p.Start == 0 {
		t.Skip("this system does not tell when a process started")
	}
	p.Start--
	if !p.gone() {
		t.Error("a process that started at another time is taken for the same")
	}
}

func TestProcessesOfOtherMachinesAreNotKnownToBeGone(t *testing.T) {
	p := Process{Machine: "elsewhere", PID: 1 << 30, Start: 1}
	if p.gone() {
		t.Error("nothing is known of a process of another machine")
	}
}

func TestOperationsAreAbandoned(t *testing.T) {
	now := time.Now()
	alive := currentProcess()
	dead := Process{Machine: alive.Machine, PID: 1 << 30}
	far := Process{Machine: "elsewhere", PID: 1}
	tests := map[string]struct {
		op   *Operation
		want bool
	}{
		"nobody":                      {nil, true},
		"alive and in time":           {&Operation{Process: alive, Deadline: now}, false},
		"alive and late":              {&Operation{Process: alive, Deadline: now.Add(-1)}, true},
		"dead and in time":            {&Operation{Process: dead, Deadline: now}, true},
		"on another machine, in time": {&Operation{Process: far, Deadline: now}, false},
		"on another machine, late":    {&Operation{Process: far, Deadline: now.Add(-1)}, true},
	}
	for name, tt := range tests {
		if got := tt.op.abandoned(now); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

func TestIDsAreOfOneForm(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := newID()
		if !ValidID(id) || seen[id] {
			t.Fatalf("id %q is malformed or repeats", id)
		}
		seen[id] = true
	}
	for _, id := range []string{"", "a", "1bcdefghijabcdefghij", "abcdefghijabcdefghi", "abcdefghijabcdefghijk", "abcdefghij-bcdefghij", "Abcdefghijabcdefghij", "abcdefghij/bcdefghij"} {
		if ValidID(id) {
			t.Errorf("%q is taken for an id", id)
		}
	}
}

func TestRecordsChangeOnlyAlongTheTable(t *testing.T) {
	c := &Client{store: NewMemoryStore(), log: slog.New(slog.DiscardHandler)}
	r := &Record{Sandbox: Sandbox{ID: newID(), State: StateLost}, Seq: 1}
	if err := c.store.Create(t.Context(), r, newEvent(&Record{Sandbox: r.Sandbox}, "", time.Time{}, c.now())); err != nil {
		t.Fatal(err)
	}
	got, err := c.edit(t.Context(), r.Sandbox.ID, set(StateDestroyed, ReasonVerified, ""))
	if !errors.Is(err, ErrState) || got.Sandbox.State != StateLost {
		t.Errorf("from lost to destroyed: %v, %s", err, got.Sandbox.State)
	}
	if stored, _ := c.store.Get(t.Context(), r.Sandbox.ID); stored.Sandbox.State != StateLost || stored.Seq != 1 {
		t.Errorf("stored is %s at event %d", stored.Sandbox.State, stored.Seq)
	}
}
