// Package onecontainer is an extension in small: a sandbox is one container of
// an image that this machine's Docker Engine has, without a network, with a copy
// of the working tree in a volume. It is the worked example of
// docs/writing-an-extension.md.
package onecontainer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// ID is the extension's id.
const ID = "ext.one-container"

// inputImage names the image; the profile declares it.
const inputImage = "image"

// An Extension keeps sandboxes on one engine. It holds nothing in memory.
type Extension struct {
	// Engine is the address of the engine, as in DOCKER_HOST; the CLI's
	// default if empty.
	Engine string
}

var (
	_ sandboxer.Extension = (*Extension)(nil)
	_ sandboxer.Inspector = (*Extension)(nil)
	_ sandboxer.Lister    = (*Extension)(nil)
)

// Info implements [sandboxer.Extension].
func (x *Extension) Info() sandboxer.ExtensionInfo {
	return sandboxer.ExtensionInfo{
		ID: ID, Version: "0.1.0", Description: "One container without a network, on this machine's engine",
		Capabilities: []string{"inspect", "list"}, Isolation: []sandboxer.Isolation{sandboxer.IsolationContainer},
		Pricing: sandboxer.PricingSelfHosted, Hosts: []sandboxer.Host{{Name: "engine", Address: "local:"}},
	}
}

// name is that of everything a sandbox consists of: it follows from the id.
func name(id string) string { return "one-" + id }

// The labels of the record.
const (
	labelID         = "dev.example.one-container.id"
	labelGeneration = "dev.example.one-container.generation"
	labelFound      = "dev.example.one-container.found"
)

// Provision implements [sandboxer.Extension]. The record comes first: a
// volume, whose name the engine gives only once, with everything that List
// needs in its labels.
func (x *Extension) Provision(ctx context.Context, req sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
	h := sandboxer.Handle{SandboxID: req.SandboxID, Generation: req.Generation, Host: req.Host}
	if err := accept(req); err != nil {
		return h, err
	}
	found, err := json.Marshal(sandboxer.Found{Handle: h, Profile: req.Profile.ID, Consumer: req.Consumer, CreatedAt: req.CreatedAt, ExpiresAt: req.ExpiresAt})
	if err != nil {
		return h, err
	}
	if _, err := x.docker(ctx, "volume", "create", "--label", labelID+"="+req.SandboxID, "--label", labelGeneration+"="+strconv.Itoa(req.Generation),
		"--label", labelFound+"="+string(found), name(req.SandboxID)); err != nil {
		return h, err
	}
	if err := x.mine(ctx, h); err != nil {
		return h, err
	}
	if err := x.start(ctx, req); err != nil {
		return h, x.explain(ctx, h, err)
	}
	// A teardown that came between has removed the record, and the engine has
	// made another volume, without labels, for the container.
	return h, x.mine(ctx, h)
}

// accept refuses what can never be served, before anything exists.
func accept(req sandboxer.ProvisionRequest) error {
	switch {
	case req.Profile.Isolation != sandboxer.IsolationContainer:
		return fmt.Errorf("isolation %s: %w by %s", req.Profile.Isolation, sandboxer.ErrUnsupported, ID)
	case req.Profile.Network.Egress != sandboxer.EgressDeny:
		return fmt.Errorf("network.egress %s: %w by %s", req.Profile.Network.Egress, sandboxer.ErrUnsupported, ID)
	case len(req.Profile.Setup.SecretRefs) > 0:
		return fmt.Errorf("setup.secret_refs: %w by %s", sandboxer.ErrUnsupported, ID)
	case req.Inputs[inputImage] == "":
		return &sandboxer.FieldError{Field: "inputs." + inputImage, Reason: "is empty: name an image that the engine has"}
	case req.Inputs[sandboxer.WorkspaceInput] == "":
		return &sandboxer.FieldError{Field: "inputs." + sandboxer.WorkspaceInput, Reason: "is empty: name the working tree"}
	}
	return nil
}

// mine reports whether the record is that of h's generation.
func (x *Extension) mine(ctx context.Context, h sandboxer.Handle) error {
	record, err := x.record(ctx, h.SandboxID)
	switch {
	case err != nil:
		return err
	case record == nil:
		return fmt.Errorf("sandbox %s was torn down meanwhile: %w", h.SandboxID, sandboxer.ErrConflict)
	case record.Handle.Generation != h.Generation:
		return fmt.Errorf("generation %d of sandbox %s is there: %w", record.Handle.Generation, h.SandboxID, sandboxer.ErrConflict)
	}
	return nil
}

// workdir is where the volume with the working tree is mounted.
const workdir = "/work"

