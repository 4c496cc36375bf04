package sandboxer_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/extensiontest"
)

const hunter = `hunter2 "%' $x`

// a vault answers by name, and remembers what it was asked.
type vault struct {
	values map[string]string
	asked  []string
}

func (v *vault) ResolveSecret(_ context.Context, req sandboxer.SecretRequest) ([]byte, error) {
	v.asked = append(v.asked, req.Name+" for "+req.Consumer.Project+" "+req.Profile)
	value, ok := v.values[req.Name]
	if !ok {
		return nil, fmt.Errorf("no %s here: %w", req.Name, sandboxer.ErrNotFound)
	}
	return []byte(value), nil
}

// A checkingVault can say beforehand what it knows.
type checkingVault struct{ *vault }

func (v checkingVault) CheckSecret(_ context.Context, req sandboxer.SecretRequest) error {
	if _, ok := v.values[req.Name]; !ok {
		return sandboxer.ErrNotFound
	}
	return nil
}

func secretProfile(refs ...string) sandboxer.Profile {
	p := basicProfile()
	p.Setup.SecretRefs = refs
	return p
}

// TestSecretsReachTheExtension, anew for every generation, and a process that
// has no resolver is told so before anything exists.
func TestSecretsReachTheExtension(t *testing.T) {
	w := newWorld(t)
	v := &vault{values: map[string]string{"db": hunter, "token": "one"}}
	var given []string
	c := w.client(process{secrets: v, profiles: []sandboxer.Profile{secretProfile("db", "token")}, wrap: func(f *extensiontest.Fake) sandboxer.Extension {
		return seeing{f, func(req sandboxer.ProvisionRequest) error {
			given = append(given, string(req.Secrets["db"].Reveal())+" "+string(req.Secrets["token"].Reveal()))
			return nil
		}}
	}})
	s := w.create(c)
	v.values["token"] = "two"
	if _, err := c.Recreate(t.Context(), s.ID); err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff([]string{hunter + " one", hunter + " two"}, given); diff != "" {
		t.Errorf("given (-want +got):\n%s", diff)
	}
	if want := []string{"db for wise profile.basic", "token for wise profile.basic", "db for wise profile.basic", "token for wise profile.basic"}; !gocmp.Equal(want, v.asked) {
		t.Errorf("asked for %q", v.asked)
	}
	delete(v.values, "token")
	before := w.history(s.ID)
	if _, err := c.Recreate(t.Context(), s.ID); !errors.Is(err, sandboxer.ErrNotFound) || w.history(s.ID) != before {
		t.Errorf("a recreate without a secret: %v, and then\n%s", err, w.history(s.ID))
	}
}

// A seeing extension looks at what it is given, and may fail.
type seeing struct {
	*extensiontest.Fake
	see func(sandboxer.ProvisionRequest) error
}

func (s seeing) Provision(ctx context.Context, req sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
	if err := s.see(req); err != nil {
		return sandboxer.Handle{}, err
	}
	return s.Fake.Provision(ctx, req)
}

