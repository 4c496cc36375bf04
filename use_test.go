package sandboxer_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/extensiontest"
)

func TestActivateAndBack(t *testing.T) {
	w := newWorld(t)
	c := w.client(process{})
	id := w.create(c).ID
	for range 2 { // repeating changes nothing
		if s, err := c.Activate(t.Context(), id); err != nil || s.State != sandboxer.StateActive {
			t.Errorf("activate: %v, %v", s, err)
		}
	}
	for range 2 {
		if s, err := c.Deactivate(t.Context(), id); err != nil || s.State != sandboxer.StateReady {
			t.Errorf("deactivate: %v, %v", s, err)
		}
	}
	w.wantHistory(id, "1 requested requested", "1 provisioning routed @one", "1 ready ready @one", "1 active activated @one", "1 ready deactivated @one")
	if _, err := c.Destroy(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	_, err := c.Activate(t.Context(), id)
	wantError(t, err, "activate", sandboxer.ErrState)
	if want := "activate " + id + " on one: a sandbox that is destroyed cannot become active"; err.Error() != want {
		t.Errorf("\n got %s\nwant %s", err, want)
	}
}

func TestExtendTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.client(process{})
		s := w.create(c)
		time.Sleep(30 * time.Minute)

		w.backend.SetReachable("one", false) // which matters only when something is to change
		same, err := c.ExtendTTL(t.Context(), s.ID, 10*time.Minute)
		w.backend.SetReachable("one", true)
		if err != nil || !same.ExpiresAt.Equal(s.ExpiresAt) {
			t.Errorf("a shorter life: %v, %v; want what it had, %v", same.ExpiresAt, err, s.ExpiresAt)
		}
		longer, err := c.ExtendTTL(t.Context(), s.ID, 2*time.Hour)
		if want := time.Now().UTC().Add(2 * time.Hour); err != nil || !longer.ExpiresAt.Equal(want) {
			t.Errorf("a longer life: %v, %v; want %v", longer.ExpiresAt, err, want)
		}
		_, err = c.ExtendTTL(t.Context(), s.ID, 4*time.Hour)
		wantError(t, err, "extend", sandboxer.ErrLimit)
		if want := "ask for less, or raise max_ttl in profile.basic for new sandboxes"; sandboxer.Hint(err) != want {
			t.Errorf("hint is %q, want %q", sandboxer.Hint(err), want)
		}
		_, err = c.ExtendTTL(t.Context(), s.ID, 0)
		wantError(t, err, "extend", sandboxer.ErrInvalid)

		if o, err := c.Inspect(t.Context(), s.ID); err != nil || !o.Observed.ExpiresAt.Equal(longer.ExpiresAt) {
			t.Errorf("the backend's lease ends at %v (%v), the record says %v", o.Observed.ExpiresAt, err, longer.ExpiresAt)
		}
		w.wantHistory(s.ID, "1 requested requested", "1 provisioning routed @one", "1 ready ready @one", "1 ready ttl_extended @one")
	})
}

func TestExtendedSandboxOutlivesItsFirstLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.client(process{})
		id := w.create(c).ID
		if _, err := c.ExtendTTL(t.Context(), id, 3*time.Hour); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		if ended, err := c.Reap(t.Context()); err != nil || len(ended) > 0 || len(w.left(id)) == 0 {
			t.Errorf("after two of three hours: reaped %v, %v; left %v", ended, err, w.left(id))
		}
		time.Sleep(time.Hour)
		w.empty()
	})
}

func TestExtendOfWhatIsOver(t *testing.T) {
	w := newWorld(t)
	c := w.client(process{fault: extensiontest.Times(1, extensiontest.FailAt("teardown", "network", errors.New("in use")))})
	id := w.create(c).ID
	for range 2 { // destroying, then destroyed
		_, _ = c.Destroy(t.Context(), id)
		_, err := c.ExtendTTL(t.Context(), id, 2*time.Hour)
		wantError(t, err, "extend", sandboxer.ErrState)
	}
}

