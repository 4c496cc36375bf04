package engine_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/compose/internal/engine"
)

// fake is a server that behaves like an engine of some API version.
type fake struct {
	newest, oldest int // minor API versions
	answers        map[string]http.HandlerFunc
	pings          atomic.Int32
	connections    atomic.Int32 // open now
	most           atomic.Int32 // open at once, ever
	server         *httptest.Server
}

// start serves on a loopback port. Answers are by path below the version.
func start(t *testing.T, answers map[string]http.HandlerFunc) *fake {
	t.Helper()
	f := &fake{newest: 41, oldest: 12, answers: answers}
	f.server = httptest.NewUnstartedServer(f)
	f.server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			if now := f.connections.Add(1); now > f.most.Load() {
				f.most.Store(now)
			}
		case http.StateClosed:
			f.connections.Add(-1)
		}
	}
	f.server.Start()
	t.Cleanup(f.server.Close)
	return f
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Api-Version", fmt.Sprintf("1.%d", f.newest))
	if r.URL.Path == "/_ping" {
		f.pings.Add(1)
		io.WriteString(w, "OK")
		return
	}
	version, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1."), "/")
	var minor int
	if _, err := fmt.Sscan(version, &minor); err != nil || minor > f.newest {
		refuse(w, http.StatusBadRequest, fmt.Sprintf("client version 1.%s is too new. Maximum supported API version is 1.%d", version, f.newest))
		return
	}
	if minor < f.oldest {
		refuse(w, http.StatusBadRequest, fmt.Sprintf("client version 1.%d is too old. Minimum supported API version is 1.%d", minor, f.oldest))
		return
	}
	if answer, ok := f.answers["/"+path]; ok {
		answer(w, r)
		return
	}
	refuse(w, http.StatusNotFound, "page not found")
}