// TestSecretsThatAreMissing are refused with nothing recorded, by a create and,
// as far as it can know, by a plan.
func TestSecretsThatAreMissing(t *testing.T) {
	tests := map[string]struct {
		resolver     sandboxer.SecretResolver
		create, plan error
		says         string
	}{
		"no resolver":                   {nil, sandboxer.ErrNotFound, sandboxer.ErrNotFound, `names ["db"], and no resolver of secrets is configured`},
		"unknown":                       {&vault{}, sandboxer.ErrNotFound, nil, "secret db: no db here"},
		"unknown, which a plan can see": {checkingVault{&vault{}}, sandboxer.ErrNotFound, sandboxer.ErrNotFound, "secret db: "},
		"empty":                         {&vault{values: map[string]string{"db": ""}}, sandboxer.ErrInvalid, nil, "secret db: invalid: its value is empty"},
		"too long":                      {&vault{values: map[string]string{"db": strings.Repeat(hunter, 6000)}}, sandboxer.ErrInvalid, nil, "at most 65536 are allowed"},
		"an error that holds the value": {sandboxer.SecretResolverFunc(func(context.Context, sandboxer.SecretRequest) ([]byte, error) {
			return []byte(hunter), fmt.Errorf("%w: %s is weak: %q", sandboxer.ErrUnavailable, hunter, hunter)
		}), sandboxer.ErrUnavailable, nil, "[secret db] is weak"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c := w.client(process{secrets: tt.resolver, profiles: []sandboxer.Profile{secretProfile("db")}})
			_, err := c.Create(t.Context(), basicRequest())
			if !errors.Is(err, tt.create) || !strings.Contains(err.Error(), tt.says) || sandboxer.Hint(err) == "" {
				t.Errorf("create: %v (%s), want %v %q and a hint", err, sandboxer.Hint(err), tt.create, tt.says)
			}
			if told := fmt.Sprintf("%v %+v %#v %s", err, err, err, sandboxer.Hint(err)); strings.Contains(told, "hunter2") {
				t.Errorf("it shows the value: %s", told)
			}
			if _, err := c.Plan(t.Context(), basicRequest(), sandboxer.PlanOptions{}); !errors.Is(err, tt.plan) {
				t.Errorf("plan: %v, want %v", err, tt.plan)
			}
			w.untouched()
		})
	}
}

// TestSlowSecrets do not hold a create for ever.
func TestSlowSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.client(process{profiles: []sandboxer.Profile{secretProfile("db")}, secrets: sandboxer.SecretResolverFunc(func(ctx context.Context, _ sandboxer.SecretRequest) ([]byte, error) {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		})})
		if _, err := c.Create(t.Context(), basicRequest()); err == nil || !strings.Contains(err.Error(), "no answer within 1m") {
			t.Errorf("got %v", err)
		}
		w.untouched()
	})
}

// TestFailuresAreToldWithoutSecrets: whatever form a value takes in what the
// extension says, the record, the events, the error and the progress have none.
func TestFailuresAreToldWithoutSecrets(t *testing.T) {
	key := "-----BEGIN KEY-----\nMIIhunter2line1\nMIIhunter2line2\n-----END KEY-----\n"
	quoted, _ := json.Marshal(hunter)
	said := strings.Join([]string{hunter, fmt.Sprintf("%q", hunter), string(quoted), url.QueryEscape(hunter), url.PathEscape(hunter), base64.StdEncoding.EncodeToString([]byte(hunter)), "web | MIIhunter2line1", key}, "\n")
	for name, failure := range map[string]error{
		"stage":            &sandboxer.StageError{Stage: "up", ExitCode: 1, Message: said, Log: said},
		"log only":         &sandboxer.StageError{Stage: "up", ExitCode: 1, Message: "no", Log: said},
		"not ready":        &sandboxer.NotReadyError{Service: "web", State: "unhealthy: " + said, Log: said},
		"not ready, below": fmt.Errorf("up: %w", errors.Join(errors.New("x"), &sandboxer.NotReadyError{Service: "web", State: "bad", Log: said})),
		"hint":             sandboxer.WithHint(fmt.Errorf("%w: x", sandboxer.ErrProvision), "%s", said),
		"any":              fmt.Errorf("%w: %s", sandboxer.ErrUnavailable, said),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var told bytes.Buffer
			c := w.client(process{
				secrets: &vault{values: map[string]string{"db": hunter, "key": key}}, profiles: []sandboxer.Profile{secretProfile("db", "key")},
				log: slog.New(slog.NewTextHandler(&told, nil)),
				tracer: func(ctx context.Context, name string, _ ...slog.Attr) (context.Context, func(error, ...slog.Attr)) {
					return ctx, func(err error, attrs ...slog.Attr) { fmt.Fprintln(&told, name, err, attrs) }
				},
				wrap: func(f *extensiontest.Fake) sandboxer.Extension {
					return broken{f, failure, said}
				},
			})
			ctx := sandboxer.WithProgress(t.Context(), func(p sandboxer.Progress) { fmt.Fprintf(&told, "%+v\n", p) })
			s, err := c.Create(ctx, basicRequest())
			if err == nil || s == nil {
				t.Fatal(s, err)
			}
			for _, sentinel := range []error{sandboxer.ErrProvision, sandboxer.ErrNotReady, sandboxer.ErrUnavailable} {
				if errors.Is(failure, sentinel) != errors.Is(err, sentinel) {
					t.Errorf("%v is no longer what it was: %v", sentinel, err)
				}
			}
			record, _ := json.Marshal(w.record(s.ID))
			events, _ := c.Events(t.Context(), s.ID, 0)
			lines, _ := json.Marshal(events)
			var stage *sandboxer.StageError
			var notReady *sandboxer.NotReadyError
			errors.As(err, &stage)
			errors.As(err, &notReady)
			fmt.Fprintf(&told, "%v %+v %#v %s %s %s %+v %+v", err, err, err, sandboxer.Hint(err), record, lines, stage, notReady)
			for _, form := range append(strings.Split(said, "\n"), "hunter2") {
				if form = strings.TrimSpace(form); len(form) > 6 && strings.Contains(told.String(), form) {
					t.Errorf("%q is told:\n%s", form, told.String())
				}
			}
			if !strings.Contains(told.String(), "[secret db]") {
				t.Errorf("nothing was taken out:\n%s", told.String())
			}
		})
	}
}

