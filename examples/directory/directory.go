// Package directory is a second extension, small enough to read: a sandbox is
// a private copy of a working tree on this machine. Nothing runs in it.
// docs/writing-an-extension.md goes through it.
package directory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// An Extension keeps sandboxes below Root, an absolute path. Several processes
// may use one Root.
type Extension struct {
	Root string
}

var _ interface {
	sandboxer.Extension
	sandboxer.Inspector
} = Extension{}

const hostName = "here"

// Info implements [sandboxer.Extension].
func (x Extension) Info() sandboxer.ExtensionInfo {
	return sandboxer.ExtensionInfo{
		ID: "ext.directory", Version: "0.1.0", Description: "private copies of working trees on this machine",
		Capabilities: []string{"inspect"}, Isolation: []sandboxer.Isolation{sandboxer.IsolationContainer},
		Pricing: sandboxer.PricingSelfHosted, Hosts: []sandboxer.Host{{Name: hostName, Address: "local:"}},
	}
}

// A sandbox is the directory <id>.<generation>, from the moment it has its
// record. Whatever else is in it appears after that, and src when it is whole.
func (x Extension) dir(id string, generation int) string {
	return filepath.Join(x.Root, id+"."+strconv.Itoa(generation))
}

// Provision implements [sandboxer.Extension].
func (x Extension) Provision(ctx context.Context, req sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
	h := sandboxer.Handle{SandboxID: req.SandboxID, Generation: req.Generation, Host: req.Host}
	switch {
	case !sandboxer.ValidID(req.SandboxID):
		return h, fmt.Errorf("%w: %q is not a sandbox id", sandboxer.ErrInvalid, req.SandboxID)
	case len(req.Profile.Setup.SecretRefs) > 0:
		return h, fmt.Errorf("secrets: %w: a directory keeps them from nobody", sandboxer.ErrUnsupported)
	case req.Profile.Network.Egress == sandboxer.EgressAllowlist:
		return h, fmt.Errorf("network.egress allowlist: %w", sandboxer.ErrUnsupported)
	}
	tree, err := os.OpenRoot(req.Inputs[sandboxer.WorkspaceInput])
	if err != nil {
		return h, fmt.Errorf("%w: the working tree: %w", sandboxer.ErrInvalid, err)
	}
	defer tree.Close()
	dir := x.dir(req.SandboxID, req.Generation)
	if err := x.record(dir, req); err != nil {
		return h, err
	}
	if _, err := os.Stat(filepath.Join(dir, "src")); err == nil {
		return h, nil // an earlier call came to its end
	}
	return h, x.fill(ctx, dir, tree)
}

// record makes the sandbox exist, in one step: its directory with the record
// in it. One that exists is adopted.
func (x Extension) record(dir string, req sandboxer.ProvisionRequest) error {
	text, err := json.Marshal(sandboxer.Found{
		Handle:  sandboxer.Handle{SandboxID: req.SandboxID, Generation: req.Generation, Host: req.Host},
		Profile: req.Profile.ID, Consumer: req.Consumer, CreatedAt: req.CreatedAt, ExpiresAt: req.ExpiresAt,
	})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(x.Root, 0o700); err != nil {
		return err
	}
	fresh, err := os.MkdirTemp(x.Root, ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(fresh)
	if err := os.WriteFile(filepath.Join(fresh, "record.json"), text, 0o600); err != nil {
		return err
	}
	if err := os.Rename(fresh, dir); err != nil && !exists(dir) {
		return err
	}
	return nil
}

// fill copies the tree beside its place and moves it there. A teardown moves
// the directory away as a whole, and so whatever comes after it fails.
func (x Extension) fill(ctx context.Context, dir string, tree *os.Root) error {
	part, err := os.MkdirTemp(dir, "part-")
	if err == nil {
		err = copyTree(ctx, part, tree.FS())
	}
	if err == nil {
		err = os.Rename(part, filepath.Join(dir, "src"))
	}
	switch {
	case err == nil || exists(filepath.Join(dir, "src")):
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case !exists(dir):
		return fmt.Errorf("%w: it was torn down meanwhile", sandboxer.ErrConflict)
	}
	return err
}

// copyTree copies directories and regular files. Never MkdirAll: it would
// bring back what a teardown has moved away.
func copyTree(ctx context.Context, to string, tree fs.FS) error {
	return fs.WalkDir(tree, ".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case path == ".":
			return nil
		case entry.IsDir() && entry.Name() == ".git":
			return fs.SkipDir
		case entry.IsDir():
			return os.Mkdir(filepath.Join(to, path), 0o700)
		case !entry.Type().IsRegular():
			return nil
		}
		text, err := fs.ReadFile(tree, path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, path), text, 0o600)
	})
}

