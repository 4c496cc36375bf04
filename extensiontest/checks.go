package extensiontest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// promises are the checks in the order in which a broken extension is best
// understood: the first failure usually explains the later ones.
func promises() []promise {
	return []promise{
		{"Info", "routing reads it at any time and must never be surprised", info},
		{"ProvisionThenTeardown", "destroyed means proved absent", provisionThenTeardown},
		{"ProvisionTwice", "a crash makes another process provision again", provisionTwice},
		{"TeardownTwice", "a destroyer cannot know that another one was faster", teardownTwice},
		{"TeardownConcurrently", "several processes may destroy one sandbox", teardownConcurrently},
		{"TeardownUnknown", "a crash may come before the first resource exists", teardownUnknown},
		{"TeardownFromAnotherProcess", "who destroys is rarely the process that created", teardownFromAnotherProcess},
		{"TeardownByIDOnly", "a crash may lose the handle but never the id", teardownByIDOnly},
		{"TeardownDuringProvision", "a destroy does not wait for a create", teardownDuringProvision},
		{"TeardownAfterCanceledProvision", "a canceled create leaves a part that only its id names", teardownAfterCanceledProvision},
		{"CanceledContext", "a caller that gave up gets its goroutine back, and its own reason", canceledContext},
		{"WaitReadyUnknown", "what does not exist never becomes ready", waitReadyUnknown},
		{"Independence", "sandboxes of strangers share a host", independence},
		{"HandleHasNoSecrets", "handles are stored and shown", handleHasNoSecrets},
		{"SecretRefs", "a sandbox without a secret that its profile promises is not the one asked for", secretRefs},
		{"Invalid", "what can never be served is refused before anything exists", invalid},
		{"ProvisionAfterTeardown", "recreating keeps the id and counts the generation up", provisionAfterTeardown},
		{"StaleTeardown", "who lost a race removes what it made, not what came after", staleTeardown},
		{"HostUnreachable", "what could not be asked is unknown, never absent", hostUnreachable},
		{"Inspect", "present and absent are never confused", optional(inspect)},
		{"List", "a store that lost its records asks the host", optional(lists)},
		{"Dial", "nothing is published, so dialling is the way in", optional(dials)},
		{"Logs", "a reader that never ends holds its caller", optional(logs)},
		{"Renew", "a lease that shrinks reaps a sandbox somebody works in", optional(renew)},
		{"EstimateCost", "routing prices every host of every request", optional(estimateCost)},
		{"Admit", "a plan creates nothing", optional(admit)},
		{"ProbeHost", "a host that is not reported usable gets no sandbox", optional(probeHost)},
	}
}

func info(_ context.Context, t *trial) error {
	one, err := t.value()
	if err != nil {
		return err
	}
	other, err := t.value()
	if err != nil {
		return err
	}
	first := one.Info()
	if err := first.Validate(); err != nil {
		return fmt.Errorf("Info is not a whole manifest: %w", err)
	}
	for _, again := range []sandboxer.ExtensionInfo{one.Info(), other.Info()} {
		if !reflect.DeepEqual(first, again) {
			return fmt.Errorf("Info changed from %+v to %+v", first, again)
		}
	}
	if !slices.ContainsFunc(first.Hosts, func(h sandboxer.Host) bool { return h.Name == t.Request.Host }) {
		return fmt.Errorf("Info does not name the host %s of Harness.Request", t.Request.Host)
	}
	return nil
}

func provisionThenTeardown(ctx context.Context, t *trial) error {
	ext, h, err := t.standing(ctx)
	if err != nil {
		return err
	}
	held, err := t.holds(ctx, h.SandboxID)
	if err != nil {
		return err
	}
	if len(held) == 0 {
		return errors.New("harness: Leftovers sees nothing of a ready sandbox, so it could not prove one absent")
	}
	if err := t.prove(ctx, ext, h); err != nil {
		return err
	}
	return t.gone(ctx, ext, h)
}

