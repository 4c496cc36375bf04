package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// A keyring is what is offered to a host in one handshake.
type keyring struct {
	signers []ssh.Signer
	tried   []string // describes the signers, and keys that cannot be used
	agent   net.Conn // nil without an agent
}

func (k *keyring) close() {
	if k.agent != nil {
		k.agent.Close()
	}
}

// keys gathers what to offer. The agent is needed until the handshake is done.
func (h *hop) keys(ctx context.Context) (*keyring, error) {
	k := &keyring{}
	held := k.ask(ctx, h.cfg.AgentSocket)
	for i, cert := range h.certificates {
		k.addCertificate(cert, h.cfg.CertificateFiles[i], h.identities, held)
	}
	var err error
	switch {
	case h.cfg.AgentKeys:
		for _, id := range h.identities {
			if err := k.addFile(id, held); err != nil {
				k.tried = append(k.tried, id.file+" (not offered: encrypted or public, and not in the agent)")
			}
		}
		k.addHeld(held)
	case len(h.identities) == 0:
		k.addHeld(held)
		k.addDefaults()
	default:
		err = k.addFiles(h.identities, held)
	}
	if err == nil && len(k.signers) == 0 {
		err = errors.New("no key to offer: name an identity file, or add a key to an SSH agent")
	}
	if err != nil {
		k.close()
		return nil, &AuthError{Address: h.cfg.Address, User: h.cfg.User, Tried: k.tried, Err: err}
	}
	return k, nil
}

// ask returns the keys of the agent, none if there is no agent to ask.
func (k *keyring) ask(ctx context.Context, socket string) []ssh.Signer {
	if socket == "" {
		socket = os.Getenv("SSH_AUTH_SOCK")
	}
	if socket == "" || socket == NoAgent {
		return nil
	}
	c, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		k.tried = append(k.tried, fmt.Sprintf("none of the agent (%v)", err))
		return nil
	}
	k.agent = c
	if deadline, ok := ctx.Deadline(); ok {
		c.SetDeadline(deadline)
	}
	signers, err := agent.NewClient(c).Signers()
	if err != nil {
		k.tried = append(k.tried, fmt.Sprintf("none of the agent (%v)", err))
	}
	return signers
}

// addFiles adds the keys of files, taking from the agent those that only it
// can use.
func (k *keyring) addFiles(ids []identity, held []ssh.Signer) error {
	for _, id := range ids {
		if err := k.addFile(id, held); err != nil {
			return err
		}
	}
	return nil
}

func (k *keyring) addFile(id identity, held []ssh.Signer) error {
	signer := id.signer
	if signer == nil {
		if signer = find(held, id.public); signer == nil {
			return fmt.Errorf("identity file %s is encrypted or public, and the agent does not have its key: ssh-add it, or name a key without passphrase", id.file)
		}
	}
	k.addIdentity(id, signer)
	return nil
}

func (k *keyring) addHeld(held []ssh.Signer) {
	for _, signer := range held {
		k.add(signer, "agent")
	}
}

// addIdentity adds the certificate of a key, then the key itself, which the
// host may know though it does not know the authority.
func (k *keyring) addIdentity(id identity, signer ssh.Signer) {
	if id.cert != nil {
		k.certify(id.cert, id.file, signer)
	}
	k.add(signer, id.file)
}

// addCertificate adds a certificate with whoever has its key.
func (k *keyring) addCertificate(cert *ssh.Certificate, file string, ids []identity, held []ssh.Signer) {
	for _, id := range ids {
		if id.signer != nil {
			held = append(held, id.signer)
		}
	}
	signer := find(held, cert.Key)
	if signer == nil {
		k.tried = append(k.tried, file+" (not offered: neither a file nor the agent has its key)")
		return
	}
	k.certify(cert, file, signer)
}

func (k *keyring) certify(cert *ssh.Certificate, file string, signer ssh.Signer) {
	certified, err := ssh.NewCertSigner(cert, signer)
	if err != nil {
		k.tried = append(k.tried, fmt.Sprintf("%s (not offered: %v)", file, err))
		return
	}
	k.add(certified, file)
}

func find(held []ssh.Signer, public ssh.PublicKey) ssh.Signer {
	for _, signer := range held {
		if public != nil && sameKey(signer.PublicKey(), public) {
			return signer
		}
	}
	return nil
}

func sameKey(a, b ssh.PublicKey) bool { return bytes.Equal(a.Marshal(), b.Marshal()) }

// addDefaults adds the keys that ssh would look for in the home directory.
func (k *keyring) addDefaults() {
	home, err := os.UserHomeDir()
	if err != nil {
		return
	}
	for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
		file := filepath.Join(home, ".ssh", name)
		id, err := readIdentity(file)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			k.tried = append(k.tried, err.Error())
		case id.signer != nil:
			k.addIdentity(id, id.signer)
		case find(k.signers, id.public) == nil:
			k.tried = append(k.tried, file+" (not offered: encrypted, and not in the agent)")
		}
	}
}

// add offers a key once. A host that does not say what it accepts would be
// sent a SHA-1 signature by an RSA key; DSA knows no other.
func (k *keyring) add(signer ssh.Signer, source string) {
	public := signer.PublicKey()
	if find(k.signers, public) != nil {
		return
	}
	label := fmt.Sprintf("%s (%s%s)", describe(public), source, validity(public))
	if strings.HasPrefix(public.Type(), "ssh-dss") {
		k.tried = append(k.tried, label+" (not offered: it signs with SHA-1 only)")
		return
	}
	if strings.HasPrefix(public.Type(), "ssh-rsa") {
		secure, err := withoutSHA1Signatures(signer)
		if err != nil {
			k.tried = append(k.tried, label+" (not offered: "+err.Error()+")")
			return
		}
		signer = secure
	}
	k.signers = append(k.signers, signer)
	k.tried = append(k.tried, label)
}

// validity says until when a certificate can be used. One that has expired is
// offered all the same: it is the host's clock that counts.
func validity(key ssh.PublicKey) string {
	cert, ok := key.(*ssh.Certificate)
	if !ok || cert.ValidBefore == ssh.CertTimeInfinity {
		return ""
	}
	return ", valid until " + time.Unix(int64(cert.ValidBefore), 0).UTC().Format(time.RFC3339)
}

func withoutSHA1Signatures(signer ssh.Signer) (ssh.Signer, error) {
	choosing, ok := signer.(ssh.AlgorithmSigner)
	if !ok {
		return nil, errors.New("it signs with SHA-1 only")
	}
	return ssh.NewSignerWithAlgorithms(choosing, []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256})
}
