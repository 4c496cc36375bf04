package workspace

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// openRegular opens the regular file at path, which it neither reaches through a final symbolic link nor opens before
// knowing what it is: opening a pipe or a device has effects.
func openRegular(root *os.Root, path string) (*os.File, fs.FileInfo, error) {
	info, err := root.Lstat(path)
	if err != nil {
		return nil, nil, err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		return nil, nil, ErrSymlink
	}
	if !info.Mode().IsRegular() {
		return nil, nil, ErrNotRegular
	}
	f, err := openSame(root, path, info)
	return f, info, err
}

// openSame opens path if it still is the regular file that info describes. Should another have taken its place since, even a
// pipe without a writer does not block the open.
func openSame(root *os.Root, path string, info fs.FileInfo) (*os.File, error) {
	f, err := root.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	now, err := f.Stat()
	// A file system may give the number of a removed file to a pipe, which SameFile then takes for the same.
	if err == nil && (!os.SameFile(info, now) || !now.Mode().IsRegular() || now.Size() != info.Size()) {
		err = errReplaced
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// openDir opens the directory name if it still is the one that info describes. The dot makes name an inner component
// of the path, which [os.Root] opens with O_DIRECTORY, so that a pipe in its place does not block the open.
func openDir(parent *os.Root, name string, info fs.FileInfo) (*os.Root, error) {
	dir, err := parent.OpenRoot(name + string(filepath.Separator) + ".")
	if err != nil {
		return nil, err
	}
	now, err := dir.Stat(".")
	if err == nil && !os.SameFile(info, now) {
		err = errReplaced
	}
	if err != nil {
		dir.Close()
		return nil, err
	}
	return dir, nil
}

var errReplaced = errors.New("changed while the tree was read")

// reasonOf is err without the path and the name of the system call that package os puts before it.
func reasonOf(err error) string {
	if pathError, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathError.Err
	}
	return err.Error()
}