func provisionTwice(ctx context.Context, t *trial) error {
	ext, err := t.value()
	if err != nil {
		return err
	}
	req := t.request()
	first, err := t.establish(ctx, ext, req)
	if err != nil {
		return err
	}
	held, err := t.holds(ctx, req.SandboxID)
	if err != nil {
		return err
	}
	restarted, err := t.value()
	if err != nil {
		return err
	}
	for _, again := range []sandboxer.Extension{ext, restarted} {
		if _, err := t.establish(ctx, again, req); err != nil {
			return fmt.Errorf("again: %w", err)
		}
		if err := t.unchanged(ctx, req.SandboxID, held); err != nil {
			return fmt.Errorf("provisioned again instead of adopted: %w", err)
		}
	}
	return t.remove(ctx, restarted, first)
}

func teardownTwice(ctx context.Context, t *trial) error {
	ext, h, err := t.standing(ctx)
	if err != nil {
		return err
	}
	if err := t.remove(ctx, ext, h); err != nil {
		return err
	}
	if err := t.prove(ctx, ext, h); err != nil {
		return fmt.Errorf("the second time: %w", err)
	}
	return nil
}

func teardownConcurrently(ctx context.Context, t *trial) error {
	_, h, err := t.standing(ctx)
	if err != nil {
		return err
	}
	const destroyers = 4
	results := make(chan error, destroyers)
	for range destroyers {
		ext, err := t.value()
		if err != nil {
			return err
		}
		go func() {
			_, err := teardown(ctx, ext, h)
			results <- err
		}()
	}
	var problems []error
	for range destroyers {
		problems = append(problems, <-results)
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("one of %d at once: %w", destroyers, err)
	}
	return t.nothing(ctx, h.SandboxID)
}

func teardownUnknown(ctx context.Context, t *trial) error {
	ext, err := t.value()
	if err != nil {
		return err
	}
	return t.prove(ctx, ext, byID(t.request()))
}

func teardownFromAnotherProcess(ctx context.Context, t *trial) error {
	_, h, err := t.standing(ctx)
	if err != nil {
		return err
	}
	stored, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("the handle does not marshal: %w", err)
	}
	var restored sandboxer.Handle
	if err := json.Unmarshal(stored, &restored); err != nil {
		return fmt.Errorf("the handle does not unmarshal: %w", err)
	}
	another, err := t.value()
	if err != nil {
		return err
	}
	return t.remove(ctx, another, restored)
}

func teardownByIDOnly(ctx context.Context, t *trial) error {
	_, h, err := t.standing(ctx)
	if err != nil {
		return err
	}
	another, err := t.value()
	if err != nil {
		return err
	}
	return t.remove(ctx, another, sandboxer.Handle{SandboxID: h.SandboxID, Host: h.Host})
}

// duration measures one ordinary Provision, so that others can be disturbed halfway.
func (t *trial) duration(ctx context.Context) (time.Duration, error) {
	ext, err := t.value()
	if err != nil {
		return 0, err
	}
	start := time.Now()
	h, err := t.provision(ctx, ext, t.request())
	took := time.Since(start)
	if err == nil {
		_, err = teardown(ctx, ext, h)
	}
	return took, err
}

func teardownDuringProvision(ctx context.Context, t *trial) error {
	took, err := t.duration(ctx)
	if err != nil {
		return err
	}
	for _, after := range moments(took)[1:] {
		if err := t.destroyWhileCreating(ctx, after); err != nil {
			return fmt.Errorf("torn down %v into a Provision of %v: %w", after, took, err)
		}
	}
	return nil
}

// destroyWhileCreating tears down from another process. Whatever the race
// gives, the creator's own Teardown afterwards must leave nothing.
func (t *trial) destroyWhileCreating(ctx context.Context, after time.Duration) error {
	creator, err := t.value()
	if err != nil {
		return err
	}
	destroyer, err := t.value()
	if err != nil {
		return err
	}
	req := t.request()
	t.made = append(t.made, byID(req))
	created := make(chan error, 1)
	go func() {
		_, err := call(ctx, "Provision", func(ctx context.Context) (sandboxer.Handle, error) { return creator.Provision(ctx, req) })
		created <- err
	}()
	pause(ctx, after)
	_, destroyed := teardown(ctx, destroyer, byID(req))
	lost := <-created
	if destroyed != nil && !errors.Is(destroyed, sandboxer.ErrResidue) {
		return fmt.Errorf("Teardown: %w", destroyed)
	}
	if lost != nil && !errors.Is(lost, sandboxer.ErrConflict) {
		return fmt.Errorf("Provision: %w, want ErrConflict", lost)
	}
	return t.remove(ctx, creator, sandboxer.Handle{SandboxID: req.SandboxID, Generation: req.Generation, Host: req.Host})
}

