package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/engine"
)

// LabelID and LabelRoot stand on every engine object of a sandbox.
const (
	LabelID   = "dev.sandboxer.id"
	LabelRoot = "dev.sandboxer.root"

	// LabelOutside stands on the network that only the proxy is on.
	LabelOutside = "dev.sandboxer.outside"
)

// looks bounds how often a teardown is done again because the engine still
// held something afterwards.
const looks = 3

// Teardown removes everything of the sandbox and then asks the engine itself,
// not the script that removed, whether anything is left. generation 0 means
// whatever is there. ErrResidue lists what could not be proved absent;
// ErrConflict: a later generation is there; ErrUnavailable: nobody can tell.
func (m *Machine) Teardown(ctx context.Context, id string, generation int) (sandboxer.Removal, error) {
	var removal sandboxer.Removal
	for range looks {
		out, err := m.removeAll(ctx, id, generation)
		removal.Residue = note(&removal, string(out))
		switch {
		case isExit(err, exitResidue):
			return removal, m.residue(ctx, removal.Residue)
		case err != nil:
			return removal, err
		}
		removal.Residue, err = m.Objects(ctx, id)
		if err != nil {
			return removal, err
		}
		if len(removal.Residue) == 0 {
			removal.VerifiedAt = time.Now().UTC()
			return removal, nil
		}
	}
	return removal, m.residue(ctx, removal.Residue)
}

// residue says what can be done about it. An engine can go on counting an
// endpoint of a network whose container is gone (moby/moby#42119; seen once,
// when twenty sandboxes were removed at once); it counts anew when it starts.
func (m *Machine) residue(ctx context.Context, left []sandboxer.Resource) error {
	err := &sandboxer.ResidueError{Residue: left}
	eng, engErr := m.Engine(ctx)
	for _, r := range left {
		if engErr != nil || r.Kind != string(engine.KindNetwork) {
			continue
		}
		if network, err := eng.InspectNetwork(ctx, r.ID); err != nil || len(network.Containers) > 0 {
			continue
		}
		return sandboxer.WithHint(err, "no container is left on %s, but the engine does not let it go: restart the Docker Engine on the host and destroy again", r.Name)
	}
	return err
}

// removeAll runs the teardown script; files that only root can remove are
// cleared from inside a container, then it runs again.
func (m *Machine) removeAll(ctx context.Context, id string, generation int) ([]byte, error) {
	var all bytes.Buffer
	s := step{names: []string{"destroy", "steps", "teardown"}, vars: map[string]string{"id": id, "generation": strconv.Itoa(generation)}, stdout: &all}
	_, err := m.run(ctx, s)
	if isExit(err, exitFiles) {
		if clearErr := m.clearFiles(ctx, id); clearErr != nil {
			return all.Bytes(), errors.Join(err, clearErr)
		}
		_, err = m.run(ctx, s)
	}
	if isExit(err, exitEngine) {
		err = sandboxer.WithHint(fmt.Errorf("%w: the host's engine did not answer, so nothing can be proved: %w", sandboxer.ErrUnavailable, err), "start the Docker Engine on the host and destroy again")
	}
	return all.Bytes(), err
}

// note adds what the teardown script removed to the removal, once each, and
// returns what it could not remove.
func note(removal *sandboxer.Removal, out string) []sandboxer.Resource {
	var left []sandboxer.Resource
	for line := range strings.Lines(out) {
		verb, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		kind, rest, _ := strings.Cut(rest, " ")
		id, name, _ := strings.Cut(rest, " ")
		r := sandboxer.Resource{Kind: kind, ID: id, Name: name}
		switch {
		case verb == "left":
			left = append(left, r)
		case verb == "removed" && !slices.Contains(removal.Removed, r):
			removal.Removed = append(removal.Removed, r)
		}
	}
	removal.Removed = slices.DeleteFunc(removal.Removed, func(r sandboxer.Resource) bool { return slices.Contains(left, r) })
	return left
}

// Objects lists what the engine holds for the sandbox.
func (m *Machine) Objects(ctx context.Context, id string) ([]sandboxer.Resource, error) {
	inventory, err := m.Inventory(ctx, id)
	if err != nil {
		return nil, err
	}
	var out []sandboxer.Resource
	for _, o := range inventory {
		out = append(out, sandboxer.Resource{Kind: string(o.Kind), ID: o.ID, Name: o.Name})
	}
	return out, nil
}

// Inventory lists the engine's objects that carry the sandbox's label.
func (m *Machine) Inventory(ctx context.Context, id string) (engine.Inventory, error) {
	eng, err := m.Engine(ctx)
	if err != nil {
		return nil, err
	}
	var inventory engine.Inventory
	err = ask(ctx, func() (err error) {
		inventory, err = eng.Objects(ctx, LabelID+"="+id)
		return err
	})
	return inventory, Classify(err)
}

// ask makes a call to the engine that changes nothing. One that is not answered
// is made again, since it may have been the link that broke.
func ask(ctx context.Context, call func() error) error {
	err := call()
	for try := 1; try < tries && errors.Is(err, engine.ErrUnreachable); try++ {
		if pause(ctx, 100*time.Millisecond) != nil {
			return err
		}
		err = call()
	}
	return err
}

// Renew moves the lease to a later time. ErrConflict: the sandbox is not there
// or is being destroyed.
func (m *Machine) Renew(ctx context.Context, id string, expires time.Time) error {
	_, err := m.run(ctx, step{names: []string{"renew"}, vars: map[string]string{"id": id, "lease": strconv.FormatInt(expires.Unix(), 10)}})
	return err
}

// A Sight is what the machine's files say of one sandbox.
type Sight struct {
	Present    bool
	Destroying bool
	Generation int
	Attempt    string
	Expires    time.Time
	Root       string
	Secrets    string // where its secrets lie; empty if there are none
	Plan       []byte // plan.json as it was placed; empty before
}

// Look reads the machine's files of one sandbox.
func (m *Machine) Look(ctx context.Context, id string) (*Sight, error) {
	out, err := m.run(ctx, step{names: []string{"look"}, vars: map[string]string{"id": id}})
	if err != nil {
		return nil, err
	}
	s := &Sight{}
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch key {
		case "present":
			s.Present = true
		case "destroying":
			s.Destroying = true
		case "secrets":
			s.Secrets = value
		case "root":
			s.Root = value
		case "plan":
			s.Plan = []byte(value)
		case "lease":
			s.Expires = unix(value)
		case "attempt":
			generation, attempt, _ := strings.Cut(value, " ")
			s.Generation, _ = strconv.Atoi(generation)
			s.Attempt = attempt
		}
	}
	return s, nil
}

func unix(seconds string) time.Time {
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.Unix(n, 0).UTC()
}

// An Entry is one sandbox as the machine itself remembers it.
type Entry struct {
	Generation int
	Expires    time.Time
	Meta       json.RawMessage
}

// List reads every sandbox of the machine's root.
func (m *Machine) List(ctx context.Context) ([]Entry, error) {
	out, err := m.run(ctx, step{names: []string{"list"}})
	if err != nil {
		return nil, err
	}
	var entries []Entry
	for line := range strings.Lines(string(out)) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 3)
		if len(fields) != 3 || !json.Valid([]byte(fields[2])) {
			return nil, fmt.Errorf("%w: the host lists a sandbox it cannot describe: %q", sandboxer.ErrUnavailable, line)
		}
		generation, _ := strconv.Atoi(fields[0])
		entries = append(entries, Entry{Generation: generation, Expires: unix(fields[1]), Meta: json.RawMessage(fields[2])})
	}
	return entries, nil
}
