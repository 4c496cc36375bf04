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

// maxDrops bounds how often a handshake is repeated that the host broke off
// before it showed its key, as sshd does at random while many are in progress
// (MaxStartups). Later it is not repeated: it may be the answer to our keys.
const maxDrops = 3

// dial connects and authenticates.
func (h *sshHost) dial(ctx context.Context) (*link, error) {
	limit := h.cfg.ConnectTimeout
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no connection within %v", limit))
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
func (h *sshHost) handshake(ctx context.Context, trust *trust, keys *keyring) (*link, error) {
	tcp, err := new(net.Dialer).DialContext(ctx, "tcp", h.cfg.Address)
	if err != nil {
		return nil, &UnreachableError{Address: h.cfg.Address, Err: err}
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
		return newLink(ssh.NewClient(c, channels, requests), w, h.cfg.MaxSessions, h.cfg.Keepalive), nil
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

// afterKeyCheck says what it means that a handshake failed after the host had
// shown its key.
func (h *sshHost) afterKeyCheck(keyErr *HostKeyError, err error, keys *keyring) error {
	switch {
	case keyErr != nil:
		return keyErr
	case isNetwork(err):
		return &UnreachableError{Address: h.cfg.Address, Err: err}
	}
	return &AuthError{Address: h.cfg.Address, User: h.cfg.User, Tried: keys.tried, Err: err}
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
	return isHangUp(err) || errors.As(err, &netErr)
}

// isHangUp reports whether the host closed the connection.
func isHangUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}
