package compose

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"strings"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/admission"
	"github.com/sand-boxer/sandboxer/compose/internal/workspace"
)

// The inputs of a profile that this extension gives a meaning. All others
// become variables for interpolation in the compose file.
const (
	inputRepo     = sandboxer.WorkspaceInput
	inputFile     = "compose_file" // path of the compose file in the repository
	inputProfiles = "profiles"     // compose profiles to activate, comma-separated
)

// ProfileConfig is the part of a profile under config that belongs to this extension.
type ProfileConfig struct {
	File          string   `json:"file,omitempty"`           // compose file, unless the input compose_file names one
	Profiles      []string `json:"profiles,omitempty"`       // compose profiles to activate
	Allow         []string `json:"allow,omitempty"`          // admission rules the profile loosens; never the always-deny ones
	MaxContainers int      `json:"max_containers,omitempty"` // 40 if zero

	// BuildEgress says whether builds may use the network: "allow", also if
	// empty, or "deny". The allowlist of running containers does not hold for them.
	BuildEgress sandboxer.Egress `json:"build_egress,omitempty"`
}

// A draft is a workspace that was taken and judged: what is uploaded and run
// are the same bytes.
type draft struct {
	tree      *workspace.Snapshot
	plan      *admission.Plan
	admission sandboxer.Admission
}

func (d *draft) close() { _ = d.tree.Close() }

// Admit implements [sandboxer.Admitter]: the working tree is read and its
// compose file judged, on the client alone.
func (x *Extension) Admit(ctx context.Context, req sandboxer.ProvisionRequest) (sandboxer.Admission, error) {
	d, err := x.draft(ctx, req)
	if err != nil {
		return sandboxer.Admission{}, withCause(ctx, err)
	}
	d.close()
	return d.admission, nil
}

// draft takes the workspace of req and judges it.
func (x *Extension) draft(ctx context.Context, req sandboxer.ProvisionRequest) (*draft, error) {
	var cfg ProfileConfig
	if err := req.Profile.DecodeConfig(&cfg); err != nil {
		return nil, err
	}
	if e := cfg.BuildEgress; e != "" && e != sandboxer.EgressAllow && e != sandboxer.EgressDeny {
		return nil, &sandboxer.FieldError{Field: "config.build_egress", Reason: fmt.Sprintf("%q is neither allow nor deny", e)}
	}
	if err := supported(req.Profile); err != nil {
		return nil, err
	}
	tree, err := takeTree(ctx, req)
	if err != nil {
		return nil, err
	}
	plan, verdict, err := admission.Check(ctx, admission.Request{
		Tree: tree, File: composeFile(req, cfg), ID: req.SandboxID, Generation: req.Generation,
		Env: interpolation(req.Inputs), Profiles: composeProfiles(req, cfg), Policy: policy(req.Profile, cfg),
		Skipped: tree.Skipped,
	})
	if err != nil {
		_ = tree.Close()
		return nil, err
	}
	return &draft{tree: tree, plan: plan, admission: verdict}, nil
}

// supported refuses what a profile requires and this extension cannot enforce.
func supported(p sandboxer.Profile) error {
	refuse := func(field, format string, args ...any) error {
		return fmt.Errorf("%s %s: %w by %s", field, fmt.Sprintf(format, args...), sandboxer.ErrUnsupported, ID)
	}
	switch {
	case p.Isolation != sandboxer.IsolationContainer && p.Isolation != sandboxer.IsolationGVisor:
		return refuse("isolation", "%s", p.Isolation)
	case p.Network.HostAccess && p.Network.Egress != sandboxer.EgressAllow:
		return refuse("network.host_access", "with egress %s", p.Network.Egress)
	case len(p.Network.DNS) > 0:
		return refuse("network.dns", "with resolvers of its own")
	}
	return nil
}

func takeTree(ctx context.Context, req sandboxer.ProvisionRequest) (*workspace.Snapshot, error) {
	dir := req.Inputs[inputRepo]
	if dir == "" {
		return nil, &sandboxer.FieldError{Field: "inputs." + inputRepo, Reason: "is empty: give the path of the repository's working tree"}
	}
	tree, err := workspace.Take(ctx, dir, workspace.Options{
		Exclude: req.Profile.Workspace.Exclude,
		Progress: func(files int, bytes int64) {
			now := sandboxer.Progress{Stage: "workspace", Message: "reading the working tree"}
			if files > 0 {
				now.Message, now.Done, now.Unit = fmt.Sprintf("%d files", files), bytes, "bytes"
			}
			sandboxer.ReportProgress(ctx, now)
		},
	})
	var problems *workspace.Error
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, sandboxer.WithHint(fmt.Errorf("repository %s: %w", dir, sandboxer.ErrNotFound), "give the path of a directory on this machine as input %s", inputRepo)
	case errors.As(err, &problems):
		return nil, sandboxer.WithHint(fmt.Errorf("%w: %w", sandboxer.ErrInvalid, err), "leave it out of the workspace with a line in .sandboxerignore, or under workspace.exclude in the profile")
	}
	return tree, err
}

func composeFile(req sandboxer.ProvisionRequest, cfg ProfileConfig) string {
	file := req.Inputs[inputFile]
	if file == "" {
		file = cfg.File
	}
	if file == "" {
		return ""
	}
	return path.Clean(filepath.ToSlash(file))
}

func composeProfiles(req sandboxer.ProvisionRequest, cfg ProfileConfig) []string {
	active := append([]string(nil), cfg.Profiles...)
	for name := range strings.SplitSeq(req.Inputs[inputProfiles], ",") {
		if name = strings.TrimSpace(name); name != "" {
			active = append(active, name)
		}
	}
	return active
}

func interpolation(inputs map[string]string) map[string]string {
	env := maps.Clone(inputs)
	for _, own := range []string{inputRepo, inputFile, inputProfiles} {
		delete(env, own)
	}
	return env
}

// The caps of every container where the profile says nothing. They are
// generous: they bound an accident, not a workload.
const (
	defaultCPUs          = 2
	defaultMemory        = 2 << 30
	defaultPIDs          = 1024
	defaultMaxContainers = 40
)

func policy(p sandboxer.Profile, cfg ProfileConfig) admission.Policy {
	policy := admission.Policy{
		Isolation: p.Isolation, Egress: p.Network.Egress, Destinations: p.Network.Allow, HostAccess: p.Network.HostAccess, OfflineBuilds: cfg.BuildEgress == sandboxer.EgressDeny,
		CPUs: p.Resources.CPUs, Memory: int64(p.Resources.Memory), PIDs: p.Resources.PIDs,
		MaxContainers: cfg.MaxContainers, Allow: cfg.Allow, Secrets: p.Setup.SecretRefs,
	}
	if policy.CPUs == 0 {
		policy.CPUs = defaultCPUs
	}
	if policy.Memory == 0 {
		policy.Memory = defaultMemory
	}
	if policy.PIDs == 0 {
		policy.PIDs = defaultPIDs
	}
	if policy.MaxContainers == 0 {
		policy.MaxContainers = defaultMaxContainers
	}
	return policy
}