func teardownAfterCanceledProvision(ctx context.Context, t *trial) error {
	took, err := t.duration(ctx)
	if err != nil {
		return err
	}
	for _, after := range moments(took) {
		req := t.request()
		if _, err := t.provisionCanceled(ctx, req, after); err != nil && errors.Is(err, errIgnoredEnd) {
			return err
		}
		another, err := t.value()
		if err != nil {
			return err
		}
		if err := t.remove(ctx, another, byID(req)); err != nil {
			return fmt.Errorf("canceled %v into a Provision of %v: %w", after, took, err)
		}
	}
	return nil
}

// provisionCanceled cancels a Provision after some time and returns what it
// returned, errIgnoredEnd if it did not.
func (t *trial) provisionCanceled(ctx context.Context, req sandboxer.ProvisionRequest, after time.Duration) (sandboxer.Handle, error) {
	ext, err := t.value()
	if err != nil {
		return sandboxer.Handle{}, err
	}
	t.made = append(t.made, byID(req))
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if after == 0 {
		cancel(errGaveUp)
	} else {
		defer time.AfterFunc(after, func() { cancel(errGaveUp) }).Stop()
	}
	return call(ctx, "Provision", func(ctx context.Context) (sandboxer.Handle, error) { return ext.Provision(ctx, req) })
}

func canceledContext(ctx context.Context, t *trial) error {
	took, err := t.duration(ctx)
	if err != nil {
		return err
	}
	for _, after := range []time.Duration{0, took / 2} {
		_, err := t.provisionCanceled(ctx, t.request(), after)
		if err != nil && !errors.Is(err, errGaveUp) || err == nil && after == 0 {
			return fmt.Errorf("Provision, canceled after %v: %s; want an error that wraps context.Cause(ctx)", after, said(err, "it"))
		}
	}
	ext, h, err := t.standing(ctx)
	if err != nil {
		return err
	}
	canceled, cancel := context.WithCancelCause(ctx)
	cancel(errGaveUp)
	if err := t.ready(canceled, ext, h); errors.Is(err, errIgnoredEnd) {
		return err
	}
	_, err = teardown(canceled, ext, h)
	if errors.Is(err, errIgnoredEnd) {
		return err
	}
	if left := t.nothing(ctx, h.SandboxID); err == nil && left != nil {
		return fmt.Errorf("a canceled Teardown returned no error: %w", left)
	}
	return t.remove(ctx, ext, h)
}

func waitReadyUnknown(ctx context.Context, t *trial) error {
	ext, err := t.value()
	if err != nil {
		return err
	}
	return t.gone(ctx, ext, byID(t.request()))
}

func independence(ctx context.Context, t *trial) error {
	ext, doomed, err := t.standing(ctx)
	if err != nil {
		return err
	}
	neighbour, err := t.establish(ctx, ext, t.request())
	if err != nil {
		return err
	}
	held, err := t.holds(ctx, neighbour.SandboxID)
	if err != nil {
		return err
	}
	if err := t.remove(ctx, ext, doomed); err != nil {
		return err
	}
	if err := t.unchanged(ctx, neighbour.SandboxID, held); err != nil {
		return fmt.Errorf("the neighbour of a removed sandbox: %w", err)
	}
	if err := t.ready(ctx, ext, neighbour); err != nil {
		return fmt.Errorf("the neighbour of a removed sandbox: %w", err)
	}
	if dialer, ok := ext.(sandboxer.Dialer); ok && t.Dial != nil {
		if err := t.talk(ctx, dialer, neighbour); err != nil {
			return fmt.Errorf("the neighbour of a removed sandbox: %w", err)
		}
	}
	return t.remove(ctx, ext, neighbour)
}

