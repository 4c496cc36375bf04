package relay

import (
	"context"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/sand-boxer/sandboxer/compose/internal/engine"
)

// Clear removes everything in a directory of the engine's machine, but not the directory, with the rights of root:
// also what containers left there for other users. It follows no symbolic link and leaves what is mounted in the
// directory alone, which is then an error. The directory is an absolute path that must exist.
//
// The container that does it carries the labels of the spec and is removed; the image, which is made if there is none,
// carries them too and stays. Of the spec, the networks and the name are not used.
func Clear(ctx context.Context, eng *engine.Client, spec Spec, dir string) error {
	if !path.IsAbs(dir) || path.Clean(dir) != dir || dir == "/" {
		return fmt.Errorf("clear %q: the path of a directory, absolute and clean, is needed", dir)
	}
	m := maker{eng: eng, spec: spec.withDefaults()}
	if err := m.clear(ctx, dir); err != nil {
		return fmt.Errorf("clear %s: %w", dir, err)
	}
	return nil
}

func (m *maker) clear(ctx context.Context, dir string) error {
	image, err := m.image(ctx)
	if err != nil {
		return err
	}
	id, err := m.createContainer(ctx, engine.ContainerSpec{
		Image:       image,
		Cmd:         []string{"clear", "/dir"},
		User:        "0:0",
		Labels:      m.spec.Labels,
		Network:     "none",
		Binds:       []engine.Bind{{Source: dir, Target: "/dir"}},
		ReadOnly:    true,
		CapDrop:     []string{"ALL"},
		CapAdd:      []string{"DAC_OVERRIDE", "FOWNER"},
		SecurityOpt: []string{"no-new-privileges", "label=disable"}, // SELinux would keep it out of the directory
		Memory:      64 << 20,
		Pids:        64,
		LogDriver:   "json-file", // any that can be read
	})
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		_ = m.eng.RemoveContainer(ctx, id, engine.Removal{Force: true}) // a sweep finds it by its labels
	}()
	if err := m.eng.StartContainer(ctx, id); err != nil {
		return err
	}
	code, err := m.eng.WaitContainer(ctx, id)
	if err != nil || code == 0 {
		return err
	}
	return fmt.Errorf("exit code %d: %s", code, m.lastWords(ctx, id))
}

// lastWords is what a container wrote.
func (m *maker) lastWords(ctx context.Context, id string) string {
	logs, err := m.eng.Logs(ctx, id, engine.LogOptions{Tail: 5})
	if err != nil {
		return "(" + err.Error() + ")"
	}
	defer logs.Close()
	text, _ := io.ReadAll(io.LimitReader(logs, 1<<10)) // some is better than none
	return strings.ReplaceAll(strings.TrimSpace(string(text)), "/dir/", "")
}
