package compose

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
	"gopkg.in/yaml.v3"

	"github.com/sand-boxer/sandboxer"
)

// HostsFile is the host configuration, hosts.yaml: the machines that may take
// sandboxes. It is a closed document: an unknown key is an error.
type HostsFile struct {
	Hosts []HostConfig `json:"hosts"` // in order of preference, where a profile states none
}

// A HostConfig is one machine that may take sandboxes: where it is, what may
// be used of it, and how its identity is checked. It holds no secrets. Only
// Address is required.
type HostConfig struct {
	// Name is what profiles, requests and records call the host: lower-case
	// letters, digits, "." and "-". The host part of Address, or "local", if empty.
	Name string `json:"name,omitempty"`

	// Address is ssh://user@host:port, or "local:" (in quotes in YAML) for the
	// machine of the caller, without SSH. The user is the caller's own and the port 22 where
	// left out; an IPv6 address stands in brackets. It holds no password and no path.
	// With SSHConfig, host may be an alias of that file.
	Address string `json:"address"`

	// Root is the directory on the host that holds everything of sandboxer. If
	// empty it is /var/lib/sandboxer for root, and for other accounts
	// $XDG_STATE_HOME/sandboxer/host, with ~/.local/state where that is not set.
	Root string `json:"root,omitempty"`

	// Slots is how many sandboxes the host takes at once; 0 is no limit.
	Slots int `json:"slots,omitempty"`

	// Subnets is the range that the networks of sandboxes are cut from:
	// private IPv4 (RFC 1918), /20 or larger, used by nothing else that the
	// host can reach. 10.201.0.0/16 if empty.
	Subnets string `json:"subnets,omitempty"`

	Region string            `json:"region,omitempty"` // free text, for people and routing
	Labels map[string]string `json:"labels,omitempty"` // free
	Price  *sandboxer.Cost   `json:"price,omitempty"`  // of one sandbox; nil is unknown, and last in lowest-cost

	// HostKey pins the keys the host may show, each a fingerprint
	// ("SHA256:…") or a public key ("ssh-ed25519 AAAA…"). Known hosts files
	// are then not read.
	HostKey []string `json:"host_key,omitempty"`

	// KnownHosts are the files, on the machine of the caller, to look the
	// host's key up in; absolute, or below "~/". If empty,
	// ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts.
	KnownHosts []string `json:"known_hosts,omitempty"`

	// IdentityFiles are the only keys to offer, each with the certificate
	// beside it (id-cert.pub); absolute, or below "~/". If empty, those of the
	// SSH agent and the usual files of ~/.ssh.
	IdentityFiles []string `json:"identity_files,omitempty"`

	// ProxyJump are the hosts on the way to this one, in the order of the
	// connection. Each is checked as strictly as the host itself.
	ProxyJump []JumpHost `json:"proxy_jump,omitempty"`

	// SSHConfig is an OpenSSH client configuration, such as ~/.ssh/config, to
	// look the host and its jump hosts up in; absolute, or below "~/". What is
	// said here wins over what it says, and nothing it says weakens how keys
	// are checked. None is read if empty.
	SSHConfig string `json:"ssh_config,omitempty"`

	// EngineSocket is the path of the engine's socket on the host; found by
	// looking if empty.
	EngineSocket string `json:"engine_socket,omitempty"`

	// GVisorRuntime is what the engine calls gVisor's runtime; "runsc" if empty.
	// Where the engine has none of that name, the host does not offer the
	// isolation gvisor.
	GVisorRuntime string `json:"gvisor_runtime,omitempty"`

	// CacheTTL is how long an uploaded tree is kept after the last sandbox that
	// used it, and the steps of a build of the classic builder after its
	// sandbox ended: the next build of the same is faster. 0: they are removed
	// with the sandbox.
	CacheTTL sandboxer.Duration `json:"cache_ttl,omitempty"`
}

