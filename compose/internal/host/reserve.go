package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer/compose/internal/workspace"
)

// A Reservation is what a machine is told before anything exists on it.
type Reservation struct {
	ID         string
	Generation int
	Attempt    string // random; a repeated reservation keeps the first one's
	Expires    time.Time
	DiskBytes  int64  // free space that must be there
	Tree       string // digest of the workspace
	Source     string // names where the tree comes from, to find an earlier upload of it
	Meta       []byte // JSON, one line; given back by List
}

// A Reserved sandbox has its directory, lease and record on the machine.
type Reserved struct {
	ID         string
	Generation int
	Attempt    string
	Root       string
	RootID     string
	Tree       string // the digest that counts: an adopted reservation keeps its own
	Cached     bool   // the tree is there already
	Base       string // digest of an earlier tree of the same source, if that is there
	Networks   map[string]netip.Prefix
	Taken      []netip.Prefix // subnets claimed by any sandbox of this root
}

// Dir is the sandbox's directory on the machine.
func (r *Reserved) Dir() string { return r.Root + "/sb/" + r.ID }

func (r *Reserved) vars() map[string]string {
	return map[string]string{"id": r.ID, "generation": strconv.Itoa(r.Generation), "attempt": r.Attempt, "tree": r.Tree}
}

// Reserve claims the sandbox's place on the machine, or adopts the claim of an
// earlier try with the same generation. The machine's reaper is on duty when
// it returns. ErrConflict: being destroyed, or another generation is there.
// ErrLimit: no slot or not enough disk.
func (m *Machine) Reserve(ctx context.Context, r Reservation) (*Reserved, error) {
	out, err := m.run(ctx, step{
		names: []string{"reserve"},
		vars: map[string]string{
			"id": r.ID, "generation": strconv.Itoa(r.Generation), "attempt": r.Attempt,
			"lease": strconv.FormatInt(r.Expires.Unix(), 10), "slots": strconv.Itoa(m.cfg.Slots),
			"disk_kb": strconv.FormatInt(r.DiskBytes>>10, 10), "cache_ttl": strconv.Itoa(int(m.cfg.CacheTTL.Seconds())),
			"tree": r.Tree, "source": r.Source, "meta": string(r.Meta),
		},
		stdin: func() io.Reader { return strings.NewReader(m.reaper()) },
	})
	if err != nil {
		return nil, err
	}
	return parseReserved(r, string(out))
}

// reaper is the text of the machine's caretaker. The values in it are paths of
// our own configuration, quoted.
func (m *Machine) reaper() string {
	return "root=" + quote(m.cfg.Root) + "\nsocket=" + quote(m.socket()) + "\nid=none\n" + script("reaper")
}

func parseReserved(r Reservation, out string) (*Reserved, error) {
	got := &Reserved{ID: r.ID, Generation: r.Generation, Networks: map[string]netip.Prefix{}}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch key {
		case "attempt":
			got.Attempt = value
		case "root":
			got.Root = value
		case "root_id":
			got.RootID = value
		case "tree":
			got.Tree = value
		case "cached":
			got.Cached = true
		case "base":
			got.Base = value
		case "network":
			name, subnet, _ := strings.Cut(value, " ")
			if p, err := netip.ParsePrefix(subnet); err == nil {
				got.Networks[name] = p
			}
		case "taken":
			if p, err := netip.ParsePrefix(strings.ReplaceAll(value, "_", "/")); err == nil {
				got.Taken = append(got.Taken, p)
			}
		}
	}
	if got.Attempt == "" || got.Root == "" || got.RootID == "" {
		return nil, fmt.Errorf("the host answered a reservation with %q", out)
	}
	return got, nil
}

// Upload brings the tree into the machine's cache: nothing if it is there,
// only what changed if an earlier tree of the same source is. owner is
// "uid:gid" for the files where the account may set it. progress gets the
// bytes packed so far and may be nil.
func (m *Machine) Upload(ctx context.Context, r *Reserved, tree *workspace.Snapshot, owner, source string, progress func(sent int64)) error {
	if r.Cached {
		return nil
	}
	diff, err := m.prepareBase(ctx, r, tree)
	if err != nil {
		return err
	}
	vars := r.vars()
	vars["owner"], vars["source"] = owner, source
	vars["delta"], vars["entries"] = "0", strconv.Itoa(count(tree.Entries()))
	if r.Base != "" {
		vars["delta"] = "1"
	}
	var packing error
	_, err = m.run(ctx, step{names: []string{"upload"}, vars: vars, stdin: func() io.Reader {
		out, in := io.Pipe()
		go func() {
			packing = tree.WriteTar(ctx, in, diff, func(packed, _ int64) {
				if progress != nil {
					progress(packed)
				}
			})
			in.CloseWithError(packing)
		}()
		return out
	}})
	if errors.Is(packing, workspace.ErrChanged) {
		return packing
	}
	return err
}

// prepareBase starts from the earlier tree where there is one and says what
// is left to send.
func (m *Machine) prepareBase(ctx context.Context, r *Reserved, tree *workspace.Snapshot) (workspace.Diff, error) {
	if r.Base == "" {
		return tree.Diff(workspace.Manifest{}), nil
	}
	text, err := m.run(ctx, step{names: []string{"manifest"}, vars: map[string]string{"base": r.Base}})
	base, parseErr := workspace.ParseManifest(text)
	if err != nil || parseErr != nil {
		r.Base = ""
		return tree.Diff(workspace.Manifest{}), nil
	}
	diff := tree.Diff(base)
	vars := r.vars()
	vars["base"] = r.Base
	_, err = m.run(ctx, step{names: []string{"base"}, vars: vars, stdin: func() io.Reader {
		return strings.NewReader(strings.Join(diff.Delete, "\x00"))
	}})
	if isExit(err, exitIncomplete) {
		r.Base = ""
		return tree.Diff(workspace.Manifest{}), nil
	}
	return diff, err
}

func count[T any](all iter.Seq[T]) int {
	n := 0
	for range all {
		n++
	}
	return n
}
