package engine_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
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
