package remote

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"
)

// A pin is a host key given by its fingerprint, or completely.
type pin struct {
	fingerprint string
	kind        string // of the key; empty if only the fingerprint is known
}

func parsePins(texts []string) ([]pin, error) {
	var pins []pin
	for _, text := range texts {
		text = strings.TrimSpace(text)
		if sum, ok := strings.CutPrefix(text, "SHA256:"); ok {
			if b, err := base64.RawStdEncoding.DecodeString(sum); err != nil || len(b) != 32 {
				return nil, fmt.Errorf("host key %q: not a fingerprint like ssh-keygen -lf prints", text)
			}
			pins = append(pins, pin{fingerprint: text})
			continue
		}
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(text))
		if err != nil {
			return nil, fmt.Errorf("host key %q: want SHA256:… or a public key like \"ssh-ed25519 AAAA…\": %w", text, err)
		}
		pins = append(pins, pin{fingerprint: ssh.FingerprintSHA256(key), kind: key.Type()})
	}
	return pins, nil
}

func (p pin) String() string {
	if p.kind == "" {
		return p.fingerprint
	}
	return p.kind + " " + p.fingerprint
}

// A trust decides which key a host may show.
type trust struct {
	address string // for errors
	name    string // to look up, host:port
	pins    []pin
	db      *knownhosts.HostKeyDB // if there are no pins

	shown *HostKeyError // what the host has shown so far and should not
	seen  []string      // the algorithms of those keys
}

// trust reads the known_hosts files anew, so that what was put right counts.
func (h *hop) trust() (*trust, error) {
	// OpenSSH writes and looks up names in lower case.
	t := &trust{address: h.cfg.Address, name: strings.ToLower(h.cfg.Address), pins: h.pins}
	if h.cfg.HostKeyAlias != "" {
		t.name = net.JoinHostPort(strings.ToLower(h.cfg.HostKeyAlias), "22") // as a line without a port is read
	}
	if len(t.pins) > 0 {
		return t, nil
	}
	files := h.cfg.KnownHosts
	if len(files) == 0 {
		files = defaultKnownHosts()
	}
	var err error
	if t.db, err = knownhosts.NewDB(files...); err != nil {
		return nil, fmt.Errorf("known hosts: %w", err)
	}
	return t, nil
}

func defaultKnownHosts() []string {
	files := []string{"/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"}
	if home, err := os.UserHomeDir(); err == nil {
		files = append(files, filepath.Join(home, ".ssh", "known_hosts"), filepath.Join(home, ".ssh", "known_hosts2"))
	}
	return slices.DeleteFunc(files, func(file string) bool {
		_, err := os.Stat(file)
		return errors.Is(err, os.ErrNotExist)
	})
}

// algorithms returns the host key algorithms to offer. The host chooses the
// first it has, so those of known keys come first. The others follow to learn
// what it shows instead; certificates only where an authority is known.
func (t *trust) algorithms() []string {
	supported := ssh.SupportedAlgorithms().HostKeys
	slices.Reverse(supported) // the best come last
	var certs, plain []string
	for _, name := range supported {
		if strings.Contains(name, "-cert-v01@") {
			certs = append(certs, name)
		} else {
			plain = append(plain, name)
		}
	}
	var wanted []string
	for _, p := range t.pins {
		wanted = append(wanted, algorithmsOf(p.kind)...)
	}
	if t.db != nil {
		// An authority may sign keys of other kinds than its own.
		if slices.ContainsFunc(t.db.HostKeys(t.name), func(k knownhosts.PublicKey) bool { return k.Cert }) {
			wanted = certs
		}
		wanted = append(wanted, t.db.HostKeyAlgorithms(t.name)...)
	}
	wanted = append(wanted, plain...)
	var offered []string
	for _, name := range wanted {
		if slices.Contains(supported, name) && !slices.Contains(offered, name) && !slices.Contains(t.seen, name) {
			offered = append(offered, name)
		}
	}
	return offered
}

// algorithmsOf returns the algorithms that keys of a kind can be used with.
func algorithmsOf(kind string) []string {
	if kind == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{kind}
}

