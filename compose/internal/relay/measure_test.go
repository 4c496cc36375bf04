package relay_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/compose/internal/engine/enginetest"
)

func usage(t testing.TB, id string) string {
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return enginetest.Dial(ctx) }}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Get("http://engine/v1.41/containers/" + id + "/stats?stream=false&one-shot=true")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var st struct {
		MemoryStats struct {
			Usage, MaxUsage uint64
			Max             uint64 `json:"max_usage"`
			Stats           map[string]uint64
			Limit           uint64
			Failcnt         uint64
		} `json:"memory_stats"`
		Pids struct{ Current uint64 } `json:"pids_stats"`
	}
	text, _ := io.ReadAll(resp.Body)
	json.Unmarshal(text, &st)
	m := st.MemoryStats
	return fmt.Sprintf("usage %d KiB, max %d KiB, rss %d KiB, cache %d KiB, pids %d failcnt %d", m.Usage>>10, m.Max>>10, m.Stats["rss"]>>10, m.Stats["cache"]>>10, st.Pids.Current, m.Failcnt)
}

func TestMeasure(t *testing.T) {
	s := newSite(t)
	t.Log("idle", usage(t, s.relay))
	for range 10 {
		begin := time.Now()
		c := s.mustDial(t, 9001)
		t.Log("dial", time.Since(begin))
		c.Close()
	}
	var mu sync.Mutex
	var conns []net.Conn
	for _, n := range []int{1, 10, 50, 100, 200} {
		begin := time.Now()
		var all sync.WaitGroup
		sem := make(chan bool, 50)
		for len(conns) < n {
			k := n - len(conns)
			for range k {
				sem <- true
				all.Go(func() {
					defer func() { <-sem }()
					c, err := s.dial(t.Context(), 9001)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					conns = append(conns, c)
					mu.Unlock()
				})
			}
			all.Wait()
		}
		took := time.Since(begin)
		for _, c := range conns {
			c.SetDeadline(time.Now().Add(5 * time.Second))
			msg := bytes.Repeat([]byte("x"), 100000)
			go c.Write(msg)
			if _, err := io.ReadFull(c, msg); err != nil {
				t.Error(err)
			}
		}
		t.Log(n, "took", took, usage(t, s.relay))
	}
	for _, c := range conns {
		c.Close()
	}
	time.Sleep(time.Second)
	t.Log("after", usage(t, s.relay))
}