func handleHasNoSecrets(ctx context.Context, t *trial) error {
	values := slices.Clone(t.Secrets)
	for _, name := range slices.Sorted(maps.Keys(t.Request.Secrets)) {
		values = append(values, string(t.Request.Secrets[name].Reveal()))
	}
	if len(values) == 0 {
		return notApplicable("Harness.Secrets is empty")
	}
	ext, h, err := t.standing(ctx)
	if err != nil {
		return err
	}
	text, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("the handle does not marshal: %w", err)
	}
	for n, secret := range values {
		quoted, _ := json.Marshal(secret)
		if strings.Contains(string(text), secret) || strings.Contains(string(text), strings.Trim(string(quoted), `"`)) {
			return fmt.Errorf("the handle holds secret %d", n)
		}
	}
	return t.remove(ctx, ext, h)
}

// secretRefs asks for a secret without giving its value.
func secretRefs(ctx context.Context, t *trial) error {
	ext, err := t.value()
	if err != nil {
		return err
	}
	req := t.request()
	req.Profile.Setup.SecretRefs = append(slices.Clone(req.Profile.Setup.SecretRefs), "kit.not-given")
	_, err = t.provision(ctx, ext, req)
	if !errors.Is(err, sandboxer.ErrInvalid) && !errors.Is(err, sandboxer.ErrUnsupported) {
		return fmt.Errorf("a secret without a value: %s, want ErrInvalid or ErrUnsupported", said(err, "Provision"))
	}
	return t.nothing(ctx, req.SandboxID)
}

func invalid(ctx context.Context, t *trial) error {
	if len(t.Invalid) == 0 {
		return notApplicable("Harness.Invalid is empty")
	}
	ext, err := t.value()
	if err != nil {
		return err
	}
	for n, wrong := range t.Invalid {
		req := t.filled(wrong)
		_, err := t.provision(ctx, ext, req)
		if !errors.Is(err, sandboxer.ErrInvalid) && !errors.Is(err, sandboxer.ErrAdmission) && !errors.Is(err, sandboxer.ErrUnsupported) {
			return fmt.Errorf("request %d of Harness.Invalid: %s, want ErrInvalid, ErrAdmission or ErrUnsupported", n, said(err, "Provision"))
		}
		if err := t.nothing(ctx, req.SandboxID); err != nil {
			return fmt.Errorf("request %d of Harness.Invalid was refused: %w", n, err)
		}
	}
	return nil
}

// regenerated tears a sandbox down and provisions its next generation.
func (t *trial) regenerated(ctx context.Context) (ext sandboxer.Extension, old, fresh sandboxer.Handle, err error) {
	ext, err = t.value()
	if err != nil {
		return ext, old, fresh, err
	}
	req := t.request()
	if old, err = t.establish(ctx, ext, req); err != nil {
		return ext, old, fresh, err
	}
	if err = t.remove(ctx, ext, old); err != nil {
		return ext, old, fresh, err
	}
	req.Generation++
	if fresh, err = t.establish(ctx, ext, req); err != nil {
		err = fmt.Errorf("generation 2: %w", err)
	}
	return ext, old, fresh, err
}

func provisionAfterTeardown(ctx context.Context, t *trial) error {
	ext, _, fresh, err := t.regenerated(ctx)
	if err != nil {
		return err
	}
	return t.remove(ctx, ext, fresh)
}

func staleTeardown(ctx context.Context, t *trial) error {
	ext, old, fresh, err := t.regenerated(ctx)
	if err != nil {
		return err
	}
	held, err := t.holds(ctx, fresh.SandboxID)
	if err != nil {
		return err
	}
	_, refused := teardown(ctx, ext, old)
	if err := t.unchanged(ctx, fresh.SandboxID, held); err != nil {
		return fmt.Errorf("a handle of generation 1 removed generation 2: %w", err)
	}
	if err := t.ready(ctx, ext, fresh); err != nil {
		return fmt.Errorf("generation 2, after a Teardown of generation 1: %w", err)
	}
	if !errors.Is(refused, sandboxer.ErrConflict) {
		return fmt.Errorf("generation 1, while generation 2 stands: %s, want ErrConflict", said(refused, "Teardown"))
	}
	return t.remove(ctx, ext, fresh)
}
