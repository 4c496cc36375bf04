package host

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/sand-boxer/sandboxer"
)

// A SecretFile is placed in Reserved.Secrets.
type SecretFile struct {
	Name     string // one path element
	UID, GID int    // as the engine's machine counts them; only root can give a file away
	Mode     uint32
	Value    sandboxer.Secret
}

// PlaceSecrets brings files into the directory Reserved.Secrets, mode 0700,
// all or none, in place of what an earlier try brought. Once the job was
// started it changes nothing. The values travel on the standard input of a
// script. ErrConflict: the sandbox was torn down meanwhile.
func (m *Machine) PlaceSecrets(ctx context.Context, r *Reserved, files []SecretFile) error {
	packed, err := packSecrets(files)
	if err != nil {
		return err
	}
	_, err = m.run(ctx, step{
		names: []string{"secrets"}, vars: r.vars(),
		stdin: func() io.ReadCloser { return io.NopCloser(bytes.NewReader(packed)) },
	})
	return err
}

func packSecrets(files []SecretFile) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range append(files[:len(files):len(files)], SecretFile{Name: ".complete", Mode: 0o400}) {
		value := f.Value.Reveal()
		err := w.WriteHeader(&tar.Header{Name: f.Name, Mode: int64(f.Mode), Uid: f.UID, Gid: f.GID, Size: int64(len(value)), Format: tar.FormatGNU})
		if err == nil {
			_, err = w.Write(value)
		}
		if err != nil {
			return nil, fmt.Errorf("packing secret %s: %w", f.Name, err)
		}
	}
	err := w.Close()
	return buf.Bytes(), err
}
