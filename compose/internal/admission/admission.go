// Package admission judges a repository's compose file on the client, before
// anything is created, and turns it into the one file that the host's compose
// reads.
//
// [Check] loads the file with compose-go from inside the tree alone, refuses
// whatever its closed list of [Rule]s does not know to be safe, and rewrites
// what would clash with another copy or reach the host. The resulting [Plan]
// holds for any host; [Plan.Render] writes the canonical file for one.
//
// Nothing here touches an engine, a network, the client's environment or its
// home directory.
package admission

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/workspace"
)

// A Tree is the repository as it was snapshotted. [*workspace.Snapshot] is one.
type Tree interface {
	// Lookup finds an entry by its clean path, relative to the tree.
	Lookup(path string) (workspace.Entry, bool)
	// ReadFile returns a regular file of at most limit bytes, reached through no symbolic link.
	ReadFile(path string, limit int64) ([]byte, error)
}

// A Request is what Check judges.
type Request struct {
	Tree       Tree
	File       string            // the compose file's path in the tree; empty: the first of [FileNames] that is there
	ProjectDir string            // where relative paths start, in the tree; empty: the compose file's directory
	ID         string            // the sandbox's id
	Generation int               // tags the images it builds
	Env        map[string]string // variables for interpolation; they win over those of .env beside the compose file
	Profiles   []string          // compose profiles to activate
	Policy     Policy

	// Skipped are files of the working tree that are not in Tree, with what they are.
	Skipped []workspace.Problem
}

// A Policy is what a profile grants.
type Policy struct {
	Isolation     sandboxer.Isolation // gvisor, or anything else for the engine's own runtime
	Egress        sandboxer.Egress    // deny, allowlist or allow; anything else is deny
	Destinations  []string            // with allowlist: what may be reached
	OfflineBuilds bool                // builds have no network
	HostAccess    bool                // containers may be given the host's address
	CPUs          float64             // of every container, default and most; 0 is no bound
	Memory        int64               // bytes, likewise
	PIDs          int64               // likewise
	MaxContainers int                 // 40 if zero
	Secrets       []string            // names of the secrets that the profile provides
	Allow         []string            // ids of rules of class Profile that do not apply
}

const defaultMaxContainers = 40

// Check judges the compose file of req. A refusal is a verdict, with a nil
// Plan and every violation at once; the error is for a request that cannot be
// judged: no compose file ([*NoFileError]), an Allow entry that is no
// Profile rule ([*sandboxer.FieldError]), a tree that changed, a done ctx.
func Check(ctx context.Context, req Request) (*Plan, sandboxer.Admission, error) {
	req, err := req.normalised()
	if err != nil {
		return nil, sandboxer.Admission{}, err
	}
	r := &report{}
	files := &files{tree: req.Tree, report: r, envs: &envFiles{tree: req.Tree, report: r}}
	project := load(ctx, req, files, r)
	if err := context.Cause(ctx); err != nil {
		return nil, sandboxer.Admission{}, err
	}
	if err := errors.Join(files.err, files.envs.err); err != nil {
		return nil, sandboxer.Admission{}, err
	}
	var plan *Plan
	if project != nil {
		j := &judge{Request: req, report: r, paths: treePaths{req.Tree, files.projectDir, files.root}, project: project.Project, env: project.env, envs: files.envs}
		plan = j.plan()
		if files.envs.err != nil {
			return nil, sandboxer.Admission{}, files.envs.err
		}
	}
	admission := r.admission(files)
	if admission.Verdict == sandboxer.Deny {
		return nil, admission, nil
	}
	return plan, admission, nil
}

func (req Request) normalised() (Request, error) {
	var err error
	if req.File, err = findFile(req.Tree, req.File); err != nil {
		return req, err
	}
	if req.ProjectDir == "" {
		req.ProjectDir = path.Dir(req.File)
	}
	if req.Policy.MaxContainers == 0 {
		req.Policy.MaxContainers = defaultMaxContainers
	}
	for i, id := range req.Policy.Allow {
		field := fmt.Sprintf("config.allow[%d]", i)
		switch r := ruleByID(id); {
		case r == nil:
			return req, &sandboxer.FieldError{Field: field, Reason: fmt.Sprintf("there is no rule %q", id)}
		case r.Class != Profile:
			return req, &sandboxer.FieldError{Field: field, Reason: fmt.Sprintf("rule %s cannot be loosened by a profile; these can: %s", id, strings.Join(loosenable(), ", "))}
		}
	}
	return req, nil
}

func loosenable() []string {
	var ids []string
	for _, r := range rules {
		if r.Class == Profile {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// project is the compose project of the sandbox.
func (req Request) project() string { return "sbx-" + req.ID }

// allows reports whether the profile loosened a rule.
func (p Policy) allows(id string) bool { return slices.Contains(p.Allow, id) }

// denies reports whether nothing outside the sandbox can be reached.
func (p Policy) denies() bool { return p.Egress != sandboxer.EgressAllow }

// gvisor reports whether containers run on a kernel of their own, in user space.
func (p Policy) gvisor() bool { return p.Isolation == sandboxer.IsolationGVisor }

// steering matches variables of .env that configure docker itself where it
// runs. What merely looks alike, such as DOCKER_TAG, stays a variable.
var steering = regexp.MustCompile(`^(COMPOSE_.*|BUILDKIT_.*|BUILDX_.*|DOCKER_(HOST|CONFIG|CONTEXT|CERT_PATH|TLS.*|API_VERSION|BUILDKIT|DEFAULT_PLATFORM|CONTENT_TRUST.*|CLI_.*))$`)

// withoutSteering returns env less the variables that steer docker, and their names.
func withoutSteering(env map[string]string) (map[string]string, []string) {
	kept, dropped := map[string]string{}, []string(nil)
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if steering.MatchString(name) {
			dropped = append(dropped, name)
			continue
		}
		kept[name] = env[name]
	}
	return kept, dropped
}
