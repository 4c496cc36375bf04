package workspace

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"time"
)

// WriteTar streams the entries of d, a difference of this snapshot to some base, in the form the package describes.
//
// progress, if not nil, is told often and never concurrently how many bytes of content have been packed, of
// [Diff.Bytes] in all, and how many have been written to out. A file that is no longer what the snapshot recorded
// makes WriteTar fail with [ErrChanged] and the file's name. Whatever makes it fail, what has been written by then
// is recognizably incomplete. A blocked out is for the caller to unblock when ctx is done.
func (s *Snapshot) WriteTar(ctx context.Context, out io.Writer, d Diff, progress func(packed, sent int64)) error {
	if progress == nil {
		progress = func(int64, int64) {}
	}
	p := &packer{snapshot: s, progress: progress, buffer: make([]byte, bufferSize)}
	p.out = &countingWriter{to: out}
	// gzip writes a few hundred bytes at a time, each of which would be a packet on a network.
	buffered := bufio.NewWriterSize(p.out, 64<<10)
	compressed, err := gzip.NewWriterLevel(buffered, gzip.BestSpeed)
	if err != nil {
		return err
	}
	p.tar = tar.NewWriter(compressed)
	if err := p.pack(ctx, d); err != nil {
		return err
	}
	for _, finish := range []func() error{p.tar.Close, compressed.Close, buffered.Flush} {
		if err := finish(); err != nil {
			return fmt.Errorf("send the tree: %w", err)
		}
	}
	progress(p.packed, p.out.n)
	return nil
}

// packer writes the entries of one archive.
type packer struct {
	snapshot *Snapshot
	tar      *tar.Writer
	out      *countingWriter
	buffer   []byte
	packed   int64
	progress func(packed, sent int64)
}

func (p *packer) pack(ctx context.Context, d Diff) error {
	for _, e := range d.Send {
		if err := ctx.Err(); err != nil {
			return err
		}
		i, ok := p.snapshot.find(e.Path)
		if !ok || p.snapshot.entries[i] != e {
			return fmt.Errorf("%s is not an entry of this snapshot", printable(e.Path))
		}
		if err := p.entry(ctx, e, p.snapshot.times[i]); err != nil {
			return err
		}
	}
	return p.marker()
}

func (p *packer) entry(ctx context.Context, e Entry, modified time.Time) error {
	header := &tar.Header{Name: e.Path, Mode: int64(e.Mode), ModTime: modified.Truncate(time.Second), Format: tar.FormatGNU}
	switch e.Kind {
	case Dir:
		header.Typeflag = tar.TypeDir
		header.Name += "/"
	case Symlink:
		header.Typeflag = tar.TypeSymlink
		header.Linkname = e.Link
		header.Mode = 0o777
	case File:
		header.Typeflag = tar.TypeReg
		header.Size = e.Size
		return p.file(ctx, e, header)
	}
	return p.header(header)
}

func (p *packer) header(h *tar.Header) error {
	if err := p.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("send %s: %w", printable(h.Name), err)
	}
	return nil
}

// file sends exactly the bytes the snapshot recorded, or fails.
func (p *packer) file(ctx context.Context, e Entry, h *tar.Header) error {
	f, err := p.snapshot.open(e)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := p.header(h); err != nil {
		return err
	}
	sum := sha256.New()
	for left := e.Size; left > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		chunk := p.buffer[:min(left, bufferSize)]
		if _, err := io.ReadFull(f, chunk); err != nil {
			return changed(e, err)
		}
		sum.Write(chunk)
		if _, err := p.tar.Write(chunk); err != nil {
			return fmt.Errorf("send %s: %w", printable(e.Path), err)
		}
		left -= int64(len(chunk))
		p.packed += int64(len(chunk))
		p.progress(p.packed, p.out.n)
	}
	if hex.EncodeToString(sum.Sum(nil)) != e.SHA256 {
		return changed(e, nil)
	}
	return nil
}

func (p *packer) marker() error {
	manifest := p.snapshot.Encode()
	h := &tar.Header{Typeflag: tar.TypeReg, Name: MarkerName, Mode: 0o644, Size: int64(len(manifest)), ModTime: time.Unix(0, 0), Format: tar.FormatGNU}
	if err := p.header(h); err != nil {
		return err
	}
	if _, err := p.tar.Write(manifest); err != nil {
		return fmt.Errorf("send the manifest: %w", err)
	}
	return nil
}

type countingWriter struct {
	to io.Writer
	n  int64
}

func (w *countingWriter) Write(b []byte) (int, error) {
	n, err := w.to.Write(b)
	w.n += int64(n)
	return n, err
}