// The lease moves before the record does: if it cannot, neither has moved.
func TestExtendOnAnUnreachableHost(t *testing.T) {
	w := newWorld(t)
	c := w.client(process{})
	s := w.create(c)
	w.backend.SetReachable("one", false)
	_, err := c.ExtendTTL(t.Context(), s.ID, 2*time.Hour)
	wantError(t, err, "extend", sandboxer.ErrUnavailable)
	if got := w.record(s.ID).Sandbox.ExpiresAt; !got.Equal(s.ExpiresAt) {
		t.Errorf("the record moved from %v to %v", s.ExpiresAt, got)
	}
}

func TestInspect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.client(process{})
		id := w.create(c).ID
		want := func(presence sandboxer.Presence, expired bool, detail string) {
			t.Helper()
			s, err := c.Inspect(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if o := s.Observed; o.Presence != presence || o.Expired != expired || o.Detail != detail || !o.At.Equal(time.Now()) {
				t.Errorf("observed %+v, want %s, expired %v, %q", o, presence, expired, detail)
			}
		}
		want(sandboxer.Present, false, "")
		w.backend.SetReachable("one", false)
		want(sandboxer.Unknown, false, "unavailable: host one does not answer")
		w.backend.SetReachable("one", true)
		time.Sleep(2 * time.Hour)
		want(sandboxer.Absent, true, "")
		if s, _ := c.Get(t.Context(), id); s.Observed != nil || s.State != sandboxer.StateReady {
			t.Errorf("Inspect changed the record: %s, %v", s.State, s.Observed)
		}
	})
}

func TestInspectOfAHangingHostIsUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		id := w.create(w.client(process{})).ID
		start := time.Now()
		s, err := w.client(process{fault: extensiontest.HangAt("inspect", "")}).Inspect(t.Context(), id)
		if err != nil || s.Observed.Presence != sandboxer.Unknown || time.Since(start) != 20*time.Second {
			t.Errorf("after %v: %+v, %v", time.Since(start), s.Observed, err)
		}
	})
}

func TestInspectWithoutInspectorIsUnknown(t *testing.T) {
	w := newWorld(t)
	c := w.client(process{wrap: func(f *extensiontest.Fake) sandboxer.Extension { return struct{ sandboxer.Extension }{f} }})
	s, err := c.Inspect(t.Context(), w.create(c).ID)
	if err != nil || s.Observed.Presence != sandboxer.Unknown || s.Observed.Detail != "ext.fake cannot be asked" {
		t.Errorf("observed %+v, %v", s.Observed, err)
	}
}

func TestDial(t *testing.T) {
	w := newWorld(t)
	c := w.client(process{})
	id := w.create(c).ID
	conn, err := c.Dial(t.Context(), id, extensiontest.EchoService, extensiontest.EchoPort)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "ping\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || line != "ping\n" {
		t.Errorf("read %q, %v", line, err)
	}
	_, err = c.Dial(t.Context(), id, "db", 5432)
	wantError(t, err, "dial", sandboxer.ErrNotFound)
	_, err = c.Dial(t.Context(), id, extensiontest.WebService, 81)
	if wantError(t, err, "dial"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v, want connection refused", err)
	}
}

// Dial and Logs work exactly where there may be something to reach.
func TestDialByState(t *testing.T) {
	tests := map[sandboxer.State]bool{
		sandboxer.StateRequested: false, sandboxer.StateProvisioning: false, sandboxer.StateReady: true, sandboxer.StateActive: true,
		sandboxer.StateFailed: true, sandboxer.StateLost: true, sandboxer.StateDestroying: false, sandboxer.StateDestroyed: false,
	}
	for _, state := range sandboxer.States() {
		w := newWorld(t)
		c := w.client(process{store: statedStore{w.store, state}})
		id := w.create(w.client(process{})).ID
		conn, err := c.Dial(t.Context(), id, extensiontest.EchoService, extensiontest.EchoPort)
		logs, logsErr := c.Logs(t.Context(), id, sandboxer.LogOptions{})
		if tests[state] {
			if err != nil || logsErr != nil {
				t.Errorf("%s: dial %v, logs %v", state, err, logsErr)
				continue
			}
			_, _ = conn.Close(), logs.Close()
			continue
		}
		wantError(t, err, "dial", sandboxer.ErrState)
		wantError(t, logsErr, "logs", sandboxer.ErrState)
	}
}

