//go:build linux

package host

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// reapLimit is what a reaper may take on a busy machine once a lease has ended.
// Within that time it looks only if it was woken, or has seen the lease.
const reapLimit = 20 * time.Second

func (s *sandbox) isGone() bool {
	_, err := os.Stat(filepath.Join(s.root, "lock", s.id))
	return os.IsNotExist(err) && len(s.onEngine(s.id)) == 0
}

func (g *rig) reserveFor(d time.Duration) *sandbox {
	g.t.Helper()
	s := &sandbox{rig: g, id: newID(), tree: g.snapshot(nil)}
	g.t.Cleanup(s.destroy)
	r := s.reservation()
	r.Expires = time.Now().Add(d)
	var err error
	if s.Reserved, err = g.Reserve(g.t.Context(), r); err != nil {
		g.t.Fatal(err)
	}
	return s
}

// endsAt moves the end of a lease, whatever it was, and has the reaper see it:
// how long it takes until a sandbox is where a test wants it depends on the
// machine.
func (s *sandbox) endsAt(end time.Time) {
	s.t.Helper()
	lease := filepath.Join(s.root, "sb", s.id, "lease")
	put(s.t, lease+".new", fmt.Appendf(nil, "%d\n", end.Unix()), 0o600)
	if err := os.Rename(lease+".new", lease); err != nil {
		s.t.Fatal(err)
	}
	if reaper := s.reaper(); reaper != "" {
		if err := exec.Command("kill", "-USR1", reaper).Run(); err != nil {
			s.t.Fatal(err)
		}
	}
}

// TestLeaseEnds: with no client alive the host itself takes a sandbox away,
// also when its reaper has seen only long leases before.
func TestLeaseEnds(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, g *rig) {
		image := g.image()
		client := &rig{Machine: g.another(), t: t, root: g.root, real: g.real, images: g.images, transport: g.transport}
		long, s := g.reserve(nil), client.reserve(nil)
		long.mustRun(held(image))
		s.mustRun(held(image))
		client.Close()
		s.endsAt(time.Now().Add(3 * time.Second))
		if s.isGone() {
			t.Error("gone before its time")
		}
		if !eventually(reapLimit, s.isGone) {
			t.Errorf("not reaped; left are %v", s.onEngine(s.id))
		}
		if long.isGone() {
			t.Error("the other sandbox was reaped too")
		}
		s.assertNothing(s.id)
		s.Machine = g.Machine // for the cleanup
	})
}

// TestShortLeaseWakesTheReaper, which would else look 30 seconds later.
func TestShortLeaseWakesTheReaper(t *testing.T) {
	t.Parallel()
	g := localRig(t, Config{})
	g.reserveFor(time.Hour)
	time.Sleep(2 * time.Second) // it has looked around, and naps
	if s := g.reserveFor(3 * time.Second); !eventually(reapLimit, s.isGone) {
		t.Error("not reaped")
	}
}

// TestRenewAgainstReaper: a lease that was renewed holds, one that was not ends.
func TestRenewAgainstReaper(t *testing.T) {
	t.Parallel()
	g := localRig(t, Config{})
	boxes := make([]*sandbox, 8)
	for i := range boxes {
		boxes[i] = g.reserveFor(time.Hour)
	}
	renewed := make([]error, len(boxes))
	var all sync.WaitGroup
	deadline := time.Now().Add(3 * time.Second).Truncate(time.Second)
	for i, s := range boxes {
		s.endsAt(deadline)
		all.Go(func() {
			time.Sleep(time.Until(deadline.Add(time.Duration(i-2) * 120 * time.Millisecond)))
			renewed[i] = g.Renew(t.Context(), boxes[i].id, time.Now().Add(time.Hour))
		})
	}
	all.Wait()
	for i, s := range boxes {
		if renewed[i] != nil {
			assertIs(t, renewed[i], sandboxer.ErrConflict)
			if !eventually(reapLimit, s.isGone) {
				t.Errorf("%d: neither renewed nor reaped", i)
			}
		}
	}
	time.Sleep(2 * time.Second)
	for i, s := range boxes {
		if sight, err := g.Look(t.Context(), s.id); err != nil || sight.Present != (renewed[i] == nil) || sight.Destroying {
			t.Errorf("%d: renewed with %v, looked at %+v, error %v", i, renewed[i], sight, err)
		}
	}
}

