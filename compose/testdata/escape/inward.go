package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"unsafe"
)

// inward are the attempts on the kernel and on the container's own bounds.
// None changes anything where it succeeds.
var inward = map[string]func(where string) error{
	"write":         func(path string) error { return openFor(path, os.O_WRONLY) },
	"read":          readable,
	"socket":        rawSocket,
	"mount":         func(string) error { return tryMounts() },
	"device":        device,
	"namespace":     userNamespace,
	"release-agent": releaseAgent,
	"handle":        byHandle,
	"load":          loadCode,
	"process":       processOfHost,
	"setuid":        setuidGain,
}

func openFor(path string, flag int) error {
	f, err := os.OpenFile(path, flag|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// readable wants a byte: what is masked is there, and empty.
func readable(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Read(make([]byte, 1))
	return err
}

// rawSocket opens the sockets that forge packets, of IP and of the link.
func rawSocket(string) error {
	var errs []error
	for _, s := range [][3]int{{syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_RAW}, {syscall.AF_PACKET, syscall.SOCK_RAW, 0x0300}, {syscall.AF_PACKET, syscall.SOCK_DGRAM, 0x0300}} {
		fd, err := syscall.Socket(s[0], s[1], s[2])
		if err == nil {
			return syscall.Close(fd)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// tryMounts mounts what a container could use, below a directory of its own.
func tryMounts() error {
	dir, err := os.MkdirTemp("/", "mount")
	if err != nil {
		return fmt.Errorf("not tried: %w", err)
	}
	defer os.Remove(dir)
	var errs []error
	for _, m := range []struct {
		source, kind, options string
		flags                 uintptr
	}{{"none", "tmpfs", "", 0}, {"none", "proc", "", 0}, {"none", "sysfs", "", 0}, {"none", "cgroup", "rdma", 0}, {"none", "cgroup2", "", 0}, {"/proc", "", "", syscall.MS_BIND}, {"overlay", "overlay", "lowerdir=/:/proc", 0}} {
		err := syscall.Mount(m.source, dir, m.kind, m.flags, m.options)
		if err == nil {
			return syscall.Unmount(dir, syscall.MNT_DETACH)
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, syscall.Mount("", "/proc/sys", "", syscall.MS_REMOUNT|syscall.MS_BIND, ""))...)
}

// device makes the node of a disk and opens it.
func device(string) error {
	var errs []error
	for _, major := range []int{7, 8, 253, 254, 259} {
		err := syscall.Mknod("/disk", syscall.S_IFBLK|0o600, major<<8)
		if err == nil {
			err = openFor("/disk", os.O_RDONLY)
			_ = os.Remove("/disk")
		}
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// userNamespace has a child with all rights in a namespace of its own mount.
func userNamespace(string) error {
	cmd := exec.Command("/proc/self/exe", "mount")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, UidMappings: []syscall.SysProcIDMap{{HostID: 0, Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: 0, Size: 1}},
	}
	return cmd.Run()
}

// releaseAgent looks for a cgroup whose agent, a program that the host runs,
// may be changed.
func releaseAgent(string) error {
	err := fs.ErrNotExist
	walk := filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, _ error) error {
		if d != nil && (d.Name() == "release_agent" || d.Name() == "notify_on_release") {
			if err = openFor(path, os.O_WRONLY); err == nil {
				return fs.SkipAll
			}
		}
		return nil
	})
	return errors.Join(err, walk)
}

// number is a system call that package syscall has no name for.
func number(amd64, arm64 uintptr) uintptr {
	if runtime.GOARCH == "arm64" {
		return arm64
	}
	return amd64
}

// byHandle opens the root of the host's file system by its inode, which no
// path of the container leads to.
func byHandle(string) error {
	root, err := os.Open("/etc/hosts") // a file of the host's, mounted here
	if err != nil {
		return err
	}
	defer root.Close()
	handle := struct {
		bytes uint32
		kind  int32
		inode [2]uint32
	}{8, 1, [2]uint32{2, 0}}
	fd, _, errno := syscall.Syscall(number(304, 265), root.Fd(), uintptr(unsafe.Pointer(&handle)), 0)
	if errno != 0 {
		return errno
	}
	return syscall.Close(int(fd))
}

// loadCode has the kernel take a module, a kernel to change to, or a program of its own machine's.
func loadCode(string) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_INIT_MODULE, 0, 0, 0); errno != syscall.EPERM {
		return nil
	}
	if _, _, errno := syscall.Syscall(number(246, 104), 0, 0, 0); errno != syscall.EPERM {
		return nil
	}
	if _, _, errno := syscall.Syscall(number(321, 280), 5, 0, 0); errno != syscall.EPERM {
		return nil
	}
	return syscall.EPERM
}

// processOfHost looks for the engine among the processes it sees.
func processOfHost(string) error {
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range names {
		if text, _ := os.ReadFile(name); strings.Contains(string(text), "dockerd") {
			return nil
		}
	}
	return errors.Join(err, fs.ErrNotExist)
}

// setuidGain gives up root and runs a file that would give it back.
func setuidGain(string) error {
	cmd := exec.Command("/proc/self/exe", "become-root")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
	out, err := cmd.CombinedOutput()
	if err == nil && string(out) != "0" {
		err = fmt.Errorf("it is user %s", out)
	}
	return err
}

func becomeRoot() {
	out, err := exec.Command("/setuid", "who").Output()
	check(err)
	fmt.Print(string(out))
}