func refuse(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"message":%q}`, message)
}

func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }
}

func (f *fake) dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", f.server.Listener.Addr().String())
}

func (f *fake) client(t *testing.T, limits engine.Limits) *engine.Client {
	c := engine.NewLimited(f.dial, limits)
	t.Cleanup(c.Close)
	return c
}

func TestVersionIsTheNewestBothSpeak(t *testing.T) {
	for _, test := range []struct {
		newest, oldest int
		want           string // in the path, or in the error
	}{
		{41, 12, "/v1.41/info"},
		{47, 24, "/v1.47/info"},
		{52, 44, "/v1.52/info"},
		{70, 44, "/v1.56/info"},
		{40, 12, "1.40"},
		{90, 60, "Minimum supported API version is 1.60"},
	} {
		t.Run(fmt.Sprintf("1.%d", test.newest), func(t *testing.T) {
			var path atomic.Value
			f := start(t, map[string]http.HandlerFunc{"/info": func(w http.ResponseWriter, r *http.Request) {
				path.Store(r.URL.Path)
				io.WriteString(w, "{}")
			}})
			f.newest, f.oldest = test.newest, test.oldest
			_, err := f.client(t, engine.Limits{}).Info(t.Context())
			if strings.HasPrefix(test.want, "/") {
				if err != nil || path.Load() != test.want {
					t.Errorf("asked for %v (%v), want %s", path.Load(), err, test.want)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q in it", err, test.want)
			}
			if old := test.newest < 41; errors.Is(err, engine.ErrTooOld) != old {
				t.Errorf("too old is %v: %v", !old, err)
			}
		})
	}
}

func TestManyFirstCallsNegotiateOnce(t *testing.T) {
	f := start(t, map[string]http.HandlerFunc{"/info": says(`{"NCPU":2}`)})
	c := f.client(t, engine.Limits{})
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if info, err := c.Info(t.Context()); err != nil || info.NCPU != 2 {
				t.Errorf("%+v %v", info, err)
			}
		})
	}
	all.Wait()
	if n := f.pings.Load(); n != 1 {
		t.Errorf("%d negotiations", n)
	}
}

func TestReplacedEngineIsNegotiatedWithAnew(t *testing.T) {
	f := start(t, map[string]http.HandlerFunc{"/info": says(`{"NCPU":2}`)})
	c := f.client(t, engine.Limits{})
	for _, versions := range [][2]int{{41, 12}, {52, 44}, {45, 24}} {
		f.newest, f.oldest = versions[0], versions[1]
		if _, err := c.Info(t.Context()); err != nil {
			t.Errorf("engine of %v: %v", versions, err)
		}
	}
}

func TestWaitingForANegotiationEndsWithItsContext(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	c := engine.New(func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", server.Listener.Addr().String())
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if _, err := c.Info(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestUnreachableIsNoAnswerOfTheEngine(t *testing.T) {
	for name, test := range map[string]struct {
		client *engine.Client
		cause  error
	}{
		"nobody listens": {engine.New(func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", t.TempDir()+"/none.sock")
		}), syscall.ENOENT},
		"dial fails":        {engine.New(func(context.Context) (net.Conn, error) { return nil, errBroken }), errBroken},
		"closed at once":    {breaking(t, ""), io.EOF},
		"noise":             {breaking(t, "Welcome to this machine!\r\n\r\n"), nil},
		"half an answer":    {breaking(t, "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 90\r\n\r\n{"), io.ErrUnexpectedEOF},
		"half a header":     {breaking(t, "HTTP/1.1 200 OK\r\nApi-Ver"), nil},
		"half a chunk":      {breaking(t, "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nTransfer-Encoding: chunked\r\n\r\n90\r\n{"), io.ErrUnexpectedEOF},
		"chunks, no ending": {breaking(t, "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n"), io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := test.client.Info(t.Context())
			if !errors.Is(err, engine.ErrUnreachable) || hasType[*engine.Error](err) {
				t.Errorf("info: %v", err)
			}
			if test.cause != nil && !errors.Is(err, test.cause) {
				t.Errorf("info: %v does not wrap %v", err, test.cause)
			}
			if found, err := test.client.Objects(t.Context(), "a=b"); !errors.Is(err, engine.ErrUnreachable) || found != nil {
				t.Errorf("objects: %v %v", found, err)
			}
			if _, err := test.client.Exec(t.Context(), "x", "y"); !errors.Is(err, engine.ErrUnreachable) {
				t.Errorf("exec: %v", err)
			}
		})
	}
}

// breaking is a client of a server that answers every connection's first request with a text and closes it.
func breaking(t *testing.T, text string) *engine.Client {
	t.Helper()
	return engine.New(func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			if _, err := http.ReadRequest(bufio.NewReader(theirs)); err == nil {
				io.WriteString(theirs, text)
			}
		}()
		return ours, nil
	})
}

func TestErrorsCarryTheEnginesWords(t *testing.T) {
	f := start(t, map[string]http.HandlerFunc{
		"/containers/gone/json": func(w http.ResponseWriter, _ *http.Request) {
			refuse(w, http.StatusNotFound, "No such container: gone")
		},
		"/containers/busy/json":    func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusConflict, "is being removed") },
		"/containers/plain/json":   func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "proxy says no", http.StatusBadGateway) },
		"/containers/silent/json":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"/containers/strange/json": says("<html>"),
	})
	c := f.client(t, engine.Limits{})
	for name, want := range map[string]*engine.Error{
		"gone":   {StatusCode: http.StatusNotFound, Message: "No such container: gone"},
		"busy":   {StatusCode: http.StatusConflict, Message: "is being removed"},
		"plain":  {StatusCode: http.StatusBadGateway, Message: "proxy says no"},
		"silent": {StatusCode: http.StatusInternalServerError, Message: "Internal Server Error"},
	} {
		_, err := c.InspectContainer(t.Context(), name)
		got, ok := errors.AsType[*engine.Error](err)
		want.Op = "GET /containers/" + name + "/json"
		if !ok || *got != *want {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		if engine.IsNotFound(err) != (name == "gone") || engine.IsConflict(err) != (name == "busy") {
			t.Errorf("%s: not found %v, conflict %v", name, engine.IsNotFound(err), engine.IsConflict(err))
		}
	}
	if _, err := c.InspectContainer(t.Context(), "strange"); err == nil || errors.Is(err, engine.ErrUnreachable) {
		t.Errorf("an answer that is no JSON: %v", err)
	}
}

const (
	containersJSON = `[{"Id":"c1","Names":["/other/alias","/one"],"State":"running","Labels":{"k":"v","o":"p"}}]`
	networksJSON   = `[{"Id":"n1","Name":"net","Labels":{"k":"v"}}]`
	volumesJSON    = `{"Volumes":[{"Name":"vol","Labels":{"k":"v"}}],"Warnings":null}`
	imagesJSON     = `[{"Id":"sha256:i1","RepoTags":["<none>:<none>"],"Labels":{"k":"v"}}]`
)

func listing() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"/containers/json": says(containersJSON), "/networks": says(networksJSON), "/volumes": says(volumesJSON), "/images/json": says(imagesJSON),
	}
}

func TestObjectsAreAllOrNothing(t *testing.T) {
	if found, err := start(t, listing()).client(t, engine.Limits{}).Objects(t.Context(), "k=v"); err != nil || len(found) != 4 {
		t.Fatalf("%v %v", found, err)
	}
	failures := map[string]http.HandlerFunc{
		"refused": func(w http.ResponseWriter, _ *http.Request) {
			refuse(w, http.StatusInternalServerError, "database is locked")
		},
		"not found":  func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusNotFound, "page not found") },
		"broken off": func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "["); panic(http.ErrAbortHandler) },
		"half JSON":  says(`[{"Id":"c`),
		"empty":      says(""),
		"no list":    says(`"list"`),
	}
	for path := range listing() {
		for name, failure := range failures {
			t.Run(name+path, func(t *testing.T) {
				answers := listing()
				answers[path] = failure
				if found, err := start(t, answers).client(t, engine.Limits{}).Objects(t.Context(), "k=v"); err == nil || found != nil {
					t.Errorf("%v %v", found, err)
				}
			})
		}
	}
	t.Run("a volume driver is away", func(t *testing.T) {
		answers := listing()
		answers["/volumes"] = says(`{"Volumes":[],"Warnings":["lookup nfs: plugin not found"]}`)
		found, err := start(t, answers).client(t, engine.Limits{}).Objects(t.Context(), "k=v")
		if err == nil || found != nil || !strings.Contains(err.Error(), "plugin not found") {
			t.Errorf("%v %v", found, err)
		}
	})
}

