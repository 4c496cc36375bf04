package compose

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/remote"
	"github.com/sand-boxer/sandboxer/compose/internal/sshconfig"
)

// A JumpHost is a host on the way to another. It does nothing but forward the
// connection, which is encrypted to the host behind it.
type JumpHost struct {
	// Address is ssh://user@host:port, as that of a host.
	Address string `json:"address"`

	// HostKey pins the keys the jump host may show, as those of a host.
	HostKey []string `json:"host_key,omitempty"`

	// KnownHosts are the files to look its key up in. If empty, those of the
	// host behind it.
	KnownHosts []string `json:"known_hosts,omitempty"`

	// IdentityFiles are the only keys to offer it. If empty, those of the host
	// behind it.
	IdentityFiles []string `json:"identity_files,omitempty"`
}

// itself is the host as one more on the way.
func (h HostConfig) itself() JumpHost {
	return JumpHost{Address: h.Address, HostKey: h.HostKey, KnownHosts: h.KnownHosts, IdentityFiles: h.IdentityFiles}
}

// trustProblems judges what identifies the jump host and the caller to each
// other. at comes before the names of fields.
func (j JumpHost) trustProblems(at string, bad func(field, format string, args ...any)) {
	for i, text := range j.HostKey {
		if !isHostKey(text) {
			bad(fmt.Sprintf("%shost_key[%d]", at, i), "%q is neither a fingerprint such as ssh-keygen -l prints (SHA256:…) nor a public key (ssh-ed25519 AAAA…)", text)
		}
	}
	if len(j.HostKey) > 0 && len(j.KnownHosts) > 0 {
		bad(at+"known_hosts", "is not read when host_key pins the keys: take one of them out")
	}
	for _, list := range []struct {
		field string
		paths []string
	}{{"known_hosts", j.KnownHosts}, {"identity_files", j.IdentityFiles}} {
		for i, p := range list.paths {
			if !filepath.IsAbs(p) {
				bad(fmt.Sprintf("%s%s[%d]", at, list.field, i), "%q is neither an absolute path nor one below ~/", p)
			}
		}
	}
}

// connect makes the transport to a host, and warnings about what its SSH
// configuration says in vain.
func connect(h HostConfig) (remote.Host, []string, error) {
	if h.local() {
		transport, err := remote.Local()
		return transport, nil, err
	}
	w := &way{file: h.SSHConfig, host: h.itself()}
	cfg, err := w.to(h.ProxyJump)
	if err != nil {
		return nil, nil, err
	}
	transport, err := remote.SSH(cfg)
	return transport, w.warnings, err
}

// A way is what is found out about the way to a host.
type way struct {
	file     string // an OpenSSH client configuration, or empty
	host     JumpHost
	hops     int
	warnings []string
}

// maxHops bounds the jump hosts of a way: aliases may lead to one another.
const maxHops = 8

// to returns the way to the host. Without jump hosts it is the file's.
func (w *way) to(jumps []JumpHost) (remote.SSHConfig, error) {
	cfg, err := w.hop(w.host, len(jumps) == 0)
	if err != nil || len(jumps) == 0 {
		return cfg, err
	}
	cfg.Via, err = w.through(jumps)
	return cfg, err
}

// through returns the last of jump hosts, each reached via the one before. As
// with ssh -J, the first alone takes the way to itself from the file.
func (w *way) through(jumps []JumpHost) (*remote.SSHConfig, error) {
	var last *remote.SSHConfig
	for i, j := range jumps {
		cfg, err := w.hop(j, i == 0)
		if err != nil {
			return nil, fmt.Errorf("jump host %s: %w", j.Address, err)
		}
		if len(cfg.HostKey)+len(cfg.KnownHosts) == 0 {
			cfg.KnownHosts = w.host.KnownHosts
		}
		if len(cfg.IdentityFiles)+len(cfg.CertificateFiles) == 0 && !cfg.AgentKeys {
			cfg.IdentityFiles = w.host.IdentityFiles
		}
		if i > 0 {
			cfg.Via = last
		}
		last = &cfg
	}
	return last, nil
}

