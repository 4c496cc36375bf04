package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

// maxDrops bounds how often a handshake is repeated that the host broke off, as
// sshd does at random while many are in progress (MaxStartups).
const maxDrops = 3

// dial connects and authenticates.
func (h *sshHost) dial(ctx context.Context) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, h.cfg.ConnectTimeout)
	defer cancel()
	trust, err := h.trust()
	if err != nil {
		return nil, err
	}
	keys, err := h.keys(ctx)
	if err != nil {
		return nil, err
	}
	defer keys.close()

	for drops := 0; ; {
		l, err := h.handshake(ctx, trust, keys)
		if err == nil {
			return l, nil
		}
		if wasDropped(err) && drops < maxDrops {
			drops++
			if h.pause(ctx, drops) == nil {
				continue
			}
		}
		if err := trust.next(err); err != nil {
			return nil, err
		}
	}
}

func (h *sshHost) pause(ctx context.Context, drops int) error {
	d := 100 * time.Millisecond << drops
	select {
	case <-time.After(d/2 + rand.N(d)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// handshake makes one connection.
func (h *sshHost) handshake(ctx context.Context, trust *trust, keys *keyring) (*link, error) {
	tcp, err := new(net.Dialer).DialContext(ctx, "tcp", h.cfg.Address)
	if err != nil {
		return nil, &UnreachableError{Address: h.cfg.Address, Err: err}
	}
	// The ssh package bounds nothing by itself.
	if deadline, ok := ctx.Deadline(); ok {
		tcp.SetDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { tcp.Close() })
	defer stop()

	w := newWire(tcp)
	var keyErr *HostKeyError
	trusted := false
	cfg := h.clientConfig(trust.algorithms(), keys)
	cfg.HostKeyCallback = func(_ string, remote net.Addr, key ssh.PublicKey) error {
		if keyErr = trust.check(remote, key); keyErr != nil {
			return keyErr
		}
		trusted = true
		return nil
	}
	c, channels, requests, err := ssh.NewClientConn(w, h.cfg.Address, cfg)
	switch {
	case keyErr != nil:
		return nil, keyErr
	case err == nil:
	case ctx.Err() != nil:
		return nil, &UnreachableError{Address: h.cfg.Address, Err: ended(ctx)}
	case isNetwork(err):
		return nil, &UnreachableError{Address: h.cfg.Address, Err: err}
	case !trusted:
		return nil, fmt.Errorf("%s: %w", h.cfg.Address, err)
	default:
		return nil, &AuthError{Address: h.cfg.Address, User: h.cfg.User, Tried: keys.tried, Err: err}
	}
	tcp.SetDeadline(time.Time{})
	return newLink(ssh.NewClient(c, channels, requests), w, h.cfg.MaxSessions, h.cfg.Keepalive), nil
}

// clientConfig offers what the ssh package considers secure, less SHA-1.
func (h *sshHost) clientConfig(hostKeys []string, keys *keyring) *ssh.ClientConfig {
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
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &netErr)
}

// wasDropped reports whether the host accepted a connection and then hung up.
func wasDropped(err error) bool {
	var unreachable *UnreachableError
	return errors.As(err, &unreachable) &&
		(errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET))
}