// A statedStore shows every sandbox in one state.
type statedStore struct {
	sandboxer.Store
	state sandboxer.State
}

func (s statedStore) Get(ctx context.Context, id string) (*sandboxer.Record, error) {
	r, err := s.Store.Get(ctx, id)
	if err == nil {
		r.Sandbox.State = s.state
	}
	return r, err
}

func TestWhatTheExtensionCannot(t *testing.T) {
	w := newWorld(t)
	c := w.client(process{wrap: func(f *extensiontest.Fake) sandboxer.Extension { return struct{ sandboxer.Extension }{f} }})
	id := w.create(c).ID
	_, err := c.Dial(t.Context(), id, "web", 80)
	wantError(t, err, "dial", sandboxer.ErrUnsupported)
	_, err = c.Logs(t.Context(), id, sandboxer.LogOptions{})
	wantError(t, err, "logs", sandboxer.ErrUnsupported)
	if _, err = c.ExtendTTL(t.Context(), id, 2*time.Hour); err != nil {
		t.Errorf("a backend without leases: extend: %v", err)
	}
}

func TestLogsAreRead(t *testing.T) {
	w := newWorld(t)
	c := w.client(process{})
	r, err := c.Logs(t.Context(), w.create(c).ID, sandboxer.LogOptions{Service: extensiontest.WebService})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if text, err := io.ReadAll(r); err != nil || string(text) != "web | made\n" {
		t.Errorf("read %q, %v", text, err)
	}
}

func TestForward(t *testing.T) {
	w := newWorld(t)
	c := w.client(process{})
	id := w.create(c).ID
	f, err := c.Forward(t.Context(), id, extensiontest.WebService, extensiontest.WebPort, "")
	if err != nil {
		t.Fatal(err)
	}
	if addr := f.Addr().(*net.TCPAddr); !addr.IP.IsLoopback() {
		t.Errorf("listens on %v", addr)
	}
	browser := &http.Client{Transport: &http.Transport{}}
	for n := range 3 { // kept alive, then anew
		if got := fetch(t, browser, f.Addr()); got != id+" generation 1\n" {
			t.Errorf("answer %d is %q", n, got)
		}
		if n == 1 {
			browser.CloseIdleConnections()
		}
	}
	if _, err := c.Recreate(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	browser.CloseIdleConnections()
	if got := fetch(t, browser, f.Addr()); got != id+" generation 2\n" {
		t.Errorf("after a recreate the same forward answers %q", got)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", f.Addr().String()); err == nil {
		t.Error("a closed forward still listens")
	}
	if f.Err() != nil {
		t.Errorf("nothing went wrong, but Err is %v", f.Err())
	}
}

func fetch(t *testing.T, browser *http.Client, addr net.Addr) string {
	t.Helper()
	resp, err := browser.Get(fmt.Sprintf("http://%v/", addr))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestForwardShowsWhyAConnectionEnded(t *testing.T) {
	w := newWorld(t)
	c := w.client(process{})
	f, err := c.Forward(t.Context(), w.create(c).ID, "db", 5432, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", f.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read %d bytes, %v; want the end", n, err)
	}
	_ = conn.Close()
	_ = f.Close()
	wantError(t, f.Err(), "dial", sandboxer.ErrNotFound)
}

func TestForwardEndsWithItsContext(t *testing.T) {
	w := newWorld(t)
	c := w.client(process{})
	ctx, cancel := context.WithCancel(t.Context())
	f, err := c.Forward(ctx, w.create(c).ID, extensiontest.EchoService, extensiontest.EchoPort, "")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", f.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("an open connection outlived the context")
	}
	_ = f.Close()
}

