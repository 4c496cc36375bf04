package sandboxer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"time"
)

// A SecretResolver finds the values of the secrets that profiles name under
// setup.secret_refs. It is the operator's: a repository can neither ask for a
// name that its profile does not list, nor choose where a value comes from.
// Package secrets has resolvers for files, environment variables and commands.
//
// The Client asks once for each name when a sandbox is created, recreated or
// resumed, before anything exists on a host, so a value is replaced by a
// recreate. It is called concurrently, for different sandboxes.
type SecretResolver interface {
	// ResolveSecret returns the value, 1 to [MaxSecret] bytes. It returns
	// ErrNotFound for a name it does not know; its errors hold no value.
	ResolveSecret(ctx context.Context, req SecretRequest) ([]byte, error)
}

// A SecretChecker is a resolver that can say whether it would find a secret
// without finding it. [Client.Plan] asks it; of other resolvers a plan can
// only say that there is one.
type SecretChecker interface {
	CheckSecret(ctx context.Context, req SecretRequest) error
}

// SecretResolverFunc makes a function a SecretResolver.
type SecretResolverFunc func(ctx context.Context, req SecretRequest) ([]byte, error)

// ResolveSecret calls f.
func (f SecretResolverFunc) ResolveSecret(ctx context.Context, req SecretRequest) ([]byte, error) {
	return f(ctx, req)
}

// A SecretRequest says which secret is asked for, for what, on whose account.
type SecretRequest struct {
	Name      string // as in setup.secret_refs
	SandboxID string // in a plan that of no sandbox
	Profile   string // id
	Consumer  Consumer
}

// MaxSecret is the most bytes a secret may have.
const MaxSecret = 64 << 10

// A Secret is a value that nothing shows by accident: however it is printed,
// logged or marshalled, it says "[redacted]".
type Secret struct {
	reveal func() []byte // a closure: neither fmt nor reflection sees what it holds
}

// NewSecret keeps a copy of value.
func NewSecret(value []byte) Secret {
	value = bytes.Clone(value)
	return Secret{func() []byte { return bytes.Clone(value) }}
}

// Reveal returns a copy of the value, nil for the zero Secret.
func (s Secret) Reveal() []byte {
	if s.reveal == nil {
		return nil
	}
	return s.reveal()
}

const redacted = "[redacted]"

// String does not show the value.
func (Secret) String() string { return redacted }

// Format does not show the value, whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText does not show the value.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON does not show the value.
func (Secret) MarshalJSON() ([]byte, error) { return json.Marshal(redacted) }

// LogValue does not show the value.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// secretName is what backends can make a file name of, and what compose files
// and environments can call a secret.
var secretName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)

// secretBound is how long one secret may take to be found.
const secretBound = time.Minute

// secretRequests are one for each name of the profile.
func secretRequests(p Profile, id string, consumer Consumer) []SecretRequest {
	var all []SecretRequest
	for _, name := range p.Setup.SecretRefs {
		all = append(all, SecretRequest{Name: name, SandboxID: id, Profile: p.ID, Consumer: consumer})
	}
	return all
}

// hasResolver refuses a profile whose secrets nobody could find.
func (c *Client) hasResolver(p Profile) error {
	if len(p.Setup.SecretRefs) == 0 || c.secrets != nil {
		return nil
	}
	return WithHint(fmt.Errorf("setup.secret_refs of %s names %q, and no resolver of secrets is configured: %w", p.ID, p.Setup.SecretRefs, ErrNotFound),
		"say where they come from: secrets.yaml for the sandbox command, Config.Secrets for a program")
}

// checkSecrets says, without a value, what can be known of the profile's secrets.
func (c *Client) checkSecrets(ctx context.Context, requests []SecretRequest) error {
	checker, ok := c.secrets.(SecretChecker)
	if !ok {
		return nil
	}
	var problems []error
	for _, req := range requests {
		if err := checker.CheckSecret(ctx, req); err != nil {
			problems = append(problems, secretError(req, err))
		}
	}
	return errors.Join(problems...)
}

// resolveSecrets finds the value of every secret, or says of all that it could not.
func (c *Client) resolveSecrets(ctx context.Context, requests []SecretRequest) (map[string]Secret, error) {
	if len(requests) == 0 {
		return nil, nil
	}
	ReportProgress(ctx, Progress{Stage: "secrets", Message: fmt.Sprintf("asking for %d", len(requests))})
	found := map[string]Secret{}
	var problems []error
	for _, req := range requests {
		value, err := c.resolveSecret(ctx, req)
		if len(value) > 0 {
			found[req.Name] = NewSecret(value)
		}
		if err != nil {
			problems = append(problems, secretError(req, err))
		}
	}
	return found, conceal(found).error(errors.Join(problems...))
}

func (c *Client) resolveSecret(ctx context.Context, req SecretRequest) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, secretBound, fmt.Errorf("no answer within %v", secretBound))
	defer cancel()
	value, err := c.secrets.ResolveSecret(ctx, req)
	switch {
	case err != nil:
		return value, err
	case len(value) == 0:
		return nil, fmt.Errorf("%w: its value is empty", ErrInvalid)
	case len(value) > MaxSecret:
		return value, fmt.Errorf("%w: it has %d bytes, at most %d are allowed", ErrInvalid, len(value), MaxSecret)
	}
	return value, nil
}

func secretError(req SecretRequest, err error) error {
	return WithHint(fmt.Errorf("secret %s: %w", req.Name, err), "%s", orElse(Hint(err), "say where "+req.Name+" comes from: secrets.yaml for the sandbox command, Config.Secrets for a program"))
}
