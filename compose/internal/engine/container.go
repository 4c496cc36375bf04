package engine

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// ContainerSpec says what container to create. Where a field is empty the engine's default holds; it never starts the
// container again by itself.
type ContainerSpec struct {
	Name        string // unique on the engine, which makes one up if it is empty
	Image       string // a reference or, safe from a tag that moves, an id
	Cmd         []string
	User        string
	Labels      map[string]string
	Network     string // a name or id, or "none"
	Binds       []Bind
	ReadOnly    bool // the root file system
	CapDrop     []string
	CapAdd      []string
	SecurityOpt []string // "no-new-privileges"
	Sysctls     map[string]string
	DNS         []string // resolvers for names that are no container's; the engine's if empty
	Memory      int64    // bytes, swap included
	Pids        int64    // threads at once
	LogDriver   string
}

// Bind is a directory or file of the engine's machine that a container sees. It must exist; what is mounted below it
// is not seen.
type Bind struct {
	Source   string // absolute, on the engine's machine
	Target   string // absolute, in the container
	ReadOnly bool
}

// CreateContainer creates a container and returns its id. It is a conflict if the name is taken, and not found if
// there is no such image; none is pulled.
func (c *Client) CreateContainer(ctx context.Context, spec ContainerSpec) (string, error) {
	r := request{method: http.MethodPost, path: "/containers/create", body: spec.body()}
	if spec.Name != "" {
		r.query = url.Values{"name": {spec.Name}}
	}
	var created struct{ ID string }
	err := c.call(ctx, r, &created)
	return created.ID, err
}

type mount struct {
	Type, Source, Target string
	ReadOnly             bool
	BindOptions          struct{ NonRecursive bool }
}

func (s ContainerSpec) body() any {
	type m map[string]any
	host := m{
		"NetworkMode":    s.Network,
		"Mounts":         s.mounts(),
		"ReadonlyRootfs": s.ReadOnly,
		"CapDrop":        s.CapDrop,
		"CapAdd":         s.CapAdd,
		"SecurityOpt":    s.SecurityOpt,
		"Sysctls":        s.Sysctls,
		"Dns":            s.DNS,
		"RestartPolicy":  m{"Name": "no"},
		"LogConfig":      m{"Type": s.LogDriver},
	}
	if s.Memory > 0 {
		host["Memory"] = s.Memory
		host["MemorySwap"] = s.Memory
	}
	if s.Pids > 0 {
		host["PidsLimit"] = s.Pids
	}
	return m{"Image": s.Image, "Cmd": s.Cmd, "User": s.User, "Labels": s.Labels, "HostConfig": host}
}

func (s ContainerSpec) mounts() []mount {
	var mounts []mount
	for _, b := range s.Binds {
		bind := mount{Type: "bind", Source: b.Source, Target: b.Target, ReadOnly: b.ReadOnly}
		bind.BindOptions.NonRecursive = true
		mounts = append(mounts, bind)
	}
	return mounts
}

// StartContainer starts a container. One that already runs is left as it is.
func (c *Client) StartContainer(ctx context.Context, id string) error {
	return c.act(ctx, http.MethodPost, "containers", id, "start", nil)
}

// StopContainer asks a container to end and kills it after the grace, rounded up to seconds. One that does not run is
// left as it is.
func (c *Client) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	seconds := (grace + time.Second - 1) / time.Second
	return c.act(ctx, http.MethodPost, "containers", id, "stop", url.Values{"t": {strconv.Itoa(int(seconds))}})
}

// KillContainer sends a signal, as "SIGKILL", to a container's first process. It is a conflict if none runs.
func (c *Client) KillContainer(ctx context.Context, id, signal string) error {
	return c.act(ctx, http.MethodPost, "containers", id, "kill", url.Values{"signal": {signal}})
}

// WaitContainer waits until a container does not run and returns the exit code of its last run. A container that was
// never started does not run.
func (c *Client) WaitContainer(ctx context.Context, id string) (int, error) {
	path, err := join("containers", id, "wait")
	if err != nil {
		return 0, err
	}
	var end struct {
		StatusCode int
		Error      *struct{ Message string }
	}
	r := request{method: http.MethodPost, path: path, query: url.Values{"condition": {"not-running"}}}
	if err := c.call(ctx, r, &end); err != nil {
		return 0, err
	}
	if end.Error != nil && end.Error.Message != "" {
		return 0, &Error{Op: r.op(), Message: end.Error.Message}
	}
	return end.StatusCode, nil
}

// Removal varies [Client.RemoveContainer].
type Removal struct {
	Force   bool // kill it if it runs; otherwise that is a conflict
	Volumes bool // remove its anonymous volumes too
}

// RemoveContainer removes a container. It is a conflict if somebody else is removing it already.
func (c *Client) RemoveContainer(ctx context.Context, id string, how Removal) error {
	query := url.Values{"force": {strconv.FormatBool(how.Force)}, "v": {strconv.FormatBool(how.Volumes)}}
	return c.act(ctx, http.MethodDelete, "containers", id, "", query)
}

// ConnectNetwork puts a container on a network. Whether one that is there already is an error differs between engines
// and states of the container.
func (c *Client) ConnectNetwork(ctx context.Context, network, container string) error {
	path, err := join("networks", network, "connect")
	if err != nil {
		return err
	}
	body := struct{ Container string }{container}
	return c.call(ctx, request{method: http.MethodPost, path: path, body: body}, nil)
}

// DisconnectNetwork takes a container off a network, with force also one that the engine no longer knows.
func (c *Client) DisconnectNetwork(ctx context.Context, network, container string, force bool) error {
	path, err := join("networks", network, "disconnect")
	if err != nil {
		return err
	}
	body := struct {
		Container string
		Force     bool
	}{container, force}
	return c.call(ctx, request{method: http.MethodPost, path: path, body: body}, nil)
}

// RemoveNetwork removes a network. The engine refuses with status 403 while a container is connected.
func (c *Client) RemoveNetwork(ctx context.Context, id string) error {
	return c.act(ctx, http.MethodDelete, "networks", id, "", nil)
}

// RemoveVolume removes a volume. It is a conflict while a container, running or not, uses it.
func (c *Client) RemoveVolume(ctx context.Context, name string) error {
	return c.act(ctx, http.MethodDelete, "volumes", name, "", nil)
}

// act makes a call that concerns one object and whose answer says nothing.
func (c *Client) act(ctx context.Context, method, kind, name, action string, query url.Values) error {
	path, err := join(kind, name)
	if err != nil {
		return err
	}
	if action != "" {
		path = fmt.Sprintf("%s/%s", path, action)
	}
	return c.call(ctx, request{method: method, path: path, query: query}, nil)
}