// A client that has said everything still gets the whole answer.
func TestForwardPassesHalfClosesOn(t *testing.T) {
	w := newWorld(t)
	answering, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer answering.Close()
	go func() {
		conn, err := answering.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		question, _ := io.ReadAll(conn)
		_, _ = io.WriteString(conn, strings.ToUpper(string(question)))
	}()
	c := w.client(process{wrap: func(f *extensiontest.Fake) sandboxer.Extension { return outside{f, answering.Addr().String()} }})
	f, err := c.Forward(t.Context(), w.create(c).ID, "any", 1, "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	conn, err := net.Dial("tcp", f.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "that is all")
	_ = conn.(*net.TCPConn).CloseWrite()
	if answer, err := io.ReadAll(conn); err != nil || string(answer) != "THAT IS ALL" {
		t.Errorf("read %q, %v", answer, err)
	}
}

// outside is an extension whose services are at one real address.
type outside struct {
	*extensiontest.Fake
	addr string
}

func (o outside) Dial(ctx context.Context, _ sandboxer.Handle, _ string, _ int) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", o.addr)
}

func TestListFilters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, host("one"), host("two"))
		other := basicProfile()
		other.ID = "profile.other"
		c := w.client(process{profiles: []sandboxer.Profile{basicProfile(), other}})
		names := map[string]string{}
		for name, change := range map[string]func(*sandboxer.CreateRequest){
			"plain":   func(*sandboxer.CreateRequest) {},
			"project": func(r *sandboxer.CreateRequest) { r.Consumer.Project = "glas" },
			"agent":   func(r *sandboxer.CreateRequest) { r.Consumer.ActorType = sandboxer.ActorAgent },
			"profile": func(r *sandboxer.CreateRequest) { r.Profile = "profile.other" },
			"host":    func(r *sandboxer.CreateRequest) { r.Host = "two" },
			"label":   func(r *sandboxer.CreateRequest) { r.Labels = map[string]string{"branch": "main"} },
		} {
			req := basicRequest()
			change(&req)
			s, err := c.Create(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			names[s.ID] = name
			time.Sleep(time.Second)
		}
		for name, f := range map[string]sandboxer.Filter{
			"project": {Project: "glas"}, "agent": {ActorType: sandboxer.ActorAgent}, "profile": {Profile: "profile.other"},
			"host": {Host: "two"}, "label": {Labels: map[string]string{"branch": "main", "kind": "test"}},
		} {
			found, err := c.List(t.Context(), f)
			if err != nil || len(found) != 1 || names[found[0].ID] != name {
				t.Errorf("%s: found %d, %v", name, len(found), err)
			}
		}
		all, err := c.List(t.Context(), sandboxer.Filter{})
		if err != nil || len(all) != 6 {
			t.Fatalf("all: %d, %v", len(all), err)
		}
		for i := range all[1:] {
			if all[i+1].CreatedAt.Before(all[i].CreatedAt) {
				t.Error("the list is not oldest first")
			}
		}
		if none, err := c.List(t.Context(), sandboxer.Filter{States: []sandboxer.State{sandboxer.StateDestroyed}}); err != nil || len(none) > 0 {
			t.Errorf("destroyed: %d, %v", len(none), err)
		}
		if none, err := c.List(t.Context(), sandboxer.Filter{Labels: map[string]string{"branch": ""}}); err != nil || len(none) > 0 {
			t.Errorf("a label that is absent matches an empty value: %d, %v", len(none), err)
		}
	})
}

func TestWhatIsReturnedIsACopy(t *testing.T) {
	w := newWorld(t)
	c := w.client(process{})
	s := w.create(c)
	want := w.record(s.ID).Sandbox
	s.Inputs["repo"], s.Labels["kind"], s.Profile.Inputs["more"] = "changed", "changed", sandboxer.Input{}
	s.Route.Candidates[0].Host = "changed"
	got, err := c.Get(t.Context(), s.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, *got, unexported); diff != "" {
		t.Errorf("changing a sandbox changed the record (-before +after):\n%s", diff)
	}
}
