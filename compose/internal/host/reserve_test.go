//go:build linux

package host

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sand-boxer/sandboxer"
)

func TestReserveAdoptsAnEarlierTry(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, g *rig) {
		s := g.reserve(nil)
		again := s.reservation()
		again.Tree = strings.Repeat("0", 64)
		got, err := g.another().Reserve(t.Context(), again)
		if err != nil {
			t.Fatal(err)
		}
		if got.Attempt != s.Attempt || got.Tree != s.Tree || !got.Cached {
			t.Errorf("the second try got %+v, want what the first left", got)
		}
		again.Generation = 2
		_, err = g.Reserve(t.Context(), again)
		assertIs(t, err, sandboxer.ErrConflict)
		put(t, filepath.Join(g.root, "sb", s.id, "destroying"), nil, 0o600)
		_, err = g.Reserve(t.Context(), s.reservation())
		assertIs(t, err, sandboxer.ErrConflict)
	})
}

func TestReserveKeepsTheHostsLimits(t *testing.T) {
	t.Parallel()
	g := localRig(t, Config{Slots: 1})
	s := g.reserve(nil)
	other := s.reservation()
	other.ID = newID()
	_, err := g.Reserve(t.Context(), other)
	assertIs(t, err, sandboxer.ErrLimit)
	if err == nil || !strings.Contains(err.Error(), "all 1 slots") {
		t.Errorf("error %v does not name the slots", err)
	}
	g = localRig(t, Config{})
	other.DiskBytes = 1 << 60
	_, err = g.Reserve(t.Context(), other)
	assertIs(t, err, sandboxer.ErrLimit)
	if err == nil || !strings.Contains(err.Error(), "MiB free") {
		t.Errorf("error %v does not name the disk", err)
	}
	g.assertNothing(other.ID)
}

func TestReserveRefusesAForeignRoot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, filepath.Join(dir, "file"), nil, 0o600)
	if err := os.Mkdir(filepath.Join(dir, "real"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	roots := map[string]string{
		"link": filepath.Join(dir, "link"), "link with a slash": filepath.Join(dir, "link") + "/",
		"file": filepath.Join(dir, "file"), "foreign": "/",
	}
	if os.Getuid() == 0 {
		roots["foreign"] = filepath.Join(dir, "real")
		if err := os.Chown(roots["foreign"], 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	for name, root := range roots {
		t.Run(name, func(t *testing.T) {
			g := localRig(t, Config{Root: root})
			_, err := g.Reserve(t.Context(), Reservation{ID: newID(), Generation: 1, Attempt: "a", Meta: []byte("{}")})
			assertIs(t, err, sandboxer.ErrUnavailable)
			if err == nil || !strings.Contains(err.Error(), "root: in the host configuration") && name != "file" {
				t.Errorf("error %v does not say what to do", err)
			}
		})
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "real")); err != nil || len(entries) > 0 {
		t.Errorf("in the refused directory: %v %v", entries, err)
	}
}

// TestConcurrentClaims: twenty sandboxes want the same few subnets at once.
func TestConcurrentClaims(t *testing.T) {
	t.Parallel()
	g := localRig(t, Config{})
	tree := g.snapshot(nil)
	claimed := make([]netip.Prefix, 20)
	boxes := make([]*sandbox, len(claimed))
	var all sync.WaitGroup
	for i := range boxes {
		boxes[i] = &sandbox{rig: g, id: newID(), tree: tree}
		all.Go(func() { claimed[i] = boxes[i].claimFirstFree(t, 27+i%2) })
	}
	all.Wait()
	for i, p := range claimed {
		for _, q := range claimed[:i] {
			if p.Overlaps(q) {
				t.Errorf("%v and %v overlap", p, q)
			}
		}
	}
	if blocks, err := os.ReadDir(filepath.Join(g.root, "net")); err != nil || len(blocks) != 10+2*10 {
		t.Errorf("%d blocks claimed, error %v; want one for each /28 and two for each /27", len(blocks), err)
	}
	var ids []string
	for _, s := range boxes {
		all.Go(func() {
			if _, err := g.Teardown(context.Background(), s.id, 1); err != nil {
				t.Error(err)
			}
		})
		ids = append(ids, s.id)
	}
	all.Wait()
	g.assertNothing(ids...)
}

// claimFirstFree goes the way of a create, up to a job that fails at once.
func (s *sandbox) claimFirstFree(t *testing.T, bits int) netip.Prefix {
	for {
		r, err := s.Reserve(t.Context(), s.reservation())
		if err == nil {
			s.Reserved = r
			err = s.Upload(t.Context(), r, s.tree, "0:0", "source", nil)
		}
		if err != nil {
			t.Error(err)
			return netip.Prefix{}
		}
		want := firstFree(r.Taken, bits)
		j := s.job("nonsense: 1")
		j.Networks["default"] = want
		err = s.Run(t.Context(), r, j, io.Discard)
		if errors.Is(err, ErrSubnetTaken) {
			continue
		}
		assertIs(t, err, sandboxer.ErrProvision)
		return want
	}
}

func firstFree(taken []netip.Prefix, bits int) netip.Prefix {
	step := 1 << (32 - bits)
	for a := 0; ; a += step {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 203, byte(a >> 8), byte(a)}), bits)
		free := true
		for _, t := range taken {
			free = free && !p.Overlaps(t)
		}
		if free {
			return p
		}
	}
}
