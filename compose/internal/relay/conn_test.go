package relay_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/compose/internal/relay"
)

func TestFiveMebibytesBothWays(t *testing.T) {
	s := newSite(t)
	client := s.http(t)
	body := make([]byte, 5<<20)
	rand.NewChaCha8([32]byte{}).Read(body)
	resp, err := client.Post("http://server/hash", "", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if want := fmt.Sprintf("%x", sha256.Sum256(body)); err != nil || string(answer) != want {
		t.Errorf("up: %q %v, want %q", answer, err, want)
	}
	if got := get(t, client, fmt.Sprintf("/bytes?n=%d", len(body))); got != string(body) {
		t.Errorf("down: %d bytes, or not the same", len(got))
	}

	echo := s.mustDial(t, 9001)
	var sending sync.WaitGroup
	defer sending.Wait()
	sending.Go(func() {
		if _, err := echo.Write(body); err != nil {
			t.Error(err)
		}
	})
	back := make([]byte, len(body))
	if _, err := io.ReadFull(echo, back); err != nil || !bytes.Equal(back, body) {
		t.Errorf("both at once: %v", err)
	}
}

func closeWrite(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
}

func TestEitherSideMayFinishFirst(t *testing.T) {
	s := newSite(t)
	asks := s.mustDial(t, 9002)
	if _, err := io.WriteString(asks, "question"); err != nil {
		t.Fatal(err)
	}
	closeWrite(t, asks)
	if _, err := asks.Write([]byte("more")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after the end: %v", err)
	}
	answer, err := io.ReadAll(asks)
	if want := fmt.Sprintf("%x", sha256.Sum256([]byte("question"))); err != nil || string(answer) != want {
		t.Errorf("the client first: %q %v, want %q", answer, err, want)
	}

	hears := s.mustDial(t, 9003)
	text, err := io.ReadAll(hears)
	if err != nil || string(text) != "that is all" {
		t.Fatalf("the server first: %q %v", text, err)
	}
	if _, err := hears.Write(make([]byte, 100_000)); err != nil {
		t.Fatal(err)
	}
	closeWrite(t, hears)
	if got, want := s.heard(t), "100000 <nil>"; got != want {
		t.Errorf("the server heard %s, want %s", got, want)
	}
	s.awaitProcesses(t, 1) // both ways have ended
	for range 20 {         // and the client gets to know of it
		if _, err := hears.Write(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Fatalf("write after the end of writing: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestCloseDeliversWhatWasWritten(t *testing.T) {
	s := newSite(t)
	for range 10 {
		conn := s.mustDial(t, 9003)
		if _, err := conn.Read(make([]byte, 1)); err != nil { // and leave the rest
			t.Fatal(err)
		}
		if _, err := conn.Write(make([]byte, 300_000)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
		}
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read after close: %v", err)
		}
		if _, err := conn.Write(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after close: %v", err)
		}
		if got, want := s.heard(t), "300000 <nil>"; got != want {
			t.Errorf("the server heard %s, want %s", got, want)
		}
	}
	s.awaitProcesses(t, 1)
}

func TestBrokenConnectionsAreNotAnEnd(t *testing.T) {
	t.Run("the server resets", func(t *testing.T) {
		s := newSite(t)
		conn := s.mustDial(t, 9004)
		if _, err := io.WriteString(conn, "?"); err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(conn); !errors.Is(err, relay.ErrReset) {
			t.Errorf("%q %v", text, err)
		}
		if _, err := conn.Write([]byte("?")); !errors.Is(err, relay.ErrReset) {
			t.Errorf("write: %v", err)
		}
		s.awaitProcesses(t, 1)
	})
	t.Run("the server resets while being written to", func(t *testing.T) {
		s := newSite(t)
		for range 10 {
			conn := s.mustDial(t, 9004)
			go io.Copy(conn, endless{})
			if text, err := io.ReadAll(conn); !errors.Is(err, relay.ErrReset) {
				t.Errorf("%q %v", text, err)
			}
			conn.Close()
		}
		s.awaitProcesses(t, 1)
	})
	t.Run("the server dies", func(t *testing.T) {
		s := newSite(t)
		resp, err := s.http(t).Get("http://server/die")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if text, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("%d bytes and no error", len(text))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if conn, err := s.dial(ctx, 8080); err == nil {
			conn.Close()
			t.Error("connected to what is gone")
		}
	})
	t.Run("the relay is killed", func(t *testing.T) {
		s := newSite(t)
		conn := s.mustDial(t, 9001)
		if err := s.KillContainer(t.Context(), s.relay, "SIGKILL"); err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(conn); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q %v", text, err)
		}
		if _, err := conn.Write([]byte("?")); err == nil {
			t.Error("written to nobody")
		}
	})
}

// endless is an input that never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestDeadlines(t *testing.T) {
	s := newSite(t)
	conn := s.mustDial(t, 9001)
	isTimeout := func(what string, err error) {
		t.Helper()
		var network net.Error
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &network) || !network.Timeout() {
			t.Errorf("%s: %v", what, err)
		}
		if strings.Contains(err.Error(), "pipe") || !strings.HasSuffix(err.Error(), ": i/o timeout") {
			t.Errorf("%s: said as %q", what, err)
		}
	}
	set := func(f func(time.Time) error, after time.Duration) {
		t.Helper()
		if err := f(time.Now().Add(after)); err != nil {
			t.Fatal(err)
		}
	}
	one := make([]byte, 1)

	set(conn.SetReadDeadline, 50*time.Millisecond)
	_, err := conn.Read(one)
	isTimeout("read", err)
	set(conn.SetDeadline, -time.Second)
	_, err = conn.Write(one)
	isTimeout("write", err)
	_, err = conn.Read(one)
	isTimeout("read", err)

	if err := conn.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := conn.Read(one); err != nil || one[0] != 'x' {
		t.Errorf("after the deadline: %q %v", one, err)
	}

	deaf := s.mustDial(t, 9005)
	set(deaf.SetWriteDeadline, 2*time.Second)
	_, err = io.Copy(deaf, endless{})
	isTimeout("write to a server that does not read", err)

	client := s.http(t)
	client.Timeout = 200 * time.Millisecond
	begin := time.Now()
	if _, err := client.Get("http://server/slow"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("slow answer: %v", err)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("slow answer: took %v", took)
	}
}
