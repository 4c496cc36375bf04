package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
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
	Secrets    string         // directory for the files of PlaceSecrets
	InMemory   bool           // whether that is on a file system in memory
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
		stdin: func() io.ReadCloser { return io.NopCloser(strings.NewReader(reaper())) },
	})
	if err != nil {
		return nil, err
	}
	return parseReserved(r, string(out))
}

// reaper is the text of the machine's caretaker.
func reaper() string { return "id=none\n" + script("destroy", "steps", "reaper") }

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
		case "secrets":
			got.Secrets = value
		case "memory":
			got.InMemory = true
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
	if got.Attempt == "" || got.Root == "" || got.RootID == "" || got.Secrets == "" {
		return nil, fmt.Errorf("the host answered a reservation with %q", out)
	}
	return got, nil
}

// maxDelete bounds, in bytes, the list of paths to remove from a base: a tree
// that differs so much is sent whole.
const maxDelete = 64 << 10

// Upload brings the tree into the machine's cache: nothing if it is there,
// only what changed if an earlier tree of the same source is. owner is
// "uid:gid" for the files where the account may set it. progress gets the
// bytes packed so far, from 0 again after a broken link, and may be nil.
// [workspace.ErrChanged]: a file is not what the snapshot recorded any more.
func (m *Machine) Upload(ctx context.Context, r *Reserved, tree *workspace.Snapshot, owner, source string, progress func(sent int64)) error {
	if r.Cached {
		return nil
	}
	diff := tree.Diff(m.base(ctx, r))
	deleted := strings.Join(diff.Delete, "\n")
	if len(deleted) > maxDelete {
		r.Base, deleted, diff = "", "", tree.Diff(workspace.Manifest{})
	}
	err := m.send(ctx, r, tree, diff, map[string]string{
		"owner": owner, "source": source, "base": r.Base, "delete": deleted, "entries": strconv.Itoa(count(tree.Entries())),
	}, progress)
	if isExit(err, exitTree) { // the base went meanwhile
		r.Base = ""
		return m.Upload(ctx, r, tree, owner, source, progress)
	}
	return err
}

// base is the manifest of the earlier tree to start from, empty if there is none.
func (m *Machine) base(ctx context.Context, r *Reserved) workspace.Manifest {
	if r.Base == "" {
		return workspace.Manifest{}
	}
	text, err := m.run(ctx, step{names: []string{"manifest"}, vars: map[string]string{"base": r.Base}})
	manifest, parseErr := workspace.ParseManifest(text)
	if err != nil || parseErr != nil {
		r.Base = ""
		return workspace.Manifest{}
	}
	return manifest
}

func (m *Machine) send(ctx context.Context, r *Reserved, tree *workspace.Snapshot, diff workspace.Diff, vars map[string]string, progress func(int64)) error {
	maps.Copy(vars, r.vars())
	var p *packer
	_, err := m.run(ctx, step{names: []string{"upload"}, vars: vars, stdin: func() io.ReadCloser {
		p = pack(ctx, tree, diff, progress)
		return p
	}})
	if p != nil && errors.Is(p.err, workspace.ErrChanged) {
		return p.err
	}
	return err
}

// A packer is the stream of a tree. Nothing of it goes on after Close.
type packer struct {
	*io.PipeReader
	done chan struct{}
	err  error // of packing; valid after Close
}

func pack(ctx context.Context, tree *workspace.Snapshot, diff workspace.Diff, progress func(int64)) *packer {
	out, in := io.Pipe()
	p := &packer{PipeReader: out, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.err = tree.WriteTar(ctx, in, diff, func(packed, _ int64) {
			if progress != nil {
				progress(packed)
			}
		})
		in.CloseWithError(p.err)
	}()
	return p
}

func (p *packer) Close() error {
	err := p.PipeReader.Close()
	<-p.done
	return err
}

func count[T any](all iter.Seq[T]) int {
	n := 0
	for range all {
		n++
	}
	return n
}
