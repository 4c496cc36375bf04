package remote

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"
)

// An identity is the content of a key file.
type identity struct {
	file   string
	signer ssh.Signer       // nil if the private key is encrypted or elsewhere
	public ssh.PublicKey    // nil if it cannot be told without decrypting
	cert   *ssh.Certificate // of the key, beside the file; nil if there is none
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
	id, err := readKey(file)
	if err != nil {
		return id, err
	}
	id.cert, err = readCertificate(strings.TrimSuffix(file, ".pub")+"-cert.pub", id.public)
	if errors.Is(err, fs.ErrNotExist) {
		return id, nil
	}
	return id, err
}

func readKey(file string) (identity, error) {
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

// readCertificate returns the certificate of a key, or of any if key is nil.
func readCertificate(file string, key ssh.PublicKey) (*ssh.Certificate, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", file, err)
	}
	cert, ok := public.(*ssh.Certificate)
	if !ok || cert.CertType != ssh.UserCert || key != nil && !sameKey(cert.Key, key) {
		return nil, fmt.Errorf("certificate %s: is not a user certificate of its key: sign the key again, or remove the file", file)
	}
	return cert, nil
}