// TestReaperIsReplaced: the next probe starts another when it was killed.
func TestReaperIsReplaced(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, g *rig) {
		s := g.reserveFor(time.Hour)
		first := g.reaper()
		if err := exec.Command("kill", "-9", first).Run(); err != nil {
			t.Fatal(err)
		}
		if !eventually(5*time.Second, func() bool { return g.reaper() == "" }) {
			t.Fatal("the reaper outlived SIGKILL")
		}
		if _, err := g.another().Probe(t.Context()); err != nil {
			t.Fatal(err)
		}
		if second := g.reaper(); second == "" || second == first {
			t.Errorf("the reaper is %q, before it was %q", second, first)
		}
		s.endsAt(time.Now())
		if !eventually(reapLimit, s.isGone) {
			t.Error("not reaped")
		}
	})
}

// TestReaperFinishesATeardown: one whose client died in the middle.
func TestReaperFinishesATeardown(t *testing.T) {
	t.Parallel()
	g := localRig(t, Config{})
	s := g.reserve(nil)
	s.mustRun(held(g.image()))
	mark := filepath.Join(g.root, "sb", s.id, "destroying")
	put(t, mark, nil, 0o600)
	before := time.Now().Add(-2 * time.Minute)
	if err := os.Chtimes(mark, before, before); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command("kill", "-USR1", g.reaper()).Run(); err != nil {
		t.Fatal(err)
	}
	if !eventually(reapLimit, s.isGone) {
		t.Error("not finished")
	}
}

// TestStraysAreSwept: objects of this root without a directory go at the next
// probe; those of others stay.
func TestStraysAreSwept(t *testing.T) {
	t.Parallel()
	g := localRig(t, Config{})
	image := g.image()
	s := g.reserve(nil)
	s.mustRun(held(image))
	stray, foreign := newID(), newID()
	label := func(id, root string) []string {
		return []string{"--label", LabelID + "=" + id, "--label", LabelRoot + "=" + root}
	}
	g.docker(append(append([]string{"run", "-d", "--network", "none"}, label(stray, s.RootID)...), image, "hold")...)
	g.docker(append([]string{"volume", "create"}, label(stray, s.RootID)...)...)
	g.docker(append(append([]string{"network", "create", "--internal", "--subnet", randomSubnet().String()}, label(stray, s.RootID)...), stray)...)
	volume := g.docker(append([]string{"volume", "create"}, label(foreign, "other")...)...)
	t.Cleanup(func() { g.docker("volume", "rm", volume) })

	if err := exec.Command("kill", "-9", g.reaper()).Run(); err != nil {
		t.Fatal(err)
	}
	if !eventually(5*time.Second, func() bool { return g.reaper() == "" }) {
		t.Fatal("the reaper outlived SIGKILL")
	}
	if _, err := g.another().Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !eventually(reapLimit, func() bool { return len(g.onEngine(stray)) == 0 }) {
		t.Errorf("strays are left: %v", g.onEngine(stray))
	}
	if len(g.onEngine(foreign)) == 0 || len(g.onEngine(s.id)) == 0 {
		t.Errorf("of the other root: %v, of the sandbox: %v", g.onEngine(foreign), g.onEngine(s.id))
	}

	s.destroy()
	g.docker(append([]string{"volume", "create"}, label(stray, s.RootID)...)...)
	g.sweepDue()
	if _, err := g.another().Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !eventually(reapLimit, func() bool { return len(g.onEngine(stray)) == 0 }) {
		t.Errorf("with no sandbox there, strays are left: %v", g.onEngine(stray))
	}
}

