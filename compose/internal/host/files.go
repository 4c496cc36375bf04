package host

import (
	"context"

	"github.com/sand-boxer/sandboxer/compose/internal/relay"
)

// clearFiles removes what the account may not remove: files that containers
// wrote as root into the sandbox's workspace. The directory itself is left to
// the teardown script, which runs again and takes the image too.
func (m *Machine) clearFiles(ctx context.Context, id string) error {
	sight, err := m.Look(ctx, id)
	if err != nil || !sight.Present {
		return err
	}
	eng, err := m.Engine(ctx)
	if err != nil {
		return err
	}
	spec, err := m.relaySpec(ctx, id)
	if err != nil {
		return err
	}
	return Classify(relay.Clear(ctx, eng, spec, sight.Root+"/sb/"+id))
}