// WaitReady implements [sandboxer.Extension]. There is nothing to wait for:
// what is not whole now was not provisioned to its end.
func (x Extension) WaitReady(_ context.Context, h sandboxer.Handle) (sandboxer.Readiness, error) {
	dir := x.dir(h.SandboxID, h.Generation)
	src := filepath.Join(dir, "src")
	switch {
	case !exists(dir):
		return sandboxer.Readiness{}, fmt.Errorf("sandbox %s: %w", h.SandboxID, sandboxer.ErrNotFound)
	case !exists(src):
		return sandboxer.Readiness{}, &sandboxer.NotReadyError{Service: "src", State: "incomplete"}
	}
	return sandboxer.Readiness{
		Reachability: sandboxer.Reachability{Address: "local:", Workdir: src},
		Controls:     []sandboxer.Control{{Name: "isolation", Level: sandboxer.Unsupported, Detail: "a directory isolates nothing"}},
	}, nil
}

// Teardown implements [sandboxer.Extension].
func (x Extension) Teardown(_ context.Context, h sandboxer.Handle) (sandboxer.Removal, error) {
	var removal sandboxer.Removal
	for range 3 { // what raced with it may have come after it looked
		standing, doomed, err := x.look(h.SandboxID)
		if err != nil {
			return removal, err
		}
		for generation := range standing {
			if h.Generation != 0 && generation > h.Generation {
				return removal, fmt.Errorf("%w: generation %d is there", sandboxer.ErrConflict, generation)
			}
		}
		if len(standing)+len(doomed) == 0 {
			removal.Residue, removal.VerifiedAt = nil, time.Now().UTC()
			return removal, nil
		}
		for _, dir := range standing {
			gone := filepath.Join(x.Root, fmt.Sprintf(".gone-%s-%d", filepath.Base(dir), time.Now().UnixNano()))
			if err := os.Rename(dir, gone); err != nil {
				continue // another teardown was faster, or the next round says what is left
			}
			doomed = append(doomed, gone)
			removal.Removed = append(removal.Removed, sandboxer.Resource{Kind: "directory", ID: filepath.Base(dir)})
		}
		removal.Residue = nil
		for _, dir := range doomed {
			if err := os.RemoveAll(dir); err != nil {
				removal.Residue = append(removal.Residue, sandboxer.Resource{Kind: "directory", ID: filepath.Base(dir)})
			}
		}
	}
	return removal, &sandboxer.ResidueError{Residue: removal.Residue}
}

// Inspect implements [sandboxer.Inspector].
func (x Extension) Inspect(_ context.Context, h sandboxer.Handle) (sandboxer.Observation, error) {
	o := sandboxer.Observation{Presence: sandboxer.Absent, At: time.Now().UTC()}
	standing, doomed, err := x.look(h.SandboxID)
	switch {
	case err != nil:
		o.Presence, o.Detail = sandboxer.Unknown, err.Error()
	case len(standing)+len(doomed) > 0:
		o.Presence = sandboxer.Present
	}
	return o, nil
}

// look lists what there is of a sandbox: its directories by generation, and
// what a teardown moved away and has not removed yet. A Root that is not there
// holds nothing; one that cannot be read is unavailable, not empty.
func (x Extension) look(id string) (standing map[int]string, doomed []string, err error) {
	entries, err := os.ReadDir(x.Root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%w: %w", sandboxer.ErrUnavailable, err)
	}
	standing = map[int]string{}
	for _, e := range entries {
		path := filepath.Join(x.Root, e.Name())
		if number, ok := strings.CutPrefix(e.Name(), id+"."); ok {
			if generation, err := strconv.Atoi(number); err == nil {
				standing[generation] = path
			}
		}
		if strings.HasPrefix(e.Name(), ".gone-"+id+".") {
			doomed = append(doomed, path)
		}
	}
	return standing, doomed, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
