package engine

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Version is what the engine says of its own making.
type Version struct {
	Version       string // of the engine: "20.10.24+dfsg1"
	APIVersion    string // the newest it speaks: "1.41"
	MinAPIVersion string // the oldest
	OS            string // "linux"
	Arch          string // as Go names it: "amd64"
	KernelVersion string
	Runc          string // the version of runc: "1.1.5+ds1"; empty if the engine does not say
}

// Version asks for the engine's version.
func (c *Client) Version(ctx context.Context) (Version, error) {
	var answer struct {
		Version
		Components []struct{ Name, Version string }
	}
	err := c.call(ctx, request{method: http.MethodGet, path: "/version"}, &answer)
	for _, part := range answer.Components {
		if part.Name == "runc" {
			answer.Runc = part.Version
		}
	}
	return answer.Version, err
}

// Info is what the engine says of its machine and configuration.
type Info struct {
	ServerVersion   string
	OSType          string // "linux"
	Architecture    string // as the kernel names it: "x86_64"
	NCPU            int
	MemTotal        int64 // bytes
	StorageDriver   string
	CgroupVersion   string   // "1" or "2"
	SecurityOptions []string // "name=seccomp,profile=default"
	DefaultRuntime  string
	Runtimes        []Runtime // by name
	RootDir         string    // where it keeps images and volumes
	SystemTime      time.Time
}

// Runtime is a program that containers are run by, or a shim of containerd's that knows one.
type Runtime struct {
	Name string // as containers ask for it: "runc"
	Path string // of the program, absolute or in the engine's PATH; or the shim's type: "io.containerd.runsc.v1"
}

// Rootless reports whether the engine runs without root's rights.
func (i Info) Rootless() bool { return i.hasSecurity("rootless") }

// UserNamespaces reports whether root in a container is another user outside, by the engine's configuration.
func (i Info) UserNamespaces() bool { return i.hasSecurity("userns") }

func (i Info) hasSecurity(name string) bool {
	return slices.ContainsFunc(i.SecurityOptions, func(option string) bool {
		first, _, _ := strings.Cut(option, ",")
		return first == "name="+name
	})
}

// Info asks for the engine's machine and configuration.
func (c *Client) Info(ctx context.Context) (Info, error) {
	var answer struct {
		Info
		Driver        string
		Runtimes      map[string]struct{ Path, RuntimeType string }
		DockerRootDir string
	}
	if err := c.call(ctx, request{method: http.MethodGet, path: "/info"}, &answer); err != nil {
		return Info{}, err
	}
	info := answer.Info
	info.StorageDriver = answer.Driver
	info.RootDir = answer.DockerRootDir
	info.Runtimes = nil
	for _, name := range slices.Sorted(maps.Keys(answer.Runtimes)) {
		r := answer.Runtimes[name]
		info.Runtimes = append(info.Runtimes, Runtime{Name: name, Path: cmp.Or(r.Path, r.RuntimeType)})
	}
	return info, nil
}
