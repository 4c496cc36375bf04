package server

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/api"
)

// An identity is on whose account a request comes.
type identity struct {
	consumer   sandboxer.Consumer
	admin      bool // sees every project and may speak for others
	quota      int  // most live sandboxes of the consumer; 0 is no limit
	workspaces string
}

// identify finds out who sent a request.
func (s *Server) identify(r *http.Request, o api.Operation) (identity, error) {
	if len(s.cfg.Tokens) == 0 {
		return identity{consumer: s.cfg.Consumer, admin: true, workspaces: s.cfg.Workspaces}, nil
	}
	token := s.tokenOf(r)
	switch {
	case token != nil:
	case o.Open:
		return identity{}, nil
	default:
		return identity{}, refuse(http.StatusUnauthorized, "unauthorized", api.ClassRefused, "a token of this server is needed: Authorization: Bearer TOKEN")
	}
	if o.Admin && !token.Admin {
		return identity{}, refuse(http.StatusForbidden, "forbidden", api.ClassRefused, "only an administrator's token may do this")
	}
	return identity{
		consumer: sandboxer.Consumer{Project: token.Project, ActorType: token.ActorType, Actor: token.Actor},
		admin:    token.Admin, quota: token.Quota, workspaces: token.root,
	}, nil
}

// tokenOf compares sums, all of them, so that no time tells how much of a
// token was right, or of which.
func (s *Server) tokenOf(r *http.Request) *Token {
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return nil
	}
	sum := sha256.Sum256([]byte(strings.TrimSpace(given)))
	var found *Token
	for i := range s.cfg.Tokens {
		if t := &s.cfg.Tokens[i]; subtle.ConstantTimeCompare(sum[:], t.sum) == 1 {
			found = t
		}
	}
	return found
}

// project is the one that the caller sees; empty is all.
func (i identity) project() string {
	if i.admin {
		return ""
	}
	return i.consumer.Project
}

// sees reports whether a sandbox of that consumer is there for the caller.
func (i identity) sees(c sandboxer.Consumer) bool { return i.admin || i.consumer.Project == c.Project }

// claim is the consumer of a new sandbox: the caller's, with what it says
// beyond that.
func (i identity) claim(given *api.Claim) (sandboxer.Consumer, error) {
	if given == nil {
		return i.consumer, nil
	}
	c := sandboxer.Consumer{
		Project: cmp.Or(given.Project, i.consumer.Project), ActorType: cmp.Or(given.ActorType, i.consumer.ActorType),
		Actor: cmp.Or(given.Actor, i.consumer.Actor),
	}
	if !i.admin && c != i.consumer {
		return c, refuse(http.StatusForbidden, "forbidden", api.ClassRefused, "the token is of %s, which cannot create for %s", i.consumer, c)
	}
	c.Run = given.Run
	return c, nil
}

// workspace is the path of a working tree that a request names, which lies
// below the caller's directory of workspaces, also when links are followed.
// What is outside is refused whether it exists or not.
func (i identity) workspace(given string) (string, error) {
	path := given
	if !filepath.IsAbs(path) {
		path = filepath.Join(i.workspaces, path)
	}
	path = filepath.Clean(path)
	outside := sandboxer.WithHint(refuse(http.StatusForbidden, "forbidden", api.ClassRefused, "inputs.repo %q is not in the server's directory of workspaces", brief(given)),
		"name a working tree on the server's machine, relative to the directory of workspaces")
	if !within(i.workspaces, path) {
		return "", outside
	}
	real, err := resolved(path)
	switch {
	case err != nil:
		return "", &sandboxer.FieldError{Field: "inputs.repo", Reason: "cannot be followed on the server"}
	case !within(i.workspaces, real):
		return "", outside
	}
	return real, nil
}

// stillThere refuses a recorded working tree that a request could not name any
// more: a link may have taken its place, or a directory above it.
func (i identity) stillThere(recorded string) error {
	if real, err := resolved(recorded); err == nil && real == recorded && within(i.workspaces, real) {
		return nil
	}
	return sandboxer.WithHint(refuse(http.StatusForbidden, "forbidden", api.ClassRefused, "the sandbox's working tree %q is not in the server's directory of workspaces any more", brief(recorded)),
		"put it back as it was when the sandbox was created, or create a new sandbox")
}

// resolved follows the links of as much of a path as there is; what reads the
// tree says that the rest is missing.
func resolved(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if !os.IsNotExist(err) || path == filepath.Dir(path) {
		return real, err
	}
	parent, err := resolved(filepath.Dir(path))
	return filepath.Join(parent, filepath.Base(path)), err
}

func within(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}