func TestNothingIsListedWithoutItsLabels(t *testing.T) {
	c := start(t, listing()).client(t, engine.Limits{}) // a server that ignores the filter
	for _, labels := range [][]string{{"k=w"}, {"k=v", "x=y"}, {"k="}} {
		if found, err := c.Objects(t.Context(), labels...); err != nil || len(found) != 0 {
			t.Errorf("by %q: %v %v", labels, found, err)
		}
	}
	if found, err := c.Objects(t.Context(), "o=p", "k=v"); err != nil || len(found) != 1 || found[0].Name != "one" {
		t.Errorf("%v %v", found, err)
	}
	for _, labels := range [][]string{nil, {""}, {"k"}, {"=v"}, {"k=v", ""}} {
		if found, err := c.Objects(t.Context(), labels...); err == nil || found != nil {
			t.Errorf("by %q: %v %v", labels, found, err)
		}
	}
}

func TestListsOfNullAreEmpty(t *testing.T) {
	answers := map[string]http.HandlerFunc{
		"/containers/json": says("null"), "/networks": says("null"), "/volumes": says(`{"Volumes":null}`), "/images/json": says("null"),
	}
	if found, err := start(t, answers).client(t, engine.Limits{}).Objects(t.Context(), "k=v"); err != nil || len(found) != 0 {
		t.Errorf("%v %v", found, err)
	}
}

