package extensiontest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// A mutant breaks one rule of the interface.
type mutant struct {
	build func(*bench, *Fake) sandboxer.Extension
	fails []string // the checks that must notice, in order; no other may
}

func mutants() map[string]mutant {
	type (
		handle  = sandboxer.Handle
		request = sandboxer.ProvisionRequest
		removal = sandboxer.Removal
	)
	return map[string]mutant{
		"manifest drifts": {func(b *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, info: func() sandboxer.ExtensionInfo {
				i := f.Info()
				if b.mark("info")%2 == 0 {
					i.Capabilities = i.Capabilities[1:]
				}
				return i
			}}
		}, []string{"Info"}},

		"manifest is not whole": {func(_ *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, info: func() sandboxer.ExtensionInfo {
				i := f.Info()
				i.Version = ""
				return i
			}}
		}, []string{"Info"}},

		"gives no evidence": {func(_ *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, teardown: func(ctx context.Context, h handle) (removal, error) {
				r, err := f.Teardown(ctx, h)
				if len(r.Removed) > 0 {
					r.VerifiedAt = time.Time{}
				}
				return r, err
			}}
		}, []string{"ProvisionThenTeardown"}},

		"hides residue": {func(b *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, teardown: func(ctx context.Context, h handle) (removal, error) {
				r, err := f.Teardown(ctx, h)
				if len(r.Removed) > 0 && b.mark("teardown") == 1 {
					r.Residue = []sandboxer.Resource{{Kind: "image", Name: "web"}}
				}
				return r, err
			}}
		}, []string{"ProvisionThenTeardown"}},

		"doubles on retry": {func(b *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, provision: func(ctx context.Context, req request) (handle, error) {
				if b.mark(req.SandboxID+" "+string(rune('0'+req.Generation))) == 2 {
					req.Profile.Config = json.RawMessage(`{"volumes":["cache","cache-2"]}`)
				}
				return f.Provision(ctx, req)
			}}
		}, []string{"ProvisionTwice"}},

		"refuses to adopt": {func(b *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, provision: func(ctx context.Context, req request) (handle, error) {
				if left, _ := b.backend.Leftovers(ctx, req.SandboxID); len(left) > 0 {
					return handle{}, errBroken
				}
				return f.Provision(ctx, req)
			}}
		}, []string{"ProvisionTwice"}},

		"removes only once": {func(_ *bench, f *Fake) sandboxer.Extension {
			done := map[string]bool{}
			return broken{Fake: f,
				provision: func(ctx context.Context, req request) (handle, error) {
					done[req.SandboxID] = false
					return f.Provision(ctx, req)
				},
				teardown: func(ctx context.Context, h handle) (removal, error) {
					if done[h.SandboxID] {
						return removal{}, errBroken
					}
					r, err := f.Teardown(ctx, h)
					done[h.SandboxID] = err == nil
					return r, err
				}}
		}, []string{"TeardownTwice"}},

		"fails when another removes": {func(b *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, teardown: func(ctx context.Context, h handle) (removal, error) {
				if b.mark(h.SandboxID) > 1 {
					return removal{}, errBroken
				}
				defer b.unmark(h.SandboxID)
				return f.Teardown(ctx, h)
			}}
		}, []string{"TeardownConcurrently"}},

		"fails for what never existed": {func(b *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f,
				provision: func(ctx context.Context, req request) (handle, error) {
					if ctx.Err() == nil {
						b.mark(req.SandboxID)
					}
					return f.Provision(ctx, req)
				},
				teardown: func(ctx context.Context, h handle) (removal, error) {
					r, err := f.Teardown(ctx, h)
					if err == nil && len(r.Removed) == 0 && b.mark(h.SandboxID) == 1 {
						err = sandboxer.ErrNotFound
					}
					return r, err
				}}
		}, []string{"TeardownUnknown", "TeardownAfterCanceledProvision"}},

		"compares its state byte by byte": {func(_ *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f,
				provision: func(ctx context.Context, req request) (handle, error) {
					h, err := f.Provision(ctx, req)
					var indented bytes.Buffer
					_ = json.Indent(&indented, h.State, "", "  ")
					h.State = indented.Bytes()
					return h, err
				},
				teardown: func(ctx context.Context, h handle) (removal, error) {
					if len(h.State) > 0 && !bytes.Contains(h.State, []byte("\n")) && h.Generation > 0 {
						return removal{VerifiedAt: time.Now()}, nil
					}
					return f.Teardown(ctx, h)
				},
				list: func(ctx context.Context, host string) ([]sandboxer.Found, error) {
					all, err := f.List(ctx, host)
					for i := range all {
						all[i].Handle.State = nil
					}
					return all, err
				}}
		}, []string{"TeardownFromAnotherProcess"}},

		"remembers in the process": {func(_ *bench, f *Fake) sandboxer.Extension {
			mine := map[string]bool{}
			return broken{Fake: f,
				provision: func(ctx context.Context, req request) (handle, error) {
					mine[req.SandboxID] = true
					return f.Provision(ctx, req)
				},
				teardown: func(ctx context.Context, h handle) (removal, error) {
					if !mine[h.SandboxID] {
						return removal{VerifiedAt: time.Now()}, nil
					}
					return f.Teardown(ctx, h)
				}}
		}, []string{"TeardownConcurrently", "TeardownFromAnotherProcess", "TeardownByIDOnly", "TeardownAfterCanceledProvision", "CanceledContext"}},

		"needs the generation": {func(_ *bench, f *Fake) sandboxer.Extension {
			return needsGeneration(f)
		}, []string{"TeardownByIDOnly", "TeardownAfterCanceledProvision", "CanceledContext"}},

		"misreads a lost race": {func(_ *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, provision: func(ctx context.Context, req request) (handle, error) {
				h, err := f.Provision(ctx, req)
				if errors.Is(err, sandboxer.ErrConflict) {
					err = errBroken
				}
				return h, err
			}}
		}, []string{"TeardownDuringProvision"}},

		"makes things after losing its record": {func(b *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, provision: func(ctx context.Context, req request) (handle, error) {
				h, err := f.Provision(ctx, req)
				if errors.Is(err, sandboxer.ErrConflict) {
					b.stray(req.SandboxID, "network of nobody")
				}
				return h, err
			}}
		}, []string{"TeardownDuringProvision"}},

		"writes its record last": {func(b *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, provision: func(ctx context.Context, req request) (handle, error) {
				if ctx.Err() == nil {
					b.stray(req.SandboxID, "network of nobody")
				}
				h, err := f.Provision(ctx, req)
				if ctx.Err() == nil {
					b.tidy(req.SandboxID) // known now
				}
				return h, err
			}}
		}, []string{"TeardownAfterCanceledProvision", "CanceledContext"}},

		"does not hear a cancel": {func(_ *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, provision: func(ctx context.Context, req request) (handle, error) {
				return f.Provision(context.WithoutCancel(ctx), req)
			}}
		}, []string{"CanceledContext"}},

		"answers a cancel too late": {func(_ *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, teardown: func(ctx context.Context, h handle) (removal, error) {
				if ctx.Err() != nil {
					time.Sleep(time.Minute)
				}
				return f.Teardown(ctx, h)
			}}
		}, []string{"CanceledContext"}},

		"loses the cause of a cancel": {func(_ *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, provision: func(ctx context.Context, req request) (handle, error) {
				h, err := f.Provision(ctx, req)
				if ctx.Err() != nil {
					err = ctx.Err()
				}
				return h, err
			}}
		}, []string{"CanceledContext"}},

		"claims absence when canceled": {func(_ *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, teardown: func(ctx context.Context, h handle) (removal, error) {
				r, err := f.Teardown(ctx, h)
				if ctx.Err() != nil {
					err = nil
				}
				return r, err
			}}
		}, []string{"CanceledContext"}},

		"finds everything ready": {func(_ *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, ready: func(ctx context.Context, h handle) (sandboxer.Readiness, error) {
				r, err := f.WaitReady(ctx, h)
				if errors.Is(err, sandboxer.ErrNotFound) {
					err = nil
				}
				return r, err
			}}
		}, []string{"ProvisionThenTeardown", "WaitReadyUnknown"}},

		"removes its neighbours": {func(b *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, teardown: func(ctx context.Context, h handle) (removal, error) {
				r, err := f.Teardown(ctx, h)
				if len(r.Removed) > 0 {
					b.backend.Wipe("")
				}
				return r, err
			}}
		}, []string{"Independence"}},

		"stores a secret": {func(_ *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, provision: func(ctx context.Context, req request) (handle, error) {
				h, err := f.Provision(ctx, req)
				h.State, _ = json.Marshal(req.Inputs)
				return h, err
			}}
		}, []string{"HandleHasNoSecrets"}},

		"stores a secret of the profile": {func(_ *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, provision: func(ctx context.Context, req request) (handle, error) {
				h, err := f.Provision(ctx, req)
				h.State, _ = json.Marshal(string(req.Secrets["token"].Reveal()))
				return h, err
			}}
		}, []string{"HandleHasNoSecrets"}},

		"does without a secret": {func(_ *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, provision: func(ctx context.Context, req request) (handle, error) {
				req.Profile.Setup.SecretRefs = nil
				return f.Provision(ctx, req)
			}}
		}, []string{"SecretRefs"}},

		"validates nothing": {func(b *bench, f *Fake) sandboxer.Extension {
			valid := b.harness(nil).Request.Profile
			return broken{Fake: f, provision: func(ctx context.Context, req request) (handle, error) {
				req.Profile = valid
				return f.Provision(ctx, req)
			}}
		}, []string{"SecretRefs", "Invalid"}},

		"validates too late": {func(b *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, provision: func(ctx context.Context, req request) (handle, error) {
				h, err := f.Provision(ctx, req)
				if errors.Is(err, sandboxer.ErrUnsupported) {
					b.stray(req.SandboxID, "directory")
				}
				return h, err
			}}
		}, []string{"Invalid"}},

		"knows only one generation": {func(_ *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, provision: func(ctx context.Context, req request) (handle, error) {
				if req.Generation > 1 {
					return handle{}, errBroken
				}
				return f.Provision(ctx, req)
			}}
		}, []string{"ProvisionAfterTeardown", "StaleTeardown"}},

		"removes a newer generation": {func(_ *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, teardown: func(ctx context.Context, h handle) (removal, error) {
				h.Generation = 0
				return f.Teardown(ctx, h)
			}}
		}, []string{"StaleTeardown"}},

		"hides that it is stale": {func(_ *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, teardown: func(ctx context.Context, h handle) (removal, error) {
				r, err := f.Teardown(ctx, h)
				if errors.Is(err, sandboxer.ErrConflict) {
					err = nil
				}
				return r, err
			}}
		}, []string{"StaleTeardown"}},

		"takes unreachable for gone": {func(_ *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, teardown: func(ctx context.Context, h handle) (removal, error) {
				r, err := f.Teardown(ctx, h)
				if errors.Is(err, sandboxer.ErrUnavailable) {
					err = nil
				}
				return r, err
			}}
		}, []string{"HostUnreachable"}},

		"observes an unreachable host": {func(_ *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, inspect: func(ctx context.Context, h handle) (sandboxer.Observation, error) {
				o, err := f.Inspect(ctx, h)
				if o.Presence == sandboxer.Unknown {
					o.Presence = sandboxer.Absent
				}
				return o, err
			}}
		}, []string{"HostUnreachable"}},

		"lists an unreachable host": {func(_ *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, list: func(ctx context.Context, host string) ([]sandboxer.Found, error) {
				all, _ := f.List(ctx, host)
				return all, nil
			}}
		}, []string{"HostUnreachable"}},

		"sees nothing": {func(_ *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, inspect: func(ctx context.Context, h handle) (sandboxer.Observation, error) {
				o, err := f.Inspect(ctx, h)
				if o.Presence == sandboxer.Present {
					o.Presence = sandboxer.Absent
				}
				return o, err
			}}
		}, []string{"Inspect"}},

		"lists nothing": {func(_ *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, list: func(ctx context.Context, host string) ([]sandboxer.Found, error) {
				_, err := f.List(ctx, host)
				return nil, err
			}}
		}, []string{"List"}},

		"lists without an owner": {func(_ *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, list: func(ctx context.Context, host string) ([]sandboxer.Found, error) {
				all, err := f.List(ctx, host)
				for i := range all {
					all[i].Consumer = sandboxer.Consumer{}
				}
				return all, err
			}}
		}, []string{"List"}},

		"dials any service": {func(_ *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, dial: func(ctx context.Context, h handle, _ string, _ int) (net.Conn, error) {
				return f.Dial(ctx, h, EchoService, EchoPort)
			}}
		}, []string{"Dial"}},

		"follows logs for ever": {func(_ *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, logs: func(ctx context.Context, h handle, opts sandboxer.LogOptions) (io.ReadCloser, error) {
				until, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Hour)
				time.AfterFunc(time.Hour, cancel)
				return f.Logs(until, h, opts)
			}}
		}, []string{"Logs"}},

		"shortens a lease": {func(_ *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, renew: shortening{f}.Renew}
		}, []string{"Renew"}},

		"invents prices": {func(b *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, estimate: func(context.Context, request) (sandboxer.Cost, error) {
				return sandboxer.Cost{Currency: "EUR", MicrosPerHour: int64(b.mark("price"))}, nil
			}}
		}, []string{"EstimateCost"}},

		"creates to judge": {func(b *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, admit: func(ctx context.Context, req request) (sandboxer.Admission, error) {
				b.stray(req.SandboxID, "directory")
				return f.Admit(ctx, req)
			}}
		}, []string{"Admit"}},

		"hides its isolation": {func(_ *bench, f *Fake) sandboxer.Extension {
			return broken{Fake: f, probe: func(ctx context.Context, host string) (sandboxer.HostStatus, error) {
				s, err := f.ProbeHost(ctx, host)
				s.Isolation = nil
				return s, err
			}}
		}, []string{"ProbeHost"}},
	}
}
