package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/user"
	"time"

	"golang.org/x/crypto/ssh"
)

// SSHConfig says how to reach a host by SSH. No other configuration is read,
// ~/.ssh/config in particular.
type SSHConfig struct {
	// Address is host:port.
	Address string

	// Via is a host that forwards the connection to this one, whose name it
	// resolves; nil connects directly. It may itself be reached via another.
	// Each is connected to, checked and logged in to by its own configuration,
	// and let go of together with this one.
	Via *SSHConfig

	// User is the account on the host. Empty is the name of this process's.
	User string

	// HostKey pins the keys the host may show, each as a fingerprint
	// ("SHA256:…") or a public key ("ssh-ed25519 AAAA…"). Then known_hosts
	// files are not read.
	HostKey []string

	// KnownHosts are the files to look the host up in; they have to exist.
	// Empty are those of OpenSSH that do: ~/.ssh/known_hosts,
	// /etc/ssh/ssh_known_hosts, and each with a 2 at the end. A host that is in none is refused.
	KnownHosts []string

	// HostKeyAlias is the name to look the host up by in known_hosts files, and
	// that a host certificate has to be for. Empty is Address.
	HostKeyAlias string

	// IdentityFiles are the only keys to offer. A file may hold a private key,
	// or, for a key that an agent has, its encrypted private or public half.
	// Empty offers what the agent has, then the files ~/.ssh/id_ed25519,
	// id_ecdsa and id_rsa.
	IdentityFiles []string

	// AgentKeys offers what else the agent has after the IdentityFiles, of
	// which those that cannot be used are then passed over, and no usual file.
	AgentKeys bool

	// CertificateFiles are offered first, each with its key of IdentityFiles or
	// the agent. The one beside an identity file (id-cert.pub) needs no name.
	CertificateFiles []string

	// AgentSocket is the SSH agent's. Empty is $SSH_AUTH_SOCK; NoAgent is none.
	AgentSocket string

	// ConnectTimeout bounds the connecting and the handshake together, not that
	// with the hosts on the way.
	// Zero is 15 s.
	ConnectTimeout time.Duration

	// MaxSessions bounds the scripts that run at once; more wait. Zero is 8,
	// two below the default of sshd. A host that allows fewer is noticed.
	MaxSessions int

	// Keepalive is the time between two signs of life asked for. A host silent
	// for three times as long is given up. Zero is 15 s.
	Keepalive time.Duration
}

// NoAgent as [SSHConfig.AgentSocket] asks no agent.
const NoAgent = "none"

func (c SSHConfig) withDefaults() (SSHConfig, error) {
	host, port, err := net.SplitHostPort(c.Address)
	if err != nil || host == "" || port == "" {
		return c, fmt.Errorf("ssh address %q: want host:port", c.Address)
	}
	if c.User == "" {
		account, err := user.Current()
		if err != nil {
			return c, fmt.Errorf("ssh user: %w", err)
		}
		c.User = account.Username
	}
	if c.ConnectTimeout <= 0 {
		c.ConnectTimeout = 15 * time.Second
	}
	if c.MaxSessions <= 0 {
		c.MaxSessions = 8
	}
	if c.Keepalive <= 0 {
		c.Keepalive = 15 * time.Second
	}
	return c, nil
}

// SSH returns a host that is reached by SSH. It reads the pinned keys and the
// identity files of cfg, and does not connect before there is something to do.
func SSH(cfg SSHConfig) (Host, error) {
	hop, err := newHop(cfg)
	if err != nil {
		return nil, err
	}
	return &sshHost{hop: hop, pool: newPool(hop.dial)}, nil
}

// A hop is a host that can be logged in to: the one meant, or one on the way.
type hop struct {
	cfg          SSHConfig
	pins         []pin
	identities   []identity
	certificates []*ssh.Certificate
	via          *hop // nil if it is reached directly
}

