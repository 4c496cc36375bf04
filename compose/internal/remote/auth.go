package remote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// An identity is the content of a key file.
type identity struct {
	file   string
	signer ssh.Signer    // nil if the private key is encrypted or elsewhere
	public ssh.PublicKey // nil if it cannot be told without decrypting
}

func readIdentities(files []string) ([]identity, error) {
	var ids []identity
	for _, file := range files {
		id, err := readIdentity(file)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func readIdentity(file string) (identity, error) {
	id := identity{file: file}
	text, err := os.ReadFile(file)
	if err != nil {
		return id, fmt.Errorf("identity file: %w", err)
	}
	var encrypted *ssh.PassphraseMissingError
	id.signer, err = ssh.ParsePrivateKey(text)
	switch {
	case err == nil:
		id.public = id.signer.PublicKey()
		return id, nil
	case errors.As(err, &encrypted):
		if id.public = encrypted.PublicKey; id.public == nil {
			id.public = readPublicKey(file + ".pub")
		}
		return id, nil
	}
	if id.public, _, _, _, _ = ssh.ParseAuthorizedKey(text); id.public == nil {
		return id, fmt.Errorf("identity file %s: %w", file, err)
	}
	return id, nil
}

func readPublicKey(file string) ssh.PublicKey {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	key, _, _, _, _ := ssh.ParseAuthorizedKey(text)
	return key
}

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
func (h *sshHost) keys(ctx context.Context) (*keyring, error) {
	k := &keyring{}
	held := k.ask(ctx, h.cfg.AgentSocket)
	var err error
	if len(h.identities) > 0 {
		err = k.addFiles(h.identities, held)
	} else {
		for _, signer := range held {
			k.add(signer, "agent")
		}
		k.addDefaults()
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
	if socket == "" {
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
		signer := id.signer
		if signer == nil {
			if signer = find(held, id.public); signer == nil {
				return fmt.Errorf("identity file %s is encrypted or public, and the agent does not have its key: ssh-add it, or name a key without passphrase", id.file)
			}
		}
		k.add(signer, id.file)
	}
	return nil
}

func find(held []ssh.Signer, public ssh.PublicKey) ssh.Signer {
	for _, signer := range held {
		if public != nil && string(signer.PublicKey().Marshal()) == string(public.Marshal()) {
			return signer
		}
	}
	return nil
}

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
			k.add(id.signer, file)
		case find(k.signers, id.public) == nil:
			k.tried = append(k.tried, file+" (not offered: encrypted, and not in the agent)")
		}
	}
}

// add offers a key once. A host that does not say what it accepts would be
// sent a SHA-1 signature by an RSA key.
func (k *keyring) add(signer ssh.Signer, source string) {
	public := signer.PublicKey()
	if find(k.signers, public) != nil {
		return
	}
	label := fmt.Sprintf("%s (%s)", describe(public), source)
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

func withoutSHA1Signatures(signer ssh.Signer) (ssh.Signer, error) {
	choosing, ok := signer.(ssh.AlgorithmSigner)
	if !ok {
		return nil, errors.New("it signs with SHA-1 only")
	}
	return ssh.NewSignerWithAlgorithms(choosing, []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256})
}