// DefaultSubnets is the range for networks of a host that names none: room
// for 4096 networks of 14 addresses.
const DefaultSubnets = "10.201.0.0/16"

// ParseHosts decodes and validates the host configuration in data, YAML or
// JSON, and fills in defaults. Every problem is a [*sandboxer.FieldError]
// with file, line and key; they are joined. file is only named in errors.
func ParseHosts(file string, data []byte) ([]HostConfig, error) {
	var f HostsFile
	if err := sandboxer.DecodeStrict(file, data, &f); err != nil {
		return nil, err
	}
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err != nil {
		return nil, &sandboxer.FieldError{File: file, Reason: err.Error()}
	}
	var problems []error
	bad := func(field, reason string) {
		problems = append(problems, &sandboxer.FieldError{File: file, Line: lineOf(&root, field), Field: field, Reason: reason})
	}
	if len(f.Hosts) == 0 {
		bad("hosts", "is empty: list at least one host, such as \"- address: ssh://user@host\"")
	}
	first := map[string]int{}
	for i, h := range f.Hosts {
		h = h.withDefaults()
		f.Hosts[i] = h
		for _, p := range h.problems() {
			bad(fmt.Sprintf("hosts[%d].%s", i, p.Field), p.Reason)
		}
		if other, dup := first[h.Name]; dup && h.Name != "" {
			bad(fmt.Sprintf("hosts[%d].name", i), fmt.Sprintf("%q is already the name of hosts[%d]: name one of them otherwise", h.Name, other))
		}
		first[h.Name] = i
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return f.Hosts, nil
}

// ParseHost makes the configuration of a host of which only the address is
// known, with defaults filled in. The error is a [*sandboxer.FieldError].
func ParseHost(address string) (HostConfig, error) {
	h := HostConfig{Address: address}.withDefaults()
	if err := h.Validate(); err != nil {
		return HostConfig{}, err
	}
	return h, nil
}

// Validate reports every problem at once, joined, each a
// [*sandboxer.FieldError]. It looks at no file and contacts nothing.
func (h HostConfig) Validate() error {
	var all []error
	for _, p := range h.withDefaults().problems() {
		all = append(all, p)
	}
	return errors.Join(all...)
}

// withDefaults fills in name and subnets, and the home directory in local paths.
func (h HostConfig) withDefaults() HostConfig {
	if t, err := parseAddress(h.Address); err == nil {
		h.Name = cmp.Or(h.Name, nameFrom(t.host))
	}
	h.Subnets = cmp.Or(h.Subnets, DefaultSubnets)
	h.KnownHosts, h.IdentityFiles = expandHome(h.KnownHosts), expandHome(h.IdentityFiles)
	h.SSHConfig = expandHome([]string{h.SSHConfig})[0]
	h.ProxyJump = slices.Clone(h.ProxyJump)
	for i, j := range h.ProxyJump {
		h.ProxyJump[i].KnownHosts, h.ProxyJump[i].IdentityFiles = expandHome(j.KnownHosts), expandHome(j.IdentityFiles)
	}
	return h
}

// expandHome leaves paths alone where the home directory is unknown; they are
// then refused as not absolute.
func expandHome(paths []string) []string {
	home, err := os.UserHomeDir()
	if err != nil || len(paths) == 0 {
		return paths
	}
	out := make([]string, len(paths))
	for i, p := range paths {
		if below, ok := strings.CutPrefix(p, "~/"); ok {
			p = filepath.Join(home, below)
		}
		out[i] = p
	}
	return out
}

// nameFrom makes a name of an address's host part, as good as it goes.
func nameFrom(host string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' {
			return r
		}
		return '-'
	}, strings.ToLower(host))
	return strings.Trim(name, "-.")
}

// local reports whether the host is this machine, without SSH.
func (h HostConfig) local() bool {
	t, err := parseAddress(h.Address)
	return err == nil && t.port == ""
}