func TestLimitsBoundConnections(t *testing.T) {
	slow := func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(5 * time.Millisecond)
		io.WriteString(w, "{}")
	}
	f := start(t, map[string]http.HandlerFunc{"/info": slow})
	c := f.client(t, engine.Limits{Conns: 3, Idle: 2})
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() {
			if _, err := c.Info(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := f.most.Load(); n != 3 {
		t.Errorf("%d connections at once", n)
	}
	eventually(t, "two connections are kept", func() bool { return f.connections.Load() == 2 })
	c.Close()
	eventually(t, "none is kept", func() bool { return f.connections.Load() == 0 })
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 200 {
		if is() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("not within 2 s: %s", what)
}

func TestCancelledCallClosesItsConnection(t *testing.T) {
	for name, answer := range map[string]string{"before the answer": "", "in the answer": "{"} {
		t.Run(name, func(t *testing.T) {
			f := start(t, map[string]http.HandlerFunc{"/info": func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, answer)
				http.NewResponseController(w).Flush()
				<-r.Context().Done()
			}})
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			c := f.client(t, engine.Limits{})
			if _, err := c.Info(ctx); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, engine.ErrUnreachable) {
				t.Error(err)
			}
			eventually(t, "the connection is closed", func() bool { return f.connections.Load() == 0 })
		})
	}
}

// stubborn is a connection that cannot be closed for now, like a channel of an SSH connection whose buffers are full.
type stubborn struct {
	net.Conn
	closable chan struct{}
}

func (s stubborn) Close() error {
	<-s.closable
	return s.Conn.Close()
}

func TestCallsDoNotWaitForTheirConnectionToClose(t *testing.T) {
	answers := execing(piece(1, "half")[:10])
	answers["/info"] = func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "{")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	f := start(t, answers)
	closable := make(chan struct{})
	defer close(closable)
	c := engine.New(func(ctx context.Context) (net.Conn, error) {
		conn, err := f.dial(ctx)
		return stubborn{conn, closable}, err
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Info(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	process, err := c.Exec(t.Context(), "c1", "command")
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Close(); err != nil {
		t.Error(err)
	}
}

func TestNothingRunsAfterClose(t *testing.T) {
	answers := execing(piece(1, "output"))
	answers["/info"] = says("{}")
	f := start(t, answers)
	before := runtime.NumGoroutine()
	c := f.client(t, engine.Limits{})
	for range 10 {
		if _, err := c.Info(t.Context()); err != nil {
			t.Fatal(err)
		}
		process, err := c.Exec(t.Context(), "c1", "command")
		if err != nil {
			t.Fatal(err)
		}
		process.Close()
	}
	c.Close()
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before })
}

func TestDeadKeptConnectionIsNotNoticed(t *testing.T) {
	f := start(t, map[string]http.HandlerFunc{
		"/info":       says(`{"NCPU":2}`),
		"/volumes/v1": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
	})
	c := f.client(t, engine.Limits{})
	for range 20 {
		if _, err := c.Info(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.server.CloseClientConnections()
		if err := c.RemoveVolume(t.Context(), "v1"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestImportTakesTheErrorFromTheStream(t *testing.T) {
	for name, test := range map[string]struct{ answer, want string }{
		"id":             {`{"status":"sha256:abc"}` + "\r\n", ""},
		"error":          {`{"status":"Extracting"}{"errorDetail":{"message":"no space left"},"error":"no space left"}`, "no space left"},
		"only a detail":  {`{"errorDetail":{"message":"unexpected EOF"}}`, "unexpected EOF"},
		"only an error":  {`{"error":"old style"}`, "old style"},
		"no id":          {`{"status":"Extracting"}`, "Extracting"},
		"nothing":        {"", "instead of the image's id"},
		"half a message": {`{"status":"sha25`, "does not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			var got http.Request
			var body []byte
			f := start(t, map[string]http.HandlerFunc{"/images/create": func(w http.ResponseWriter, r *http.Request) {
				got = *r
				body, _ = io.ReadAll(r.Body)
				io.WriteString(w, test.answer)
			}})
			id, err := f.client(t, engine.Limits{}).ImportImage(t.Context(), "reg:5000/a/b:c", strings.NewReader("archive"), "LABEL a=b", "ENV c=d")
			if test.want == "" {
				if err != nil || id != "sha256:abc" {
					t.Errorf("%q %v", id, err)
				}
			} else if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q in it", err, test.want)
			}
			query := got.URL.Query()
			if query.Get("repo") != "reg:5000/a/b" || query.Get("tag") != "c" || query.Get("fromSrc") != "-" || fmt.Sprint(query["changes"]) != "[LABEL a=b ENV c=d]" {
				t.Errorf("query %v", query)
			}
			if string(body) != "archive" || got.Method != http.MethodPost {
				t.Errorf("%s with %q", got.Method, body)
			}
		})
	}
}

// piece is one piece of a container's output as the engine frames it.
func piece(stream byte, text string) string {
	header := [8]byte{0: stream}
	binary.BigEndian.PutUint32(header[4:], uint32(len(text)))
	return string(header[:]) + text
}

// execing answers like an engine whose every process writes the given output, byte by byte, and exits with 0.
func execing(output string) map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"/containers/c1/exec": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusCreated)
			io.WriteString(w, `{"Id":"e1"}`)
		},
		"/exec/e1/start": func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				panic(err)
			}
			defer conn.Close()
			io.WriteString(conn, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"+output[:len(output)/2])
			for _, b := range []byte(output[len(output)/2:]) {
				conn.Write([]byte{b})
			}
		},
		"/exec/e1/json": says(`{"Running":false,"ExitCode":0}`),
	}
}