// sweepDue makes the last look around an old one.
func (g *rig) sweepDue() {
	g.t.Helper()
	before := time.Now().Add(-2 * time.Minute)
	if err := os.Chtimes(filepath.Join(g.root, "slots/swept"), before, before); err != nil && !os.IsNotExist(err) {
		g.t.Fatal(err)
	}
}

// TestCacheTTL: a tree stays for as long as the operator said, and no longer.
func TestCacheTTL(t *testing.T) {
	t.Parallel()
	g := localRig(t, Config{CacheTTL: 10 * time.Minute})
	s := g.reserve(nil)
	s.destroy()
	s.assertCached()
	if again, err := g.Reserve(t.Context(), s.reservation()); err != nil || !again.Cached {
		t.Errorf("reserved %+v, error %v; want the tree cached", again, err)
	}
	s.destroy()
	cached := func() bool { _, err := os.Stat(filepath.Join(g.root, "cache/src", s.tree.Digest())); return err == nil }
	if !cached() {
		t.Error("the tree went with the sandbox")
	}
	put(t, filepath.Join(g.root, "cache", "ttl"), []byte("2\n"), 0o600) // the operator thinks otherwise
	time.Sleep(3 * time.Second)
	g.sweepDue()
	if _, err := g.another().Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !eventually(reapLimit, func() bool { return !cached() }) {
		t.Error("the tree is still there")
	}
}

// TestCacheTTLKeepsSteps: where the operator lets the cache keep things, the
// next build of the same takes what the last one left; afterwards it goes.
func TestCacheTTLKeepsSteps(t *testing.T) {
	t.Parallel()
	g := localRig(t, Config{CacheTTL: 10 * time.Minute})
	tree := map[string]string{"Dockerfile": unique(dockerfile)}
	first := g.reserve(tree)
	out, err := first.run(chatty)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	made := steps(out)
	if len(made) == 0 {
		t.Skip("only the classic builder leaves steps, and this host's is another")
	}
	first.destroy()
	second := g.reserve(tree)
	out, err = second.run(chatty)
	if err != nil || !strings.Contains(out, "Using cache") {
		t.Errorf("the second build took nothing from the first: %v\n%s", err, out)
	}
	second.destroy()
	if !g.has("image", made[0]) {
		t.Errorf("of the steps %v none is left to the next build", made)
	}
	put(t, filepath.Join(g.root, "cache", "ttl"), []byte("0\n"), 0o600) // the operator thinks otherwise
	if !eventually(2*time.Minute, func() bool { return !slices.ContainsFunc(made, func(id string) bool { return g.has("image", id) }) }) {
		t.Errorf("two minutes later some of the steps %v are still there", made)
	}
}

// TestSweepersTakeTurns: one that waited while another removed a note still
// removes what the other notes are of.
func TestSweepersTakeTurns(t *testing.T) {
	t.Parallel()
	g := localRig(t, Config{})
	g.reserve(nil)
	program, err := app()
	if err != nil {
		t.Fatal(err)
	}
	load := exec.Command("docker", "import", "-") // without a name, as a step
	load.Stdin = archive(t, program)
	out, err := load.Output()
	if err != nil {
		t.Fatal(err)
	}
	id := strings.TrimSpace(string(out))
	turn, err := os.OpenFile(filepath.Join(g.root, "slots/images"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer turn.Close()
	if err := syscall.Flock(int(turn.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	const since = " 2020-01-01T00:00:00\n"
	notes := filepath.Join(g.root, "cache/steps")
	put(t, filepath.Join(notes, "0000000000000000.1"), []byte("000000000000"+since), 0o600)
	put(t, filepath.Join(notes, "1111111111111111.1"), []byte(strings.TrimPrefix(id, "sha256:")[:12]+since), 0o600)
	if err := exec.Command("kill", "-USR1", g.reaper()).Run(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second) // it waits for its turn now
	if err := os.Remove(filepath.Join(notes, "0000000000000000.1")); err != nil {
		t.Fatal(err)
	}
	turn.Close()
	if !eventually(reapLimit, func() bool { return !g.has("image", id) }) {
		t.Error("the image of the other note is left")
		g.docker("rmi", id)
	}
}
