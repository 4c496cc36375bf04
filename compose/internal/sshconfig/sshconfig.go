// Package sshconfig finds out what an OpenSSH client configuration file says
// about a host (ssh_config(5)).
//
// It reads the file as ssh -F does, and runs nothing: what only a program can
// answer (Match exec, ProxyCommand, KnownHostsCommand) is refused where it
// would count. What it reads can name a host and keys, and never weakens how
// they are checked; a line that would, or that is not followed though it
// matters, is told in a warning.
package sshconfig

import (
	"cmp"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// A Query is a host as a person names it.
type Query struct {
	Alias string
	User  string // wins over the file's if it is not empty
	Port  string // likewise
}

// A Host is what a file says about one, completed by OpenSSH's defaults where
// they are the same everywhere.
type Host struct {
	HostName string // in lower case
	Port     string
	User     string // empty if the file does not say

	// IdentityFiles and CertificateFiles are absolute paths, in order.
	// IdentityFiles is nil if the file names none, and empty if it says "none".
	IdentityFiles    []string
	CertificateFiles []string
	IdentitiesOnly   bool
	IdentityAgent    string // a socket, "none", or empty for $SSH_AUTH_SOCK

	UserKnownHosts   []string // nil if the file does not say, empty if it says "none"
	GlobalKnownHosts []string // likewise
	HostKeyAlias     string   // in lower case

	ProxyJump      []string // "user@host:port", the first is the first to connect to
	ConnectTimeout time.Duration

	Warnings []string // what is not followed, with file and line
}

// KnownHosts returns the files to look the host's key up in, with OpenSSH's
// usual ones for a kind that the file does not name. Nil if it names neither.
func (h *Host) KnownHosts() []string {
	if h.UserKnownHosts == nil && h.GlobalKnownHosts == nil {
		return nil
	}
	user, global := h.UserKnownHosts, h.GlobalKnownHosts
	if home, err := os.UserHomeDir(); err == nil && user == nil {
		user = []string{filepath.Join(home, ".ssh", "known_hosts"), filepath.Join(home, ".ssh", "known_hosts2")}
	}
	if global == nil {
		global = []string{"/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"}
	}
	return append(append([]string{}, user...), global...) // not nil
}

// Resolve reads what file, and the files it includes, say about a host. An
// error is a [*sandboxer.FieldError] with file and line.
func Resolve(file string, q Query) (*Host, error) {
	account, err := user.Current()
	if err != nil {
		return nil, fmt.Errorf("ssh_config: %w", err)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, fmt.Errorf("ssh_config: %w", err)
	}
	r := &resolver{query: q, account: account, home: home, set: map[string]bool{}}
	if err := r.read(file, 0); err != nil {
		return nil, err
	}
	return r.finish()
}

// A resolver goes through the lines of a file. Of most keywords the first
// value counts.
type resolver struct {
	query   Query
	account *user.User
	home    string

	found   Host
	set     map[string]bool
	ignored []string // patterns of IgnoreUnknown
	pathsOf pathLines
}

// pathLines are paths to be expanded when everything else is known: they may
// hold tokens for what later lines say.
type pathLines struct {
	identities, certificates, user, global []line
	agent                                  *line
}

// maxDepth bounds files that include one another, as OpenSSH does.
const maxDepth = 16

func (r *resolver) read(file string, depth int) error {
	lines, err := readLines(file)
	if err != nil {
		return err
	}
	active := true
	for _, l := range lines {
		switch {
		case l.keyword == "host":
			active, err = r.matchHost(l)
		case l.keyword == "match":
			active, err = r.match(l)
		case !active:
		case l.keyword == "include":
			err = r.include(l, depth)
		default:
			err = r.apply(l)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// include reads files at the place of a line. That none is there is no error.
func (r *resolver) include(l line, depth int) error {
	if depth == maxDepth {
		return l.bad("files include one another more than %d deep", maxDepth)
	}
	for _, pattern := range l.args {
		path, err := r.tilde(pattern, l)
		if err != nil {
			return err
		}
		if !filepath.IsAbs(path) {
			path = filepath.Join(r.home, ".ssh", path)
		}
		files, err := filepath.Glob(path)
		if err != nil {
			return l.bad("%v", err)
		}
		for _, file := range files {
			if err := r.read(file, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// first reports whether a keyword is met for the first time.
func (r *resolver) first(keyword string) bool {
	again := r.set[keyword]
	r.set[keyword] = true
	return !again
}

// apply takes over what a line says, if it is the first to say it.
func (r *resolver) apply(l line) error {
	if len(l.args) == 0 {
		return l.bad("has no value")
	}
	if len(l.args) > 1 && slices.Contains(strings.Fields(oneValue), l.keyword) {
		return l.bad("has more than one value: a value with blanks in it is written in quotes")
	}
	switch l.keyword {
	case "identityfile":
		r.pathsOf.identities = append(r.pathsOf.identities, l)
	case "certificatefile":
		r.pathsOf.certificates = append(r.pathsOf.certificates, l)
	case "ignoreunknown":
		if r.first(l.keyword) {
			r.ignored = strings.Split(l.args[0], ",")
		}
	case "proxyjump", "proxycommand":
		if r.first("proxy") {
			return r.applyProxy(l)
		}
	default:
		if r.first(l.keyword) {
			return r.applyFirst(l)
		}
	}
	return nil
}

// oneValue are the keywords used that take one value.
const oneValue = "hostname port user hostkeyalias identitiesonly identityagent identityfile certificatefile proxyjump connecttimeout"

func (r *resolver) applyFirst(l line) error {
	value := l.args[0]
	switch l.keyword {
	case "hostname":
		name, err := expand(value, map[byte]string{'h': r.query.Alias})
		if err != nil {
			return l.bad("%v", err)
		}
		r.found.HostName = name
	case "port":
		r.found.Port = value
	case "user":
		r.found.User = value
	case "hostkeyalias":
		r.found.HostKeyAlias = strings.ToLower(value)
	case "identitiesonly":
		r.found.IdentitiesOnly = isYes(value)
	case "identityagent":
		r.pathsOf.agent = &l
	case "userknownhostsfile":
		r.pathsOf.user = []line{l}
	case "globalknownhostsfile":
		r.pathsOf.global = []line{l}
	case "connecttimeout":
		return r.applyTimeout(l)
	default:
		return r.judge(l)
	}
	return nil
}

func (r *resolver) applyTimeout(l line) error {
	if l.args[0] == "none" {
		return nil
	}
	d, err := time.ParseDuration(l.args[0] + "s") // seconds, or
	if err != nil {
		d, err = time.ParseDuration(l.args[0]) // 1m30s
	}
	if err != nil || d <= 0 {
		return l.bad("%q is not a time in seconds", l.args[0])
	}
	r.found.ConnectTimeout = d
	return nil
}

// applyProxy takes the jump hosts. "ProxyCommand none" excludes a later
// ProxyJump.
func (r *resolver) applyProxy(l line) error {
	if l.args[0] == "none" {
		return nil
	}
	if l.keyword == "proxycommand" {
		return l.bad("would run a program on this machine: use ProxyJump, or write the host's own address in the host configuration")
	}
	r.found.ProxyJump = strings.Split(l.args[0], ",")
	return nil
}

// finish fills in what the query and OpenSSH's defaults say, and expands paths.
func (r *resolver) finish() (*Host, error) {
	h := &r.found
	h.HostName = strings.ToLower(cmp.Or(h.HostName, r.query.Alias))
	h.User = cmp.Or(r.query.User, h.User)
	h.Port = cmp.Or(r.query.Port, h.Port, "22")
	for i, jump := range h.ProxyJump {
		var err error
		if h.ProxyJump[i], err = expand(jump, r.tokens("hnpr")); err != nil {
			return nil, &sandboxer.FieldError{Field: "ProxyJump", Reason: err.Error()}
		}
	}
	return h, r.expandPaths()
}

func (r *resolver) expandPaths() error {
	h, err := &r.found, error(nil)
	if h.IdentityFiles, err = r.paths(r.pathsOf.identities); err != nil {
		return err
	}
	if h.CertificateFiles, err = r.paths(r.pathsOf.certificates); err != nil {
		return err
	}
	if h.UserKnownHosts, err = r.paths(r.pathsOf.user); err != nil {
		return err
	}
	if h.GlobalKnownHosts, err = r.paths(r.pathsOf.global); err != nil {
		return err
	}
	if l := r.pathsOf.agent; l != nil {
		h.IdentityAgent, err = r.agent(*l)
	}
	return err
}

// paths expands the paths of lines, each once. "none" makes an empty list.
func (r *resolver) paths(lines []line) ([]string, error) {
	var all []string
	for _, l := range lines {
		if all == nil {
			all = []string{}
		}
		for _, arg := range l.args {
			if arg == "none" {
				continue
			}
			p, err := r.path(arg, l)
			if err != nil {
				return nil, err
			}
			if !slices.Contains(all, p) {
				all = append(all, p)
			}
		}
	}
	return all, nil
}

func (r *resolver) agent(l line) (string, error) {
	value := l.args[0]
	switch name, variable := strings.CutPrefix(value, "$"); {
	case value == "none":
		return value, nil
	case value == "SSH_AUTH_SOCK":
		return "", nil
	case variable && !strings.HasPrefix(name, "{"):
		return cmp.Or(os.Getenv(name), "none"), nil
	}
	return r.path(value, l)
}

func isYes(value string) bool { return value == "yes" || value == "true" }
