package extensiontest

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// A Backend is the machines that [Fake] values put sandboxes on. It outlives
// them, as hosts outlive the processes that use them: several Fakes over one
// Backend are several processes. It is safe for concurrent use.
//
// Leases end by the Backend's own clock, with no Fake alive.
type Backend struct {
	mu       sync.Mutex
	machines []*machine
}

type machine struct {
	sandboxer.Host
	down    bool
	boxes   map[string]*box
	expired map[string]bool // ids whose lease ended here
}

// A box is one sandbox on its machine. It exists from the moment its record does.
type box struct {
	sandboxer.Found                      // the machine's own record
	removing        bool                 // a teardown has begun; nothing may be added
	objects         []sandboxer.Resource // in the order made, the record first
	journal         *journal
	conns           map[net.Conn]bool
}

// NewBackend returns machines that hold nothing; without hosts, one called "one".
func NewBackend(hosts ...sandboxer.Host) *Backend {
	if len(hosts) == 0 {
		hosts = []sandboxer.Host{{Name: "one", Address: "fake://one"}}
	}
	b := &Backend{}
	for _, h := range hosts {
		b.machines = append(b.machines, &machine{Host: h, boxes: map[string]*box{}, expired: map[string]bool{}})
	}
	return b
}

// SetReachable cuts or restores the link to a host. What runs there goes on.
func (b *Backend) SetReachable(host string, reachable bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.machines {
		if m.Name == host {
			m.down = !reachable
		}
	}
}

// Wipe removes a sandbox behind the back of everybody, as a person with a
// shell on the machine could. An empty id means all of them.
func (b *Backend) Wipe(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.machines {
		for _, x := range m.boxes {
			if id == "" || id == x.Handle.SandboxID {
				m.forget(x)
			}
		}
	}
}

// Leftovers names the objects of a sandbox, reachable or not, as
// [Harness].Leftovers wants them. An empty id means those of all sandboxes.
func (b *Backend) Leftovers(_ context.Context, id string) ([]string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var names []string
	for _, m := range b.machines {
		m.reap(time.Now())
		for _, x := range m.boxes {
			for _, r := range x.objects {
				if id == "" || id == x.Handle.SandboxID {
					names = append(names, fmt.Sprintf("%s on %s", r, m.Name))
				}
			}
		}
	}
	slices.Sort(names)
	return names, nil
}

// hosts are the machines as configuration describes them.
func (b *Backend) hosts() []sandboxer.Host {
	all := make([]sandboxer.Host, 0, len(b.machines))
	for _, m := range b.machines {
		all = append(all, m.Host)
	}
	return all
}

// on runs f on a machine that can be reached, alone.
func (b *Backend) on(host string, f func(*machine) error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.machines {
		switch {
		case m.Name != host:
		case m.down:
			return fmt.Errorf("%w: host %s does not answer", sandboxer.ErrUnavailable, host)
		default:
			m.reap(time.Now())
			return f(m)
		}
	}
	return fmt.Errorf("host %s: %w", host, sandboxer.ErrNotFound)
}

// reap honours the leases that have ended.
func (m *machine) reap(now time.Time) {
	for _, x := range m.boxes {
		if !now.Before(x.ExpiresAt) {
			m.forget(x)
			m.expired[x.Handle.SandboxID] = true
		}
	}
}

// forget removes a box with everything in it.
func (m *machine) forget(x *box) {
	delete(m.boxes, x.Handle.SandboxID)
	x.journal.end()
	for c := range x.conns {
		_ = c.Close()
	}
}

// box finds what h names; ErrNotFound if it is not there.
func (m *machine) box(h sandboxer.Handle) (*box, error) {
	x, ok := m.boxes[h.SandboxID]
	if !ok || h.Generation != 0 && h.Generation != x.Handle.Generation {
		return nil, fmt.Errorf("sandbox %s, generation %d, on %s: %w", h.SandboxID, h.Generation, m.Name, sandboxer.ErrNotFound)
	}
	return x, nil
}

// open writes the machine's own record of a sandbox, or adopts the one there is.
func (m *machine) open(f sandboxer.Found) error {
	x, ok := m.boxes[f.Handle.SandboxID]
	switch {
	case !ok && m.Slots > 0 && len(m.boxes) >= m.Slots:
		return fmt.Errorf("%w: all %d slots of %s are taken", sandboxer.ErrUnavailable, m.Slots, m.Name)
	case !ok:
		x = &box{Found: f, journal: newJournal(), conns: map[net.Conn]bool{}}
		m.boxes[f.Handle.SandboxID] = x
		delete(m.expired, f.Handle.SandboxID)
	case x.removing || x.Handle.Generation != f.Handle.Generation:
		return fmt.Errorf("%w: generation %d is being removed or still here", sandboxer.ErrConflict, x.Handle.Generation)
	case x.ExpiresAt.Before(f.ExpiresAt):
		x.ExpiresAt = f.ExpiresAt
	}
	return nil
}

// add makes one object of a sandbox unless it is there already.
func (m *machine) add(h sandboxer.Handle, r sandboxer.Resource) error {
	x, err := m.box(h)
	if err != nil || x.removing {
		return fmt.Errorf("%w: somebody else tore sandbox %s down meanwhile", sandboxer.ErrConflict, h.SandboxID)
	}
	if !slices.Contains(x.objects, r) {
		x.objects = append(x.objects, r)
		x.journal.write(r.Name, "made")
	}
	return nil
}

// condemn begins the removal of a sandbox and lists its objects, last made first.
func (m *machine) condemn(h sandboxer.Handle) ([]sandboxer.Resource, error) {
	x, ok := m.boxes[h.SandboxID]
	switch {
	case !ok:
		delete(m.expired, h.SandboxID)
		return nil, nil
	case h.Generation != 0 && h.Generation < x.Handle.Generation:
		return nil, fmt.Errorf("%w: generation %d has taken the place of generation %d", sandboxer.ErrConflict, x.Handle.Generation, h.Generation)
	}
	x.removing = true
	doomed := slices.Clone(x.objects)
	slices.Reverse(doomed)
	return doomed, nil
}

// drop removes one object. The record goes last: as long as anything else is
// there, the machine remembers whose it is.
func (m *machine) drop(id string, r sandboxer.Resource) {
	x, ok := m.boxes[id]
	if !ok || r.Kind == kindRecord && len(x.objects) > 1 {
		return
	}
	x.objects = slices.DeleteFunc(x.objects, func(o sandboxer.Resource) bool { return o == r })
	if len(x.objects) == 0 {
		m.forget(x)
	}
}

// found lists what the machine remembers, by id.
func (m *machine) found() []sandboxer.Found {
	all := make([]sandboxer.Found, 0, len(m.boxes))
	for _, x := range m.boxes {
		all = append(all, x.Found)
	}
	slices.SortFunc(all, func(a, b sandboxer.Found) int { return cmp.Compare(a.Handle.SandboxID, b.Handle.SandboxID) })
	return all
}
