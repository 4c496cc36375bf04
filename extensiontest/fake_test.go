package extensiontest

import (
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
)

// stand provisions one sandbox on host "one" and returns its handle.
func stand(t *testing.T, f *Fake, req sandboxer.ProvisionRequest) sandboxer.Handle {
	t.Helper()
	h, err := f.Provision(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func request(expires time.Time) sandboxer.ProvisionRequest {
	req := newBench(nil).harness(nil).Request
	req.SandboxID, req.Generation, req.ExpiresAt = newID(), 1, expires
	return req
}

func leftovers(t *testing.T, b *Backend, id string) []string {
	t.Helper()
	left, err := b.Leftovers(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return left
}

func TestBackendHonoursLeasesByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBackend()
		h := stand(t, NewFake(FakeConfig{Backend: b}), request(time.Now().Add(time.Hour)))
		time.Sleep(time.Hour - time.Second)
		if len(leftovers(t, b, h.SandboxID)) == 0 {
			t.Fatal("removed before its time")
		}
		time.Sleep(time.Second)
		if left := leftovers(t, b, h.SandboxID); len(left) > 0 {
			t.Errorf("still there after its time: %v", left)
		}
		o, _ := NewFake(FakeConfig{Backend: b}).Inspect(t.Context(), h)
		if o.Presence != sandboxer.Absent || !o.Expired {
			t.Errorf("Inspect says %s, expired %v", o.Presence, o.Expired)
		}
	})
}

func TestRecordIsWrittenFirstAndRemovedLast(t *testing.T) {
	b := NewBackend()
	req := request(time.Now().Add(time.Hour))
	creator := NewFake(FakeConfig{Backend: b, Fault: StopAt("provision", kindNetwork)})
	if _, err := creator.Provision(t.Context(), req); !errors.Is(err, ErrStopped) {
		t.Fatalf("Provision: %v", err)
	}
	only := []string{"record " + req.SandboxID + " on one"}
	if diff := cmp.Diff(only, leftovers(t, b, "")); diff != "" {
		t.Errorf("after a crash before the network (-want +got):\n%s", diff)
	}
	h := stand(t, NewFake(FakeConfig{Backend: b}), req)
	destroyer := NewFake(FakeConfig{Backend: b, Fault: StopAt("teardown", kindRecord)})
	if _, err := destroyer.Teardown(t.Context(), h); !errors.Is(err, ErrStopped) {
		t.Fatalf("Teardown: %v", err)
	}
	if diff := cmp.Diff(only, leftovers(t, b, "")); diff != "" {
		t.Errorf("after a crash before the record went (-want +got):\n%s", diff)
	}
}

func TestStoppedFakeTouchesNothing(t *testing.T) {
	b := NewBackend()
	f := NewFake(FakeConfig{Backend: b, Fault: StopAt("ready", "")})
	h := stand(t, f, request(time.Now().Add(time.Hour)))
	before := leftovers(t, b, "")
	_, _ = f.WaitReady(t.Context(), h)
	if _, err := f.Teardown(t.Context(), h); !errors.Is(err, ErrStopped) {
		t.Errorf("Teardown: %v, want ErrStopped", err)
	}
	if diff := cmp.Diff(before, leftovers(t, b, "")); diff != "" {
		t.Errorf("a stopped Fake changed the backend (-before +after):\n%s", diff)
	}
}

