package workspace

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
)

const bufferSize = 256 << 10

// hasher reads the files of a walk, as many at a time as there are processors: with the tree in the page cache, two
// took 60 ms for 5,000 files of 2 KiB and 70 ms for 200 MiB, where one took 95 ms and 135 ms.
type hasher struct {
	*walker
	root *os.Root
	next atomic.Int64 // index of the file to take up next

	mu    sync.Mutex // guards what follows and walker.problems
	files int
	bytes int64
}

// hash fills in mode and digest of every regular file found. One that cannot be read or is no longer the one found
// becomes a problem.
func (w *walker) hash(ctx context.Context, root *os.Root) error {
	h := &hasher{walker: w, root: root}
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(w.found)) {
		workers.Go(func() { h.work(ctx) })
	}
	workers.Wait()
	return ctx.Err()
}

func (h *hasher) work(ctx context.Context) {
	buffer := make([]byte, bufferSize)
	for ctx.Err() == nil {
		i := int(h.next.Add(1)) - 1
		if i >= len(h.found) {
			return
		}
		f := &h.found[i]
		if f.Kind != File {
			continue
		}
		if err := h.file(ctx, f, buffer); err != nil {
			h.mu.Lock()
			h.unreadable(f.Path, err)
			h.mu.Unlock()
		}
	}
}

func (h *hasher) file(ctx context.Context, f *found, buffer []byte) error {
	file, err := openSame(h.root, f.Path, f.info)
	if err != nil {
		return err
	}
	defer file.Close()
	sum := sha256.New()
	var head []byte
	for left := f.Size; left > 0 && ctx.Err() == nil; {
		chunk := buffer[:min(left, bufferSize)]
		if _, err := io.ReadFull(file, chunk); err != nil {
			return replacedIfShort(err)
		}
		if head == nil {
			head = bytes.Clone(chunk[:min(len(chunk), 4)])
		}
		sum.Write(chunk)
		left -= int64(len(chunk))
		h.progress(0, int64(len(chunk)))
	}
	f.Mode = fileMode(f.info.Mode(), head)
	f.SHA256 = hex.EncodeToString(sum.Sum(nil))
	h.progress(1, 0)
	return nil
}

func (h *hasher) progress(files int, bytes int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.files += files
	h.bytes += bytes
	if h.opt.Progress != nil {
		h.opt.Progress(h.files, h.bytes)
	}
}

func replacedIfShort(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errReplaced
	}
	return err
}

// probe finds the files that cannot be read, without reading them.
func (w *walker) probe(ctx context.Context, root *os.Root) error {
	for _, f := range w.found {
		if err := ctx.Err(); err != nil {
			return err
		}
		if f.Kind != File {
			continue
		}
		file, err := openSame(root, f.Path, f.info)
		if err != nil {
			w.unreadable(f.Path, err)
			continue
		}
		file.Close()
	}
	return nil
}

// fileMode is the mode a regular file travels with, head being how its content begins.
func fileMode(mode fs.FileMode, head []byte) uint32 {
	executable := mode&0o111 != 0
	if runtime.GOOS == "windows" {
		executable = looksExecutable(head)
	}
	if executable {
		return 0o755
	}
	return 0o644
}

// looksExecutable stands in for the executable bit that Windows does not have.
func looksExecutable(head []byte) bool {
	return bytes.HasPrefix(head, []byte("#!")) || bytes.HasPrefix(head, []byte("\x7fELF"))
}