func newHop(cfg SSHConfig) (*hop, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	h := &hop{cfg: cfg}
	if h.pins, err = parsePins(cfg.HostKey); err != nil {
		return nil, err
	}
	if h.identities, err = readIdentities(cfg.IdentityFiles); err != nil {
		return nil, err
	}
	for _, file := range cfg.CertificateFiles {
		cert, err := readCertificate(file, nil)
		if err != nil {
			return nil, err
		}
		h.certificates = append(h.certificates, cert)
	}
	if cfg.Via != nil {
		if h.via, err = newHop(*cfg.Via); err != nil {
			return nil, fmt.Errorf("jump host %s: %w", cfg.Via.Address, err)
		}
	}
	return h, nil
}

type sshHost struct {
	*hop
	pool *pool
}

func (h *sshHost) Close() error {
	h.pool.close()
	return nil
}

func (h *sshHost) Run(ctx context.Context, cmd Command) (Result, error) {
	p, err := h.shell(ctx)
	if err != nil {
		return Result{}, err
	}
	return run(ctx, p, cmd)
}

func (h *sshHost) DialExec(ctx context.Context, cmd Command) (net.Conn, error) {
	p, err := h.shell(ctx)
	if err != nil {
		return nil, err
	}
	return dialExec(ctx, p, cmd)
}

// shell starts a shell that waits for its first line.
func (h *sshHost) shell(ctx context.Context) (*channel, error) {
	return h.begin(ctx, func(l *link) (*channel, error) {
		ch, err := l.session(ctx, h.cfg.ConnectTimeout)
		if err != nil {
			return nil, err
		}
		if err := ch.exec(ctx, loginCommand); err != nil {
			ch.kill()
			return nil, err
		}
		return ch, nil
	})
}

func (h *sshHost) DialUnix(ctx context.Context, path string) (net.Conn, error) {
	msg := struct {
		Path      string
		Reserved0 string
		Reserved1 uint32
	}{Path: path}
	addr := &net.UnixAddr{Name: path, Net: "unix"}
	return h.forward(ctx, "direct-streamlocal@openssh.com", ssh.Marshal(msg), &net.UnixAddr{Net: "unix"}, addr)
}

func (h *sshHost) DialTCP(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	msg := directTCPIP(addr.Addr().String(), addr.Port())
	return h.forward(ctx, "direct-tcpip", msg, &net.TCPAddr{}, net.TCPAddrFromAddrPort(addr))
}

// directTCPIP asks for a connection from the host to another (RFC 4254, 7.2).
func directTCPIP(host string, port uint16) []byte {
	return ssh.Marshal(struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}{host, uint32(port), "127.0.0.1", 0})
}

func (h *sshHost) forward(ctx context.Context, kind string, msg []byte, from, to net.Addr) (net.Conn, error) {
	ch, err := h.begin(ctx, func(l *link) (*channel, error) {
		return l.open(ctx, kind, msg, func() {})
	})
	if err == nil {
		return newForward(ch, from, to), nil
	}
	var refusal *ssh.OpenChannelError
	if !errors.As(err, &refusal) {
		return nil, err
	}
	err = fmt.Errorf("host %s: %s", h.cfg.Address, refusal.Message)
	if refusal.Reason != ssh.ConnectionFailed || to.Network() == "unix" {
		err = fmt.Errorf("%w: %w", ErrForwardingRefused, err)
	}
	return nil, &net.OpError{Op: "dial", Net: to.Network(), Addr: to, Err: err}
}

// newForward makes a connection of a forwarding channel.
func newForward(ch *channel, from, to net.Addr) net.Conn {
	go io.Copy(io.Discard, ch.stderr())
	return newConn(forward{ch}, from, to)
}

// begin has f begin something on a link, and again on another if that one
// turned out to be broken: nothing has been run by then.
func (h *sshHost) begin(ctx context.Context, f func(*link) (*channel, error)) (*channel, error) {
	var last error
	for range 3 {
		l, err := h.pool.get(ctx)
		if err != nil {
			return nil, err
		}
		ch, err := f(l)
		if !errors.Is(err, errLost) {
			return ch, err
		}
		last = err
		select { // or the pool would give the same link out again
		case <-l.lost:
			last = l.err
		case <-time.After(time.Second):
			l.end(err)
		}
	}
	return nil, &UnreachableError{Address: h.cfg.Address, Err: last}
}