func TestResidueGoesWithALaterTeardown(t *testing.T) {
	b := NewBackend()
	f := NewFake(FakeConfig{Backend: b, Fault: Times(1, FailAt("teardown", kindVolume, errors.New("volume is in use")))})
	h := stand(t, f, request(time.Now().Add(time.Hour)))
	removal, err := f.Teardown(t.Context(), h)
	want := []sandboxer.Resource{
		{Kind: kindVolume, ID: h.SandboxID + "-cache", Name: h.SandboxID + "-cache"},
		{Kind: kindRecord, ID: h.SandboxID, Name: h.SandboxID},
	}
	if residue, ok := errors.AsType[*sandboxer.ResidueError](err); !ok {
		t.Fatalf("Teardown: %v, want a ResidueError", err)
	} else if diff := cmp.Diff(want, residue.Residue); diff != "" {
		t.Errorf("residue of the error (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, removal.Residue); diff != "" {
		t.Errorf("residue of the removal (-want +got):\n%s", diff)
	}
	if removal, err = f.Teardown(t.Context(), h); err != nil || removal.VerifiedAt.IsZero() || len(leftovers(t, b, "")) > 0 {
		t.Errorf("the second Teardown: %v, verified %v, left %v", err, removal.VerifiedAt, leftovers(t, b, ""))
	}
}

func TestFaultsAreConfined(t *testing.T) {
	broken := errors.New("broken")
	step := func(op, stage, host string) Step { return Step{Op: op, Stage: stage, Host: host} }
	tests := map[string]struct {
		fault Fault
		step  Step
		want  error
	}{
		"its stage":          {FailAt("provision", "volume", broken), step("provision", "volume", "a"), broken},
		"another stage":      {FailAt("provision", "volume", broken), step("provision", "network", "a"), nil},
		"another operation":  {FailAt("provision", "volume", broken), step("teardown", "volume", "a"), nil},
		"every stage":        {FailAt("provision", "", broken), step("provision", "volume", "a"), broken},
		"its host":           {OnHost("a", FailAt("probe", "", broken)), step("probe", "", "a"), broken},
		"another host":       {OnHost("a", FailAt("probe", "", broken)), step("probe", "", "b"), nil},
		"the second of two":  {Faults(FailAt("list", "", io.EOF), FailAt("probe", "", broken)), step("probe", "", "a"), broken},
		"no more than twice": {used(Times(2, FailAt("probe", "", broken)), step("probe", "", "a"), 2), step("probe", "", "a"), nil},
		"the second time":    {used(Times(2, FailAt("probe", "", broken)), step("probe", "", "a"), 1), step("probe", "", "a"), broken},
	}
	for name, tt := range tests {
		if got := tt.fault(t.Context(), tt.step); !errors.Is(got, tt.want) {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
}

// used is a fault that was asked n times before.
func used(f Fault, s Step, n int) Fault {
	for range n {
		_ = f(context.Background(), s)
	}
	return f
}

func TestHangEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFake(FakeConfig{Backend: NewBackend(), Fault: HangAt("provision", kindVolume)})
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errGaveUp)
		defer cancel()
		start := time.Now()
		if _, err := f.Provision(ctx, request(time.Now().Add(time.Hour))); !errors.Is(err, errGaveUp) || time.Since(start) != time.Minute {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}

func TestFullHostIsUnavailable(t *testing.T) {
	f := NewFake(FakeConfig{Backend: NewBackend(sandboxer.Host{Name: "one", Slots: 1})})
	first := request(time.Now().Add(time.Hour))
	stand(t, f, first)
	if _, err := f.Provision(t.Context(), request(time.Now().Add(time.Hour))); !errors.Is(err, sandboxer.ErrUnavailable) {
		t.Errorf("the second sandbox on one slot: %v, want ErrUnavailable", err)
	}
	stand(t, f, first) // adopting takes no slot
}

func TestConnectionsEndWithTheSandbox(t *testing.T) {
	f := NewFake(FakeConfig{Backend: NewBackend()})
	h := stand(t, f, request(time.Now().Add(time.Hour)))
	conn, err := f.Dial(t.Context(), h, EchoService, EchoPort)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := echoes(conn); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Teardown(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("reading from a removed sandbox: %v, want EOF", err)
	}
}

func TestClosedPortRefuses(t *testing.T) {
	f := NewFake(FakeConfig{Backend: NewBackend()})
	h := stand(t, f, request(time.Now().Add(time.Hour)))
	if _, err := f.Dial(t.Context(), h, WebService, 81); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v, want connection refused", err)
	}
}

func TestLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFake(FakeConfig{Backend: NewBackend()})
		h := stand(t, f, request(time.Now().Add(time.Hour)))
		read := func(opts sandboxer.LogOptions) string {
			r, err := f.Logs(t.Context(), h, opts)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		}
		tests := map[string]struct {
			opts sandboxer.LogOptions
			want string
		}{
			"the last":     {sandboxer.LogOptions{Tail: 2}, "web | made\necho | made\n"},
			"one service":  {sandboxer.LogOptions{Service: WebService}, "web | made\n"},
			"with times":   {sandboxer.LogOptions{Service: WebService, Timestamps: true}, "2000-01-01T00:00:00Z web | made\n"},
			"tail too far": {sandboxer.LogOptions{Service: WebService, Tail: 9}, "web | made\n"},
		}
		for name, tt := range tests {
			if got := read(tt.opts); got != tt.want {
				t.Errorf("%s: got %q, want %q", name, got, tt.want)
			}
		}
	})
}

func TestFollowedLogsGoOnUntilTheSandboxEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFake(FakeConfig{Backend: NewBackend()})
		h := stand(t, f, request(time.Now().Add(time.Hour)))
		r, err := f.Logs(t.Context(), h, sandboxer.LogOptions{Service: WebService, Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			time.Sleep(time.Minute)
			_ = f.reach(t.Context(), "logs", h, func(x *box) error { x.journal.write(WebService, "later"); return nil })
			time.Sleep(time.Minute)
			_, _ = f.Teardown(t.Context(), h)
		}()
		text, err := io.ReadAll(r)
		if err != nil || !strings.HasSuffix(string(text), "web | made\nweb | later\n") {
			t.Errorf("got %q, %v", text, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestClosingAReaderEndsItsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFake(FakeConfig{Backend: NewBackend()})
		h := stand(t, f, request(time.Now().Add(time.Hour)))
		r, err := f.Logs(t.Context(), h, sandboxer.LogOptions{Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, func() { _ = r.Close() })
		if _, err := io.ReadAll(r); !errors.Is(err, errReaderClosed) {
			t.Errorf("got %v", err)
		}
	})
}