// A broken extension says something on its way and fails.
type broken struct {
	*extensiontest.Fake
	failure error
	said    string
}

func (b broken) Provision(ctx context.Context, req sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
	sandboxer.ReportProgress(ctx, sandboxer.Progress{Stage: "up", Message: b.said})
	h, err := b.Fake.Provision(ctx, req)
	return h, errors.Join(err, b.failure)
}

// TestSecretsAreNotPrinted in any of the ways that Go prints, logs and marshals.
func TestSecretsAreNotPrinted(t *testing.T) {
	s := sandboxer.NewSecret([]byte("hunter2"))
	if string(s.Reveal()) != "hunter2" || sandboxer.Secret.Reveal(sandboxer.Secret{}) != nil {
		t.Error("a secret does not keep its value")
	}
	clear(s.Reveal())
	if string(s.Reveal()) != "hunter2" {
		t.Error("the value can be changed")
	}
	var out bytes.Buffer
	req := sandboxer.ProvisionRequest{Secrets: map[string]sandboxer.Secret{"db": s}}
	hidden := struct{ inner any }{req}
	for _, v := range []any{s, &s, req, &req, hidden, &hidden, []any{s}, map[string]any{"x": s}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		text, err := json.Marshal(v)
		fmt.Fprintln(&out, string(text), err)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
	}
	for _, form := range []string{"hunter2", fmt.Sprintf("%x", "hunter2"), fmt.Sprintf("%X", "hunter2"), "104 117 110", base64.StdEncoding.EncodeToString([]byte("hunter2"))} {
		if strings.Contains(out.String(), form) {
			t.Errorf("%s is in\n%s", form, out.String())
		}
	}
}

func TestSecretRefsAreNames(t *testing.T) {
	for _, refs := range [][]string{{""}, {"a b"}, {"a/b"}, {"../a"}, {".a"}, {"-a"}, {"a=hunter2"}, {strings.Repeat("a", 129)}, {"a", "a"}} {
		if err := secretProfile(refs...).Validate(); !errors.Is(err, sandboxer.ErrInvalid) {
			t.Errorf("%q: %v", refs, err)
		}
	}
	if err := secretProfile("a", "_B", "c.d-e", "0").Validate(); err != nil {
		t.Error(err)
	}
}