// hop finds out about one host, and if jumps is set about the jump hosts that
// the file names for it.
func (w *way) hop(j JumpHost, jumps bool) (remote.SSHConfig, error) {
	if w.hops++; w.hops > maxHops+1 {
		return remote.SSHConfig{}, fmt.Errorf("more than %d jump hosts: do they lead to one another?: %w", maxHops, sandboxer.ErrInvalid)
	}
	t, err := parseAddress(j.Address)
	if err != nil {
		return remote.SSHConfig{}, &sandboxer.FieldError{Field: "address", Reason: err.Error()}
	}
	cfg := remote.SSHConfig{User: t.user, HostKey: j.HostKey, KnownHosts: j.KnownHosts, IdentityFiles: j.IdentityFiles}
	if w.file == "" {
		cfg.Address = net.JoinHostPort(t.host, t.port)
		return cfg, nil
	}
	found, err := sshconfig.Resolve(w.file, sshconfig.Query{Alias: t.host, User: t.user, Port: t.asked})
	if err != nil {
		return cfg, err
	}
	w.warn(found.Warnings...)
	if err := w.follow(found, &cfg); err != nil {
		return cfg, fmt.Errorf("%s: %s: %w", w.file, t.host, err)
	}
	if jumps && len(found.ProxyJump) > 0 {
		cfg.Via, err = w.through(jumpHosts(found.ProxyJump))
	}
	return cfg, err
}

// jumpHosts makes addresses of the forms that ProxyJump takes.
func jumpHosts(texts []string) []JumpHost {
	var jumps []JumpHost
	for _, text := range texts {
		jumps = append(jumps, JumpHost{Address: "ssh://" + strings.TrimPrefix(text, "ssh://")})
	}
	return jumps
}

// follow takes over what the file says and the host configuration does not.
func (w *way) follow(found *sshconfig.Host, cfg *remote.SSHConfig) error {
	t := target{user: found.User, host: found.HostName, port: found.Port}
	if err := t.check(); err != nil {
		return fmt.Errorf("the address %w: %w", err, sandboxer.ErrInvalid)
	}
	cfg.Address, cfg.User = net.JoinHostPort(t.host, t.port), t.user
	cfg.HostKeyAlias, cfg.AgentSocket, cfg.ConnectTimeout = found.HostKeyAlias, found.IdentityAgent, found.ConnectTimeout
	if files := found.KnownHosts(); files != nil && len(cfg.HostKey)+len(cfg.KnownHosts) == 0 {
		// One that is named and not there must not widen the search to others.
		if cfg.KnownHosts = existing(files); len(cfg.KnownHosts) == 0 {
			cfg.KnownHosts = files
		}
		if len(files) == 0 {
			return fmt.Errorf("names no file of known hosts: pin the key with host_key, or name one as UserKnownHostsFile: %w", sandboxer.ErrInvalid)
		}
	}
	if len(cfg.IdentityFiles) > 0 {
		return nil
	}
	return w.offer(found, cfg)
}

// offer takes over the keys. Those that do not exist are passed over, as ssh
// does.
func (w *way) offer(found *sshconfig.Host, cfg *remote.SSHConfig) error {
	if found.IdentityFiles == nil && found.CertificateFiles == nil && !found.IdentitiesOnly {
		return nil
	}
	files := found.IdentityFiles
	if files == nil {
		files = existing(usualIdentities())
	}
	for _, file := range files {
		switch {
		case exists(file):
			cfg.IdentityFiles = append(cfg.IdentityFiles, file)
		case exists(file + ".pub"): // the agent has the other half
			cfg.IdentityFiles = append(cfg.IdentityFiles, file+".pub")
		default:
			w.warn(w.file + ": IdentityFile " + file + " does not exist")
		}
	}
	if found.IdentitiesOnly && len(cfg.IdentityFiles) == 0 {
		return fmt.Errorf("IdentitiesOnly leaves no key to offer, since no IdentityFile exists: %w", sandboxer.ErrInvalid)
	}
	cfg.CertificateFiles, cfg.AgentKeys = found.CertificateFiles, !found.IdentitiesOnly
	return nil
}

// warn notes each warning once: a line may be for several hosts of the way.
func (w *way) warn(warnings ...string) {
	for _, text := range warnings {
		text += "\nif the connection needs what the line says, say it in the host's entry of hosts.yaml; else nothing has to be done"
		if !slices.Contains(w.warnings, text) {
			w.warnings = append(w.warnings, text)
		}
	}
}

func usualIdentities() []string {
	home, err := os.UserHomeDir()
	if err != nil {
		return nil
	}
	var files []string
	for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
		files = append(files, filepath.Join(home, ".ssh", name))
	}
	return files
}

func existing(files []string) []string {
	return slices.DeleteFunc(slices.Clone(files), func(f string) bool { return !exists(f) })
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return !errors.Is(err, fs.ErrNotExist)
}