// start makes, fills and starts the container, or goes on with the one that is there.
func (x *Extension) start(ctx context.Context, req sandboxer.ProvisionRequest) error {
	there, err := x.objects(ctx, req.SandboxID)
	if err != nil {
		return err
	}
	if there.container == "" {
		sandboxer.ReportProgress(ctx, sandboxer.Progress{Stage: "container", Message: req.Inputs[inputImage]})
		if _, err := x.docker(ctx, arguments(req)...); err != nil && !isTaken(err) {
			return err
		}
	}
	if there.container == "" || there.state == "created" {
		if _, err := x.docker(ctx, "cp", req.Inputs[sandboxer.WorkspaceInput]+"/.", name(req.SandboxID)+":"+workdir); err != nil {
			return err
		}
	}
	_, err = x.docker(ctx, "start", name(req.SandboxID))
	return err
}

// explain tells a start that failed because somebody tears the sandbox down
// from one that failed by itself.
func (x *Extension) explain(ctx context.Context, h sandboxer.Handle, cause error) error {
	if ctx.Err() != nil || errors.Is(cause, sandboxer.ErrInvalid) || errors.Is(cause, sandboxer.ErrUnavailable) {
		return cause
	}
	there, err := x.objects(ctx, h.SandboxID)
	if err == nil && (there.container == "" || there.state == "removing") {
		err = fmt.Errorf("sandbox %s was torn down meanwhile: %w", h.SandboxID, sandboxer.ErrConflict)
	}
	if err == nil {
		err = x.mine(ctx, h)
	}
	return errors.Join(err, cause)
}

// arguments are those of docker create.
func arguments(req sandboxer.ProvisionRequest) []string {
	args := []string{"create", "--name", name(req.SandboxID), "--label", labelID + "=" + req.SandboxID, "--pull", "never",
		"--network", "none", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--volume", name(req.SandboxID) + ":" + workdir}
	r := req.Profile.Resources
	if r.Memory > 0 {
		args = append(args, "--memory", strconv.FormatInt(int64(r.Memory), 10), "--memory-swap", strconv.FormatInt(int64(r.Memory), 10))
	}
	if r.CPUs > 0 {
		args = append(args, "--cpus", strconv.FormatFloat(r.CPUs, 'f', -1, 64))
	}
	if r.PIDs > 0 {
		args = append(args, "--pids-limit", strconv.FormatInt(r.PIDs, 10))
	}
	return append(args, req.Inputs[inputImage])
}

// WaitReady implements [sandboxer.Extension]: a container that runs is ready.
func (x *Extension) WaitReady(ctx context.Context, h sandboxer.Handle) (sandboxer.Readiness, error) {
	there, err := x.objects(ctx, h.SandboxID)
	switch {
	case err != nil:
		return sandboxer.Readiness{}, err
	case there.container == "":
		return sandboxer.Readiness{}, fmt.Errorf("sandbox %s: %w", h.SandboxID, sandboxer.ErrNotFound)
	case there.state != "running":
		return sandboxer.Readiness{}, &sandboxer.NotReadyError{Service: "main", State: there.state}
	}
	return sandboxer.Readiness{
		Reachability: sandboxer.Reachability{Address: "local:", Project: name(h.SandboxID), Workdir: workdir, Services: there.services()},
		Controls:     []sandboxer.Control{{Name: "network.egress", Level: sandboxer.Enforced, Detail: "the container has no network"}},
	}, nil
}

// patience is how long Teardown looks again: another one may be at work, and
// what raced with it may have made something after it looked.
const patience = 10 * time.Second

// Teardown implements [sandboxer.Extension]. It works from the id, and what it
// says is what the engine answers afterwards.
func (x *Extension) Teardown(ctx context.Context, h sandboxer.Handle) (sandboxer.Removal, error) {
	var removal sandboxer.Removal
	record, err := x.record(ctx, h.SandboxID)
	if err != nil {
		return removal, err
	}
	if record != nil && h.Generation > 0 && record.Handle.Generation > h.Generation {
		return removal, fmt.Errorf("generation %d of sandbox %s is there: %w", record.Handle.Generation, h.SandboxID, sandboxer.ErrConflict)
	}
	var last error
	for deadline := time.Now().Add(patience); ; {
		there, err := x.objects(ctx, h.SandboxID)
		if err != nil {
			return removal, err
		}
		if removal.Residue = there.resources(); len(removal.Residue) == 0 {
			removal.VerifiedAt = time.Now().UTC()
			return removal, nil
		}
		if time.Now().After(deadline) {
			return removal, errors.Join(&sandboxer.ResidueError{Residue: removal.Residue}, last)
		}
		if removal.Removed, last = removal.Residue, x.remove(ctx, there); last != nil {
			time.Sleep(100 * time.Millisecond)
		}
	}
}