// sshTarget returns the account, empty for the caller's own, and host:port.
// ok is false for a local or invalid address.
func (h HostConfig) sshTarget() (user, addr string, ok bool) {
	t, err := parseAddress(h.Address)
	if err != nil || t.port == "" {
		return "", "", false
	}
	return t.user, net.JoinHostPort(t.host, t.port), true
}

// A target is a parsed address; the local one has no port.
type target struct {
	user, host, port string
	asked            string // the port, if the address has one
}

var (
	hostName    = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,62}$`)
	sshHostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$`)
	sshUser     = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@+\\-]{0,63}\$?$`)
	runtimeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	hostPath    = regexp.MustCompile(`^(/[A-Za-z0-9._@+-]+)+$`)
	currency    = regexp.MustCompile(`^[A-Z]{3}$`)
)

// parseAddress does not quote the address in errors: it may hold a password.
func parseAddress(text string) (target, error) {
	if text == "local:" {
		return target{host: "local"}, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "ssh" || u.Hostname() == "" || strings.Contains(u.Hostname(), ":") && u.Host[0] != '[' {
		return target{}, errors.New("is not the address of a host: write ssh://user@host:22, ssh://user@[2001:db8::7]:22, or local: for this machine")
	}
	if _, has := u.User.Password(); has {
		return target{}, errors.New("holds a password: use a key or an SSH agent, and take the password out")
	}
	if u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return target{}, errors.New("goes on after the port: a directory on the host belongs in root")
	}
	t := target{user: u.User.Username(), host: u.Hostname(), port: cmp.Or(u.Port(), "22"), asked: u.Port()}
	if u.User != nil && t.user == "" {
		return target{}, errors.New(`has "" before the @, which is not the name of an account`)
	}
	if strings.HasSuffix(u.Host, ":") {
		t.port = ""
	}
	if err := t.check(); err != nil {
		return target{}, err
	}
	return t, nil
}

// check says what is wrong with a target; a user is not required.
func (t target) check() error {
	if t.user != "" && !sshUser.MatchString(t.user) {
		return fmt.Errorf("has %q before the @, which is not the name of an account", t.user)
	}
	if _, err := netip.ParseAddr(t.host); err != nil && !sshHostName.MatchString(t.host) {
		return fmt.Errorf("has %q as host, which is neither a name nor an address", t.host)
	}
	if n, err := strconv.Atoi(t.port); err != nil || n < 1 || n > 65535 {
		return errors.New("has a port that is not between 1 and 65535")
	}
	return nil
}

// problems judges a configuration whose defaults are filled in.
func (h HostConfig) problems() (problems []*sandboxer.FieldError) {
	bad := func(field, format string, args ...any) {
		problems = append(problems, &sandboxer.FieldError{Field: field, Reason: fmt.Sprintf(format, args...)})
	}
	_, addressErr := parseAddress(h.Address)
	switch {
	case h.Address == "":
		bad("address", "is required: write ssh://user@host:22, or local: for this machine")
	case addressErr != nil:
		bad("address", "%v", addressErr)
	}
	switch {
	case h.Name == "" && addressErr == nil:
		bad("name", "is required: nothing of the address can serve as one")
	case h.Name != "" && !hostName.MatchString(h.Name):
		bad("name", "%q is not a name for a host: lower-case letters, digits, . and - only, a letter or digit first, at most 63", h.Name)
	}
	if h.Root != "" && !isHostPath(h.Root) {
		bad("root", "%q is not an absolute path on the host, of letters, digits and ._@+- only", h.Root)
	}
	if h.EngineSocket != "" && !isHostPath(h.EngineSocket) {
		bad("engine_socket", "%q is not the absolute path of a socket, such as /run/docker.sock", h.EngineSocket)
	}
	if h.GVisorRuntime != "" && (!runtimeName.MatchString(h.GVisorRuntime) || h.GVisorRuntime == "runc") {
		bad("gvisor_runtime", "%q is not the name of a runtime of gVisor's: give the one under runtimes in the engine's daemon.json", h.GVisorRuntime)
	}
	if h.Slots < 0 {
		bad("slots", "is negative: 0 is no limit")
	}
	if reason := badSubnets(h.Subnets); reason != "" {
		bad("subnets", "%s", reason)
	}
	if h.Price != nil && !currency.MatchString(h.Price.Currency) {
		bad("price.currency", "%q is not a currency code such as EUR", h.Price.Currency)
	}
	if h.Price != nil && h.Price.MicrosPerHour < 0 {
		bad("price.micros_per_hour", "is negative")
	}
	if h.CacheTTL < 0 {
		bad("cache_ttl", "is negative")
	}
	h.trustProblems(bad)
	return problems
}

// trustProblems judges what identifies the host and the caller to each other,
// and the way.
func (h HostConfig) trustProblems(bad func(field, format string, args ...any)) {
	if h.SSHConfig != "" && !filepath.IsAbs(h.SSHConfig) {
		bad("ssh_config", "%q is neither an absolute path nor one below ~/", h.SSHConfig)
	}
	h.itself().trustProblems("", bad)
	for i, j := range h.ProxyJump {
		at := fmt.Sprintf("proxy_jump[%d].", i)
		if t, err := parseAddress(j.Address); err != nil {
			bad(at+"address", "%v", err)
		} else if t.port == "" {
			bad(at+"address", "is local:, which is not on the way to anywhere: write ssh://user@host:22")
		}
		j.trustProblems(at, bad)
	}
	if h.local() && len(h.HostKey)+len(h.KnownHosts)+len(h.IdentityFiles)+len(h.ProxyJump)+len(h.SSHConfig) > 0 {
		bad("address", "is local:, which uses no SSH: take host_key, known_hosts, identity_files, proxy_jump and ssh_config out")
	}
}

func isHostPath(p string) bool { return hostPath.MatchString(p) && path.Clean(p) == p }

func isHostKey(text string) bool {
	if sum, ok := strings.CutPrefix(text, "SHA256:"); ok {
		b, err := base64.RawStdEncoding.DecodeString(sum)
		return err == nil && len(b) == 32
	}
	_, _, _, _, err := ssh.ParseAuthorizedKey([]byte(text))
	return err == nil
}

// badSubnets says what is wrong with a range for networks, "" for nothing. A
// route to a range that is not private would take traffic of the host away
// from its real owner.
func badSubnets(text string) string {
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil || !p.Addr().Is4():
		return fmt.Sprintf("%q is not a range of IPv4 addresses such as %s", text, DefaultSubnets)
	case p != p.Masked():
		return fmt.Sprintf("%v has bits set after the prefix: did you mean %v?", p, p.Masked())
	case p.Bits() > 20:
		return fmt.Sprintf("%v is too small: give a range of /20 or larger", p)
	}
	for _, private := range []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"} {
		block := netip.MustParsePrefix(private)
		if p.Bits() >= block.Bits() && block.Contains(p.Addr()) {
			return ""
		}
	}
	return fmt.Sprintf("%v is not private: take it from 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16", p)
}

// lineOf finds a field such as "hosts[0].subnets", or the nearest that encloses it.
func lineOf(n *yaml.Node, field string) int {
	if n.Kind == yaml.DocumentNode {
		n = n.Content[0]
	}
	for key := range strings.FieldsFuncSeq(field, func(r rune) bool { return strings.ContainsRune(".[]", r) }) {
		next := childOf(n, key)
		if next == nil {
			break
		}
		n = next
	}
	return n.Line
}

func childOf(n *yaml.Node, key string) *yaml.Node {
	if i, err := strconv.Atoi(key); err == nil && n.Kind == yaml.SequenceNode && i < len(n.Content) {
		return n.Content[i]
	}
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}
