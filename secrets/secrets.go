// Package secrets finds the values of the secrets that profiles name, for
// [sandboxer.Config].Secrets: in environment variables, files and the output
// of commands. Where a value comes from is said by the operator alone, in code
// or in a document such as
//
//	secrets:
//	  db_password: {env: DB_PASSWORD}
//	  tls_key: {file: ~/keys/test.pem}
//	  api_token: {command: [pass, show, test/api], pass_env: [GNUPGHOME]}
//
// No value is logged, put into an error or kept.
package secrets

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

// A Resolver is what this package offers: it also says, for a plan, whether it
// would find a secret.
type Resolver interface {
	sandboxer.SecretResolver
	sandboxer.SecretChecker
}

// Sources are where secrets come from, by name. A name that is not here is
// ErrNotFound.
type Sources map[string]Source

var _ Resolver = Sources(nil)

// ResolveSecret implements [sandboxer.SecretResolver].
func (s Sources) ResolveSecret(ctx context.Context, req sandboxer.SecretRequest) ([]byte, error) {
	source, err := s.source(req.Name)
	if err != nil {
		return nil, err
	}
	return source.find(ctx)
}

// CheckSecret implements [sandboxer.SecretChecker]. A variable is looked up, a
// file is looked at and a command is searched for; nothing is read or run.
func (s Sources) CheckSecret(_ context.Context, req sandboxer.SecretRequest) error {
	source, err := s.source(req.Name)
	if err != nil {
		return err
	}
	return source.check()
}

func (s Sources) source(name string) (Source, error) {
	source, ok := s[name]
	if !ok {
		return Source{}, sandboxer.WithHint(fmt.Errorf("%w: no source is configured", sandboxer.ErrNotFound), "configured are: %s", orNone(s))
	}
	return source, nil
}

func orNone(s Sources) string {
	if len(s) == 0 {
		return "none"
	}
	return strings.Join(slices.Sorted(maps.Keys(s)), ", ")
}

// EnvPrefix finds a secret in the environment variable of its name, with this
// before it.
type EnvPrefix string

var _ Resolver = EnvPrefix("")

// ResolveSecret implements [sandboxer.SecretResolver].
func (p EnvPrefix) ResolveSecret(ctx context.Context, req sandboxer.SecretRequest) ([]byte, error) {
	return Source{Env: string(p) + req.Name}.find(ctx)
}

// CheckSecret implements [sandboxer.SecretChecker].
func (p EnvPrefix) CheckSecret(_ context.Context, req sandboxer.SecretRequest) error {
	return Source{Env: string(p) + req.Name}.check()
}

// A Dir finds a secret in the file of its name, as orchestrators and service
// managers lay them out.
type Dir struct {
	Path   string // such as /run/secrets or $CREDENTIALS_DIRECTORY
	Shared bool   // files may be readable by other accounts
}

var _ Resolver = Dir{}

// ResolveSecret implements [sandboxer.SecretResolver].
func (d Dir) ResolveSecret(ctx context.Context, req sandboxer.SecretRequest) ([]byte, error) {
	source, err := d.source(req.Name)
	if err != nil {
		return nil, err
	}
	return source.find(ctx)
}

// CheckSecret implements [sandboxer.SecretChecker].
func (d Dir) CheckSecret(_ context.Context, req sandboxer.SecretRequest) error {
	source, err := d.source(req.Name)
	if err != nil {
		return err
	}
	return source.check()
}

// source stays in the directory whatever the name is.
func (d Dir) source(name string) (Source, error) {
	if name != filepath.Base(name) || !filepath.IsLocal(name) {
		return Source{}, fmt.Errorf("%w: %q is not the name of a file", sandboxer.ErrInvalid, name)
	}
	return Source{File: filepath.Join(d.Path, name), Shared: d.Shared}, nil
}

// First asks one resolver after the other until one knows the name: the next
// is asked after ErrNotFound only.
type First []sandboxer.SecretResolver

var _ Resolver = First(nil)

// ResolveSecret implements [sandboxer.SecretResolver].
func (all First) ResolveSecret(ctx context.Context, req sandboxer.SecretRequest) ([]byte, error) {
	var value []byte
	err := all.first(func(r sandboxer.SecretResolver) (err error) {
		value, err = r.ResolveSecret(ctx, req)
		return err
	})
	return value, err
}

// CheckSecret implements [sandboxer.SecretChecker]. A resolver that cannot be
// asked beforehand may know any name.
func (all First) CheckSecret(ctx context.Context, req sandboxer.SecretRequest) error {
	return all.first(func(r sandboxer.SecretResolver) error {
		if checker, ok := r.(sandboxer.SecretChecker); ok {
			return checker.CheckSecret(ctx, req)
		}
		return nil
	})
}

func (all First) first(ask func(sandboxer.SecretResolver) error) error {
	var unknown []error
	for _, r := range all {
		err := ask(r)
		if !errors.Is(err, sandboxer.ErrNotFound) {
			return err
		}
		unknown = append(unknown, err)
	}
	if len(unknown) == 0 {
		return fmt.Errorf("%w: no source is configured", sandboxer.ErrNotFound)
	}
	return errors.Join(unknown...)
}

// expandHome leaves a path alone where the home directory is unknown; it is
// then refused as not absolute.
func expandHome(path string) string {
	below, ok := strings.CutPrefix(path, "~/")
	if !ok {
		return path
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return path
	}
	return filepath.Join(home, below)
}