// next takes the error of a handshake and returns the one to report, or nil if
// the handshake is to be repeated: a fingerprint does not say of which kind its
// key is, and the host may have one of a kind it has not shown.
func (t *trust) next(err error) error {
	var shown *HostKeyError
	if !errors.As(err, &shown) {
		if t.shown != nil && errors.As(err, new(*ssh.AlgorithmNegotiationError)) {
			return t.shown // the host has no other kind
		}
		return err
	}
	kind, _, _ := strings.Cut(shown.Presented, " ")
	if t.shown != nil {
		shown.Presented = t.shown.Presented + ", " + shown.Presented
	}
	t.shown = shown
	before := len(t.algorithms())
	t.seen = append(t.seen, algorithmsOf(kind)...)
	if left := len(t.algorithms()); left == 0 || left == before {
		return shown
	}
	if slices.ContainsFunc(t.pins, func(p pin) bool { return p.kind == "" }) {
		return nil
	}
	return shown
}

// check returns nil if the host may show key.
func (t *trust) check(remote net.Addr, key ssh.PublicKey) *HostKeyError {
	if len(t.pins) > 0 {
		return t.checkPins(key)
	}
	lookUp := t.db.HostKeyCallback()
	err := lookUp(t.name, remote, key)
	if err == nil {
		err = t.asMeant(key)
	}
	if err == nil {
		return nil
	}
	e := &HostKeyError{Address: t.address, Presented: describe(key), Expected: t.known()}
	e.explain(err, key)
	if cert, ok := key.(*ssh.Certificate); ok && e.Kind == HostKeyInvalid {
		// Why, the error says in words only. The lookup of the plain keys tells
		// whether one is revoked, or the authority is another than expected.
		for _, plain := range []ssh.PublicKey{cert.SignatureKey, cert.Key} {
			if err := lookUp(t.name, remote, plain); errors.As(err, new(*xknownhosts.RevokedError)) {
				e.explain(err, plain)
				return e
			}
		}
		if err := lookUp(t.name, remote, cert.SignatureKey); err != nil {
			e.explain(err, cert.SignatureKey)
		}
	}
	return e
}

func (t *trust) checkPins(key ssh.PublicKey) *HostKeyError {
	sum := ssh.FingerprintSHA256(key)
	e := &HostKeyError{Address: t.address, Kind: HostKeyChanged, Presented: describe(key)}
	for _, p := range t.pins {
		if p.fingerprint == sum {
			return nil
		}
		e.Expected = append(e.Expected, p.String())
	}
	return e
}

// asMeant refuses what the lookup takes: a certificate that its authority
// signed with SHA-1, as ssh-keygen did with RSA before 8.2, and the key of an
// authority shown as the host's own.
func (t *trust) asMeant(key ssh.PublicKey) error {
	if cert, ok := key.(*ssh.Certificate); ok {
		if f := cert.Signature.Format; f == ssh.KeyAlgoRSA || f == "ssh-dss" {
			return fmt.Errorf("its authority signed it with SHA-1 (%s)", f)
		}
		return nil
	}
	if !slices.ContainsFunc(t.db.HostKeys(t.name), func(k knownhosts.PublicKey) bool { return !k.Cert && sameKey(k, key) }) {
		return errors.New("it is known as that of an authority, not of the host")
	}
	return nil
}

// known describes the keys on file for the host.
func (t *trust) known() []string {
	var keys []string
	for _, key := range t.db.HostKeys(t.name) {
		text := describe(key.PublicKey)
		if key.Cert {
			text = "a certificate by authority " + text
		}
		keys = append(keys, text)
	}
	return keys
}

// explain takes over what the lookup of key said.
func (e *HostKeyError) explain(err error, key ssh.PublicKey) {
	var revoked *xknownhosts.RevokedError
	var mismatch *xknownhosts.KeyError
	switch {
	case errors.As(err, &revoked):
		e.Kind, e.Detail = HostKeyRevoked, ""
		e.File, e.Line = revoked.Revoked.Filename, revoked.Revoked.Line
	case errors.As(err, &mismatch) && len(mismatch.Want) == 0:
		e.Kind, e.Detail = HostKeyUnknown, ""
	case errors.As(err, &mismatch):
		e.Kind, e.Detail = HostKeyChanged, ""
		line := mismatch.Want[0]
		for _, want := range mismatch.Want {
			if want.Key.Type() == key.Type() {
				line = want
				break
			}
		}
		e.File, e.Line = line.Filename, line.Line
	default:
		e.Kind, e.Detail = HostKeyInvalid, err.Error()
	}
}

// describe names a key the way ssh does.
func describe(key ssh.PublicKey) string {
	if cert, ok := key.(*ssh.Certificate); ok {
		return fmt.Sprintf("%s certified by authority %s", describe(cert.Key), describe(cert.SignatureKey))
	}
	return key.Type() + " " + ssh.FingerprintSHA256(key)
}