func TestExecPartsTheOutputs(t *testing.T) {
	long := strings.Repeat("complaint ", 1000)
	output := piece(1, "one ") + piece(2, "first ") + piece(1, "") + piece(2, long) + piece(1, "two") + piece(2, "last")
	c := start(t, execing(output)).client(t, engine.Limits{})
	process, err := c.Exec(t.Context(), "c1", "command")
	if err != nil {
		t.Fatal(err)
	}
	defer process.Close()
	text, err := io.ReadAll(process)
	if err != nil || string(text) != "one two" {
		t.Errorf("%q %v", text, err)
	}
	complaints := process.Stderr()
	if len(complaints) != 4<<10 || !strings.HasSuffix(complaints, "complaint last") {
		t.Errorf("%d bytes of standard error: %q", len(complaints), complaints)
	}
}

func TestExecOutputThatIsNotWhole(t *testing.T) {
	for name, test := range map[string]struct {
		output string
		want   string
	}{
		"ends in a piece":          {piece(1, "whole") + piece(1, "half")[:10], "unexpected EOF"},
		"ends in a header":         {piece(1, "whole") + piece(1, "half")[:3], "unexpected EOF"},
		"ends in an error's piece": {piece(1, "whole") + piece(2, "half")[:10], "unexpected EOF"},
		"the engine gives up":      {piece(1, "whole") + piece(3, "out of file descriptors"), "out of file descriptors"},
		"is not framed":            {piece(1, "whole") + "cannot exec in a stopped container", "not framed"},
	} {
		t.Run(name, func(t *testing.T) {
			process, err := start(t, execing(test.output)).client(t, engine.Limits{}).Exec(t.Context(), "c1", "command")
			if err != nil {
				t.Fatal(err)
			}
			defer process.Close()
			text, err := io.ReadAll(process)
			if !bytes.HasPrefix(text, []byte("whole")) || err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%q %v, want %q", text, err, test.want)
			}
		})
	}
}

func TestExecThatIsRefused(t *testing.T) {
	answers := execing("")
	answers["/exec/e1/start"] = func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusConflict, "container c1 is paused") }
	f := start(t, answers)
	_, err := f.client(t, engine.Limits{Idle: 1}).Exec(t.Context(), "c1", "command")
	if !engine.IsConflict(err) || !strings.Contains(err.Error(), "is paused") {
		t.Error(err)
	}
	eventually(t, "the stream's connection is closed", func() bool { return f.connections.Load() == 1 })
}

func TestExecThatIsNotAnsweredEndsWithItsContext(t *testing.T) {
	answers := execing("")
	answers["/exec/e1/start"] = func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // only then a server sees that the client has gone
		<-r.Context().Done()
	}
	f := start(t, answers)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := f.client(t, engine.Limits{Idle: 1}).Exec(ctx, "c1", "command"); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	eventually(t, "the stream's connection is closed", func() bool { return f.connections.Load() == 1 })
}
