package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

// maxDrops bounds how often a handshake is repeated that the host broke off
// before it showed its key, as sshd does at random while many are in progress
// (MaxStartups). Later it is not repeated: it may be the answer to our keys.
const maxDrops = 3

// dial connects and authenticates, to the hosts on the way first.
func (h *hop) dial(ctx context.Context) (*link, error) {
	trust, err := h.trust()
	if err != nil {
		return nil, err
	}
	if h.via == nil {
		return h.login(ctx, trust, nil)
	}
	under, err := h.via.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("on the way to %s: %w", h.cfg.Address, err)
	}
	l, err := h.login(ctx, trust, under)
	if err != nil {
		under.close(err)
	}
	return l, err
}

// login connects and authenticates. under carries the connection, nil is TCP.
func (h *hop) login(ctx context.Context, trust *trust, under *link) (*link, error) {
	limit := h.cfg.ConnectTimeout
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no connection within %v", limit))
	defer cancel()
	keys, err := h.keys(ctx)
	if err != nil {
		return nil, err
	}
	defer keys.close()

	for drops := 0; ; {
		l, err := h.handshake(ctx, trust, keys, under)
		if err == nil {
			return l, nil
		}
		var unreachable *UnreachableError
		if errors.As(err, &unreachable) && unreachable.dropped && drops < maxDrops {
			drops++
			if pause(ctx, drops) == nil {
				continue
			}
		}
		if err := trust.next(err); err != nil {
			return nil, err
		}
	}
}

func pause(ctx context.Context, drops int) error {
	d := 100 * time.Millisecond << drops
	select {
	case <-time.After(d/2 + rand.N(d)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// handshake makes one connection. The ssh package bounds nothing by itself:
// that the end of ctx closes the connection does.
func (h *hop) handshake(ctx context.Context, trust *trust, keys *keyring, under *link) (*link, error) {
	tcp, err := h.connect(ctx, under)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { tcp.Close() })
	defer stop()

	checked := make(chan *HostKeyError, 1) // the key is checked again when keys are renewed
	cfg := h.clientConfig(trust.algorithms(), keys)
	cfg.HostKeyCallback = func(_ string, remote net.Addr, key ssh.PublicKey) error {
		e := trust.check(remote, key)
		select {
		case checked <- e:
		default:
		}
		if e != nil {
			return e
		}
		return nil
	}
	w := newWire(tcp)
	c, channels, requests, err := ssh.NewClientConn(w, h.cfg.Address, cfg)
	if err == nil {
		return newLink(ssh.NewClient(c, channels, requests), w, under, h.cfg.MaxSessions, h.cfg.Keepalive), nil
	}
	if ctx.Err() != nil {
		return nil, &UnreachableError{Address: h.cfg.Address, Err: context.Cause(ctx)}
	}
	select {
	case keyErr := <-checked:
		return nil, h.afterKeyCheck(keyErr, err, keys)
	default:
	}
	if isNetwork(err) {
		return nil, &UnreachableError{Address: h.cfg.Address, Err: err, dropped: isHangUp(err)}
	}
	return nil, fmt.Errorf("%s: %w", h.cfg.Address, err) // no algorithm in common, for one
}

func (h *hop) connect(ctx context.Context, under *link) (net.Conn, error) {
	if under != nil {
		return h.connectThrough(ctx, under)
	}
	tcp, err := new(net.Dialer).DialContext(ctx, "tcp", h.cfg.Address)
	if err != nil {
		return nil, &UnreachableError{Address: h.cfg.Address, Err: err}
	}
	return tcp, nil
}

// connectThrough has the jump host at the other end of a link connect.
func (h *hop) connectThrough(ctx context.Context, under *link) (net.Conn, error) {
	name, port, err := splitAddress(h.cfg.Address)
	if err != nil {
		return nil, err
	}
	jump := h.via.cfg.Address
	ch, err := under.open(ctx, "direct-tcpip", directTCPIP(name, port), func() {})
	var refusal *ssh.OpenChannelError
	switch {
	case err == nil:
		return newForward(ch, &net.TCPAddr{}, address(h.cfg.Address)), nil
	case !errors.As(err, &refusal):
		return nil, &UnreachableError{Address: h.cfg.Address, Err: fmt.Errorf("jump host %s: %w", jump, err)}
	case refusal.Reason == ssh.ConnectionFailed:
		return nil, &UnreachableError{Address: h.cfg.Address, Err: fmt.Errorf("jump host %s: %s", jump, refusal.Message)}
	}
	return nil, fmt.Errorf("%s: jump host %s: %w: %s; see AllowTcpForwarding and PermitOpen in its sshd_config, and permitopen in authorized_keys",
		h.cfg.Address, jump, ErrForwardingRefused, refusal.Message)
}

// An address is host:port, with a name that another host resolves.
type address string

func (a address) Network() string { return "tcp" }
func (a address) String() string  { return string(a) }

func splitAddress(text string) (name string, port uint16, err error) {
	name, number, err := net.SplitHostPort(text)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("ssh address %q: %w", text, err)
	}
	return name, uint16(n), nil
}

// afterKeyCheck says what it means that a handshake failed after the host had
// shown its key.
func (h *hop) afterKeyCheck(keyErr *HostKeyError, err error, keys *keyring) error {
	switch {
	case keyErr != nil:
		return keyErr
	case isNetwork(err):
		return &UnreachableError{Address: h.cfg.Address, Err: err}
	}
	return &AuthError{Address: h.cfg.Address, User: h.cfg.User, Tried: keys.tried, Err: err}
}

// clientConfig offers what the ssh package considers secure, less SHA-1.
func (h *hop) clientConfig(hostKeys []string, keys *keyring) *ssh.ClientConfig {
	algorithms := ssh.SupportedAlgorithms()
	return &ssh.ClientConfig{
		Config: ssh.Config{
			KeyExchanges: withoutSHA1(algorithms.KeyExchanges),
			Ciphers:      withoutSHA1(algorithms.Ciphers),
			MACs:         withoutSHA1(algorithms.MACs),
		},
		ClientVersion:     "SSH-2.0-sandboxer",
		User:              h.cfg.User,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(keys.signers...)},
		HostKeyAlgorithms: hostKeys,
	}
}

func withoutSHA1(names []string) []string {
	return slices.DeleteFunc(names, func(name string) bool {
		return strings.HasSuffix(name, "sha1") || strings.Contains(name, "sha1-")
	})
}

// isNetwork reports whether a handshake failed for the connection under it.
func isNetwork(err error) bool {
	var netErr net.Error
	return isHangUp(err) || errors.As(err, &netErr)
}

// isHangUp reports whether the host closed the connection.
func isHangUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}
